//! Two tenants, platform namespaces, and messages.
#![allow(dead_code, reason = "each test takes of it what it needs")]

use std::net::IpAddr;
use std::sync::Arc;

use domain::base::iana::{Class, Rtype};
use domain::base::{Message, MessageBuilder, Name as WireName};
use freehold_dns::view::{Objects, View};
use serde_json::{Value, json};

pub const DOMAIN: &str = "cluster.local";
/// A pod of team-a, which may go nowhere outside.
pub const A: &str = "10.244.0.11";
/// A pod of team-a's other namespace.
pub const A_CI: &str = "10.244.0.12";
/// A pod of team-b, which may go into the world, to monitoring and to the API server, and is a peer of team-c.
pub const B: &str = "10.244.0.21";
/// A pod of team-c, a peer of team-b.
pub const C: &str = "10.244.0.31";
/// A pod of nobody.
pub const NOBODYS: &str = "10.244.0.41";

fn pod(namespace: &str, name: &str, address: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"containers": []}, "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
}

fn namespace(name: &str, tenant: Option<&str>) -> Value {
    let mut labels = json!({"kubernetes.io/metadata.name": name});
    if let Some(tenant) = tenant {
        labels["freehold.dev/tenant"] = tenant.into();
    }
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "labels": labels}})
}

fn boundary(namespace: &str, tenant: &str, network: Value) -> Value {
    json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Boundary", "metadata": {"name": "boundary", "namespace": namespace}, "spec": {
        "tenant": {"name": tenant, "uid": "1", "generation": 1}, "namespaceUID": format!("uid-{namespace}"), "enforcementMode": "Enforce",
        "state": "Active", "pods": {"runtimeClassNames": {"allowed": []}}, "network": network,
    }})
}

fn all<T: serde::de::DeserializeOwned>(values: Vec<Value>) -> Vec<Arc<T>> {
    values.into_iter().map(|value| Arc::new(serde_json::from_value(value).unwrap())).collect()
}

pub fn objects() -> Objects {
    let peer = |name: &str| json!({"dns": "Isolated", "peers": [{"tenantName": name}]});
    let mut b = peer("team-c");
    b["apiServer"] = json!("Allow");
    b["egressTo"] =
        json!([{"cidr": "0.0.0.0/0"}, {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    Objects {
        pods: all(vec![
            pod("team-a-dev", "web", A),
            pod("team-a-ci", "job", A_CI),
            pod("team-b-dev", "web", B),
            pod("team-c-dev", "web", C),
            pod("nobodys", "web", NOBODYS),
        ]),
        namespaces: all(vec![
            namespace("team-a-dev", Some("team-a")),
            namespace("team-a-ci", Some("team-a")),
            namespace("team-b-dev", Some("team-b")),
            namespace("team-c-dev", Some("team-c")),
            namespace("nobodys", None),
            namespace("monitoring", None),
            namespace("default", None),
        ]),
        boundaries: all(vec![
            boundary("team-a-dev", "team-a", json!({"dns": "Isolated"})),
            boundary("team-a-ci", "team-a", json!({"dns": "Isolated"})),
            boundary("team-b-dev", "team-b", b),
            boundary("team-c-dev", "team-c", peer("team-b")),
        ]),
    }
}

pub fn view() -> View {
    View::new(&objects())
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn question(name: &str, rtype: Rtype) -> Message<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(7);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((name.parse::<WireName<Vec<u8>>>().unwrap(), rtype, Class::IN)).unwrap();
    builder.into_message()
}
