//! What a Boundary lets through, each as something that a peer can imply.

use std::collections::BTreeMap;

use freehold_crds::{
    DnsAccess, NAME_SERVER, NAME_SERVER_PORT, Network, NetworkPeer, NetworkPort, SYSTEM_NAMESPACE, WithinTenant,
};
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Direction, blocks};
use crate::TENANT_LABEL;

/// The label by which the API server names a namespace; nobody can set it to anything else.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The port of the cluster's DNS.
const DNS_PORT: i32 = 53;

/// Something that is open, at some ports.
pub(super) struct Opening {
    whom: Whom,
    /// Protocol and port; `None` is all.
    ports: Option<Vec<(&'static str, i32)>>,
}

enum Whom {
    /// Pods of the policy's own namespace.
    Namespace(String),
    /// Pods of a tenant; only the own one's name is shown, and those of peers, which agreed.
    Tenant(String),
    /// Pods with these labels in namespaces with these.
    Outside(BTreeMap<String, String>, BTreeMap<String, String>),
    Block(String),
}

/// Everything that is open in a direction.
pub(super) fn openings(tenant: &str, namespace: &str, network: &Network, direction: Direction) -> Vec<Opening> {
    let mut open = vec![Opening { whom: Whom::Namespace(namespace.to_owned()), ports: None }];
    if network.within_tenant.unwrap_or_default() != WithinTenant::NamespaceOnly {
        open.push(Opening { whom: Whom::Tenant(tenant.to_owned()), ports: None });
    }
    let outside = match direction {
        Direction::Ingress => &network.ingress_from,
        Direction::Egress => &network.egress_to,
    };
    open.extend(outside.iter().filter_map(opening));
    for peer in &network.peers {
        let at = if direction == Direction::Ingress { ports(&peer.ports) } else { None };
        open.push(Opening { whom: Whom::Tenant(peer.tenant_name.clone()), ports: at });
    }
    let dns = match network.dns.unwrap_or_default() {
        _ if direction == Direction::Ingress => None,
        DnsAccess::Shared => Some(("kube-system", ("k8s-app", "kube-dns"), DNS_PORT)),
        DnsAccess::Isolated => Some((SYSTEM_NAMESPACE, ("app.kubernetes.io/name", NAME_SERVER), NAME_SERVER_PORT.into())),
        DnsAccess::Closed => None,
    };
    if let Some((namespace, (key, value), port)) = dns {
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let whom = Whom::Outside(labels(NAME_LABEL, namespace), labels(key, value));
        open.push(Opening { whom, ports: Some(vec![("UDP", port), ("TCP", port)]) });
    }
    open
}

fn opening(peer: &NetworkPeer) -> Option<Opening> {
    let whom = match (&peer.cidr, &peer.namespace_selector) {
        (Some(cidr), None) => Whom::Block(cidr.clone()),
        (None, Some(namespaces)) => {
            let pods = peer.pod_selector.as_ref().map(|pods| pods.match_labels.clone()).unwrap_or_default();
            Whom::Outside(namespaces.match_labels.clone(), pods)
        }
        _ => return None,
    };
    Some(Opening { whom, ports: ports(&peer.ports) })
}

fn ports(ports: &[NetworkPort]) -> Option<Vec<(&'static str, i32)>> {
    (!ports.is_empty()).then(|| ports.iter().map(|port| (port.protocol.unwrap_or_default().name(), port.port)).collect())
}

impl Opening {
    /// Whether a peer can mean nobody but whom this means.
    pub(super) fn means(&self, peer: &NetworkPolicyPeer) -> bool {
        if let Some(block) = &peer.ip_block {
            let except = block.except.as_deref().unwrap_or_default();
            return matches!(&self.whom, Whom::Block(outer) if blocks::within(&block.cidr, except, outer));
        }
        match (&self.whom, &peer.namespace_selector) {
            (Whom::Namespace(_), None) => peer.pod_selector.is_some(),
            (Whom::Namespace(name), Some(namespaces)) => forces(namespaces, NAME_LABEL, name),
            (Whom::Tenant(tenant), Some(namespaces)) => forces(namespaces, TENANT_LABEL, tenant),
            (Whom::Outside(labels, pods), Some(namespaces)) => {
                let forced = labels.iter().all(|(key, value)| forces(namespaces, key, value));
                let pods_forced = pods
                    .iter()
                    .all(|(key, value)| peer.pod_selector.as_ref().is_some_and(|selector| forces(selector, key, value)));
                forced && pods_forced && excludes_tenants(namespaces)
            }
            (Whom::Tenant(_) | Whom::Outside(..), None) | (Whom::Block(_), _) => false,
        }
    }

    /// Whether ports are all within those that are open.
    pub(super) fn holds(&self, ports: &[NetworkPolicyPort]) -> bool {
        let Some(open) = &self.ports else { return true };
        // No ports are all ports. A name means whatever a pod calls so.
        let within = |port: &NetworkPolicyPort| match (&port.port, port.end_port) {
            (Some(IntOrString::Int(first)), last) => {
                let protocol = port.protocol.as_deref().unwrap_or("TCP");
                let last = last.unwrap_or(*first);
                // Bounded by what is open: a range that starts elsewhere ends the search at once.
                *first <= last && (*first..=last).all(|number| open.contains(&(protocol, number)))
            }
            _ => false,
        };
        !ports.is_empty() && ports.iter().all(within)
    }

    /// In words, for a person; a peer's name is known to the tenant, who wrote it.
    pub(super) fn words(&self) -> String {
        let labels = |labels: &BTreeMap<String, String>| {
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        };
        let whom = match &self.whom {
            Whom::Namespace(_) => "a podSelector alone".to_owned(),
            Whom::Tenant(tenant) => format!("a namespaceSelector with {TENANT_LABEL}={tenant}"),
            Whom::Outside(namespaces, pods) if pods.is_empty() => {
                format!("a namespaceSelector with {} and {TENANT_LABEL} DoesNotExist", labels(namespaces))
            }
            Whom::Outside(namespaces, pods) => format!(
                "a namespaceSelector with {} and {TENANT_LABEL} DoesNotExist, with a podSelector with {}",
                labels(namespaces),
                labels(pods)
            ),
            Whom::Block(cidr) => format!("an ipBlock in {cidr} without link-local addresses"),
        };
        match &self.ports {
            None => whom,
            Some(ports) => {
                let ports: Vec<_> = ports.iter().map(|(protocol, port)| format!("{protocol} {port}")).collect();
                format!("{whom} at {}", ports.join(", "))
            }
        }
    }
}

/// Whether whatever a selector selects has this label with this value.
fn forces(selector: &LabelSelector, key: &str, value: &str) -> bool {
    let by_label = selector.match_labels.iter().flatten().any(|(found, has)| found == key && has == value);
    let by_expression = selector.match_expressions.iter().flatten().any(|expression| {
        let values = expression.values.as_deref().unwrap_or_default();
        expression.key == key && expression.operator == "In" && !values.is_empty() && values.iter().all(|one| one == value)
    });
    by_label || by_expression
}

/// Whether a selector can mean no tenant's namespace: it says so, or it means one namespace that the platform runs on.
fn excludes_tenants(selector: &LabelSelector) -> bool {
    let says = selector.match_expressions.iter().flatten().any(|one| one.key == TENANT_LABEL && one.operator == "DoesNotExist");
    says || forces(selector, NAME_LABEL, "kube-system")
}
