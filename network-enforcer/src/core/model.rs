//! A small nftables: walks a compiled table as the kernel would, for the part of its language that is used here.
//!
//! It stands in for the kernel in property tests, where thousands of tables are judged against the reference.

use super::cidr::Family;
use super::evaluate::{Flow, Target};
use super::table::{Element, End, Hook, Map, Match, Rule, Table, Verdict};

/// Jumps within jumps; the kernel allows 16.
const MAX_DEPTH: usize = 16;

/// How a chain ended.
enum Ended {
    Accepted,
    Dropped,
    Returned,
}

/// Whether a packet of a tracked connection gets through.
pub fn allows(table: &Table, flow: &Flow) -> bool {
    let hook = match flow.target {
        Target::Beyond => Hook::Forward,
        Target::Node => Hook::Input,
    };
    let mut hooked = table.chains.iter().filter(|(_, chain)| chain.hook == Some(hook));
    hooked.all(|(name, _)| !matches!(walk(table, name, flow, 0), Ended::Dropped))
}

fn walk(table: &Table, chain: &str, flow: &Flow, depth: usize) -> Ended {
    assert!(depth <= MAX_DEPTH, "the kernel would refuse jumps this deep");
    for rule in &table.chains[chain].rules {
        if !rule.matches.iter().all(|condition| holds(table, condition, flow)) {
            continue;
        }
        let jump = match &rule.verdict {
            Verdict::Accept => return Ended::Accepted,
            Verdict::Drop => return Ended::Dropped,
            Verdict::Return => return Ended::Returned,
            Verdict::Jump(chain) => Some(chain),
            Verdict::Look(end, family, map) => {
                let Map { family: keys, elements } = &table.maps[map];
                assert_eq!(keys, family, "a map is looked up by what it is keyed by");
                elements.get(&address(flow, *end))
            }
        };
        if let Some(chain) = jump {
            match walk(table, chain, flow, depth + 1) {
                Ended::Returned => {}
                ended => return ended,
            }
        }
    }
    Ended::Returned
}

fn address(flow: &Flow, end: End) -> std::net::IpAddr {
    match end {
        End::Source => flow.source,
        End::Destination => flow.destination,
    }
}

fn contains(table: &Table, set: &str, address: std::net::IpAddr) -> bool {
    table.sets[set].elements.iter().any(|element| match element {
        Element::Address(one) => *one == address,
        Element::Range(range) => range.contains(address),
        Element::Interface(_) => false,
    })
}

fn holds(table: &Table, condition: &Match, flow: &Flow) -> bool {
    let of = |family: Family| Family::of(flow.source) == family;
    match condition {
        Match::In(end, family, set) => of(*family) && contains(table, set, address(flow, *end)),
        Match::NotIn(end, family, set) => of(*family) && !contains(table, set, address(flow, *end)),
        Match::Same(family, set) => of(*family) && flow.source == flow.destination && contains(table, set, flow.source),
        Match::Family(family) => of(*family),
        Match::Protocol(protocol) => flow.protocol == *protocol,
        Match::Port(first, last) => (*first..=*last).contains(&flow.port),
        // A flow here is the first packet of a tracked connection that came by no link and is no error.
        Match::Odd
        | Match::Stray(..)
        | Match::Foreign { .. }
        | Match::Astray { .. }
        | Match::NeighbourDiscovery
        | Match::IcmpError
        | Match::Reply
        | Match::Loopback => false,
    }
}

/// Every name that a rule or map uses must be there: the kernel refuses a table in which one is not.
pub fn dangling(table: &Table) -> Vec<String> {
    let sets = |rule: &Rule| {
        rule.matches
            .iter()
            .flat_map(|condition| match condition {
                Match::In(_, _, set) | Match::NotIn(_, _, set) | Match::Same(_, set) | Match::Stray(_, _, set) => {
                    vec![set.clone()]
                }
                Match::Foreign { interfaces, sources, .. } => vec![interfaces.clone(), sources.clone()],
                Match::Astray { interfaces } => vec![interfaces.clone()],
                _ => Vec::new(),
            })
            .collect::<Vec<_>>()
    };
    let mut missing = Vec::new();
    for rule in table.chains.values().flat_map(|chain| &chain.rules) {
        missing.extend(sets(rule).into_iter().filter(|set| !table.sets.contains_key(set)));
        match &rule.verdict {
            Verdict::Jump(chain) if !table.chains.contains_key(chain) => missing.push(chain.clone()),
            Verdict::Look(_, _, map) if !table.maps.contains_key(map) => missing.push(map.clone()),
            _ => {}
        }
    }
    let led = table.maps.values().flat_map(|map| map.elements.values());
    missing.extend(led.filter(|chain| !table.chains.contains_key(*chain)).cloned());
    missing
}
