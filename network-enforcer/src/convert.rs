//! From the API server's objects to a view. Pure: lists in, data out.
//!
//! What can't be read is left out, which only ever closes: a block that is none means nobody, a selector with an unknown
//! operator selects nothing, a port that is none opens nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use freehold_crds::{BOUNDARY_NAME, Boundary, TENANT_LABEL, WithinTenant};
use k8s_openapi::api::core::v1::{self as api};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use crate::core::cidr::Cidr;
use crate::core::selector::{Expression, Operator, Selector};
use crate::core::view::{
    Key, NamedPort, Namespace, Namespaces, Peer, Pod, Policy, Port, PortNumber, Protocol, Rule, Tenancy, View,
};
use crate::fence::{Cluster, fence};

/// Objects that the operator made carry this label and value.
const MANAGED: (&str, &str) = ("app.kubernetes.io/managed-by", "freehold");

/// What is watched.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Pods of the cluster.
    pub pods: Vec<Arc<api::Pod>>,
    /// Namespaces.
    pub namespaces: Vec<Arc<api::Namespace>>,
    /// NetworkPolicies of the cluster.
    pub policies: Vec<Arc<NetworkPolicy>>,
    /// Boundaries of the cluster.
    pub boundaries: Vec<Arc<Boundary>>,
    /// Nodes.
    pub nodes: Vec<Arc<api::Node>>,
    /// Where the Service `kubernetes` leads.
    pub api_servers: Vec<Arc<EndpointSlice>>,
}

/// The view of one node.
pub fn view(objects: &Objects, node: &str, links: BTreeSet<String>) -> View {
    let cluster = cluster(objects);
    let boundaries: BTreeMap<String, &Boundary> = objects
        .boundaries
        .iter()
        .filter(|boundary| boundary.name_any() == BOUNDARY_NAME)
        .filter_map(|boundary| Some((boundary.namespace()?, &**boundary)))
        .collect();
    let namespaces: BTreeMap<_, _> = objects
        .namespaces
        .iter()
        .map(|namespace| {
            let name = namespace.name_any();
            let tenancy = tenancy(namespace, boundaries.get(&name).copied(), &cluster);
            (name, Namespace { labels: namespace.labels().clone(), tenancy })
        })
        .collect();
    let own = |name: &String| {
        let network = boundaries.get(name).and_then(|boundary| boundary.spec.network.as_ref());
        network.is_some_and(|network| network.within_tenant == Some(WithinTenant::Own))
    };
    let restates = |policy: &NetworkPolicy, namespace: &String| {
        // The operator's policies say for a CNI what the fence says here, and as policies add up they would keep a tenant
        // from narrowing. A tenant that forges the label narrows nothing but its own narrowing.
        let fenced = namespaces.get(namespace).is_some_and(|found| matches!(found.tenancy, Tenancy::Fenced(_)));
        fenced && policy.labels().get(MANAGED.0).is_some_and(|value| value == MANAGED.1) && !own(namespace)
    };
    let policies = objects
        .policies
        .iter()
        .filter_map(|found| {
            let key = Key { namespace: found.namespace()?, name: found.name_any() };
            (!restates(found, &key.namespace)).then(|| (key.clone(), policy(found, &key.namespace)))
        })
        .collect();
    let pods = objects.pods.iter().filter_map(|found| pod(found, node)).collect();
    let ranges = objects.nodes.iter().filter(|found| found.name_any() == node).flat_map(|node| ranges(node)).collect();
    View { ranges, links, namespaces, pods, policies }
}

/// The pod ranges of this node, as far as the API server knows it.
pub fn ranges(node: &api::Node) -> Vec<Cidr> {
    let spec = node.spec.iter();
    let texts = spec.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(spec.pod_cidr.iter()));
    let found: BTreeSet<Cidr> = texts.filter_map(|text| text.parse().ok()).collect();
    found.into_iter().collect()
}

fn cluster(objects: &Objects) -> Cluster {
    let addresses = objects.nodes.iter().flat_map(|node| {
        let known = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        known.filter_map(|address| address.address.parse().ok()).map(Cidr::single)
    });
    let nodes: BTreeSet<_> = objects.nodes.iter().flat_map(|node| ranges(node)).chain(addresses).collect();
    let servers: BTreeSet<_> = objects
        .api_servers
        .iter()
        .flat_map(|slice| {
            let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
            let ports: Vec<_> = ports.collect();
            let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
            addresses.flat_map(move |address| ports.clone().into_iter().map(move |port| (address, port))).collect::<Vec<_>>()
        })
        .collect();
    Cluster { nodes: nodes.into_iter().collect(), api_servers: servers.into_iter().collect() }
}

