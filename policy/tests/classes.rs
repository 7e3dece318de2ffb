//! The floor's policy on Tenants that name their class: what is beyond it is refused where it is applied.

use serde_json::{Value, json};

mod floor;

#[test]
fn a_tenant_asks_for_no_more_than_the_class_it_names() {
    let class = json!({"metadata": {"name": "small"}, "spec": {"bounds": {
        "quota": {"max": {"pods": "100", "requests.memory": "8Gi"}}, "namespaces": {"max": 4}, "runtimes": {"allowed": ["microvm", "kata-*"]},
    }}});
    let small = json!({
        "tenantClassName": "small", "quota": {"hard": {"pods": "100", "requests.memory": "8192Mi", "secrets": "9k"}}, "namespaces": {"max": 4},
        "runtimes": {"allowed": ["microvm", "kata-fast"]},
    });
    let with = |change: Value| {
        let mut spec = small.clone();
        json_patch::merge(&mut spec, &change);
        spec
    };
    let quota = json!({"quota": {"hard": {"requests.memory": "9Gi"}}});
    for (what, old, new, expected) in [
        ("all that may be", None, small.clone(), vec![]),
        ("nothing", None, json!({"tenantClassName": "small"}), vec![]),
        ("more quota", None, with(quota.clone()), vec!["spec.quota.hard"]),
        ("more namespaces", None, with(json!({"namespaces": {"max": 5}})), vec!["spec.namespaces.max"]),
        ("another runtime", None, with(json!({"runtimes": {"allowed": ["runc"]}})), vec!["spec.runtimes.allowed"]),
        ("another class", None, with(json!({"tenantClassName": "large", "namespaces": {"max": 5}})), vec![]),
        ("no class", None, with(json!({"tenantClassName": null, "namespaces": {"max": 5}})), vec![]),
        ("a bound was tightened", Some(with(quota.clone())), with(json!({"quota": quota["quota"], "state": "Cordoned"})), vec![]),
        (
            "and more is asked for",
            Some(with(quota)),
            with(json!({"quota": {"hard": {"requests.memory": "10Gi"}}})),
            vec!["spec.quota.hard"],
        ),
    ] {
        let tenant = |spec: Value| json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "a"}, "spec": spec});
        let refused = floor::refusals(&floor::Request {
            group: "freehold.dev".to_owned(),
            resource: "tenants".to_owned(),
            subresource: String::new(),
            namespace: String::new(),
            object: tenant(new),
            old: old.map(tenant),
            params: Some(class.clone()),
            username: "root".to_owned(),
            answers: Vec::new(),
        });
        let fields: Vec<_> = refused.iter().filter_map(|message| message.split_once(':')).map(|(field, _)| field).collect();
        assert_eq!(fields, expected, "{what}: {refused:?}");
    }
}
