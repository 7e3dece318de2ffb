//! What a Tenant's and a SandboxRuntime's status say, from what was found.
//!
//! Pure: time and the status before come in. A condition keeps its transition time while its status stays, so that writing
//! the same finding again is no change.

use freehold_crds::{TenantNamespaceStatus, TenantQuotaStatus, TenantSpec, TenantStatus, TenantSummary, TenantWouldDeny};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::desired::budget;
use crate::desired::resolve::DEFAULT_RUNTIME;

/// Reason of a Tenant that waits for the platform team to say whose its name's namespaces are.
pub const UID_CHANGED: &str = "UIDChanged";
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
    /// Hosts that another Tenant has.
    pub taken_hosts: Vec<String>,
    /// Namespaces whose ServiceAccounts are not heeded.
    pub withheld: Vec<String>,
    /// Namespaces of earlier Tenants of this name, each with that one's UID.
    pub held: Vec<(String, String)>,
    /// The TenantClass that is named and does not exist.
    pub class_missing: Option<String>,
    /// What of the Tenant is beyond its class.
    pub beyond_class: Vec<String>,
    /// SandboxRuntimes that do not exist.
    pub missing: Vec<String>,
    /// Whether it asks for a name server of its own, and the platform runs none.
    pub name_server_missing: bool,
    /// What the API server refused.
    pub failed: Vec<String>,
    /// The Tenant's namespaces.
    pub namespaces: Vec<TenantNamespaceStatus>,
    /// Quota and usage.
    pub quota: Option<TenantQuotaStatus>,
    /// What exists and would be refused.
    pub would_deny: Option<TenantWouldDeny>,
    /// What `kubectl get tenants` shows.
    pub summary: Option<TenantSummary>,
}

/// The figures of `kubectl get tenants`; used and hard where the quota has them.
pub fn summary(spec: &TenantSpec, class: Option<&str>, namespaces: usize, quota: Option<&TenantQuotaStatus>) -> TenantSummary {
    let of = |names: &[&str]| {
        let quota = quota?;
        let name = names.iter().find(|name| quota.hard.contains_key(**name))?;
        let used = quota.used.get(*name).map_or("0", |quantity| quantity.0.as_str());
        Some(format!("{used}/{}", quota.hard.get(*name)?.0))
    };
    let runtimes = spec.runtimes.as_ref();
    let runtime = runtimes.and_then(|runtimes| runtimes.default.as_ref().or(runtimes.allowed.first())).map(String::as_str);
    TenantSummary {
        class: class.map(str::to_owned),
        mode: Some(spec.enforcement_mode.unwrap_or_default()),
        namespaces: Some(format!("{namespaces}/{}", budget::max_namespaces(spec))),
        cpu: of(&["requests.cpu", "cpu", "limits.cpu"]),
        memory: of(&["requests.memory", "memory", "limits.memory"]),
        pods: of(&["pods", "count/pods"]),
        runtime: Some(runtime.unwrap_or(DEFAULT_RUNTIME).to_owned()),
    }
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
    three_valued(before, type_, if status { "True" } else { "False" }, reason, message, generation, now)
}

/// As [`condition`], for one that may also be Unknown.
pub fn three_valued(
    before: &[Condition],
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
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

/// Something that happened to a Tenant, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether somebody should look.
    pub warning: bool,
    /// The condition's reason.
    pub reason: String,
    /// The condition's message.
    pub message: String,
}

/// What a status says that the one before did not: a new reason of Ready, and that a decision is waited for.
pub fn news(before: Option<&TenantStatus>, after: &TenantStatus) -> Vec<News> {
    let of = |status: &TenantStatus, type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_).cloned();
    let mut told = Vec::<News>::new();
    for (type_, calm) in [("Ready", "True"), ("Stalled", "False")] {
        let Some(now) = of(after, type_) else { continue };
        let then = before.and_then(|before| of(before, type_));
        let is_new = then.as_ref().is_none_or(|then| (&then.status, &then.reason) != (&now.status, &now.reason));
        // That nothing waits is no news, nor what Ready says already.
        let is_said = type_ == "Stalled" && (now.status == calm || told.iter().any(|news| news.reason == now.reason));
        if is_new && !is_said {
            told.push(News { warning: now.status != calm, reason: now.reason, message: now.message });
        }
    }
    told
}

