//! Whose traffic is judged on this node: everybody's, tenants' only, or nobody's.
//!
//! Pure. In mode Auto the operator says so in the node's NodeNetwork, by what its probe found. What it has not said yet is
//! tenants': they are never open for want of an answer, and nobody else's pods are touched where the CNI may enforce by itself.

use freehold_crds::{Judged, NodeNetwork, probing};

use crate::core::selector::Selector;
use crate::core::view::{Key, Policy, Port, PortNumber, Protocol, Rule, Tenancy, View};

/// What a NodeNetwork says, or is not there to say.
pub fn said(network: Option<&NodeNetwork>) -> Judged {
    network.and_then(|network| network.status.as_ref()?.enforcer).unwrap_or(Judged::Tenants)
}

/// What of a view is judged in mode Auto; nothing if nobody's traffic is.
pub fn part(mut view: View, judged: Judged) -> Option<View> {
    // Else the probe would find our own doing, and we would leave because we are here.
    view.policies.retain(|policy, _| policy.namespace != probing::NAMESPACE);
    match judged {
        Judged::Nobodys => return None,
        Judged::Everybodys => {
            view.policies.insert(Key { namespace: probing::NAMESPACE.to_owned(), name: "enforcer".to_owned() }, own());
        }
        Judged::Tenants => {
            let free = |key: &Key| view.namespaces.get(&key.namespace).is_some_and(|found| found.tenancy == Tenancy::Free);
            view.pods.iter_mut().filter(|(key, _)| free(key)).for_each(|(_, pod)| pod.local = false);
            // By an address alone nobody can tell whose a new pod is.
            view.ranges.clear();
            view.links.clear();
        }
    }
    Some(view)
}

/// A policy that stands nowhere but here, so that the probe can tell our doing from the CNI's: of the pod that is asked it
/// closes the one port that all other policies open.
fn own() -> Policy {
    let open = [probing::OPEN, probing::CLOSED_IN, probing::CLOSED_OUT];
    let ports = open.map(|port| Port { protocol: Protocol::Tcp, number: PortNumber::Range(port, port) });
    let rule = Rule { peers: None, ports: Some(ports.into()) };
    Policy { pods: Selector::label(probing::ROLE_LABEL, probing::ANSWER), ingress: Some(vec![rule]), egress: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::cidr::Family;
    use crate::core::compile::compile;
    use crate::core::table::Element;
    use crate::core::view::{Fence, Namespace, Pod};

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: "it".to_owned() }
    }

    fn view() -> View {
        let mut view =
            View { ranges: vec!["10.244.0.0/24".parse().unwrap()], links: ["cni0".to_owned()].into(), ..View::default() };
        for (index, (name, tenancy)) in [
            ("free", Tenancy::Free),
            ("tenant", Tenancy::Fenced(Fence::default())),
            ("unresolved", Tenancy::Unresolved),
            (probing::NAMESPACE, Tenancy::Free),
        ]
        .into_iter()
        .enumerate()
        {
            view.namespaces.insert(name.to_owned(), Namespace { tenancy, ..Namespace::default() });
            let addresses = [format!("10.244.0.{}", index + 2).parse().unwrap()].into();
            view.pods.insert(key(name), Pod { addresses, local: true, ..Pod::default() });
            view.policies.insert(key(name), Policy { ingress: Some(Vec::new()), ..Policy::default() });
        }
        view
    }

    /// Addresses of pods that some rule is about.
    fn judged_addresses(view: &View) -> Vec<String> {
        let table = compile(view);
        let known = table.sets["known/4"].elements.iter();
        assert_eq!(Family::ALL.len(), 2);
        known.map(|element| if let Element::Address(one) = element { one.to_string() } else { unreachable!() }).collect()
    }

    #[test]
    fn tenants_are_judged_until_something_is_said_and_nobody_else_is_touched() {
        let part_of = |judged| part(view(), judged);
        assert_eq!(said(None), Judged::Tenants);
        let tenants = part_of(Judged::Tenants).unwrap();
        assert_eq!(
            judged_addresses(&tenants),
            ["10.244.0.3", "10.244.0.4"],
            "tenants' pods, also those whose Boundary does not fit"
        );
        let table = compile(&tenants);
        for set in ["ranges/4", "links"] {
            assert!(table.sets[set].elements.is_empty(), "{set} would judge pods of nobody's");
        }
        let all = part_of(Judged::Everybodys).unwrap();
        assert_eq!(judged_addresses(&all).len(), 4);
        assert!(!all.policies.contains_key(&key(probing::NAMESPACE)), "the probe asks the CNI, not us");
        assert_eq!(all.policies.len(), 4, "of the probe's namespace our own one only");
        assert_eq!(part_of(Judged::Nobodys), None);
    }
}
