//! From a Boundary to the fence of one namespace.
//!
//! Pure. What a fence opens outside of the tenant never means another tenant's namespace, and blocks of addresses never
//! mean nodes, pods, the API server or link-local addresses: those are opened by name only.

use std::net::IpAddr;

use freehold_crds::{
    ApiServerAccess, DnsAccess, LabelMatch, NAME_SERVER, NAME_SERVER_PORT, Network, NetworkPeer, NetworkPort, NetworkProtocol,
    SYSTEM_NAMESPACE, TENANT_LABEL, WithinTenant,
};

use crate::core::cidr::Cidr;
use crate::core::selector::{Expression, Operator, Selector};
use crate::core::view::{Fence, Namespaces, Peer, Port, PortNumber, Protocol, Rule};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// What is never meant by a block: link-local addresses, where metadata services are, and a node's own loopback.
const NEVER: [&str; 4] = ["169.254.0.0/16", "fe80::/10", "127.0.0.0/8", "::1/128"];

/// What of the cluster a fence depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Addresses and pod ranges of all nodes.
    pub nodes: Vec<Cidr>,
    /// Where the API server answers, after its Service.
    pub api_servers: Vec<(IpAddr, u16)>,
}

/// The fence of a namespace.
pub fn fence(tenant: &str, namespace: &str, network: &Network, cluster: &Cluster) -> Fence {
    let siblings = match network.within_tenant.unwrap_or_default() {
        WithinTenant::Allow | WithinTenant::Own => of_tenant(tenant),
        WithinTenant::NamespaceOnly => {
            Peer::Pods { namespaces: Namespaces::Named(namespace.to_owned()), pods: Selector::default() }
        }
    };
    let within = Rule { peers: Some(vec![siblings]), ports: None };
    let mut fence = Fence { ingress: vec![within.clone()], egress: vec![within] };
    fence.ingress.extend(network.ingress_from.iter().map(|peer| outside(peer, &Cluster::default())));
    fence.egress.extend(network.egress_to.iter().map(|peer| outside(peer, cluster)));
    for peer in &network.peers {
        let other = Some(vec![of_tenant(&peer.tenant_name)]);
        fence.ingress.push(Rule { peers: other.clone(), ports: ports(&peer.ports) });
        // At which ports is for the other side's fence to say.
        fence.egress.push(Rule { peers: other, ports: None });
    }
    match network.dns.unwrap_or_default() {
        DnsAccess::Shared => fence.egress.push(dns("kube-system", ("k8s-app", "kube-dns"), DNS_PORT)),
        DnsAccess::Isolated => {
            fence.egress.push(dns(SYSTEM_NAMESPACE, ("app.kubernetes.io/name", NAME_SERVER), NAME_SERVER_PORT));
        }
        DnsAccess::Closed => {}
    }
    if network.api_server.unwrap_or_default() == ApiServerAccess::Allow {
        let to = |(address, port): &(IpAddr, u16)| Rule {
            peers: Some(vec![Peer::Block { cidr: Cidr::single(*address), except: Vec::new() }]),
            ports: Some(vec![Port { protocol: Protocol::Tcp, number: PortNumber::Range(*port, *port) }]),
        };
        fence.egress.extend(cluster.api_servers.iter().map(to));
    }
    fence
}

fn of_tenant(tenant: &str) -> Peer {
    // The label is guarded: only who may own the tenant can put it on a namespace.
    Peer::Pods { namespaces: Namespaces::Selected(Selector::label(TENANT_LABEL, tenant)), pods: Selector::default() }
}

fn outside(peer: &NetworkPeer, cluster: &Cluster) -> Rule {
    let whom = match (&peer.cidr, &peer.namespace_selector) {
        (Some(cidr), None) => cidr.parse::<Cidr>().ok().map(|cidr| {
            let never = NEVER.iter().filter_map(|text| text.parse::<Cidr>().ok());
            let servers = cluster.api_servers.iter().map(|(address, _)| Cidr::single(*address));
            let mut except: Vec<_> = never.chain(cluster.nodes.iter().copied()).chain(servers).collect();
            except.retain(|block| block.family() == cidr.family());
            except.sort_unstable();
            except.dedup();
            Peer::Block { cidr, except }
        }),
        (None, Some(namespaces)) => {
            let mut namespaces = selector(namespaces);
            namespaces.expressions.push(Expression {
                key: TENANT_LABEL.to_owned(),
                operator: Operator::DoesNotExist,
                values: Vec::new(),
            });
            let pods = peer.pod_selector.as_ref().map(selector).unwrap_or_default();
            Some(Peer::Pods { namespaces: Namespaces::Selected(namespaces), pods })
        }
        // The schema refuses both and neither.
        _ => None,
    };
    Rule { peers: Some(whom.into_iter().collect()), ports: ports(&peer.ports) }
}

fn selector(labels: &LabelMatch) -> Selector {
    Selector { labels: labels.match_labels.clone(), expressions: Vec::new() }
}

fn ports(ports: &[NetworkPort]) -> Option<Vec<Port>> {
    let port = |port: &NetworkPort| {
        let protocol = match port.protocol.unwrap_or_default() {
            NetworkProtocol::Tcp => Protocol::Tcp,
            NetworkProtocol::Udp => Protocol::Udp,
            NetworkProtocol::Sctp => Protocol::Sctp,
        };
        let number = u16::try_from(port.port).ok()?;
        Some(Port { protocol, number: PortNumber::Range(number, number) })
    };
    (!ports.is_empty()).then(|| ports.iter().filter_map(port).collect())
}

/// A name server of the cluster. Its Service may lead to another port of its pods, which they name by custom.
fn dns(namespace: &str, (key, value): (&str, &str), port: u16) -> Rule {
    let namespaces = Namespaces::Selected(Selector::label("kubernetes.io/metadata.name", namespace));
    let pods = Selector::label(key, value);
    let at = |protocol, name: &str| {
        [PortNumber::Range(port, port), PortNumber::Named(name.to_owned())].map(|number| Port { protocol, number })
    };
    let ports = [at(Protocol::Udp, "dns"), at(Protocol::Tcp, "dns-tcp")].concat();
    Rule { peers: Some(vec![Peer::Pods { namespaces, pods }]), ports: Some(ports) }
}
