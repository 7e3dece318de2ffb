//! Upstream's own end-to-end suite, run on two runtimes and compared as sets.
//!
//! Input is `e2e.test` with ginkgo on a cluster's node; output are results that are kept in a file, spec by spec, so that a run can be
//! taken up again, and a page for people. [`report`] and [`page`] are pure; [`run`] acts.

pub mod page;
pub mod report;
pub mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a spec ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed, or did not end in time.
    Failed,
    /// It said itself that it can't be run here.
    Skipped,
}

/// What became of one spec on one runtime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Result {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Day of the run, UTC.
    pub date: String,
    /// The reason of a failure or a skip, its first line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Pods that got the runtime which was asked for.
    pub forced: usize,
    /// Pods that did not: they name a class of their own or use the node's namespaces.
    pub not_forced: usize,
}

/// Results by runtime, then by the full name of the spec.
pub type Results = BTreeMap<String, BTreeMap<String, Result>>;
