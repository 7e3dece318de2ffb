//! From a view to the table.
//!
//! Two layers judge a pod, each by a map from its address to a chain: the fence of its tenant, and the NetworkPolicies that
//! are about it. A chain of either returns what it lets through and drops the rest, so that layers are a conjunction and
//! rules within one an alternative. Pods that the same policies are about share a chain, and peers with the same selectors
//! share a set: a pod that comes or goes changes a few elements, and no rule.

mod rules;
mod sets;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::cidr::{Family, Range};
use super::members::{Holder, holders};
use super::table::{Chain, Element, End, Hook, Map, Match, Rule, Set, SetKind, Table, Verdict};
use super::view::{Direction, Key, Pod, Tenancy, View};
use sets::Sets;

/// The chain of addresses that nobody may use: it only drops.
const CLOSED: &str = "closed";
/// Longest name of a chain that is spelled out; the kernel takes 127 bytes.
const MAX_SPELLED_NAME: usize = 96;

/// Compiles the whole table.
pub fn compile(view: &View) -> Table {
    let holders = holders(view);
    let mut table = Table { maps: empty_maps(), ..Table::default() };
    let mut sets = Sets::new(view, &holders);
    let drop = Rule { matches: Vec::new(), verdict: Verdict::Drop, comment: String::new() };
    table.chains.insert(CLOSED.to_owned(), Chain { hook: None, rules: vec![drop] });

    let (mut local, mut tenants) = (BTreeSet::new(), BTreeSet::new());
    for (address, holder) in &holders {
        match holder {
            Holder::Pod(key, pod) if pod.local => {
                local.insert(*address);
                if is_fenced(view, key) {
                    tenants.insert(*address);
                }
                for direction in Direction::ALL {
                    let (fence, policies) = chains(view, &mut table, &mut sets, direction, key, pod);
                    lead(&mut table, "fence", direction, *address, fence);
                    lead(&mut table, "policy", direction, *address, policies);
                }
            }
            Holder::Contested { local: true } => {
                local.insert(*address);
                for direction in Direction::ALL {
                    lead(&mut table, "fence", direction, *address, Some(CLOSED.to_owned()));
                }
            }
            _ => {}
        }
    }
    table.sets = sets.finished();
    table.sets.extend(node_sets(view, &holders, &local, &tenants));
    table.chains.extend(base_chains());
    table
}

fn is_fenced(view: &View, key: &Key) -> bool {
    view.namespaces.get(&key.namespace).is_none_or(|namespace| namespace.tenancy != Tenancy::Free)
}

/// The chains of the two layers for a pod; made unless they are there.
fn chains(
    view: &View,
    table: &mut Table,
    sets: &mut Sets<'_>,
    direction: Direction,
    key: &Key,
    pod: &Pod,
) -> (Option<String>, Option<String>) {
    let fence = match view.namespaces.get(&key.namespace).map(|namespace| &namespace.tenancy) {
        None | Some(Tenancy::Unresolved) => return (Some(CLOSED.to_owned()), None),
        Some(Tenancy::Free) => None,
        Some(Tenancy::Fenced(fence)) => {
            let name = format!("fence-{}/{}", word(direction), key.namespace);
            table.chains.entry(name.clone()).or_insert_with(|| {
                let compiled = fence.rules(direction).iter().enumerate().flat_map(|(index, rule)| {
                    rules::compile(sets, direction, rule, &format!("fence of {} {}[{index}]", key.namespace, word(direction)))
                });
                closed_at_the_end(compiled)
            });
            Some(name)
        }
    };
    let about: Vec<_> = view
        .policies
        .iter()
        .filter(|(policy, spec)| policy.namespace == key.namespace && spec.pods.selects(&pod.labels))
        .filter_map(|(policy, spec)| Some((policy.name.as_str(), spec.rules(direction)?)))
        .collect();
    if about.is_empty() {
        return (fence, None);
    }
    let names: Vec<_> = about.iter().map(|(name, _)| *name).collect();
    let name = chain_name(direction, &key.namespace, &names);
    table.chains.entry(name.clone()).or_insert_with(|| {
        let compiled = about.iter().flat_map(|(policy, list)| list.iter().enumerate().map(move |rule| (*policy, rule))).flat_map(
            |(policy, (index, rule))| {
                rules::compile(sets, direction, rule, &format!("{}/{policy} {}[{index}]", key.namespace, word(direction)))
            },
        );
        closed_at_the_end(compiled)
    });
    (fence, Some(name))
}

fn closed_at_the_end(rules: impl Iterator<Item = Rule>) -> Chain {
    let drop = Rule { matches: Vec::new(), verdict: Verdict::Drop, comment: String::new() };
    Chain { hook: None, rules: rules.chain([drop]).collect() }
}

fn chain_name(direction: Direction, namespace: &str, policies: &[&str]) -> String {
    // A slash is in no Kubernetes name, so no two lists are spelled alike.
    let spelled = format!("policy-{}/{namespace}/{}", word(direction), policies.join("/"));
    if spelled.len() <= MAX_SPELLED_NAME { spelled } else { format!("policies-{}/{}", word(direction), sets::digest(&spelled)) }
}

fn lead(table: &mut Table, layer: &str, direction: Direction, address: IpAddr, chain: Option<String>) {
    if let (Some(chain), Some(map)) = (chain, table.maps.get_mut(&map_name(layer, direction, Family::of(address)))) {
        map.elements.insert(address, chain);
    }
}

