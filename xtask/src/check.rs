//! Checks what must stay absent: dependencies that a room must not have, rights that our RBAC must not hold, words that
//! have no place in a public project. The same invariants stand in ARCHITECTURE.md for people.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize as _;
use serde_yaml::Value;

/// No options yet: every check runs.
#[derive(clap::Args)]
pub struct Args {}

/// A room and the packages that must not be reachable from it by normal dependencies.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("freehold-crds", &["tokio", "kube-client", "kube-runtime", "hyper", "warp"]),
    ("freehold-policy", &["tokio", "kube-client", "kube-runtime", "hyper", "warp"]),
    ("freehold-guest-api", &["tokio", "kube-core", "k8s-openapi", "libc"]),
    ("freehold-guest", &["tokio", "kube-core", "k8s-openapi", "serde_json"]),
    ("freehold-shim", &["kube-core", "k8s-openapi"]),
];

/// Rooms that are programs: none may depend on another.
const PROGRAMS: &[&str] = &[
    "freehold-operator",
    "freehold-webhook",
    "freehold-runtime-installer",
    "freehold-shim",
    "freehold-guest",
    "freehold-network-enforcer",
    "freehold-dns",
    "freehold-e2e",
    "xtask",
];

/// Verbs that turn a role into cluster-admin where they are not held to named resources.
const ESCALATING: &[&str] = &["escalate", "bind", "impersonate"];

pub fn run(_args: Args) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (room, forbidden) in FORBIDDEN {
        let found = packages_below(room)?;
        wrong.extend(forbidden.iter().filter(|name| found.contains(**name)).map(|name| format!("{room} depends on {name}")));
    }
    for room in PROGRAMS {
        let found = packages_below(room)?;
        let others = PROGRAMS.iter().filter(|other| *other != room && found.contains(**other));
        wrong.extend(others.map(|other| format!("program {room} depends on program {other}")));
    }
    for file in yaml_files(Path::new("charts"))? {
        wrong.extend(rbac_faults(&file)?);
    }
    if wrong.is_empty() {
        println!("check: {} rooms and the chart's RBAC keep their invariants", FORBIDDEN.len() + PROGRAMS.len());
        return Ok(());
    }
    bail!("invariants of ARCHITECTURE.md broken:\n  {}", wrong.join("\n  "))
}

/// Names of all packages that `room` reaches by normal (not build, not test) dependencies.
fn packages_below(room: &str) -> anyhow::Result<BTreeSet<String>> {
    let output = Command::new("cargo")
        .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package", room])
        .output()
        .context("could not start cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree -p {room} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout).context("cargo tree printed no UTF-8")?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).filter(|name| name != room).collect())
}

fn yaml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Faults of the Roles and ClusterRoles in a chart file. Lines of Helm's own are blanked first: roles are plain YAML by rule,
/// so a file that holds a role and can't be read that way is a fault too.
fn rbac_faults(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let mut faults = Vec::new();
    for document in
        text.split("\n---").filter(|document| document.lines().any(|line| matches!(line, "kind: ClusterRole" | "kind: Role")))
    {
        let plain = document
            .lines()
            .filter(|line| !line.trim_start().starts_with("{{") && !line.starts_with("---"))
            .collect::<Vec<_>>()
            .join("\n");
        let plain = plain.replace("{{", "'").replace("}}", "'");
        match Value::deserialize(serde_yaml::Deserializer::from_str(&plain)) {
            Ok(role) => faults.extend(role_faults(&role).into_iter().map(|fault| format!("{}: {fault}", file.display()))),
            Err(error) => faults.push(format!("{}: a role is not plain YAML and can't be checked: {error}", file.display())),
        }
    }
    Ok(faults)
}

fn role_faults(role: &Value) -> Vec<String> {
    let words = |rule: &Value, key: &str| -> Vec<String> {
        rule.get(key)
            .and_then(Value::as_sequence)
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let mut faults = Vec::new();
    for rule in role.get("rules").and_then(Value::as_sequence).into_iter().flatten() {
        for key in ["apiGroups", "resources", "verbs"] {
            if words(rule, key).iter().any(|word| word == "*") {
                faults.push(format!("a rule has `*` in {key}; name what is needed"));
            }
        }
        let verbs = words(rule, "verbs");
        for verb in ESCALATING.iter().filter(|verb| verbs.iter().any(|held| held == *verb)) {
            if *verb == "escalate" || words(rule, "resourceNames").is_empty() {
                faults.push(format!("a rule holds `{verb}` without resourceNames (escalate: never)"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rules: &str) -> usize {
        role_faults(&serde_yaml::from_str(&format!("kind: ClusterRole\nrules: {rules}")).unwrap()).len()
    }

    #[test]
    fn rights_that_are_too_wide_are_found() {
        for (rules, expected) in [
            ("[{apiGroups: [''], resources: [pods], verbs: [get]}]", 0),
            ("[{apiGroups: ['*'], resources: [pods], verbs: [get]}]", 1),
            ("[{apiGroups: [''], resources: ['*'], verbs: ['*']}]", 2),
            ("[{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind]}]", 1),
            ("[{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [bind], resourceNames: [admin]}]", 0),
            (
                "[{apiGroups: [rbac.authorization.k8s.io], resources: [clusterroles], verbs: [escalate], resourceNames: [admin]}]",
                1,
            ),
            ("[{apiGroups: [''], resources: [serviceaccounts], verbs: [impersonate]}]", 1),
        ] {
            assert_eq!(faults(rules), expected, "{rules}");
        }
    }
}
