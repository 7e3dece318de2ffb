//! Views for tests: by hand in few words, and at random from a small world in which everything meets.

#![allow(dead_code, missing_docs)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use freehold_network_enforcer::core::evaluate::{Flow, Target};
use freehold_network_enforcer::core::selector::{Expression, Labels, Operator, Selector};
use freehold_network_enforcer::core::view::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

pub fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub fn pod(local: bool, addresses: &[&str], pairs: &[(&str, &str)]) -> Pod {
    Pod {
        labels: labels(pairs),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        local,
        ports: BTreeSet::new(),
    }
}

pub fn tcp(port: u16) -> Port {
    Port { protocol: Protocol::Tcp, number: PortNumber::Range(port, port) }
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        4 => (1u8..9).prop_map(|last| IpAddr::from([10, 244, 0, last])),
        2 => (1u8..4).prop_map(|last| IpAddr::from([10, 244, 1, last])),
        1 => (1u16..4).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
        1 => Just(IpAddr::from([192, 0, 2, 1])),
    ]
}

fn some_labels() -> impl Strategy<Value = Labels> {
    btree_map(
        prop_oneof![Just("x".to_owned()), Just("y".to_owned())],
        prop_oneof![Just("1".to_owned()), Just("2".to_owned())],
        0..3,
    )
}

fn selector() -> impl Strategy<Value = Selector> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        Just(Operator::Unknown)
    ];
    let values = vec(prop_oneof![Just("1".to_owned()), Just("2".to_owned())], 1..3);
    let expression = (prop_oneof![Just("x".to_owned()), Just("y".to_owned())], operator, values)
        .prop_map(|(key, operator, values)| Expression { key, operator, values });
    (some_labels(), vec(expression, 0..2)).prop_map(|(labels, expressions)| Selector { labels, expressions })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![3 => Just(Protocol::Tcp), 2 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn port() -> impl Strategy<Value = Port> {
    let number = prop_oneof![
        Just(PortNumber::Any),
        (1u16..6, 0u16..3).prop_map(|(first, more)| PortNumber::Range(first, first + more)),
        prop_oneof![Just("web"), Just("db")].prop_map(|name| PortNumber::Named(name.to_owned())),
    ];
    (protocol(), number).prop_map(|(protocol, number)| Port { protocol, number })
}

fn block() -> impl Strategy<Value = freehold_network_enforcer::core::cidr::Cidr> {
    prop_oneof![
        Just("0.0.0.0/0"),
        Just("10.244.0.0/24"),
        Just("10.244.0.0/30"),
        Just("10.244.0.4/32"),
        Just("::/0"),
        Just("fd00::2/127")
    ]
    .prop_map(|text| text.parse().unwrap())
}

fn peer() -> impl Strategy<Value = Peer> {
    let namespaces = prop_oneof![
        selector().prop_map(Namespaces::Selected),
        (0usize..3).prop_map(|index| Namespaces::Named(NAMESPACES[index].to_owned()))
    ];
    prop_oneof![
        3 => (namespaces, selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => (block(), vec(block(), 0..3)).prop_map(|(cidr, except)| Peer::Block { cidr, except }),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (option::of(vec(peer(), 1..3)), option::of(vec(port(), 1..3))).prop_map(|(peers, ports)| Rule { peers, ports });
    vec(rule, 0..3)
}

fn a_pod() -> impl Strategy<Value = Pod> {
    let named = (prop_oneof![Just("web"), Just("db")], protocol(), 1u16..6).prop_map(|(name, protocol, port)| NamedPort {
        name: name.to_owned(),
        protocol,
        port,
    });
    (some_labels(), btree_set(address(), 0..3), any::<bool>(), btree_set(named, 0..3))
        .prop_map(|(labels, addresses, local, ports)| Pod { labels, addresses, local, ports })
}

pub fn view() -> impl Strategy<Value = View> {
    let tenancy = prop_oneof![
        2 => Just(Tenancy::Free),
        1 => Just(Tenancy::Unresolved),
        3 => (rules(), rules()).prop_map(|(ingress, egress)| Tenancy::Fenced(Fence { ingress, egress })),
    ];
    let namespace = (some_labels(), tenancy).prop_map(|(labels, tenancy)| Namespace { labels, tenancy });
    let policy = (selector(), option::of(rules()), option::of(rules())).prop_map(|(pods, ingress, egress)| Policy {
        pods,
        ingress,
        egress,
    });
    let keyed =
        |count: usize| ((0usize..3), (0..count)).prop_map(|(namespace, name)| key(NAMESPACES[namespace], &format!("n{name}")));
    let name = (0usize..3).prop_map(|index| NAMESPACES[index].to_owned());
    (btree_map(name, namespace, 0..4), btree_map(keyed(3), a_pod(), 0..8), btree_map(keyed(2), policy, 0..5), any::<bool>())
        .prop_map(|(namespaces, pods, policies, ranged)| View {
            ranges: if ranged { vec!["10.244.0.0/28".parse().unwrap(), "fd00::/64".parse().unwrap()] } else { Vec::new() },
            links: ["cni0".to_owned()].into(),
            namespaces,
            pods,
            policies,
        })
}

pub fn flow() -> impl Strategy<Value = Flow> {
    let protocol = prop_oneof![4 => protocol(), 1 => Just(Protocol::Other)];
    let target = prop_oneof![4 => Just(Target::Beyond), 1 => Just(Target::Node)];
    (address(), address(), protocol, 1u16..7, target)
        // A connection is of one family.
        .prop_filter("one family", |(source, destination, ..)| source.is_ipv4() == destination.is_ipv4())
        .prop_map(|(source, destination, protocol, port, target)| Flow { source, destination, protocol, port, target })
}