/// That namespaces which were there before are guarded as the Tenant's now; None if there are none.
pub fn adopted(names: &[String]) -> Option<News> {
    let message = format!(
        "taken over and guarded: {}; what runs there goes on, see status.wouldDeny for what would be refused",
        listed(names)
    );
    (!names.is_empty()).then(|| News { warning: false, reason: "NamespaceAdopted".to_owned(), message })
}

/// That a namespace came from another Tenant, went to another, or is nobody's any more. Whose else it is or was is told to nobody.
pub fn moved(namespace: &str, came: bool, goes_on: bool) -> News {
    let (reason, message) = match (came, goes_on) {
        (true, _) => ("NamespaceMoved", format!("{namespace} came from another Tenant and is guarded as this one's")),
        (false, true) => ("NamespaceMoved", format!("{namespace} went to another Tenant")),
        (false, false) => ("NamespaceReleased", format!("{namespace} is no Tenant's any more; what guarded it is taken away")),
    };
    News { warning: false, reason: reason.to_owned(), message }
}

/// The first of many names, and how many more there are.
pub fn listed(names: &[String]) -> String {
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
    if let Some((_, uid)) = findings.held.first() {
        let names: Vec<String> = findings.held.iter().map(|(name, _)| name.clone()).collect();
        let text = format!(
            "namespace {} is that of an earlier Tenant of this name (UID {uid}) and stays as it was; to take it over, set spec.replacesUID to \
             that UID",
            listed(&names)
        );
        problems.push((UID_CHANGED, text));
    }
    if let Some(class) = &findings.class_missing {
        let text = format!("TenantClass {class} does not exist; no new pods are taken until it does, or another is named");
        problems.push(("ClassMissing", text));
    }
    if !findings.beyond_class.is_empty() {
        let text = format!(
            "beyond what its TenantClass allows, and held to that: {}; ask for less, or for another class",
            listed(&findings.beyond_class)
        );
        problems.push(("BeyondClass", text));
    }
    if !findings.missing.is_empty() {
        let text = format!("SandboxRuntime {} does not exist; its pods are refused until it does", listed(&findings.missing));
        problems.push(("RuntimeMissing", text));
    }
    if findings.name_server_missing {
        let text = "network.dns is Isolated, but the name server for that is not run: its pods ask nobody; set dns.enabled in the chart's values";
        problems.push(("NameServerMissing", text.to_owned()));
    }
    if !findings.taken.is_empty() {
        let text = format!(
            "declared, but somebody else's: namespace {}; take it in by its label, or declare another name",
            listed(&findings.taken)
        );
        problems.push(("NamespaceTaken", text));
    }
    if !findings.taken_hosts.is_empty() {
        let text = format!("not served, since an older Tenant has them: hosts {}; list others", listed(&findings.taken_hosts));
        problems.push(("HostsTaken", text));
    }
    if !findings.withheld.is_empty() {
        let text = format!(
            "ServiceAccounts of namespace {} get no rights: it must exist and must not be another tenant's",
            listed(&findings.withheld)
        );
        problems.push(("ServiceAccountsWithheld", text));
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
    let (stuck, message) = match problems.iter().find(|(reason, _)| *reason == UID_CHANGED) {
        Some((_, text)) => (true, text.clone()),
        None => (false, "nothing waits for a decision".to_owned()),
    };
    let stalled = condition(conditions, "Stalled", stuck, if stuck { UID_CHANGED } else { "Free" }, message, generation, now);
    let mut namespaces = findings.namespaces;
    namespaces.truncate(MAX_NAMESPACES);
    TenantStatus {
        observed_generation: generation,
        conditions: vec![ready, reconciling, stalled],
        namespaces,
        quota: findings.quota,
        would_deny: findings.would_deny,
        summary: findings.summary,
    }
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
                "no name server",
                Findings { name_server_missing: true, ..Findings::default() },
                "False",
                "NameServerMissing",
                "False",
                "network.dns is Isolated, but",
            ),
            (
                "no class",
                Findings { class_missing: Some("gone".to_owned()), ..Findings::default() },
                "False",
                "ClassMissing",
                "False",
                "TenantClass gone does not exist",
            ),
            (
                "more than the class",
                Findings { beyond_class: names(&["namespaces.max: 5"]), ..Findings::default() },
                "False",
                "BeyondClass",
                "False",
                "held to that: namespaces.max: 5",
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
                "an earlier Tenant's namespace",
                Findings { held: vec![("a-dev".to_owned(), "older".to_owned())], ..Findings::default() },
                "False",
                "UIDChanged",
                "False",
                "a-dev is that of an earlier Tenant of this name (UID older)",
            ),
            (
                "another's hosts",
                Findings { taken_hosts: names(&["pay.example"]), ..Findings::default() },
                "False",
                "HostsTaken",
                "False",
                "hosts pay.example",
            ),
            (
                "a program of nobody",
                Findings { withheld: names(&["platform-ci"]), ..Findings::default() },
                "False",
                "ServiceAccountsWithheld",
                "False",
                "namespace platform-ci get no rights",
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
            assert_eq!(status.conditions[2].status == "True", reason == "UIDChanged", "{what}");
            assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)), "{what}");
        }
    }

    #[test]
    fn what_is_new_is_told_once() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let status = |findings| tenant(None, Some(1), findings, at(0));
        let (calm, held) =
            (Findings::default(), Findings { held: vec![("a-dev".to_owned(), "older".to_owned())], ..Findings::default() });
        let failed = Findings { failed: names(&["no"]), ..held.clone() };
        for (what, before, after, expected) in [
            ("a new Tenant", None, &calm, vec![(false, "Enforced")]),
            ("the same again", Some(&calm), &calm, vec![]),
            ("an earlier Tenant's namespace", Some(&calm), &held, vec![(true, "UIDChanged")]),
            ("the same again", Some(&held), &held, vec![]),
            ("behind something else", Some(&calm), &failed, vec![(true, "ApplyFailed"), (true, "UIDChanged")]),
            ("taken over", Some(&held), &calm, vec![(false, "Enforced")]),
        ] {
            let found = news(before.map(|findings| status(findings.clone())).as_ref(), &status(after.clone()));
            let found: Vec<_> = found.iter().map(|news| (news.warning, news.reason.as_str())).collect();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_summary_has_what_the_quota_has() {
        let spec = |rest: &str| -> TenantSpec { serde_json::from_str(&format!(r#"{{"owners": []{rest}}}"#)).unwrap() };
        let quota: TenantQuotaStatus = serde_json::from_str(
            r#"{"hard": {"requests.cpu": "4", "limits.cpu": "8", "pods": "20"}, "used": {"requests.cpu": "500m", "pods": "2"}}"#,
        )
        .unwrap();
        let found =
            summary(&spec(r#", "namespaces": {"max": 3}, "runtimes": {"allowed": ["kata"]}"#), Some("small"), 2, Some(&quota));
        assert_eq!(found.class.as_deref(), Some("small"));
        assert_eq!(found.cpu.as_deref(), Some("500m/4"));
        assert_eq!((found.memory, found.pods.as_deref()), (None, Some("2/20")));
        assert_eq!((found.namespaces.as_deref(), found.runtime.as_deref()), (Some("2/3"), Some("kata")));
        assert_eq!(summary(&spec(""), None, 0, None).runtime.as_deref(), Some("microvm"));
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
