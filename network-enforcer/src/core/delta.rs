//! What turns one table into the next, as one transaction.
//!
//! Order matters to the kernel: what is named must be there, and what goes must not be named any more.

use super::render::{declare_chain, declare_set, element, rule};
use super::table::{Chain, Map, Set, TABLE, Table};

/// Elements in one command, so that lines stay readable.
const ELEMENTS_A_LINE: usize = 256;

/// The transaction; `None` if nothing changes.
pub fn transaction(old: &Table, new: &Table) -> Option<String> {
    let mut out = String::new();
    for (name, set) in added(&old.sets, &new.sets) {
        out.push_str(&declare_set(name, set));
    }
    for (name, chain) in added(&old.chains, &new.chains) {
        out.push_str(&declare_chain(name, chain));
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name);
        let gone = before.into_iter().flat_map(|before| before.elements.difference(&set.elements));
        change("delete", name, gone.map(|one| element(set.kind, one)), &mut out);
        let come = set.elements.iter().filter(|one| before.is_none_or(|before| !before.elements.contains(one)));
        change("add", name, come.map(|one| element(set.kind, one)), &mut out);
    }
    for (name, chain) in &new.chains {
        let before = old.chains.get(name);
        if before.map_or(!chain.rules.is_empty(), |before| before.rules != chain.rules) {
            refill(name, chain, before.is_some(), &mut out);
        }
    }
    // Maps never come or go: they are the same on every node.
    for (name, map) in &new.maps {
        if let Some(before) = old.maps.get(name) {
            remap(name, before, map, &mut out);
        }
    }
    // Their rules first: one that goes may name a set that goes.
    for (name, _) in added(&new.chains, &old.chains) {
        out.push_str(&format!("flush chain inet {TABLE} {name}\n"));
    }
    for (name, _) in added(&new.chains, &old.chains) {
        out.push_str(&format!("delete chain inet {TABLE} {name}\n"));
    }
    for (name, _) in added::<Set>(&new.sets, &old.sets) {
        out.push_str(&format!("delete set inet {TABLE} {name}\n"));
    }
    (!out.is_empty()).then_some(out)
}

type Named<T> = std::collections::BTreeMap<String, T>;

/// What is in the second and not in the first.
fn added<'a, T>(first: &'a Named<T>, second: &'a Named<T>) -> impl Iterator<Item = (&'a String, &'a T)> {
    second.iter().filter(|(name, _)| !first.contains_key(*name))
}

fn refill(name: &str, chain: &Chain, flush: bool, out: &mut String) {
    if flush {
        out.push_str(&format!("flush chain inet {TABLE} {name}\n"));
    }
    for line in chain.rules.iter().map(rule) {
        out.push_str(&format!("add rule inet {TABLE} {name} {line}\n"));
    }
}

fn remap(name: &str, before: &Map, after: &Map, out: &mut String) {
    let shown = |(address, chain): (&std::net::IpAddr, &String)| format!("{address} : jump {chain}");
    let gone = before.elements.iter().filter(|(address, chain)| after.elements.get(*address) != Some(*chain));
    change("delete", name, gone.map(shown), out);
    let come = after.elements.iter().filter(|(address, chain)| before.elements.get(*address) != Some(*chain));
    change("add", name, come.map(shown), out);
}

fn change(verb: &str, name: &str, elements: impl Iterator<Item = String>, out: &mut String) {
    let elements: Vec<_> = elements.collect();
    for part in elements.chunks(ELEMENTS_A_LINE) {
        out.push_str(&format!("{verb} element inet {TABLE} {name} {{ {} }}\n", part.join(", ")));
    }
}
