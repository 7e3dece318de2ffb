//! Real packets between two nodes in small, in both families: one whose CNI has a bridge and one whose CNI routes, each with the
//! table that is compiled for it; and what pods of runc can forge. Needs root, nftables, iproute2, busybox and util-linux.

#![allow(missing_docs)]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{key, labels, pod, tcp};
use freehold_network_enforcer::core::selector::Selector;
use freehold_network_enforcer::core::view::*;
use freehold_network_enforcer::core::{compile::compile, render};

/// Pods by name: their namespace, and the node's number and theirs, from which their addresses follow. `u1` and `u2` run there and are
/// known to nobody.
const PODS: [(&str, &str, u8, u8); 6] = [
    ("a1", "team-a", 1, 2),
    ("b1", "team-b", 1, 3),
    ("z1", "nobodys", 1, 4),
    ("a2", "team-a", 2, 2),
    ("b2", "team-b", 2, 3),
    ("z2", "nobodys", 2, 4),
];

fn address(node: u8, pod: u8) -> (String, String) {
    (format!("10.244.{node}.{pod}"), format!("fd00:{node}::{pod}"))
}

/// What one of the two nodes knows: the first has a bridge, the second a link a pod.
fn view(node: u8) -> View {
    let mut view = View {
        ranges: vec![format!("10.244.{node}.0/24").parse().unwrap(), format!("fd00:{node}::/64").parse().unwrap()],
        ..View::default()
    };
    view.links = if node == 1 { vec!["cni0".to_owned()] } else { ["a2", "b2", "z2", "u2"].map(|pod| format!("v{pod}")).into() }
        .into_iter()
        .collect();
    for name in ["team-a", "team-b"] {
        let siblings = Peer::Pods {
            namespaces: Namespaces::Selected(Selector::label("freehold.dev/tenant", name)),
            pods: Selector::default(),
        };
        let within = Rule { peers: Some(vec![siblings]), ports: None };
        let tenancy = Tenancy::Fenced(Fence { ingress: vec![within.clone()], egress: vec![within] });
        view.namespaces.insert(name.to_owned(), Namespace { labels: labels(&[("freehold.dev/tenant", name)]), tenancy });
    }
    view.namespaces.insert("nobodys".to_owned(), Namespace::default());
    for (name, namespace, on, number) in PODS {
        let (v4, v6) = address(on, number);
        view.pods.insert(key(namespace, name), pod(on == node, &[&v4, &v6], &[("name", name)]));
    }
    // A policy of nobody's: z2 takes 8080 from z1's kind only.
    let from = Peer::Pods { namespaces: Namespaces::Named("nobodys".to_owned()), pods: Selector::default() };
    let rule = Rule { peers: Some(vec![from]), ports: Some(vec![tcp(8080)]) };
    view.policies
        .insert(key("nobodys", "z"), Policy { pods: Selector::label("name", "z2"), ingress: Some(vec![rule]), egress: None });
    view
}

/// Who asks whom at which port, and whether an answer must come with both tables.
const ASKED: &[(&str, &str, u16, bool)] = &[
    ("a1", "a2", 8080, true),
    ("a2", "a1", 8080, true),
    ("b1", "b2", 8080, true),
    ("a1", "b2", 8080, false),
    ("b2", "a1", 8080, false),
    ("a1", "z2", 8080, false),
    ("z1", "b2", 8080, false),
    ("z2", "a1", 8080, false),
    ("z1", "z2", 8080, true),
    ("z1", "z2", 5432, false),
    ("z2", "z1", 5432, true),
    // Pods that nobody knows: closed both ways, across nodes and beside each other.
    ("u1", "z2", 8080, false),
    ("z1", "u2", 8080, false),
    ("u2", "a2", 8080, false),
    // The other node's kubelet, and nodes that are not the pod's own.
    ("a1", "n2", 10250, false),
    ("z1", "n2", 10250, true),
    ("n1", "a2", 8080, false),
    ("n1", "z2", 8080, false),
    ("n2", "a2", 8080, true),
    ("n2", "z2", 5432, true),
    ("n1", "z1", 8080, true),
    // By a Service of the first node, whose pod is on the second.
    ("a1", "s-a2", 80, true),
    ("b1", "s-a2", 80, false),
    ("z1", "s-a2", 80, false),
];

/// What is sent with a source that is not the sender's, or in fragments: who, as whom, to whom, and whether it arrives.
const SENT: &[(&str, &str, &str, bool)] = &[
    // Fragments are judged as what they are parts of.
    ("a1", "a1", "a2", true),
    ("b1", "b1", "a2", false),
    // Behind a bridge: an address of another node's pod, of the node, of nobody, of a pod that does not exist.
    ("b1", "a2", "a1", false),
    ("b1", "n1", "a1", false),
    ("b1", "elsewhere", "a1", false),
    ("b1", "u1", "a2", false),
    // And its neighbour's there, which no rule about addresses can tell: it gets what that one gets, one way.
    ("b1", "a1", "a2", true),
    ("b1", "a1", "z2", false),
    // With a link of one's own not even that.
    ("b2", "a2", "a1", false),
    ("b2", "z2", "z1", false),
    ("b2", "elsewhere", "b1", false),
];

#[test]
fn packets_between_nodes_go_where_the_tables_say() {
    let tables = [1, 2].map(|node| {
        let mut file = std::env::temp_dir();
        file.push(format!("freehold-nodes-{}-{node}.nft", std::process::id()));
        std::fs::write(&file, render::replace(&compile(&view(node)))).unwrap();
        file
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nodes.sh");
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", script])
        .args(&tables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare (util-linux) starts");
    let mut input = child.stdin.take().unwrap();
    for (from, to, port, _) in ASKED {
        writeln!(input, "ask {from} {to} {port}").unwrap();
    }
    for (from, source, to, _) in SENT {
        writeln!(input, "send {from} {source} {to}").unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    tables.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    let word = |yes: bool| if yes { "yes" } else { "no" };
    let mut wrong = Vec::new();
    let mut check = |line: String| {
        if !said.lines().any(|found| found == line) {
            wrong.push(line);
        }
    };
    for family in [4, 6] {
        for (from, to, port, through) in ASKED {
            check(format!("without {family} ask {from} {to} {port} yes"));
            check(format!("with {family} ask {from} {to} {port} {}", word(*through)));
        }
        for (from, source, to, arrives) in SENT {
            check(format!("without {family} send {from} {source} {to} yes"));
            check(format!("with {family} send {from} {source} {to} {}", word(*arrives)));
        }
        // One node's agent was never there: the other one's table still closes its own pods.
        for (from, to) in [("a1", "b2"), ("z1", "b2"), ("b2", "a1")] {
            check(format!("half {family} ask {from} {to} 8080 no"));
        }
    }
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(wrong.is_empty(), "expected and not seen: {wrong:#?}\nseen:\n{said}\n{trouble}");
}
