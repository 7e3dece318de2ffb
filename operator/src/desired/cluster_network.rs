//! The same boundary as a ClusterNetworkPolicy (policy.networking.k8s.io), where the cluster serves it: a tier before
//! NetworkPolicies, which no tenant writes, so that what is denied here no NetworkPolicy opens.
//!
//! What may be is passed on to NetworkPolicies, never accepted: a tenant's own ones narrow. Only pods can be named as sources;
//! who comes in from outside the cluster is left to NetworkPolicies.

use freehold_crds::{LabelMatch, Network, NetworkPort, NetworkProtocol, TENANT_LABEL, WithinTenant};
use serde_json::{Value, json};

use super::network::{LINK_LOCAL, name_server};
use super::{Kind, Object};

/// Rules in one direction, as in the schema of the API.
const MAX_RULES: usize = 25;
/// In the middle of the tier's 0 to 1000, of which lower ones go first: the platform team may have its say before and after.
const PRIORITY: i32 = 500;

/// The name for a namespace; of the cluster's names, so it carries what it is for.
pub fn name(namespace: &str) -> String {
    format!("freehold-{namespace}")
}

/// The policy for one namespace.
pub fn object(kind: Kind, tenant: &str, namespace: &str, network: &Network) -> Object {
    let siblings = match network.within_tenant.unwrap_or_default() {
        WithinTenant::Allow | WithinTenant::Own => of_label(TENANT_LABEL, tenant),
        WithinTenant::NamespaceOnly => of_label("kubernetes.io/metadata.name", namespace),
    };
    let mut ingress = vec![pass("from", "within the tenant", json!([siblings]), &[])];
    let mut egress = vec![pass("to", "within the tenant", json!([siblings]), &[])];
    if let Some((pods, _)) = name_server(network) {
        // Of any port, since a Service may lead to another one; NetworkPolicies say which.
        egress.push(pass("to", "names", json!([{"pods": pods}]), &[]));
    }
    for peer in &network.peers {
        let other = json!([of_label(TENANT_LABEL, &peer.tenant_name)]);
        ingress.push(pass("from", "peer", other.clone(), &peer.ports));
        egress.push(pass("to", "peer", other, &[]));
    }
    for peer in &network.ingress_from {
        if let Some(namespaces) = &peer.namespace_selector {
            ingress.push(pass("from", "outside", json!([nobodys(namespaces, peer.pod_selector.as_ref())]), &peer.ports));
        }
    }
    let mut blocks = Vec::new();
    for peer in &network.egress_to {
        match (&peer.namespace_selector, &peer.cidr) {
            (Some(namespaces), _) => {
                egress.push(pass("to", "outside", json!([nobodys(namespaces, peer.pod_selector.as_ref())]), &peer.ports));
            }
            (None, Some(cidr)) => blocks.push(pass("to", "outside", json!([{"networks": [cidr]}]), &peer.ports)),
            (None, None) => {}
        }
    }
    let deny = |key: &str, name: &str, peers: Value| json!({"name": name, "action": "Deny", key: peers});
    let every = json!([{"namespaces": {}}]);
    // What does not fit is not passed on: that only closes. The denials always fit.
    ingress.truncate(MAX_RULES - 1);
    ingress.push(deny("from", "other pods", every.clone()));
    egress.truncate(MAX_RULES - 3);
    blocks.truncate(MAX_RULES - 3 - egress.len());
    egress.push(deny("to", "other pods", every));
    egress.push(deny("to", "metadata services", json!([{"networks": LINK_LOCAL}])));
    egress.extend(blocks);
    egress.push(deny("to", "everywhere else", json!([{"networks": ["0.0.0.0/0", "::/0"]}])));
    let subject = of_label("kubernetes.io/metadata.name", namespace);
    let spec = json!({"tier": "Admin", "priority": PRIORITY, "subject": subject, "ingress": ingress, "egress": egress});
    Object::of_tenant(kind, tenant, None, &name(namespace), json!({"spec": spec}))
}

fn of_label(key: &str, value: &str) -> Value {
    json!({"namespaces": {"matchLabels": {key: value}}})
}

/// Namespaces by labels, never those of a tenant, and pods in them.
fn nobodys(namespaces: &LabelMatch, pods: Option<&LabelMatch>) -> Value {
    let unlabelled = json!([{"key": TENANT_LABEL, "operator": "DoesNotExist"}]);
    let namespaces = json!({"matchLabels": namespaces.match_labels, "matchExpressions": unlabelled});
    match pods {
        None => json!({"namespaces": namespaces}),
        Some(pods) => json!({"pods": {"namespaceSelector": namespaces, "podSelector": {"matchLabels": pods.match_labels}}}),
    }
}

