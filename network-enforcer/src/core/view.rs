//! What a node knows, as plain data: pods and namespaces of the cluster, NetworkPolicies, and each tenant's fence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cidr::Cidr;
use super::selector::{Labels, Selector};

/// Everything that decides on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// Blocks from which this node's pods get their addresses: whoever has one and is not known is shut in.
    pub ranges: Vec<Cidr>,
    /// Interfaces that only pods are behind, such as a bridge of the CNI.
    pub links: BTreeSet<String>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Namespace>,
    /// Pods of the whole cluster.
    pub pods: BTreeMap<Key, Pod>,
    /// NetworkPolicies of the whole cluster, without those that restate a fence.
    pub policies: BTreeMap<Key, Policy>,
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
    /// Whose it is.
    pub tenancy: Tenancy,
}

/// Whose a namespace is, and what that means for traffic.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Tenancy {
    /// Nobody's: NetworkPolicies alone decide.
    #[default]
    Free,
    /// A tenant's whose Boundary is not there or does not fit: nothing in, nothing out.
    Unresolved,
    /// A tenant's: what the fence does not let through, no NetworkPolicy can open.
    Fenced(Fence),
}

/// What a tenant's Boundary lets in and out of one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fence {
    /// Who may come in.
    pub ingress: Vec<Rule>,
    /// Where its pods may go.
    pub egress: Vec<Rule>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// Its labels.
    pub labels: Labels,
    /// Its addresses, at most one a family.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether it runs on this node.
    pub local: bool,
    /// Named ports of its containers.
    pub ports: BTreeSet<NamedPort>,
}

/// A port that a pod has a name for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// Protocols that a policy can name, and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP and whatever else there is: let through only by rules without ports.
    Other,
}

/// A NetworkPolicy. `None` for a direction that it is silent about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The pods of its namespace that it is about.
    pub pods: Selector,
    /// Who may reach them.
    pub ingress: Option<Vec<Rule>>,
    /// Whom they may reach.
    pub egress: Option<Vec<Rule>>,
}

/// One rule: some peers at some ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The peers; `None` is everyone.
    pub peers: Option<Vec<Peer>>,
    /// The ports; `None` is every port of every protocol.
    pub ports: Option<Vec<Port>>,
}

/// Someone on the other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Pods by labels: of the pod and of its namespace, both.
    Pods {
        /// Which namespaces.
        namespaces: Namespaces,
        /// Which pods in them.
        pods: Selector,
    },
    /// Addresses.
    Block {
        /// The block.
        cidr: Cidr,
        /// What is not meant of it.
        except: Vec<Cidr>,
    },
}

/// Which namespaces a peer is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespaces {
    /// One by name: a policy's own, where a peer has no namespaceSelector.
    Named(String),
    /// Those with matching labels.
    Selected(Selector),
}

/// One port or several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Their protocol.
    pub protocol: Protocol,
    /// Which.
    pub number: PortNumber,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortNumber {
    /// All.
    Any,
    /// From one to another, both counted.
    Range(u16, u16),
    /// What the pod that is reached calls so.
    Named(String),
}

/// Which way traffic goes, as seen from the pod that is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the pod.
    In,
    /// From the pod.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Out, Self::In];
}

impl Policy {
    /// The rules for a direction, if it is about it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::In => self.ingress.as_deref(),
            Direction::Out => self.egress.as_deref(),
        }
    }
}

impl Fence {
    /// The rules for a direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::In => &self.ingress,
            Direction::Out => &self.egress,
        }
    }
}