/// Label and Boundary must agree, and the Boundary must be for this very namespace.
fn tenancy(namespace: &api::Namespace, boundary: Option<&Boundary>, cluster: &Cluster) -> Tenancy {
    match (namespace.labels().get(TENANT_LABEL), boundary) {
        (None, None) => Tenancy::Free,
        (Some(tenant), Some(boundary))
            if boundary.spec.tenant.name == *tenant && namespace.uid() == Some(boundary.spec.namespace_uid.clone()) =>
        {
            let network = boundary.spec.network.clone().unwrap_or_default();
            Tenancy::Fenced(fence(tenant, &namespace.name_any(), &network, cluster))
        }
        _ => Tenancy::Unresolved,
    }
}

fn pod(pod: &api::Pod, node: &str) -> Option<(Key, Pod)> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    // A pod that has ended gave its addresses back; one that is ending has them still, and its policies hold.
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    // One on the node's network has the node's address: nobody can tell it from the node.
    if ended || spec.host_network == Some(true) {
        return None;
    }
    let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let addresses = several.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse().ok()).collect();
    let sidecars = spec.init_containers.iter().flatten().filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let protocol = protocol(port.protocol.as_deref())?;
            Some(NamedPort { name: port.name.clone()?, protocol, port: u16::try_from(port.container_port).ok()? })
        })
        .collect();
    let key = Key { namespace: pod.namespace()?, name: pod.name_any() };
    let local = spec.node_name.as_deref() == Some(node);
    Some((key, Pod { labels: pod.labels().clone(), addresses, local, ports }))
}

/// A NetworkPolicy as data. Without policyTypes it is about Ingress, and about Egress if it has rules for that.
pub fn policy(policy: &NetworkPolicy, namespace: &str) -> Policy {
    let Some(spec) = &policy.spec else { return Policy::default() };
    let said = spec.policy_types.as_deref().unwrap_or_default();
    let about = |name: &str, otherwise: bool| if said.is_empty() { otherwise } else { said.iter().any(|one| one == name) };
    let ingress = spec.ingress.as_deref().unwrap_or_default();
    let egress = spec.egress.as_deref().unwrap_or_default();
    let into = |rule: &NetworkPolicyIngressRule| self::rule(namespace, rule.from.as_deref(), rule.ports.as_deref());
    let out = |rule: &NetworkPolicyEgressRule| self::rule(namespace, rule.to.as_deref(), rule.ports.as_deref());
    Policy {
        pods: spec.pod_selector.as_ref().map(selector).unwrap_or_default(),
        ingress: about("Ingress", true).then(|| ingress.iter().map(into).collect()),
        egress: about("Egress", !egress.is_empty()).then(|| egress.iter().map(out).collect()),
    }
}

fn rule(namespace: &str, peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Rule {
    // Empty lists are as good as none: everyone, every port.
    let peers = peers.filter(|peers| !peers.is_empty());
    let ports = ports.filter(|ports| !ports.is_empty());
    Rule {
        peers: peers.map(|peers| peers.iter().filter_map(|one| peer(namespace, one)).collect()),
        ports: ports.map(|ports| ports.iter().filter_map(port).collect()),
    }
}

fn peer(namespace: &str, peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten().map(|text| text.parse()).collect::<Result<Vec<_>, _>>().ok()?;
        return Some(Peer::Block { cidr: block.cidr.parse().ok()?, except });
    }
    if peer.namespace_selector.is_none() && peer.pod_selector.is_none() {
        return None;
    }
    let namespaces = match &peer.namespace_selector {
        Some(namespaces) => Namespaces::Selected(selector(namespaces)),
        None => Namespaces::Named(namespace.to_owned()),
    };
    Some(Peer::Pods { namespaces, pods: peer.pod_selector.as_ref().map(selector).unwrap_or_default() })
}

fn port(port: &NetworkPolicyPort) -> Option<Port> {
    let number = match (&port.port, port.end_port) {
        (None, _) => PortNumber::Any,
        (Some(IntOrString::String(name)), _) => PortNumber::Named(name.clone()),
        (Some(IntOrString::Int(first)), last) => {
            PortNumber::Range(u16::try_from(*first).ok()?, u16::try_from(last.unwrap_or(*first)).ok()?)
        }
    };
    Some(Port { protocol: protocol(port.protocol.as_deref())?, number })
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

fn selector(selector: &LabelSelector) -> Selector {
    let expressions = selector.match_expressions.iter().flatten().map(|one| Expression {
        key: one.key.clone(),
        operator: match one.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::Unknown,
        },
        values: one.values.clone().unwrap_or_default(),
    });
    Selector { labels: selector.match_labels.clone().unwrap_or_default(), expressions: expressions.collect() }
}
