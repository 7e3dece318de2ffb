//! A table as the text that `nft -f` reads.
//!
//! Written for nft 1.0.6 and newer: no `destroy`, no two closing braces on a line, no anonymous sets of `ct` ports (their
//! byte order is not known there), and the protocol always before the port, which gives the port its type.
//! Protocols are numbers: their names come from /etc/protocols, which an image of one program does not have.
//! Keys of sets and maps are declared by `typeof`, never by `type`: nft 1.1.2 and newer keep a `type` with the set in a form that
//! nft up to 1.1.1 dies of (segmentation fault) as soon as it reads the node's sets, whatever table it is asked for. kube-proxy's
//! own nft is such a one: its Services would stand still for as long as our table is there.

use std::fmt::Write as _;

use super::cidr::Family;
use super::table::{Chain, Element, End, Hook, Match, Rule, Set, SetKind, TABLE, Table, Verdict};
use super::view::Protocol;

/// A transaction that puts this table in the place of whatever stands there, at once.
pub fn replace(table: &Table) -> String {
    // The first line makes the second one succeed on a node that has no such table yet.
    let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
    text.push_str(&whole(table));
    text
}

/// A transaction that removes the table and nothing else.
pub fn remove() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn whole(table: &Table) -> String {
    let mut out = format!("table inet {TABLE} {{\n");
    for (name, set) in &table.sets {
        let _ = writeln!(out, "  set {name} {{\n    {}", set_kind(set.kind));
        let _ = writeln!(out, "    comment \"{}\"", set.comment);
        if !set.elements.is_empty() {
            let _ = writeln!(out, "    elements = {}", elements(set));
        }
        out.push_str("  }\n");
    }
    for (name, chain) in &table.chains {
        // Declared first: maps and rules name chains that come later.
        let _ = writeln!(out, "  chain {name} {{");
        if let Some(line) = chain.hook.map(hook) {
            let _ = writeln!(out, "    {line}");
        }
        out.push_str("  }\n");
    }
    for (name, map) in &table.maps {
        let _ = writeln!(out, "  map {name} {{\n    typeof {} : verdict", header(End::Source, map.family));
        if !map.elements.is_empty() {
            let list: Vec<_> = map.elements.iter().map(|(address, chain)| format!("{address} : jump {chain}")).collect();
            let _ = writeln!(out, "    elements = {{ {} }}", list.join(", "));
        }
        out.push_str("  }\n");
    }
    for (name, chain) in &table.chains {
        if !chain.rules.is_empty() {
            let _ = writeln!(out, "  chain {name} {{");
            for line in chain.rules.iter().map(rule) {
                let _ = writeln!(out, "    {line}");
            }
            out.push_str("  }\n");
        }
    }
    out.push_str("}\n");
    out
}

pub(super) fn declare_set(name: &str, set: &Set) -> String {
    let comment = &set.comment;
    format!("add set inet {TABLE} {name} {{ {}; comment \"{comment}\"; }}\n", set_kind(set.kind).replace('\n', ";"))
}

pub(super) fn declare_chain(name: &str, chain: &Chain) -> String {
    match chain.hook.map(hook) {
        Some(line) => format!("add chain inet {TABLE} {name} {{ {line} }}\n"),
        None => format!("add chain inet {TABLE} {name}\n"),
    }
}

fn hook(hook: Hook) -> &'static str {
    match hook {
        Hook::Forward => "type filter hook forward priority filter; policy accept;",
        Hook::Input => "type filter hook input priority filter; policy accept;",
    }
}

/// What the elements of a set are, by an expression that has such values.
fn set_kind(kind: SetKind) -> String {
    match kind {
        SetKind::Addresses(family) => format!("typeof {}", header(End::Source, family)),
        SetKind::Ranges(family) => format!("typeof {}\n    flags interval", header(End::Source, family)),
        SetKind::Pairs(family) => format!("typeof {0} . {0}", header(End::Source, family)),
        SetKind::Interfaces => "typeof iifname".to_owned(),
    }
}

fn elements(set: &Set) -> String {
    let list: Vec<_> = set.elements.iter().map(|one| element(set.kind, one)).collect();
    format!("{{ {} }}", list.join(", "))
}

pub(super) fn element(kind: SetKind, element: &Element) -> String {
    match element {
        Element::Address(address) if matches!(kind, SetKind::Pairs(_)) => format!("{address} . {address}"),
        Element::Address(address) => address.to_string(),
        Element::Range(range) if range.first == range.last => range.first.to_string(),
        Element::Range(range) => format!("{}-{}", range.first, range.last),
        Element::Interface(name) => format!("\"{name}\""),
    }
}

/// A rule as one line.
pub fn rule(rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.matches.iter().map(condition).collect();
    parts.push(match &rule.verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "counter drop".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Look(end, family, map) => format!("{} vmap @{map}", connection(*end, *family)),
    });
    if !rule.comment.is_empty() {
        parts.push(format!("comment \"{}\"", rule.comment));
    }
    parts.join(" ")
}

fn condition(condition: &Match) -> String {
    match condition {
        Match::In(end, family, set) => format!("{} @{set}", connection(*end, *family)),
        Match::NotIn(end, family, set) => format!("{} != @{set}", connection(*end, *family)),
        Match::Same(family, set) => {
            format!("{} . {} @{set}", connection(End::Source, *family), connection(End::Destination, *family))
        }
        Match::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
        Match::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
        Match::Protocol(protocol) => format!(
            "meta l4proto {}",
            match protocol {
                Protocol::Tcp => "6",
                Protocol::Udp => "17",
                Protocol::Sctp => "132",
                // No policy can name it; a rule that did would match nothing that carries data.
                Protocol::Other => "255",
            }
        ),
        Match::Port(first, last) if first == last => format!("ct reply proto-src {first}"),
        Match::Port(first, last) => format!("ct reply proto-src {first}-{last}"),
        Match::Odd => "ct state invalid,related,untracked".to_owned(),
        Match::Stray(end, family, set) => format!("ct state invalid,untracked {} @{set}", header(*end, *family)),
        Match::Foreign { interfaces, family, sources } => {
            format!("iifname @{interfaces} {} != @{sources}", header(End::Source, *family))
        }
        Match::Astray { interfaces } => format!("iifname @{interfaces} fib saddr . iif oif missing"),
        Match::NeighbourDiscovery => "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }".to_owned(),
        Match::IcmpError => "ct state related meta l4proto { 1, 58 }".to_owned(),
        Match::Reply => "ct direction reply".to_owned(),
        Match::Loopback => "iifname \"lo\"".to_owned(),
    }
}

/// An end of the connection: whom the opener means after Services is who answers.
fn connection(end: End, family: Family) -> String {
    let family = family_word(family);
    match end {
        End::Source => format!("ct original {family} saddr"),
        End::Destination => format!("ct reply {family} saddr"),
    }
}

fn header(end: End, family: Family) -> String {
    let family = family_word(family);
    match end {
        End::Source => format!("{family} saddr"),
        End::Destination => format!("{family} daddr"),
    }
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}
