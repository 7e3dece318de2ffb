//! One rule of a policy or a fence as rules of nftables: each returns what it lets through.

use super::end;
use super::sets::{Named, Sets, comment};
use crate::core::cidr::Family;
use crate::core::table::{End, Match, Rule, Verdict};
use crate::core::view::{self, Direction, Peer, Port, PortNumber};

/// All combinations of its peers and ports.
pub(super) fn compile(sets: &mut Sets<'_>, direction: Direction, rule: &view::Rule, comment_text: &str) -> Vec<Rule> {
    let peers: Vec<Option<&Peer>> = match &rule.peers {
        None => vec![None],
        Some(peers) => peers.iter().map(Some).collect(),
    };
    let mut alternatives = Vec::new();
    for peer in peers {
        match &rule.ports {
            None => alternatives.extend(addresses(sets, direction, peer)),
            Some(ports) => {
                for port in ports {
                    alternatives.extend(at_port(sets, direction, peer, port));
                }
            }
        }
    }
    let text = comment(comment_text);
    alternatives.into_iter().map(|matches| Rule { matches, verdict: Verdict::Return, comment: text.clone() }).collect()
}

/// The peer alone.
fn addresses(sets: &mut Sets<'_>, direction: Direction, peer: Option<&Peer>) -> Vec<Vec<Match>> {
    let other = match end(direction) {
        End::Source => End::Destination,
        End::Destination => End::Source,
    };
    match peer {
        None => vec![Vec::new()],
        Some(Peer::Block { cidr, except }) if cidr.is_everything() && except.is_empty() => {
            vec![vec![Match::Family(cidr.family())]]
        }
        Some(Peer::Block { cidr, except }) => {
            sets.block(cidr, except).map(|set| vec![Match::In(other, cidr.family(), set)]).into_iter().collect()
        }
        Some(peer) => each(sets.pods(peer), |family, set| Match::In(other, family, set)),
    }
}

/// The peer at a port.
fn at_port(sets: &mut Sets<'_>, direction: Direction, peer: Option<&Peer>, port: &Port) -> Vec<Vec<Match>> {
    let PortNumber::Named(name) = &port.number else {
        let mut matches = vec![Match::Protocol(port.protocol)];
        if let PortNumber::Range(first, last) = port.number {
            matches.push(Match::Port(first, last));
        }
        return addresses(sets, direction, peer).into_iter().map(|peer| [peer, matches.clone()].concat()).collect();
    };
    let (meant, from) = match direction {
        // Who is reached names the port: on the way out the peer, whose set then is one of those who have the name.
        Direction::Out if matches!(peer, Some(Peer::Block { .. })) => return Vec::new(),
        Direction::Out => (peer, vec![Vec::new()]),
        Direction::In => (None, addresses(sets, direction, peer)),
    };
    let mut alternatives = Vec::new();
    for (number, named) in sets.named_ports(meant, name, port.protocol) {
        for reached in each(named, |family, set| Match::In(End::Destination, family, set)) {
            let at = [Match::Protocol(port.protocol), Match::Port(number, number)];
            alternatives.extend(from.iter().map(|from| [from.clone(), reached.clone(), at.to_vec()].concat()));
        }
    }
    alternatives
}

fn each(named: Named, of: impl Fn(Family, String) -> Match) -> Vec<Vec<Match>> {
    named.into_iter().map(|(family, set)| vec![of(family, set)]).collect()
}
