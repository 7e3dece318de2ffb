//! Traffic of a namespace: nothing in or out, except what the Tenant says; by default within the tenant and to the DNS.
//!
//! The same wish takes two forms. NetworkPolicies are for whatever CNI the cluster has; they add up, so a tenant's own
//! ones can open more there. The Boundary says it again for the network enforcer, which no policy can talk round.

use std::collections::BTreeMap;
use std::net::IpAddr;

use freehold_crds::{
    DnsAccess, NAME_SERVER, NAME_SERVER_PORT, Network, NetworkPeer, NetworkPort, NetworkProtocol, SYSTEM_NAMESPACE, TENANT_LABEL,
    Tenant, TenantPeer, WithinTenant,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{Kind, Object};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Where clouds put what a pod must not learn about its node.
pub(super) const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

/// What every Tenant wishes of others, by its name: a peer is in force only if both name each other.
pub type Wishes = BTreeMap<String, Vec<TenantPeer>>;

/// The wishes of Tenants that are not going.
pub fn wishes<'a>(tenants: impl IntoIterator<Item = &'a Tenant>) -> Wishes {
    let stays = |tenant: &&Tenant| tenant.metadata.deletion_timestamp.is_none();
    let peers = |tenant: &Tenant| tenant.spec.network.as_ref().map(|network| network.peers.clone()).unwrap_or_default();
    tenants.into_iter().filter(stays).map(|tenant| (tenant.name_any(), peers(tenant))).collect()
}

/// What is in force in one namespace: defaults filled in, and of peers only those that agreed. A name never gets into a
/// Boundary before that, so that nobody learns from it whether a tenant exists.
pub fn resolve(tenant: &Tenant, namespace: &str, wishes: &Wishes) -> Network {
    let (name, wish) = (tenant.name_any(), tenant.spec.network.clone().unwrap_or_default());
    let agreed = |peer: &&TenantPeer| {
        let back = wishes.get(&peer.tenant_name).is_some_and(|theirs| theirs.iter().any(|other| other.tenant_name == name));
        back && peer.tenant_name != name && (peer.namespaces.is_empty() || peer.namespaces.iter().any(|one| one == namespace))
    };
    let here = |peer: &TenantPeer| TenantPeer { namespaces: Vec::new(), ..peer.clone() };
    Network {
        within_tenant: Some(wish.within_tenant.unwrap_or_default()),
        api_server: Some(wish.api_server.unwrap_or_default()),
        dns: Some(wish.dns.unwrap_or_default()),
        peers: wish.peers.iter().filter(agreed).map(here).collect(),
        ingress_from: wish.ingress_from,
        egress_to: wish.egress_to,
    }
}

/// The NetworkPolicies of one namespace.
pub fn objects(tenant: &str, namespace: &str, network: &Network) -> Vec<Object> {
    let policy = |name: &str, spec: Value| {
        let mut body = json!({"spec": {"podSelector": {}}});
        if let (Some(body), Value::Object(spec)) = (body["spec"].as_object_mut(), spec) {
            body.extend(spec);
        }
        Object::of_tenant(Kind::NetworkPolicy, tenant, Some(namespace), name, body)
    };
    let both = |ingress: Vec<Value>, egress: Vec<Value>| {
        let types: Vec<_> = [("Ingress", &ingress), ("Egress", &egress)]
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(name, _)| name)
            .collect();
        let mut spec = json!({"policyTypes": types});
        for (key, rules) in [("ingress", ingress), ("egress", egress)] {
            if !rules.is_empty() {
                spec[key] = json!(rules);
            }
        }
        spec
    };
    let mut objects = vec![policy("freehold-default-deny", json!({"policyTypes": ["Ingress", "Egress"]}))];
    let siblings = match network.within_tenant.unwrap_or_default() {
        WithinTenant::Allow => Some(json!([{"namespaceSelector": {"matchLabels": {TENANT_LABEL: tenant}}}])),
        WithinTenant::NamespaceOnly => Some(json!([{"podSelector": {}}])),
        WithinTenant::Own => None,
    };
    if let Some(siblings) = siblings {
        let spec = both(vec![json!({"from": siblings})], vec![json!({"to": siblings})]);
        objects.push(policy("freehold-within-tenant", spec));
    }
    if let Some((pods, port)) = name_server(network) {
        let whom = json!([pods]);
        let ports = json!([{"protocol": "UDP", "port": port}, {"protocol": "TCP", "port": port}]);
        objects.push(policy("freehold-dns", both(Vec::new(), vec![json!({"to": whom, "ports": ports})])));
    }
    let mut ingress: Vec<_> = network.ingress_from.iter().map(|peer| outside("from", peer)).collect();
    let mut egress: Vec<_> = network.egress_to.iter().map(|peer| outside("to", peer)).collect();
    for peer in &network.peers {
        let other = json!([{"namespaceSelector": {"matchLabels": {TENANT_LABEL: peer.tenant_name}}}]);
        ingress.push(with_ports(json!({"from": other}), &peer.ports));
        egress.push(json!({"to": other}));
    }
    if !ingress.is_empty() || !egress.is_empty() {
        objects.push(policy("freehold-outside", both(ingress, egress)));
    }
    // Not the API server: a NetworkPolicy can't name it. The enforcer knows where it is.
    objects
}

