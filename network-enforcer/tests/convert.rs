//! Objects as the API server gives them, and what becomes of them.

#![allow(missing_docs)]

use std::sync::Arc;

use freehold_network_enforcer::convert::{Objects, policy, view};
use freehold_network_enforcer::core::evaluate::{Flow, Target, allows};
use freehold_network_enforcer::core::view::{Protocol, Tenancy, View};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

#[test]
fn directions_are_said_or_inferred() {
    for (spec, ingress, egress) in [
        (json!({}), Some(0), None),
        (json!({"egress": [{}]}), Some(0), Some(1)),
        (json!({"policyTypes": ["Egress"]}), None, Some(0)),
        (json!({"policyTypes": ["Ingress"], "egress": [{}]}), Some(0), None),
        (json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [], "ports": []}]}), Some(1), Some(0)),
    ] {
        let mut spec = spec;
        spec["podSelector"] = json!({});
        let found = policy(&read(json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})), "a");
        assert_eq!((found.ingress.as_ref().map(Vec::len), found.egress.as_ref().map(Vec::len)), (ingress, egress), "{spec}");
        let everyone = found.ingress.iter().flatten().all(|rule| rule.peers.is_none() && rule.ports.is_none());
        assert!(everyone, "empty lists are everyone and everything: {spec}");
    }
}

#[test]
fn what_cannot_be_read_opens_nothing() {
    for from in [
        json!({"ipBlock": {"cidr": "nonsense"}}),
        json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": ["nonsense"]}}),
        json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Roughly"}]}}),
        json!({}),
    ] {
        let spec = json!({"podSelector": {}, "ingress": [{"from": [from]}]});
        let found = policy(&read(json!({"metadata": {"name": "p", "namespace": "a"}, "spec": spec})), "a");
        let peers = found.ingress.as_ref().unwrap()[0].peers.as_ref().unwrap();
        let selects_nothing = peers.iter().all(|peer| format!("{peer:?}").contains("Unknown"));
        assert!(peers.is_empty() || selects_nothing, "{spec}");
    }
}

/// Two tenants with a namespace each, a namespace of nobody, a pod in each, on one node.
fn world(network: Value, policies: Vec<Value>) -> View {
    let namespace = |name: &str, tenant: Option<&str>| {
        let mut labels = json!({"kubernetes.io/metadata.name": name});
        if let Some(tenant) = tenant {
            labels["freehold.dev/tenant"] = json!(tenant);
        }
        Arc::new(read(json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels}})))
    };
    let pod = |namespace: &str, address: &str, extra: Value| {
        let mut document = json!({
            "metadata": {"name": "pod", "namespace": namespace, "labels": {"app": "pod"}},
            "spec": {"nodeName": "node1", "containers": []},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
        });
        document.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        Arc::new(read(document))
    };
    let boundary = |namespace: &str, tenant: &str, uid: &str, network: &Value| {
        Arc::new(read(json!({
            "apiVersion": "freehold.dev/v1alpha1", "kind": "Boundary", "metadata": {"name": "boundary", "namespace": namespace},
            "spec": {"tenant": {"name": tenant, "uid": "t", "generation": 1}, "namespaceUID": uid, "enforcementMode": "Enforce",
                "state": "Active", "pods": {"runtimeClassNames": {"allowed": []}}, "network": network},
        })))
    };
    let policy = |spec: Value| {
        let managed = spec["managed"] == true;
        let labels = if managed { json!({"app.kubernetes.io/managed-by": "freehold"}) } else { json!({}) };
        let mut spec = spec;
        spec.as_object_mut().unwrap().remove("managed");
        Arc::new(read(json!({"metadata": {"name": format!("p{managed}"), "namespace": "a-dev", "labels": labels}, "spec": spec})))
    };
    let objects = Objects {
        pods: vec![
            pod("a-dev", "10.244.0.2", Value::Null),
            pod("a-prod", "10.244.0.3", Value::Null),
            pod("b-dev", "10.244.0.4", Value::Null),
            pod("ingress", "10.244.0.5", Value::Null),
            pod(
                "kube-system",
                "10.244.0.6",
                json!({"metadata": {"name": "dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}}),
            ),
        ],
        namespaces: vec![
            namespace("a-dev", Some("a")),
            namespace("a-prod", Some("a")),
            namespace("b-dev", Some("b")),
            namespace("c-dev", Some("c")),
            namespace("ingress", None),
            namespace("kube-system", None),
        ],
        policies: policies.into_iter().map(policy).collect(),
        boundaries: vec![
            boundary("a-dev", "a", "uid-a-dev", &network),
            boundary("a-prod", "a", "uid-a-prod", &network),
            boundary("b-dev", "b", "uid-b-dev", &json!({"peers": [{"tenantName": "a", "ports": [{"port": 443}]}]})),
            boundary("c-dev", "c", "uid-of-another", &Value::Null),
        ],
        nodes: vec![Arc::new(read(json!({
            "metadata": {"name": "node1"}, "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.200.0.10"}, {"type": "Hostname", "address": "node1"}]},
        })))],
        api_servers: vec![Arc::new(read(json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.200.0.10"]}], "ports": [{"port": 6443}], "metadata": {},
        })))],
    };
    view(&objects, "node1", Default::default())
}

