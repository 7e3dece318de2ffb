//! What a Tenant's and a SandboxRuntime's status say, from what was found.
//!
//! Pure: time and the status before come in. A condition keeps its transition time while its status stays, so that writing
//! the same finding again is no change.

use freehold_crds::{TenantNamespaceStatus, TenantQuotaStatus, TenantStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Names that a message lists at most; the rest is counted.
const MAX_LISTED: usize = 5;
/// Characters of one error in a message.
const MAX_ERROR: usize = 400;
/// Namespaces that a status lists; a Tenant may have at most 1000, and may be given more by the platform team.
const MAX_NAMESPACES: usize = 1000;

/// What was found out about a Tenant in one round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Namespaces with everything in place.
    pub guarded: usize,
    /// Namespaces that wait, mostly for their quota to count.
    pub waiting: Vec<String>,
    /// Namespaces that wait for being deleted.
    pub terminating: Vec<String>,
    /// Namespaces beyond the number that gets a share.
    pub beyond: Vec<String>,
    /// Declared namespaces that belong to somebody else.
    pub taken: Vec<String>,
    /// SandboxRuntimes that do not exist.
    pub missing: Vec<String>,
    /// What the API server refused.
    pub failed: Vec<String>,
    /// The Tenant's namespaces.
    pub namespaces: Vec<TenantNamespaceStatus>,
    /// Quota and usage.
    pub quota: Option<TenantQuotaStatus>,
}

/// A condition; its transition time is the one before if its status is.
pub fn condition(
    before: &[Condition],
    type_: &str,
    status: bool,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let same = before.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    }
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", names.len() - MAX_LISTED));
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A Tenant's status.
pub fn tenant(before: Option<&TenantStatus>, generation: Option<i64>, findings: Findings, now: Timestamp) -> TenantStatus {
    let guarded = format!("{} guarded", counted(findings.guarded, "namespace"));
    let mut problems = Vec::new();
    if let Some(first) = findings.failed.first() {
        let more = if findings.failed.len() > 1 { format!(" (and {} more)", findings.failed.len() - 1) } else { String::new() };
        problems.push(("ApplyFailed", format!("{}{more}", first.chars().take(MAX_ERROR).collect::<String>())));
    }
    if !findings.missing.is_empty() {
        let text = format!("SandboxRuntime {} does not exist; its pods are refused until it does", listed(&findings.missing));
        problems.push(("RuntimeMissing", text));
    }
    if !findings.taken.is_empty() {
        let text = format!(
            "declared, but somebody else's: namespace {}; take it in by its label, or declare another name",
            listed(&findings.taken)
        );
        problems.push(("NamespaceTaken", text));
    }
    if !findings.waiting.is_empty() {
        problems.push(("NamespacesPending", format!("waiting for the quota to count in {}", listed(&findings.waiting))));
    }
    if !findings.beyond.is_empty() {
        let text = format!("more namespaces than namespaces.max; no share of the quota for {}", listed(&findings.beyond));
        problems.push(("TooManyNamespaces", text));
    }
    let reconciling = match (findings.failed.is_empty(), findings.waiting.is_empty(), findings.terminating.is_empty()) {
        (false, ..) => Some(("Retrying", "what failed is tried again".to_owned())),
        (_, false, _) => Some(("NamespacesPending", format!("waiting for {}", listed(&findings.waiting)))),
        (_, _, false) => Some(("NamespacesTerminating", format!("waiting for {} to go", listed(&findings.terminating)))),
        _ => None,
    };
    let conditions = before.map_or(&[][..], |before| &before.conditions);
    let (reason, message) = match problems.first() {
        None => ("Enforced", guarded),
        Some((reason, _)) => {
            (*reason, problems.iter().map(|(_, text)| text.clone()).chain([guarded]).collect::<Vec<_>>().join("; "))
        }
    };
    let ready = condition(conditions, "Ready", problems.is_empty(), reason, message, generation, now);
    let (running, (reason, message)) =
        (reconciling.is_some(), reconciling.unwrap_or(("Settled", "nothing left to do".to_owned())));
    let reconciling = condition(conditions, "Reconciling", running, reason, message, generation, now);
    let mut namespaces = findings.namespaces;
    namespaces.truncate(MAX_NAMESPACES);
    TenantStatus { observed_generation: generation, conditions: vec![ready, reconciling], namespaces, quota: findings.quota }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_found_is_said() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (what, findings, ready, reason, reconciling, says) in [
            ("all is well", Findings { guarded: 1, ..Findings::default() }, "True", "Enforced", "False", "1 namespace guarded"),
            (
                "no runtime",
                Findings { missing: names(&["gone"]), ..Findings::default() },
                "False",
                "RuntimeMissing",
                "False",
                "SandboxRuntime gone does not exist",
            ),
            (
                "a new namespace",
                Findings { waiting: names(&["a-dev"]), guarded: 2, ..Findings::default() },
                "False",
                "NamespacesPending",
                "True",
                "a-dev; 2 namespaces guarded",
            ),
            (
                "too many",
                Findings { beyond: names(&["1", "2", "3", "4", "5", "6"]), ..Findings::default() },
                "False",
                "TooManyNamespaces",
                "False",
                "5 and 1 more",
            ),
            (
                "declared and taken",
                Findings { taken: names(&["prod"]), ..Findings::default() },
                "False",
                "NamespaceTaken",
                "False",
                "namespace prod",
            ),
            (
                "refused",
                Findings { failed: names(&["no", "never"]), missing: names(&["gone"]), ..Findings::default() },
                "False",
                "ApplyFailed",
                "True",
                "no (and 1 more); SandboxRuntime gone",
            ),
            (
                "one goes",
                Findings { terminating: names(&["a-old"]), ..Findings::default() },
                "True",
                "Enforced",
                "True",
                "0 namespaces",
            ),
        ] {
            let status = tenant(None, Some(2), findings, at(0));
            let found = &status.conditions[0];
            assert_eq!((found.status.as_str(), found.reason.as_str()), (ready, reason), "{what}");
            assert!(found.message.contains(says), "{what}: {}", found.message);
            assert_eq!(status.conditions[1].status, reconciling, "{what}");
            assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)), "{what}");
        }
    }

    #[test]
    fn the_same_finding_is_the_same_status() {
        let first = tenant(None, Some(2), Findings::default(), at(1));
        assert_eq!(tenant(Some(&first), Some(2), Findings::default(), at(2)), first);
        let failed = Findings { failed: vec!["no".to_owned()], ..Findings::default() };
        let second = tenant(Some(&first), Some(2), failed, at(3));
        assert_eq!(second.conditions[0].last_transition_time, Time(at(3)));
    }
}