/// The pods that a tenant asks for names, and their port; nobody if it is closed.
pub(super) fn name_server(network: &Network) -> Option<(Value, u16)> {
    let (namespace, (key, value), port) = match network.dns.unwrap_or_default() {
        DnsAccess::Shared => ("kube-system", ("k8s-app", "kube-dns"), DNS_PORT),
        DnsAccess::Isolated => (SYSTEM_NAMESPACE, ("app.kubernetes.io/name", NAME_SERVER), NAME_SERVER_PORT),
        DnsAccess::Closed => return None,
    };
    let pods = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {key: value}},
    });
    Some((pods, port))
}

/// A rule for someone outside of the tenant, who is never in a namespace of another one, whatever labels that gets.
fn outside(key: &str, peer: &NetworkPeer) -> Value {
    let mut who = json!({});
    if let Some(cidr) = &peer.cidr {
        // Only what lies inside of the block may be excepted from it.
        let except: Vec<_> = LINK_LOCAL.into_iter().filter(|inner| covers(cidr, inner)).collect();
        who["ipBlock"] = json!({"cidr": cidr});
        if !except.is_empty() {
            who["ipBlock"]["except"] = json!(except);
        }
    }
    if let Some(selector) = &peer.namespace_selector {
        let nobodys = json!([{"key": TENANT_LABEL, "operator": "DoesNotExist"}]);
        who["namespaceSelector"] = json!({"matchLabels": selector.match_labels, "matchExpressions": nobodys});
    }
    if let Some(selector) = &peer.pod_selector {
        who["podSelector"] = json!({"matchLabels": selector.match_labels});
    }
    with_ports(json!({key: [who]}), &peer.ports)
}

fn with_ports(mut rule: Value, ports: &[NetworkPort]) -> Value {
    if !ports.is_empty() {
        let port = |port: &NetworkPort| {
            let protocol: NetworkProtocol = port.protocol.unwrap_or_default();
            json!({"protocol": protocol.name(), "port": port.port})
        };
        rule["ports"] = ports.iter().map(port).collect();
    }
    rule
}

