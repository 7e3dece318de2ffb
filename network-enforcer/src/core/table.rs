//! One nftables table as data: named sets, verdict maps by address, chains of rules.
//!
//! Rules look at the connection that a packet belongs to, not at the packet: its opener (`ct original saddr`), whom it
//! really reaches after Services (`ct reply saddr`) and at which port (`ct reply proto-src`). So a packet of either
//! direction gets the verdict of its connection, and a policy that closes ends what is established with the next packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cidr::{Family, Range};
use super::view::Protocol;

/// The table's name, and the only one that this program touches.
pub const TABLE: &str = "freehold";

/// The table `inet freehold`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Sets by name.
    pub sets: BTreeMap<String, Set>,
    /// Verdict maps by name.
    pub maps: BTreeMap<String, Map>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// A named set. Its kind and comment follow from its name; only elements change.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// What its elements are.
    pub kind: SetKind,
    /// What it is, for people.
    pub comment: String,
    /// Its elements.
    pub elements: BTreeSet<Element>,
}

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Addresses.
    Addresses(Family),
    /// Ranges of addresses.
    Ranges(Family),
    /// An address twice: a pod that reaches itself.
    Pairs(Family),
    /// Names of interfaces.
    Interfaces,
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// A range.
    Range(Range),
    /// A name.
    Interface(String),
}

/// A map from addresses to chains that are jumped to.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The family of its keys.
    pub family: Family,
    /// The chain of each address.
    pub elements: BTreeMap<IpAddr, String>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// Where packets enter it; `None`: by jumps only.
    pub hook: Option<Hook>,
    /// Its rules in order. At the end, a hooked chain accepts and another returns.
    pub rules: Vec<Rule>,
}

/// A hook of the kernel, at the usual priority of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Packets that this node forwards, bridged ones too where br_netfilter shows them.
    Forward,
    /// Packets for this node itself.
    Input,
}

/// A rule: if all matches hold, the verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// What is done.
    pub verdict: Verdict,
    /// What it stands for, for people; may be empty.
    pub comment: String,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    /// An end of the connection is in a set of addresses.
    In(End, Family, String),
    /// An end of the connection is not in a set of addresses, but of its family.
    NotIn(End, Family, String),
    /// Both ends are the same, by a set of pairs.
    Same(Family, String),
    /// The packet's family.
    Family(Family),
    /// The packet's protocol.
    Protocol(Protocol),
    /// The port that the connection reaches, both counted. Needs a [`Match::Protocol`] before it.
    Port(u16, u16),
    /// The packet belongs to no connection, or is about one that it is not part of.
    Odd,
    /// The packet belongs to no connection, and its own source or destination is in a set.
    Stray(End, Family, String),
    /// The packet came in by an interface of the set, with a source of the family that is not in another set.
    Foreign {
        /// The set of interfaces.
        interfaces: String,
        /// The family.
        family: Family,
        /// The set of sources that may come in there.
        sources: String,
    },
    /// The packet came in by an interface of the set, and answers to its source would leave by another one.
    Astray {
        /// The set of interfaces.
        interfaces: String,
    },
    /// IPv6 neighbour discovery, without which no IPv6 works; it has no connection.
    NeighbourDiscovery,
    /// An ICMP error about a connection.
    IcmpError,
    /// An answer to what this node opened itself.
    Reply,
    /// From the node to itself.
    Loopback,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Who opened it.
    Source,
    /// Who is reached.
    Destination,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Ends the hook's chain; others of the kernel go on.
    Accept,
    /// Ends the packet.
    Drop,
    /// Back to where the chain was jumped to.
    Return,
    /// To a chain, and on after it returns.
    Jump(String),
    /// To the chain that a map has for an end, if it has one.
    Look(End, Family, String),
}
