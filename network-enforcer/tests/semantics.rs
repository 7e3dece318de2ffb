//! What the NetworkPolicy API says, case by case, of the reference; the compiled table is held to the same rows.

#![allow(missing_docs)]

mod common;

use common::{key, labels, pod, tcp};
use freehold_network_enforcer::core::evaluate::{self, Flow, Target};
use freehold_network_enforcer::core::selector::Selector;
use freehold_network_enforcer::core::view::*;
use freehold_network_enforcer::core::{compile::compile, model};

const WEB: &str = "10.244.0.2";
const DB: &str = "10.244.0.3";
const OTHER: &str = "10.244.0.4";
const REMOTE: &str = "10.244.1.2";
const UNKNOWN: &str = "10.244.0.9";
const WORLD: &str = "192.0.2.1";

/// Two namespaces: `a` with web and db, `b` with one pod here and one elsewhere.
fn world() -> View {
    let mut view = View { ranges: vec!["10.244.0.0/24".parse().unwrap()], ..View::default() };
    for name in ["a", "b"] {
        let namespace = Namespace { labels: labels(&[("name", name)]), tenancy: Tenancy::Free };
        view.namespaces.insert(name.to_owned(), namespace);
    }
    let mut web = pod(true, &[WEB], &[("app", "web")]);
    web.ports.insert(NamedPort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 8080 });
    view.pods.insert(key("a", "web"), web);
    view.pods.insert(key("a", "db"), pod(true, &[DB], &[("app", "db")]));
    view.pods.insert(key("b", "other"), pod(true, &[OTHER], &[("app", "web")]));
    view.pods.insert(key("b", "remote"), pod(false, &[REMOTE], &[("app", "db")]));
    view
}

fn with(policies: &[Policy]) -> View {
    let mut view = world();
    for (index, policy) in policies.iter().enumerate() {
        view.policies.insert(key("a", &format!("p{index}")), policy.clone());
    }
    view
}

fn to_web(rules: Vec<Rule>) -> Policy {
    Policy { pods: Selector::label("app", "web"), ingress: Some(rules), egress: None }
}

fn pods_of(namespaces: Option<Selector>, pods: Selector) -> Peer {
    Peer::Pods { namespaces: namespaces.map_or(Namespaces::Named("a".to_owned()), Namespaces::Selected), pods }
}

fn rule(peers: Option<Vec<Peer>>, ports: Option<Vec<Port>>) -> Rule {
    Rule { peers, ports }
}

#[track_caller]
fn check(view: &View, from: &str, to: &str, port: u16, expected: bool) {
    check_to(view, from, to, Protocol::Tcp, port, Target::Beyond, expected);
}

#[track_caller]
fn check_to(view: &View, from: &str, to: &str, protocol: Protocol, port: u16, target: Target, expected: bool) {
    let flow = Flow { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol, port, target };
    assert_eq!(evaluate::allows(view, &flow), expected, "reference: {flow:?}");
    assert_eq!(model::allows(&compile(view), &flow), expected, "table: {flow:?}");
}

#[test]
fn without_policies_everyone_talks_and_strangers_of_the_range_do_not() {
    let view = world();
    for (from, to, expected) in [
        (WEB, DB, true),
        (OTHER, WEB, true),
        (WORLD, WEB, true),
        (WEB, WORLD, true),
        (UNKNOWN, WEB, false),
        (WEB, UNKNOWN, false),
        (WORLD, UNKNOWN, false),
        (UNKNOWN, WORLD, false),
    ] {
        check(&view, from, to, 80, expected);
    }
}

#[test]
fn peers_are_alternatives_and_selectors_of_one_peer_hold_together() {
    let in_b = || Some(Selector::label("name", "b"));
    let both = with(&[to_web(vec![rule(Some(vec![pods_of(in_b(), Selector::label("app", "db"))]), None)])]);
    check(&both, OTHER, WEB, 80, false);
    check(&both, REMOTE, WEB, 80, true);
    check(&both, DB, WEB, 80, false);
    let either = with(&[to_web(vec![rule(
        Some(vec![pods_of(in_b(), Selector::default()), pods_of(None, Selector::label("app", "db"))]),
        None,
    )])]);
    for (from, expected) in [(OTHER, true), (REMOTE, true), (DB, true), (WORLD, false)] {
        check(&either, from, WEB, 80, expected);
    }
    check(&either, OTHER, DB, 80, true);
}

