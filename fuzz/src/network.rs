//! A tenant's NetworkPolicy: it compiles to a table of the right form, whatever it says, and nothing that a tenant chooses
//! gets into the text that `nft` reads but as a name.

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_network_enforcer::convert::{Objects, view};
use freehold_network_enforcer::core::compile::compile;
use freehold_network_enforcer::core::render::replace;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The policy, and one that opens everything, over two pods of two namespaces.
pub fn network(bytes: &[u8]) {
    let Ok(policy) = serde_json::from_slice::<NetworkPolicy>(bytes) else { return };
    // The API server lets no other names through; what stands in the spec it hardly looks at.
    let named = |policy: NetworkPolicy| {
        let mut policy = policy;
        (policy.metadata.namespace, policy.metadata.name) = (Some("a".to_owned()), Some("x".to_owned()));
        policy
    };
    let objects = Objects {
        pods: vec![of(pod("a", "10.0.0.2")), of(pod("b", "10.0.0.3"))],
        namespaces: ["a", "b"].map(|name| of::<Namespace>(json!({"metadata": {"name": name, "labels": {"is": name}}}))).into(),
        policies: vec![Arc::new(named(policy))],
        nodes: vec![of::<Node>(json!({"metadata": {"name": "node"}, "spec": {"podCIDR": "10.0.0.0/24"}}))],
        ..Objects::default()
    };
    let table = compile(&view(&objects, "node", BTreeSet::from(["cni0".to_owned()])));
    let text = replace(&table);
    let bare = unquoted(&text);
    let known = |sign: char| sign.is_ascii_alphanumeric() || " \n{}/.:;,=-_@!+".contains(sign);
    assert!(bare.chars().all(known), "a sign that we write nowhere: {bare}");
    assert_eq!(bare.matches('{').count(), bare.matches('}').count(), "the text is not balanced: {bare}");
}

/// The text without what stands in quotes, where comments repeat a policy's words.
fn unquoted(text: &str) -> String {
    assert_eq!(text.matches('"').count() % 2, 0, "an open quote");
    text.split('"').step_by(2).collect()
}

fn of<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).expect("an object of ours"))
}

fn pod(namespace: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": "pod", "labels": {"app": "web"}},
        "spec": {"nodeName": "node", "containers": [{"name": "main", "ports": [{"name": "web", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": address},
    })
}

/// A policy of each form.
pub fn seeds() -> Vec<Vec<u8>> {
    let specs = [
        json!({"podSelector": {}}),
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "is", "operator": "In", "values": ["b"]}]}}],
                "ports": [{"port": "web"}, {"port": 1, "endPort": 99, "protocol": "UDP"}]}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.3/32"]}}]}]}),
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}, {"podSelector": {}}]}]}),
    ];
    specs.iter().map(|spec| serde_json::to_vec(&json!({"metadata": {}, "spec": spec})).expect("JSON")).collect()
}