#[track_caller]
fn check(view: &View, from: &str, to: &str, port: u16, expected: bool) {
    let target = if to == "10.200.0.10" { Target::Node } else { Target::Beyond };
    let flow = Flow { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol: Protocol::Tcp, port, target };
    assert_eq!(allows(view, &flow), expected, "{flow:?}");
}

const A: &str = "10.244.0.2";
const A_PROD: &str = "10.244.0.3";
const B: &str = "10.244.0.4";
const INGRESS: &str = "10.244.0.5";
const DNS: &str = "10.244.0.6";
const NODE: &str = "10.200.0.10";
const WORLD: &str = "192.0.2.1";

#[test]
fn by_default_a_tenant_has_itself_and_names() {
    let view = world(Value::Null, vec![]);
    for (from, to, port, expected) in [
        (A, A_PROD, 80, true),
        (A, B, 443, false),
        (B, A, 443, false),
        (A, DNS, 53, true),
        (A, DNS, 80, false),
        (A, INGRESS, 80, false),
        (INGRESS, A, 80, false),
        (A, NODE, 6443, false),
        (A, NODE, 10250, false),
        (A, WORLD, 443, false),
        (A, "169.254.169.254", 80, false),
        (INGRESS, WORLD, 80, true),
    ] {
        check(&view, from, to, port, expected);
    }
    assert_eq!(view.namespaces["c-dev"].tenancy, Tenancy::Unresolved, "its Boundary was made for another namespace");
}

#[test]
fn what_the_tenant_may_is_opened_and_no_more() {
    let ingress =
        json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}, "ports": [{"port": 8080}]}]);
    let view = world(
        json!({
            "withinTenant": "NamespaceOnly", "dns": "Closed", "apiServer": "Allow", "ingressFrom": ingress,
            "egressTo": [{"cidr": "0.0.0.0/0", "ports": [{"port": 443}, {"port": 10250}]}],
            "peers": [{"tenantName": "b"}],
        }),
        vec![],
    );
    for (from, to, port, expected) in [
        (A, A_PROD, 80, false),
        (A, DNS, 53, false),
        (INGRESS, A, 8080, true),
        (INGRESS, A, 80, false),
        (A, NODE, 6443, true),
        (A, NODE, 10250, false),
        (A, WORLD, 443, true),
        (A, WORLD, 80, false),
        (A, "169.254.169.254", 443, false),
        (A, INGRESS, 443, false),
        // Both agreed: the other side said at which port.
        (A, B, 443, true),
        (A, B, 80, false),
        (B, A, 80, true),
    ] {
        check(&view, from, to, port, expected);
    }
    // A label that another tenant puts on its namespace opens nothing.
    let stolen = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b-dev"}}}]);
    check(&world(json!({"ingressFrom": stolen}), vec![]), B, A, 80, false);
}

#[test]
fn a_tenant_narrows_and_the_operators_policies_do_not_undo_it() {
    let within = json!({"managed": true, "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    check(&world(Value::Null, vec![within.clone()]), A_PROD, A, 80, true);
    check(&world(Value::Null, vec![within, deny.clone()]), A_PROD, A, 80, false);
    // With Own, the operator's denial is what the tenant's own policies open.
    let mut denied = deny;
    denied["managed"] = json!(true);
    let open = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]});
    check(&world(json!({"withinTenant": "Own"}), vec![denied.clone()]), A_PROD, A, 80, false);
    let opened = world(json!({"withinTenant": "Own"}), vec![denied, open]);
    check(&opened, A_PROD, A, 80, true);
    check(&opened, INGRESS, A, 80, false);
}