#[test]
fn policies_add_up_and_an_empty_one_closes() {
    let deny = with(&[to_web(vec![])]);
    check(&deny, DB, WEB, 80, false);
    check(&deny, WEB, WEB, 80, true);
    check(&deny, WEB, DB, 80, true);
    let opened = with(&[to_web(vec![]), to_web(vec![rule(None, Some(vec![tcp(80)]))])]);
    check(&opened, DB, WEB, 80, true);
    check(&opened, WORLD, WEB, 80, true);
    check(&opened, DB, WEB, 81, false);
    let quiet = with(&[Policy { pods: Selector::default(), ingress: None, egress: None }]);
    check(&quiet, DB, WEB, 80, true);
}

#[test]
fn ports_by_range_protocol_and_name() {
    let port = |protocol, number| Port { protocol, number };
    let ranged = with(&[to_web(vec![rule(None, Some(vec![port(Protocol::Tcp, PortNumber::Range(80, 90))]))])]);
    for (number, expected) in [(79, false), (80, true), (90, true), (91, false)] {
        check(&ranged, DB, WEB, number, expected);
    }
    check_to(&ranged, DB, WEB, Protocol::Udp, 80, Target::Beyond, false);
    check_to(&ranged, DB, WEB, Protocol::Other, 80, Target::Beyond, false);
    let any_udp = with(&[to_web(vec![rule(None, Some(vec![port(Protocol::Udp, PortNumber::Any)]))])]);
    check_to(&any_udp, DB, WEB, Protocol::Udp, 9, Target::Beyond, true);
    check(&any_udp, DB, WEB, 9, false);
    let named = with(&[to_web(vec![rule(None, Some(vec![port(Protocol::Tcp, PortNumber::Named("http".to_owned()))]))])]);
    check(&named, DB, WEB, 8080, true);
    check(&named, DB, WEB, 80, false);
    // On the way out a name is what the reached pod calls so; a block names nothing.
    let out = |peers| Policy {
        pods: Selector::label("app", "db"),
        ingress: None,
        egress: Some(vec![rule(peers, Some(vec![port(Protocol::Tcp, PortNumber::Named("http".to_owned()))]))]),
    };
    check(&with(&[out(None)]), DB, WEB, 8080, true);
    check(&with(&[out(None)]), DB, OTHER, 8080, false);
    let block = Peer::Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec![] };
    check(&with(&[out(Some(vec![block]))]), DB, WEB, 8080, false);
}

#[test]
fn blocks_have_holes() {
    let block = Peer::Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec!["10.244.0.3/32".parse().unwrap()] };
    let view = with(&[to_web(vec![rule(Some(vec![block]), None)])]);
    for (from, expected) in [(WORLD, true), (OTHER, true), (DB, false)] {
        check(&view, from, WEB, 80, expected);
    }
}

#[test]
fn a_fence_holds_whatever_policies_say_and_they_narrow_it() {
    let everyone = || vec![rule(None, None)];
    let sibling = || vec![rule(Some(vec![pods_of(None, Selector::default())]), None)];
    let fenced = |policies: &[Policy]| {
        let mut view = with(policies);
        view.namespaces.get_mut("a").unwrap().tenancy = Tenancy::Fenced(Fence { ingress: sibling(), egress: sibling() });
        view
    };
    let open = Policy { pods: Selector::default(), ingress: Some(everyone()), egress: Some(everyone()) };
    for view in [fenced(&[]), fenced(&[open])] {
        for (from, to, expected) in [
            (WEB, DB, true),
            (WEB, OTHER, false),
            (OTHER, WEB, false),
            (WEB, WORLD, false),
            (WORLD, WEB, false),
            (WEB, "169.254.169.254", false),
        ] {
            check(&view, from, to, 80, expected);
        }
        check_to(&view, WEB, "10.200.0.10", Protocol::Tcp, 10250, Target::Node, false);
    }
    let deny_all = Policy { pods: Selector::default(), ingress: Some(vec![]), egress: Some(vec![]) };
    check(&fenced(&[deny_all]), WEB, DB, 80, false);
    // Nobody's pods may always reach their own node; the API says so.
    check_to(
        &with(&[Policy { egress: Some(vec![]), ..Policy::default() }]),
        WEB,
        "10.200.0.10",
        Protocol::Tcp,
        1,
        Target::Node,
        true,
    );
}

#[test]
fn who_is_not_resolved_is_closed() {
    let mut view = world();
    view.namespaces.get_mut("a").unwrap().tenancy = Tenancy::Unresolved;
    check(&view, WEB, DB, 80, false);
    check(&view, OTHER, WEB, 80, false);
    view.namespaces.remove("a");
    check(&view, OTHER, WEB, 80, false);
    // Two pods say they have one address: nobody is let through by it.
    let mut view = world();
    view.pods.insert(key("b", "thief"), pod(false, &[WEB], &[]));
    check(&view, OTHER, WEB, 80, false);
    check(&view, WEB, OTHER, 80, false);
    check(&view, DB, OTHER, 80, true);
}
