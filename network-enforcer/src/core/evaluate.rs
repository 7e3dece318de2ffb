//! The reference: judges one flow straight from the objects, by the words of the NetworkPolicy API and of the fence.
//!
//! It is what the compiled table is tested against, and what admission of a tenant's own policies is tested against.

use std::net::IpAddr;

use super::members::{Holder, holders, means};
use super::view::{Direction, Key, Peer, Pod, Port, PortNumber, Protocol, Rule, Tenancy, View};

/// A connection, or what stands for one of a protocol without: real source, real destination after Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opened it.
    pub source: IpAddr,
    /// Who is reached.
    pub destination: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port that is reached.
    pub port: u16,
    /// Where it ends. What the node itself opens is not judged.
    pub target: Target,
}

/// Where a flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Somewhere that this node forwards to: a pod, another node, the world.
    Beyond,
    /// This node itself.
    Node,
}

/// Whether this node lets the flow through.
pub fn allows(view: &View, flow: &Flow) -> bool {
    if flow.target == Target::Beyond && flow.source == flow.destination && knows(view, flow.source) {
        return true; // A pod that reaches itself, by way of a Service.
    }
    side(view, flow, Direction::Out) && (flow.target == Target::Node || side(view, flow, Direction::In))
}

fn knows(view: &View, address: IpAddr) -> bool {
    matches!(holders(view).get(&address), Some(Holder::Pod(_, pod)) if pod.local)
}

/// Whether the pod on one side agrees; whoever is no pod of this node is not asked.
fn side(view: &View, flow: &Flow, direction: Direction) -> bool {
    let own = match direction {
        Direction::Out => flow.source,
        Direction::In => flow.destination,
    };
    match holders(view).get(&own) {
        Some(Holder::Pod(key, pod)) if pod.local => judge(view, flow, direction, key, pod),
        Some(Holder::Contested { local: true }) => false,
        // Not known to run here: an address of this node's range can only be a pod that is not known yet.
        _ => !view.ranges.iter().any(|range| range.contains(own)),
    }
}

fn judge(view: &View, flow: &Flow, direction: Direction, key: &Key, pod: &Pod) -> bool {
    let tenancy = view.namespaces.get(&key.namespace).map_or(&Tenancy::Unresolved, |namespace| &namespace.tenancy);
    match tenancy {
        Tenancy::Unresolved => return false,
        Tenancy::Fenced(fence) if !fence.rules(direction).iter().any(|rule| permits(view, flow, direction, rule)) => {
            return false;
        }
        // "Traffic to and from the node where a Pod is running is always allowed" (NetworkPolicy); not for tenants.
        Tenancy::Free if flow.target == Target::Node => return true,
        _ => {}
    }
    let mut about = view
        .policies
        .iter()
        .filter(|(policy, spec)| policy.namespace == key.namespace && spec.pods.selects(&pod.labels))
        .filter_map(|(_, spec)| spec.rules(direction))
        .peekable();
    about.peek().is_none() || about.flatten().any(|rule| permits(view, flow, direction, rule))
}

fn permits(view: &View, flow: &Flow, direction: Direction, rule: &Rule) -> bool {
    let everyone = [None];
    let peers: Vec<Option<&Peer>> = rule.peers.as_ref().map_or(everyone.into(), |peers| peers.iter().map(Some).collect());
    peers.into_iter().any(|peer| {
        reaches(view, flow, direction, peer)
            && rule.ports.as_ref().is_none_or(|ports| ports.iter().any(|port| fits(view, flow, direction, peer, port)))
    })
}

fn reaches(view: &View, flow: &Flow, direction: Direction, peer: Option<&Peer>) -> bool {
    let other = match direction {
        Direction::Out => flow.destination,
        Direction::In => flow.source,
    };
    match peer {
        None => true,
        Some(Peer::Block { cidr, except }) => cidr.contains(other) && !except.iter().any(|block| block.contains(other)),
        Some(peer) => matches!(holders(view).get(&other), Some(Holder::Pod(key, pod)) if means(view, peer, key, pod)),
    }
}

fn fits(view: &View, flow: &Flow, direction: Direction, peer: Option<&Peer>, port: &Port) -> bool {
    port.protocol == flow.protocol
        && match &port.number {
            PortNumber::Any => true,
            PortNumber::Range(first, last) => (*first..=*last).contains(&flow.port),
            // A name means something for pods only; on the way out, a block has none.
            PortNumber::Named(_) if direction == Direction::Out && matches!(peer, Some(Peer::Block { .. })) => false,
            PortNumber::Named(name) => match holders(view).get(&flow.destination) {
                Some(Holder::Pod(_, pod)) => pod
                    .ports
                    .iter()
                    .any(|named| named.name == *name && named.protocol == port.protocol && named.port == flow.port),
                _ => false,
            },
        }
}
