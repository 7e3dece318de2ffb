//! Reads ginkgo's JSON report. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::{Outcome, Result};

/// Characters of a reason that are kept.
const MAX_REASON: usize = 240;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    #[serde(default)]
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    leaf_node_type: String,
    state: String,
    run_time: u64,
    failure: Failure,
    captured_ginkgo_writer_output: String,
    spec_events: Option<Vec<Step>>,
    start_time: String,
    end_time: String,
}

/// A step that a spec tells; most write it nowhere else.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Step {
    message: String,
}

/// The pods that a namespace of the run had.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pods {
    /// When the first was made, in Unix seconds.
    pub first: i64,
    /// How many were on the runtime that was asked for.
    pub forced: usize,
    /// How many were on another one.
    pub others: usize,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
}

impl Spec {
    /// The name that ginkgo's focus matches.
    fn name(&self) -> String {
        let mut words = self.container_hierarchy_texts.clone().unwrap_or_default();
        words.push(self.leaf_node_text.clone());
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }
    /// When it began, in Unix seconds, if a namespace with its first pod made then can be its own: the suite names a namespace by
    /// a word that it also writes down, a dash and a number; specs about NetworkPolicies write the whole name.
    fn may_own(&self, namespace: &str, first: i64) -> Option<i64> {
        let word = namespace.rsplit_once('-').map_or(namespace, |(word, _)| word);
        let seconds = |time: &str| time.parse().map(Timestamp::as_second).ok();
        let (start, end) = (seconds(&self.start_time)?, seconds(&self.end_time)?);
        let output = &self.captured_ginkgo_writer_output;
        let steps = self.spec_events.iter().flatten().flat_map(|step| step.message.lines());
        let says = output
            .lines()
            .chain(steps)
            .any(|line| line.split_once("basename ").is_some_and(|(_, rest)| rest.split_whitespace().next() == Some(word)));
        let names = || output.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-').any(|word| word == namespace);
        ((start..=end).contains(&first) && (says || names())).then_some(start)
    }
}

/// The spec that a namespace was for: the last to begin of those that it can be of, as a spec makes its namespace first.
fn owner(specs: &[Spec], namespace: &str, first: i64) -> Option<usize> {
    let own = specs.iter().enumerate().filter_map(|(at, spec)| Some((spec.may_own(namespace, first)?, at)));
    own.max().map(|(_, at)| at)
}

fn specs(text: &[u8]) -> serde_json::Result<impl Iterator<Item = Spec>> {
    let suites: Vec<Suite> = serde_json::from_slice(text)?;
    Ok(suites.into_iter().flat_map(|suite| suite.spec_reports.unwrap_or_default()).filter(|spec| spec.leaf_node_type == "It"))
}

/// Names of the specs that a dry run would have run.
///
/// # Errors
/// If the text is no report.
pub fn selected(text: &[u8]) -> serde_json::Result<BTreeSet<String>> {
    Ok(specs(text)?.filter(|spec| spec.state == "passed").map(|spec| spec.name()).collect())
}

/// What became of the specs that were asked for. `namespaces` has the pods of each namespace of the run.
///
/// # Errors
/// If the text is no report.
pub fn results(
    text: &[u8],
    asked: &BTreeSet<String>,
    namespaces: &BTreeMap<String, Pods>,
    date: &str,
) -> serde_json::Result<BTreeMap<String, Result>> {
    let specs: Vec<Spec> = specs(text)?.collect();
    let mut counts = vec![(0, 0); specs.len()];
    for (namespace, pods) in namespaces {
        if let Some(at) = owner(&specs, namespace, pods.first) {
            counts[at].0 += pods.forced;
            counts[at].1 += pods.others;
        }
    }
    let mut found = BTreeMap::new();
    for (spec, (forced, not_forced)) in specs.iter().zip(counts) {
        let name = spec.name();
        if !asked.contains(&name) {
            continue;
        }
        let outcome = match spec.state.as_str() {
            "passed" => Outcome::Passed,
            "skipped" | "pending" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        let line = spec.failure.message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        let reason = if outcome == Outcome::Passed { String::new() } else { line.chars().take(MAX_REASON).collect() };
        let seconds = spec.run_time / 1_000_000_000;
        found.insert(name, Result { outcome, seconds, date: date.to_owned(), reason, forced, not_forced });
    }
    Ok(found)
}

/// A focus that matches these names; ginkgo matches it against the suite's own name, a space and the spec's.
pub fn focus<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names
        .map(|name| name.chars().flat_map(|one| [one.is_ascii_punctuation().then_some('\\'), Some(one)]).flatten().collect())
        .collect();
    format!(" ({})$", quoted.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"[{"SpecReports": [
        {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "runs", "LeafNodeType": "It", "State": "passed", "RunTime": 3500000000, "SpecEvents": [{"SpecEventType": "By", "Message": "Building a namespace api object, basename pods"}], "StartTime": "2026-01-01T00:00:10.5Z", "EndTime": "2026-01-01T00:00:14Z"},
        {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "fails", "LeafNodeType": "It", "State": "timedout", "CapturedGinkgoWriterOutput": "basename pods\ncreating pod netpol-x-78/a", "StartTime": "2026-01-01T00:00:00Z", "EndTime": "2026-01-01T00:01:00Z", "Failure": {"Message": "\nit hung\nmore"}},
        {"ContainerHierarchyTexts": null, "LeafNodeText": "can't", "LeafNodeType": "It", "State": "skipped", "Failure": {"Message": "no disk"}},
        {"ContainerHierarchyTexts": ["x"], "LeafNodeText": "not asked for", "LeafNodeType": "It", "State": "skipped"},
        {"ContainerHierarchyTexts": null, "LeafNodeText": "", "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}]}]"#;

    #[test]
    fn a_report_is_read() {
        let asked = ["[sig-node] Pods runs", "[sig-node] Pods fails", "can't"].map(str::to_owned).into();
        let at = |second, forced, others| Pods {
            first: "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second() + second,
            forced,
            others,
        };
        let namespaces = [
            ("pods-7", at(12, 2, 1)),
            ("pods-8", at(20, 0, 4)),
            ("pods-9", at(70, 5, 5)),
            ("pods-net-1", at(12, 5, 5)),
            ("netpol-x-78", at(30, 3, 0)),
            ("netpol-x-7", at(30, 5, 5)),
        ];
        let namespaces = namespaces.map(|(name, pods)| (name.to_owned(), pods)).into();
        let found = results(TEXT.as_bytes(), &asked, &namespaces, "2026-01-01").unwrap();
        let shown: Vec<_> =
            found.values().map(|one| (one.outcome, one.seconds, one.reason.as_str(), one.forced, one.not_forced)).collect();
        let expected =
            [(Outcome::Failed, 0, "it hung", 3, 4), (Outcome::Passed, 3, "", 2, 1), (Outcome::Skipped, 0, "no disk", 0, 0)];
        assert_eq!(shown, expected);
        assert_eq!(selected(TEXT.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_focus_takes_names_literally() {
        let names = ["a [b] (c) d.e|f".to_owned(), "can't".to_owned()];
        assert_eq!(focus(names.iter()), r" (a \[b\] \(c\) d\.e\|f|can\'t)$");
    }
}
