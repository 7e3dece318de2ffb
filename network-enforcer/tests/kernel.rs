//! What is compiled is what the kernel takes: `nft` reads it in a network namespace of its own. Needs root and nftables.

#![allow(missing_docs)]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{key, labels, pod, tcp};
use freehold_network_enforcer::core::selector::Selector;
use freehold_network_enforcer::core::table::Table;
use freehold_network_enforcer::core::view::*;
use freehold_network_enforcer::core::{compile::compile, delta, render};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

/// Runs transactions one after the other in a new network namespace; what the table then is.
fn listed(transactions: &[String]) -> String {
    // As in the image, where no file says what a protocol's name means.
    let script = "[ ! -e /etc/protocols ] || mount --bind /dev/null /etc/protocols; while read -r bytes; do head -c \"$bytes\" | nft -f - || exit 1; done; nft list table inet freehold";
    let mut child = Command::new("unshare")
        // `read` of the shell reads a pipe byte by byte, `head -c` as many as it is told.
        .args(["--net", "--mount", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare (util-linux) starts");
    let mut input = child.stdin.take().unwrap();
    let text: String = transactions.iter().map(|text| format!("{}\n{text}", text.len())).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft as root (packages nftables, util-linux): {said}\n{}", transactions.join("----\n"));
    // The order in which a hash shows its elements means nothing.
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.replace(",\n", ", ");
    let line = |line: &str| {
        let mut words: Vec<_> =
            line.trim().split(", ").map(|word| word.trim().trim_matches(['{', '}', ' ']).to_owned()).collect();
        if line.contains("elements = ") {
            words.iter_mut().for_each(|word| *word = word.replace("elements = { ", ""));
            words.sort();
        }
        words.join(", ")
    };
    let mut blocks: Vec<Vec<String>> = vec![Vec::new()];
    for one in text.lines().map(line) {
        if one.starts_with("set ") || one.starts_with("map ") || one.starts_with("chain ") {
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().push(one);
    }
    // Neither does the order of sets and chains, which is that of their making.
    let mut blocks: Vec<_> = blocks.into_iter().map(|block| block.join("\n").trim().to_owned()).collect();
    blocks.sort();
    blocks.join("\n")
}

#[test]
fn the_kernel_takes_random_tables_and_a_delta_leads_where_a_replacement_does() {
    let mut runner = TestRunner::deterministic();
    let mut draw = || -> Table { compile(&common::view().new_tree(&mut runner).unwrap().current()) };
    for _ in 0..25 {
        let (first, second) = (draw(), draw());
        let mut steps = vec![render::replace(&first)];
        steps.extend(delta::transaction(&first, &second));
        // Replacing what stands there is what a restarted agent does.
        let whole = [render::replace(&first), render::replace(&second)];
        assert_eq!(listed(&steps), listed(&whole), "{}", steps.last().unwrap());
    }
}

/// On a node with nft 1.0.6, a table that nft 1.1.3 had made of `type` killed the nft of kube-proxy, and so all Services.
#[test]
fn no_set_is_declared_in_a_way_that_kills_older_programs() {
    let mut runner = TestRunner::deterministic();
    let mut draw = || -> Table { compile(&common::view().new_tree(&mut runner).unwrap().current()) };
    for _ in 0..25 {
        let (first, second) = (draw(), draw());
        for text in [render::replace(&second), delta::transaction(&first, &second).unwrap_or_default()] {
            // What is left are hooks and kinds of ICMP messages.
            let declared = text.split("type ").skip(1).find(|rest| !rest.starts_with("filter ") && !rest.starts_with("{ nd-"));
            assert_eq!(declared.and_then(|rest| rest.lines().next()), None, "a set or map by type; say typeof");
        }
    }
}

/// Two tenants and a policy of one's own: small enough to be read in `golden/two-tenants.nft`.
fn two_tenants() -> View {
    let mut view = View { ranges: vec!["10.244.0.0/24".parse().unwrap()], links: ["cni0".to_owned()].into(), ..View::default() };
    for (index, name) in ["team-a", "team-b"].into_iter().enumerate() {
        let tenant = Selector::label("freehold.dev/tenant", name);
        let siblings = Peer::Pods { namespaces: Namespaces::Selected(tenant), pods: Selector::default() };
        let within = Rule { peers: Some(vec![siblings]), ports: None };
        let world = Peer::Block { cidr: "0.0.0.0/0".parse().unwrap(), except: vec!["10.0.0.0/8".parse().unwrap()] };
        let out = Rule { peers: Some(vec![world]), ports: Some(vec![tcp(443)]) };
        let fence = Fence { ingress: vec![within.clone()], egress: vec![within, out] };
        let namespace = Namespace { labels: labels(&[("freehold.dev/tenant", name)]), tenancy: Tenancy::Fenced(fence) };
        view.namespaces.insert(format!("{name}-dev"), namespace);
        let address = format!("10.244.0.{}", index * 2 + 2);
        view.pods.insert(key(&format!("{name}-dev"), "web"), pod(true, &[&address], &[("app", "web")]));
        let address = format!("10.244.0.{}", index * 2 + 3);
        view.pods.insert(key(&format!("{name}-dev"), "db"), pod(true, &[&address], &[("app", "db")]));
    }
    let web = Peer::Pods { namespaces: Namespaces::Named("team-a-dev".to_owned()), pods: Selector::label("app", "web") };
    let policy = Policy {
        pods: Selector::label("app", "db"),
        ingress: Some(vec![Rule { peers: Some(vec![web]), ports: Some(vec![tcp(5432)]) }]),
        egress: None,
    };
    view.policies.insert(key("team-a-dev", "db"), policy);
    view
}

#[test]
fn a_table_for_people_to_read() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/two-tenants.nft");
    let text = render::replace(&compile(&two_tenants()));
    if std::env::var_os("FREEHOLD_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, golden, "if the change is meant, run this test once with FREEHOLD_BLESS=1 and read the difference");
    listed(&[text]);
}

#[test]
fn a_pod_that_comes_changes_elements_and_no_rule() {
    let before = two_tenants();
    let mut after = before.clone();
    after.pods.insert(key("team-a-dev", "web-2"), pod(true, &["10.244.0.9"], &[("app", "web")]));
    let text = delta::transaction(&compile(&before), &compile(&after)).unwrap();
    assert!(text.lines().all(|line| line.starts_with("add element ")), "{text}");
    assert_eq!(text.lines().count(), 7, "known, tenants, self, siblings, web, and one a map of the fence:\n{text}");
    let back = delta::transaction(&compile(&after), &compile(&before)).unwrap();
    assert!(back.lines().all(|line| line.starts_with("delete element ")), "{back}");
}

#[test]
fn other_tables_stay_and_removal_is_clean() {
    let foreign = "table inet other {\n  chain c {\n  }\n}\n".to_owned();
    let steps = [foreign, render::replace(&compile(&two_tenants())), render::remove(), "table inet freehold\n".to_owned()];
    assert!(!listed(&steps).contains("chain"), "nothing of ours is left");
}
