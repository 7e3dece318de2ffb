//! Sets of peers, shared by whoever means the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::digit;
use crate::core::cidr::{Cidr, Family};
use crate::core::members::{Holder, means};
use crate::core::table::{Element, Set, SetKind};
use crate::core::view::{Key, Namespaces, Peer, Pod, Protocol, View};

/// Bytes of a digest in a name: nobody finds two selectors of one digest.
const DIGEST_BYTES: usize = 12;
/// Longest comment; the kernel takes 127 bytes.
const MAX_COMMENT: usize = 100;

/// The families of one thing that have a set.
pub(super) type Named = Vec<(Family, String)>;

/// What is known of a set of peers.
#[derive(Clone)]
struct Peers<'a> {
    members: Vec<(IpAddr, &'a Pod)>,
    sets: Named,
}

/// The sets made so far.
pub(super) struct Sets<'a> {
    view: &'a View,
    pods: Vec<(IpAddr, &'a Key, &'a Pod)>,
    peers: BTreeMap<Option<Peer>, Peers<'a>>,
    made: BTreeMap<String, Set>,
}

impl<'a> Sets<'a> {
    pub(super) fn new(view: &'a View, holders: &BTreeMap<IpAddr, Holder<'a>>) -> Self {
        let pods = holders.iter().filter_map(|(address, holder)| match holder {
            Holder::Pod(key, pod) => Some((*address, *key, *pod)),
            Holder::Contested { .. } => None,
        });
        Self { view, pods: pods.collect(), peers: BTreeMap::new(), made: BTreeMap::new() }
    }

    pub(super) fn finished(self) -> BTreeMap<String, Set> {
        self.made
    }

    /// Sets of the addresses that a selecting peer means, in both families: whoever comes later changes no rule.
    pub(super) fn pods(&mut self, peer: &Peer) -> Named {
        self.members(Some(peer));
        let text = describe(peer);
        let name = digest(&text);
        let members = self.peers[&Some(peer.clone())].clone();
        if !members.sets.is_empty() {
            return members.sets;
        }
        let named: Named = Family::ALL.map(|family| (family, format!("pods/{name}/{}", digit(family)))).into();
        for (family, name) in &named {
            let elements = members.members.iter().map(|(address, _)| *address).filter(|address| Family::of(*address) == *family);
            let set = Set {
                kind: SetKind::Addresses(*family),
                comment: comment(&text),
                elements: elements.map(Element::Address).collect(),
            };
            self.made.insert(name.clone(), set);
        }
        if let Some(peers) = self.peers.get_mut(&Some(peer.clone())) {
            peers.sets = named.clone();
        }
        named
    }

    /// The set of a block without its exceptions; none if nothing is left.
    pub(super) fn block(&mut self, cidr: &Cidr, except: &[Cidr]) -> Option<String> {
        let ranges = cidr.without(except);
        if ranges.is_empty() {
            return None;
        }
        let text = describe(&Peer::Block { cidr: *cidr, except: except.to_vec() });
        let name = format!("blocks/{}/{}", digest(&text), digit(cidr.family()));
        let set = Set {
            kind: SetKind::Ranges(cidr.family()),
            comment: comment(&text),
            elements: ranges.into_iter().map(Element::Range).collect(),
        };
        self.made.entry(name.clone()).or_insert(set);
        Some(name)
    }

    /// Sets of the pods among a peer's (of all, without one) that call a port so, by the number they mean.
    pub(super) fn named_ports(&mut self, peer: Option<&Peer>, port: &str, protocol: Protocol) -> Vec<(u16, Named)> {
        let mut numbers: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for (address, pod) in self.members(peer) {
            for named in pod.ports.iter().filter(|named| named.name == port && named.protocol == protocol) {
                numbers.entry(named.port).or_default().insert(address);
            }
        }
        let whom = peer.map_or_else(|| "any pod".to_owned(), describe);
        let mut found = Vec::new();
        for (number, addresses) in numbers {
            let text = format!("{protocol:?} port {port} is {number}: {whom}");
            let named: Named = Family::ALL.map(|family| (family, format!("ports/{}/{}", digest(&text), digit(family)))).into();
            for (family, name) in &named {
                let elements = addresses.iter().copied().filter(|address| Family::of(*address) == *family);
                let set = Set {
                    kind: SetKind::Addresses(*family),
                    comment: comment(&text),
                    elements: elements.map(Element::Address).collect(),
                };
                self.made.insert(name.clone(), set);
            }
            found.push((number, named));
        }
        found
    }

    fn members(&mut self, peer: Option<&Peer>) -> Vec<(IpAddr, &'a Pod)> {
        let key = peer.cloned();
        if !self.peers.contains_key(&key) {
            let meant = |key: &Key, pod: &Pod| peer.is_none_or(|peer| means(self.view, peer, key, pod));
            let members =
                self.pods.iter().filter(|(_, key, pod)| meant(key, pod)).map(|(address, _, pod)| (*address, *pod)).collect();
            self.peers.insert(key.clone(), Peers { members, sets: Vec::new() });
        }
        self.peers[&key].members.clone()
    }
}

/// A short name for a text.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text)[..DIGEST_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a peer means, in words; also what its set is named by, so no two may read alike.
fn describe(peer: &Peer) -> String {
    match peer {
        Peer::Pods { namespaces: Namespaces::Named(name), pods } => format!("namespace {name}: {pods}"),
        Peer::Pods { namespaces: Namespaces::Selected(selector), pods } => format!("namespaces ({selector}): {pods}"),
        Peer::Block { cidr, except } => {
            let text = |cidr: &Cidr| format!("{}-{}", cidr.range().first, cidr.range().last);
            let except: Vec<_> = except.iter().map(text).collect();
            format!("{} without ({})", text(cidr), except.join(" "))
        }
    }
}

/// A text that can stand in quotes, cut to what the kernel takes.
pub(super) fn comment(text: &str) -> String {
    let clean = |sign: char| if sign.is_ascii_graphic() && sign != '"' && sign != '\\' { sign } else { ' ' };
    text.chars().take(MAX_COMMENT).map(clean).collect()
}