fn pass(key: &str, name: &str, peers: Value, ports: &[NetworkPort]) -> Value {
    let mut rule = json!({"name": name, "action": "Pass", key: peers});
    if !ports.is_empty() {
        let protocol = |port: &NetworkPort| {
            let name = match port.protocol.unwrap_or_default() {
                NetworkProtocol::Tcp => "tcp",
                NetworkProtocol::Udp => "udp",
                NetworkProtocol::Sctp => "sctp",
            };
            json!({name: {"destinationPort": {"number": port.port}}})
        };
        rule["protocols"] = ports.iter().map(protocol).collect();
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(network: Value) -> Value {
        let network: Network = serde_json::from_value(network).unwrap();
        object(Kind::ClusterNetworkPolicyBeta, "team-a", "team-a-dev", &network).document["spec"].clone()
    }

    fn actions(rules: &Value) -> Vec<&str> {
        rules.as_array().unwrap().iter().map(|rule| rule["action"].as_str().unwrap()).collect()
    }

    #[test]
    fn passes_what_may_be_and_denies_the_rest_last() {
        let spec = spec(json!({}));
        assert_eq!((&spec["tier"], &spec["subject"]), (&json!("Admin"), &of_label("kubernetes.io/metadata.name", "team-a-dev")));
        assert_eq!(actions(&spec["ingress"]), ["Pass", "Deny"]);
        assert_eq!(spec["ingress"][0]["from"], json!([{"namespaces": {"matchLabels": {"freehold.dev/tenant": "team-a"}}}]));
        assert_eq!(actions(&spec["egress"]), ["Pass", "Pass", "Deny", "Deny", "Deny"]);
        assert_eq!(spec["egress"][4]["to"], json!([{"networks": ["0.0.0.0/0", "::/0"]}]));
        for (dns, whom) in [("Shared", Some("kube-system")), ("Isolated", Some("freehold-system")), ("Closed", None)] {
            let asked = &self::spec(json!({"dns": dns}))["egress"][1]["to"][0]["pods"]["namespaceSelector"]["matchLabels"];
            assert_eq!(asked["kubernetes.io/metadata.name"].as_str(), whom, "{dns}");
        }
    }

    #[test]
    fn wishes_are_passed_and_never_mean_a_tenant() {
        let spec = spec(json!({
            "withinTenant": "NamespaceOnly", "dns": "Closed",
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"x": "y"}}, "podSelector": {"matchLabels": {"p": "q"}}, "ports": [{"port": 80}]}],
            "egressTo": [{"cidr": "0.0.0.0/0", "ports": [{"port": 53, "protocol": "UDP"}]}, {"namespaceSelector": {"matchLabels": {"x": "y"}}}],
            "peers": [{"tenantName": "team-b", "ports": [{"port": 443}]}],
        }));
        assert_eq!(actions(&spec["ingress"]), ["Pass", "Pass", "Pass", "Deny"]);
        let from = &spec["ingress"][2];
        assert_eq!(from["from"][0]["pods"]["namespaceSelector"]["matchExpressions"][0]["operator"], "DoesNotExist");
        assert_eq!(from["protocols"], json!([{"tcp": {"destinationPort": {"number": 80}}}]));
        // Other pods and metadata services are denied before a block is passed: it holds them too.
        assert_eq!(actions(&spec["egress"]), ["Pass", "Pass", "Pass", "Deny", "Deny", "Pass", "Deny"]);
        assert_eq!(spec["egress"][5]["protocols"], json!([{"udp": {"destinationPort": {"number": 53}}}]));
        assert_eq!(spec["egress"][4]["to"], json!([{"networks": ["169.254.0.0/16", "fe80::/10"]}]));
    }

    #[test]
    fn more_than_fits_closes() {
        let many = |of: fn(usize) -> Value| (0..16).map(of).collect::<Vec<_>>();
        let spec = spec(json!({
            "egressTo": many(|index| json!({"cidr": format!("192.0.2.{index}/32")})),
            "ingressFrom": many(|_| json!({"namespaceSelector": {"matchLabels": {"x": "y"}}})),
            "peers": many(|index| json!({"tenantName": format!("t{index}")})),
        }));
        for direction in ["ingress", "egress"] {
            let rules = spec[direction].as_array().unwrap();
            assert_eq!((rules.len(), rules.last().unwrap()["action"].as_str()), (MAX_RULES, Some("Deny")), "{direction}");
        }
    }
}
