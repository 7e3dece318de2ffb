//! Traffic of a namespace: nothing in or out, except within the tenant and to the cluster's DNS.
//!
//! NetworkPolicies add up: a tenant's own ones can open more, so this is a sane default and not yet a boundary; the
//! cluster's CNI must enforce them at all.

use freehold_crds::TENANT_LABEL;
use serde_json::{Value, json};

use super::{Kind, Object};

/// The port of DNS.
const DNS_PORT: i32 = 53;

/// The NetworkPolicies of one namespace.
pub fn objects(tenant: &str, namespace: &str) -> Vec<Object> {
    let siblings = json!([{"namespaceSelector": {"matchLabels": {TENANT_LABEL: tenant}}}]);
    let dns = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }]);
    let ports = json!([{"protocol": "UDP", "port": DNS_PORT}, {"protocol": "TCP", "port": DNS_PORT}]);
    let policy = |name: &str, spec: Value| {
        let mut body = json!({"spec": {"podSelector": {}}});
        if let (Some(body), Value::Object(spec)) = (body["spec"].as_object_mut(), spec) {
            body.extend(spec);
        }
        Object::of_tenant(Kind::NetworkPolicy, tenant, Some(namespace), name, body)
    };
    vec![
        policy("freehold-default-deny", json!({"policyTypes": ["Ingress", "Egress"]})),
        policy(
            "freehold-within-tenant",
            json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": siblings}], "egress": [{"to": siblings}]}),
        ),
        policy("freehold-dns", json!({"policyTypes": ["Egress"], "egress": [{"to": dns, "ports": ports}]})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_both_ways_but_for_siblings_and_names() {
        let objects = objects("team-a", "team-a-dev");
        let specs: Vec<_> = objects.iter().map(|object| &object.document["spec"]).collect();
        assert_eq!(specs[0], &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        // The namespace must carry the tenant's guarded label: nothing else forces a peer into the tenant.
        let peer = json!([{"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "team-a"}}}]);
        assert_eq!((&specs[1]["ingress"][0]["from"], &specs[1]["egress"][0]["to"]), (&peer, &peer));
        assert_eq!(specs[2]["egress"][0]["to"].as_array().unwrap().len(), 1, "namespace and pod selectors of DNS hold together");
        objects.iter().for_each(crate::fixtures::is_typed);
    }
}
