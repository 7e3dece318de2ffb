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
    // Policies are sorted by namespace: a look at all of them for each pod was most of the time that deciding took.
    let first = Key { namespace: key.namespace.clone(), name: String::new() };
    let about: Vec<_> = view
        .policies
        .range(first..)
        .take_while(|(policy, _)| policy.namespace == key.namespace)
        .filter(|(_, spec)| spec.pods.selects(&pod.labels))
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

/// What every packet passes, the same on every node at every time. Each family has chains of its own, and what only few packets
/// need stands aside: a packet of a known pod's connection meets as few rules as can be, as each of them costs it time.
fn base_chains() -> BTreeMap<String, Chain> {
    let of = |hook: &str, family| format!("{hook}/{}", digit(family));
    let families = |hook: &str| Family::ALL.map(|family| rule(vec![Match::Family(family)], Verdict::Jump(of(hook, family)), ""));
    let forward = families("forward").into();
    // Before the gate: the kubelet's probes reach a pod that the API server has no address of yet.
    let mut input = vec![
        rule(vec![Match::Loopback], Verdict::Accept, ""),
        rule(vec![Match::Reply], Verdict::Accept, "what this node opened, such as probes"),
    ];
    input.extend(families("input"));
    let chain = |hook, rules| Chain { hook, rules };
    let mut chains: BTreeMap<_, _> =
        [("forward".to_owned(), chain(Some(Hook::Forward), forward)), ("input".to_owned(), chain(Some(Hook::Input), input))]
            .into();
    for family in Family::ALL {
        chains.insert(of("gate", family), chain(None, gate(family)));
        chains.insert(of("odd", family), chain(None, odd(family)));
        chains.insert(of("forward", family), chain(None, forwarded(family)));
        chains.insert(of("input", family), chain(None, to_the_node(family)));
    }
    chains
}

fn rule(matches: Vec<Match>, verdict: Verdict, comment: &str) -> Rule {
    Rule { matches, verdict, comment: comment.to_owned() }
}

fn named(name: &str, family: Family) -> String {
    format!("{name}/{}", digit(family))
}

/// Who may send at all.
fn gate(family: Family) -> Vec<Rule> {
    let mut gate = Vec::new();
    if family == Family::V6 {
        gate.push(rule(vec![Match::NeighbourDiscovery], Verdict::Accept, "IPv6 needs it"));
    }
    let foreign = Match::Foreign { interfaces: "links".to_owned(), family, sources: named("known", family) };
    gate.push(rule(vec![foreign], Verdict::Drop, "a pod with an address that is not a pod's"));
    // Where each pod has a link of its own this ends spoofing; behind one bridge all pods' addresses lead to the same link.
    let astray = Match::Astray { interfaces: "links".to_owned() };
    gate.push(rule(vec![astray], Verdict::Drop, "a pod with another pod's address"));
    gate.push(rule(vec![Match::Odd], Verdict::Jump(named("odd", family)), ""));
    gate
}

/// Packets of no connection, and those that are about one.
fn odd(family: Family) -> Vec<Rule> {
    let ends = [End::Source, End::Destination].into_iter();
    let strays = ends.flat_map(|end| ["known", "ranges"].map(|set| Match::Stray(end, family, named(set, family))));
    let mut odd: Vec<_> = strays.map(|stray| rule(vec![stray], Verdict::Drop, "belongs to no connection")).collect();
    odd.push(rule(vec![Match::IcmpError], Verdict::Accept, "errors about a connection that was let through"));
    odd
}

/// An address of the pods' ranges that is no known pod's. The set of few questions comes first: a known pod's packet asks no further.
fn unknown(end: End, family: Family) -> Rule {
    let matches = vec![Match::NotIn(end, family, named("known", family)), Match::In(end, family, named("ranges", family))];
    rule(matches, Verdict::Drop, "a pod that is not known yet")
}

fn look(layer: &str, direction: Direction, family: Family) -> Rule {
    rule(Vec::new(), Verdict::Look(end(direction), family, map_name(layer, direction, family)), "")
}

fn forwarded(family: Family) -> Vec<Rule> {
    let mut rules = vec![
        rule(Vec::new(), Verdict::Jump(named("gate", family)), ""),
        rule(vec![Match::Same(family, named("self", family))], Verdict::Accept, ""),
    ];
    for direction in Direction::ALL {
        let layers = ["fence", "policy"].map(|layer| look(layer, direction, family));
        rules.extend([unknown(end(direction), family)].into_iter().chain(layers));
    }
    rules
}

fn to_the_node(family: Family) -> Vec<Rule> {
    let (out, source) = (Direction::Out, end(Direction::Out));
    let of_tenants = Rule { matches: vec![Match::In(source, family, named("tenants", family))], ..look("policy", out, family) };
    vec![
        rule(Vec::new(), Verdict::Jump(named("gate", family)), ""),
        unknown(source, family),
        look("fence", out, family),
        of_tenants,
    ]
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
