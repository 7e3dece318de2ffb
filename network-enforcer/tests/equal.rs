//! The compiled table lets through exactly what the reference does, on random worlds.

#![allow(missing_docs)]

mod common;

use freehold_network_enforcer::core::{compile::compile, delta, evaluate, model};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_table_is_the_reference(view in common::view(), flows in vec(common::flow(), 24)) {
        let table = compile(&view);
        prop_assert_eq!(model::dangling(&table), Vec::<String>::new());
        for flow in &flows {
            prop_assert_eq!(model::allows(&table, flow), evaluate::allows(&view, flow), "{:?}", flow);
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_changed(view in common::view()) {
        prop_assert_eq!(delta::transaction(&compile(&view), &compile(&view)), None);
    }

    /// The fence is a conjunction: whatever policies a tenant writes, nothing passes that did not pass without them.
    #[test]
    fn policies_of_a_tenant_only_narrow(view in common::view(), flows in vec(common::flow(), 24)) {
        let mut bare = view.clone();
        bare.policies.retain(|policy, _| {
            let namespace = bare.namespaces.get(&policy.namespace);
            namespace.is_some_and(|namespace| namespace.tenancy == freehold_network_enforcer::core::view::Tenancy::Free)
        });
        for flow in &flows {
            prop_assert!(!evaluate::allows(&view, flow) || evaluate::allows(&bare, flow), "{:?}", flow);
        }
    }
}
