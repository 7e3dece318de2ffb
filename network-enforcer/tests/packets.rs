//! Real packets through the compiled table: a node in small, with the table of the golden file. Needs root, nftables,
//! iproute2, busybox and util-linux, and a kernel with br_netfilter.

#![allow(missing_docs)]

use std::process::Command;

/// What must get through with the table; without it everything does. Pods 2 and 3 are team-a's web and db, 4 and 5 those of
/// team-b, 9 is on the bridge and known to nobody. db takes 5432 from web only.
const WITH: &[(&str, &str, bool)] = &[
    ("pod2", "10.244.0.3:5432", true),
    ("pod2", "10.244.0.3:8080", false),
    ("pod3", "10.244.0.2:8080", true),
    ("pod4", "10.244.0.5:8080", true),
    ("pod2", "10.244.0.4:8080", false),
    ("pod4", "10.244.0.2:8080", false),
    // By Services: of db's open port, of the other tenant, of the pod itself.
    ("pod2", "10.96.0.3:80", true),
    ("pod2", "10.96.0.4:80", false),
    ("pod2", "10.96.0.2:80", true),
    // The node: kubelet by either address, metadata.
    ("pod2", "10.200.0.10:10250", false),
    ("pod2", "10.244.0.1:10250", false),
    ("pod2", "169.254.169.254:80", false),
    ("pod9", "10.244.0.2:8080", false),
    ("pod9", "10.200.0.10:10250", false),
    ("pod2", "10.244.0.9:8080", false),
    // The node reaches its pods, known or not.
    ("node", "10.244.0.4:8080", true),
    ("node", "10.244.0.9:8080", true),
    // And by a Service, as the API server reaches a webhook.
    ("node", "10.96.0.3:80", true),
    ("node", "10.96.0.4:80", true),
    // On one bridge, addresses that nobody gave.
    ("pod2", "fe80::4", false),
];

#[test]
fn packets_go_where_the_table_says() {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh"])
        .arg(format!("{here}/packets.sh"))
        .arg(format!("{here}/golden/two-tenants.nft"))
        .output()
        .expect("unshare (util-linux) starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    let word = |yes: bool| if yes { "yes" } else { "no" };
    let mut wrong = Vec::new();
    let mut check = |line: String| {
        if !said.lines().any(|found| found == line) {
            wrong.push(line);
        }
    };
    for (from, to, through) in WITH {
        check(format!("without {from} {to} yes"));
        check(format!("with {from} {to} {}", word(*through)));
    }
    for (when, through) in [("before", true), ("closed", false), ("replaced", true)] {
        check(format!("open {when} {}", word(through)));
    }
    assert!(wrong.is_empty(), "expected and not seen: {wrong:#?}\nseen:\n{said}\n{trouble}");
}
