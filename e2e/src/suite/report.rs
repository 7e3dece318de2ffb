//! Reads ginkgo's JSON report. Pure.

use std::collections::{BTreeMap, BTreeSet};

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

/// What became of the specs that were asked for. `classes` has, for each namespace of the run, the pods on the runtime that was
/// asked for and the others; a spec's namespaces are those that its own output names.
///
/// # Errors
/// If the text is no report.
pub fn results(
    text: &[u8],
    asked: &BTreeSet<String>,
    classes: &BTreeMap<String, (usize, usize)>,
    date: &str,
) -> serde_json::Result<BTreeMap<String, Result>> {
    let mut found = BTreeMap::new();
    for spec in specs(text)? {
        let name = spec.name();
        let outcome = match spec.state.as_str() {
            "passed" => Outcome::Passed,
            "skipped" | "pending" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        if !asked.contains(&name) {
            continue;
        }
        let output = &spec.captured_ginkgo_writer_output;
        let own = classes.iter().filter(|(namespace, _)| output.contains(namespace.as_str()));
        let (forced, not_forced) = own.fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1));
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
        {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "runs", "LeafNodeType": "It", "State": "passed", "RunTime": 3500000000, "CapturedGinkgoWriterOutput": "namespace \"pods-7\""},
        {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeText": "fails", "LeafNodeType": "It", "State": "timedout", "Failure": {"Message": "\nit hung\nmore"}},
        {"ContainerHierarchyTexts": null, "LeafNodeText": "can't", "LeafNodeType": "It", "State": "skipped", "Failure": {"Message": "no disk"}},
        {"ContainerHierarchyTexts": ["x"], "LeafNodeText": "not asked for", "LeafNodeType": "It", "State": "skipped"},
        {"ContainerHierarchyTexts": null, "LeafNodeText": "", "LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}]}]"#;

    #[test]
    fn a_report_is_read() {
        let asked = ["[sig-node] Pods runs", "[sig-node] Pods fails", "can't"].map(str::to_owned).into();
        let classes = [("pods-7".to_owned(), (2, 1)), ("pods-8".to_owned(), (5, 5))].into();
        let found = results(TEXT.as_bytes(), &asked, &classes, "2026-01-01").unwrap();
        let shown: Vec<_> =
            found.values().map(|one| (one.outcome, one.seconds, one.reason.as_str(), one.forced, one.not_forced)).collect();
        let expected =
            [(Outcome::Failed, 0, "it hung", 0, 0), (Outcome::Passed, 3, "", 2, 1), (Outcome::Skipped, 0, "no disk", 0, 0)];
        assert_eq!(shown, expected);
        assert_eq!(selected(TEXT.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn a_focus_takes_names_literally() {
        let names = ["a [b] (c) d.e|f".to_owned(), "can't".to_owned()];
        assert_eq!(focus(names.iter()), r" (a \[b\] \(c\) d\.e\|f|can\'t)$");
    }
}