/// Whether one block lies in another. What is no block lies nowhere; the schema refused it before.
fn covers(outer: &str, inner: &str) -> bool {
    let read = |text: &str| -> Option<(bool, u128, u32)> {
        let (address, prefix) = text.split_once('/')?;
        let (is_v4, bits) = match address.parse::<IpAddr>().ok()? {
            IpAddr::V4(address) => (true, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (false, u128::from(address)),
        };
        Some((is_v4, bits, prefix.parse().ok()?))
    };
    let (Some(outer), Some(inner)) = (read(outer), read(inner)) else { return false };
    let shift = 128u32.saturating_sub(outer.2);
    outer.0 == inner.0 && outer.2 <= inner.2 && outer.1.checked_shr(shift) == inner.1.checked_shr(shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{is_typed, tenant};

    fn resolved(name: &str, network: Value, others: &[(&str, Value)]) -> Network {
        let make = |name: &str, network: &Value| {
            tenant(name, json!({"owners": [{"kind": "User", "name": "alice"}], "network": network}))
        };
        let own = make(name, &network);
        let all: Vec<_> = others.iter().map(|(name, network)| make(name, network)).chain([own.clone()]).collect();
        resolve(&own, &format!("{name}-dev"), &wishes(&all))
    }

    fn named(network: &Network) -> BTreeMap<String, Value> {
        let objects = objects("team-a", "team-a-dev", network);
        objects.iter().for_each(is_typed);
        objects.into_iter().map(|object| (object.name, object.document["spec"].clone())).collect()
    }

    #[test]
    fn closed_both_ways_but_for_siblings_and_names() {
        let specs = named(&resolved("team-a", Value::Null, &[]));
        assert_eq!(specs.len(), 3);
        assert_eq!(specs["freehold-default-deny"], json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
        // The namespace must carry the tenant's guarded label: nothing else forces a peer into the tenant.
        let peer = json!([{"namespaceSelector": {"matchLabels": {"freehold.dev/tenant": "team-a"}}}]);
        let within = &specs["freehold-within-tenant"];
        assert_eq!((&within["ingress"][0]["from"], &within["egress"][0]["to"]), (&peer, &peer));
        let dns = &specs["freehold-dns"];
        assert_eq!(dns["egress"][0]["to"].as_array().unwrap().len(), 1, "namespace and pod selectors of DNS hold together");
        assert_eq!(dns["policyTypes"], json!(["Egress"]));
    }

    #[test]
    fn wishes_become_policies() {
        let closed = named(&resolved("team-a", json!({"withinTenant": "Own", "dns": "Closed"}), &[]));
        assert_eq!(closed.keys().collect::<Vec<_>>(), ["freehold-default-deny"]);
        let isolated = &named(&resolved("team-a", json!({"dns": "Isolated"}), &[]))["freehold-dns"]["egress"][0];
        assert_eq!(isolated["to"][0]["podSelector"], json!({"matchLabels": {"app.kubernetes.io/name": "freehold-dns"}}));
        assert_eq!(isolated["ports"][0], json!({"protocol": "UDP", "port": 5353}));
        let narrow = named(&resolved("team-a", json!({"withinTenant": "NamespaceOnly"}), &[]));
        assert_eq!(narrow["freehold-within-tenant"]["egress"][0]["to"], json!([{"podSelector": {}}]));
        let network = json!({
            "ingressFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}, "ports": [{"port": 8080}]}],
            "egressTo": [{"cidr": "0.0.0.0/0", "ports": [{"port": 443}]}, {"cidr": "192.0.2.0/24"}],
        });
        let outside = &named(&resolved("team-a", network, &[]))["freehold-outside"];
        let nobodys = json!([{"key": "freehold.dev/tenant", "operator": "DoesNotExist"}]);
        assert_eq!(outside["ingress"][0]["from"][0]["namespaceSelector"]["matchExpressions"], nobodys);
        assert_eq!(outside["ingress"][0]["ports"], json!([{"protocol": "TCP", "port": 8080}]));
        assert_eq!(outside["egress"][0]["to"], json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]));
        assert_eq!(outside["egress"][1]["to"], json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]));
    }

    #[test]
    fn a_peer_is_in_force_once_both_agreed_and_not_known_before() {
        let wish = |name: &str| json!({"peers": [{"tenantName": name, "ports": [{"port": 443}]}]});
        for (others, expected) in [
            (vec![], 0),
            (vec![("team-b", Value::Null)], 0),
            (vec![("team-b", wish("team-c"))], 0),
            (vec![("team-b", wish("team-a"))], 1),
        ] {
            let network = resolved("team-a", wish("team-b"), &others);
            assert_eq!(network.peers.len(), expected, "{others:?}");
            assert_eq!(named(&network).contains_key("freehold-outside"), expected == 1);
        }
        let elsewhere = json!({"peers": [{"tenantName": "team-b", "namespaces": ["team-a-prod"]}]});
        assert!(resolved("team-a", elsewhere, &[("team-b", wish("team-a"))]).peers.is_empty());
        let itself = wish("team-a");
        assert!(resolved("team-a", itself, &[]).peers.is_empty());
    }

    #[test]
    fn what_lies_in_a_block() {
        for (outer, inner, expected) in [
            ("0.0.0.0/0", "169.254.0.0/16", true),
            ("128.0.0.0/1", "169.254.0.0/16", true),
            ("0.0.0.0/1", "169.254.0.0/16", false),
            ("169.254.0.0/16", "169.254.0.0/16", true),
            ("169.254.169.254/32", "169.254.0.0/16", false),
            ("::/0", "169.254.0.0/16", false),
            ("::/0", "fe80::/10", true),
            ("nonsense", "fe80::/10", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} {inner}");
        }
    }
}