fn map_name(layer: &str, direction: Direction, family: Family) -> String {
    format!("{layer}-{}/{}", word(direction), digit(family))
}

fn empty_maps() -> BTreeMap<String, Map> {
    let mut maps = BTreeMap::new();
    for layer in ["fence", "policy"] {
        for direction in Direction::ALL {
            for family in Family::ALL {
                maps.insert(map_name(layer, direction, family), Map { family, elements: BTreeMap::new() });
            }
        }
    }
    maps
}

/// The sets that the base chains read.
fn node_sets(
    view: &View,
    holders: &BTreeMap<IpAddr, Holder<'_>>,
    local: &BTreeSet<IpAddr>,
    tenants: &BTreeSet<IpAddr>,
) -> BTreeMap<String, Set> {
    let mut sets = BTreeMap::new();
    let single = |addresses: &BTreeSet<IpAddr>, family| {
        let of_family = addresses.iter().filter(|address| Family::of(**address) == family);
        of_family.map(|address| Element::Address(*address)).collect::<BTreeSet<_>>()
    };
    let sure: BTreeSet<_> =
        local.iter().copied().filter(|address| matches!(holders.get(address), Some(Holder::Pod(..)))).collect();
    for family in Family::ALL {
        let mut put = |name: &str, kind: SetKind, comment: &str, elements: BTreeSet<Element>| {
            sets.insert(format!("{name}/{}", digit(family)), Set { kind, comment: comment.to_owned(), elements });
        };
        let ranges = Range::merged(view.ranges.iter().filter(|range| range.family() == family).map(|range| range.range()));
        let ranges = ranges.into_iter().map(Element::Range).collect();
        put("ranges", SetKind::Ranges(family), "where pods of this node get addresses from", ranges);
        put("known", SetKind::Addresses(family), "pods of this node", single(local, family));
        put("tenants", SetKind::Addresses(family), "pods of tenants on this node", single(tenants, family));
        put("self", SetKind::Pairs(family), "a pod may reach itself", single(&sure, family));
    }
    let elements = view.links.iter().cloned().map(Element::Interface).collect();
    sets.insert(
        "links".to_owned(),
        Set { kind: SetKind::Interfaces, comment: "only pods are behind these".to_owned(), elements },
    );
    sets
}

/// What every packet passes, the same on every node at every time.
fn base_chains() -> BTreeMap<String, Chain> {
    let rule = |matches: Vec<Match>, verdict: Verdict, comment: &str| Rule { matches, verdict, comment: comment.to_owned() };
    let named = |name: &str, family| format!("{name}/{}", digit(family));
    let (mut gate, mut forward, mut input) = (Vec::new(), Vec::new(), Vec::new());
    gate.push(rule(vec![Match::NeighbourDiscovery], Verdict::Accept, "IPv6 needs it"));
    for family in Family::ALL {
        let foreign = Match::Foreign { interfaces: "links".to_owned(), family, sources: named("known", family) };
        gate.push(rule(vec![foreign], Verdict::Drop, "a pod with an address that is not a pod's"));
    }
    // Where each pod has a link of its own this ends spoofing; behind one bridge all pods' addresses lead to the same link.
    let astray = Match::Astray { interfaces: "links".to_owned() };
    gate.push(rule(vec![astray], Verdict::Drop, "a pod with another pod's address"));
    for family in Family::ALL {
        for end in [End::Source, End::Destination] {
            for set in ["known", "ranges"] {
                gate.push(rule(vec![Match::Stray(end, family, named(set, family))], Verdict::Drop, "belongs to no connection"));
            }
        }
    }
    gate.push(rule(vec![Match::IcmpError], Verdict::Accept, "errors about a connection that was let through"));
    forward.push(rule(Vec::new(), Verdict::Jump("gate".to_owned()), ""));
    for family in Family::ALL {
        forward.push(rule(vec![Match::Same(family, named("self", family))], Verdict::Accept, ""));
    }
    input.push(rule(vec![Match::Loopback], Verdict::Accept, ""));
    // Before the gate: the kubelet's probes reach a pod that the API server has no address of yet.
    input.push(rule(vec![Match::Reply], Verdict::Accept, "what this node opened, such as probes"));
    input.push(rule(Vec::new(), Verdict::Jump("gate".to_owned()), ""));
    for direction in Direction::ALL {
        for family in Family::ALL {
            let end = end(direction);
            let matches =
                vec![Match::In(end, family, named("ranges", family)), Match::NotIn(end, family, named("known", family))];
            let unknown = rule(matches, Verdict::Drop, "a pod that is not known yet");
            let fence = rule(Vec::new(), Verdict::Look(end, family, map_name("fence", direction, family)), "");
            let policy = rule(Vec::new(), Verdict::Look(end, family, map_name("policy", direction, family)), "");
            if direction == Direction::Out {
                let of_tenants = Rule { matches: vec![Match::In(end, family, named("tenants", family))], ..policy.clone() };
                input.extend([unknown.clone(), fence.clone(), of_tenants]);
            }
            forward.extend([unknown, fence, policy]);
        }
    }
    let chain = |hook, rules| Chain { hook, rules };
    [
        ("gate".to_owned(), chain(None, gate)),
        ("forward".to_owned(), chain(Some(Hook::Forward), forward)),
        ("input".to_owned(), chain(Some(Hook::Input), input)),
    ]
    .into()
}

/// The end of a connection that the pod is, which a direction is about.
fn end(direction: Direction) -> End {
    match direction {
        Direction::In => End::Destination,
        Direction::Out => End::Source,
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}
