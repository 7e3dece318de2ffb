//! Whether NetworkPolicies are enforced on a node: the pods that find out, what their end means, and what follows.
//!
//! Pure. The policies that are tried stand in the chart, so that they are older than every pod they are about.

use freehold_crds::{Judged, NetworkProbe, NodeNetworkStatus, ProbeResult, probing};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::conditions::three_valued;

/// The label with the UID of the node that a pod of a probe is for: names of nodes may be longer than values of labels.
pub const NODE_LABEL: &str = "freehold.dev/probed-node";
/// Time until a finding is confirmed: that a policy held, or that the network enforcer closes what it must.
const CONFIRM: SignedDuration = SignedDuration::from_secs(15);
/// Time until a probe that found nothing is tried again, times how often it found nothing.
const RETRY: SignedDuration = SignedDuration::from_secs(60);
/// Longest such time.
const RETRY_LIMIT: SignedDuration = SignedDuration::from_secs(600);
/// Probes in a row that must find a policy held before that counts: leaving tenants to a CNI is the dangerous mistake.
const HELD_COUNTS: i32 = 2;
/// Probes in a row that may find the enforcer without effect before that is said and no longer asked at once.
const ENFORCER_COUNTS: i32 = 3;
/// Where the count ends, as in the schema.
const MAX_STREAK: i32 = 1000;
/// Seconds after which the kubelet ends a pod that nobody deleted.
const POD_LIMIT: u32 = 120;
/// Characters of evidence, as in the schema.
const MAX_EVIDENCE: usize = 400;

/// When the network enforcer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// On every node.
    Always,
    /// Where a probe found that nothing else enforces NetworkPolicies.
    Auto,
    /// Nowhere.
    Off,
}

/// A pod of a probe: no rights, no token, nothing of the node's, and an end.
pub fn pod(role: &str, node: &str, uid: &str, image: &str, pull_policy: &str, arguments: &[String]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": format!("{role}-"), "namespace": probing::NAMESPACE,
            "labels": {probing::ROLE_LABEL: role, NODE_LABEL: uid, "app.kubernetes.io/part-of": "freehold"},
        },
        "spec": {
            "nodeName": node, "restartPolicy": "Never", "activeDeadlineSeconds": POD_LIMIT, "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            // Past the scheduler; taints that evict must not end it either.
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "probe", "image": image, "imagePullPolicy": pull_policy, "args": arguments,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
            }],
        },
    })
}

/// How the container of a pod ended.
pub fn ended(pod: &Pod) -> Option<&ContainerStateTerminated> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.terminated.as_ref()
}

/// Where a pod stands, for people who wonder why it does not run.
pub fn standing(pod: Option<&Pod>) -> String {
    let Some(status) = pod.and_then(|pod| pod.status.as_ref()) else { return "it is gone".to_owned() };
    let phase = status.phase.as_deref().unwrap_or("no phase yet");
    let waiting = status.container_statuses.iter().flatten().find_map(|one| one.state.as_ref()?.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.as_deref()).or(status.reason.as_deref());
    why.map_or_else(|| phase.to_owned(), |why| format!("{phase}, {why}"))
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether policies held.
    pub result: ProbeResult,
    /// Whether the port that the network enforcer closes was closed.
    pub enforcer_seen: bool,
    /// What was seen.
    pub evidence: String,
}

/// That nothing can be said, and why.
pub fn nothing(why: &str) -> Finding {
    Finding { result: ProbeResult::NoAnswer, enforcer_seen: false, evidence: why.chars().take(MAX_EVIDENCE).collect() }
}

/// What the end of the asking pod means. Anything unexpected means nothing.
pub fn reading(end: &ContainerStateTerminated) -> Finding {
    let said = end.message.as_deref().unwrap_or_default().trim();
    let (result, enforcer_seen) = match u8::try_from(end.exit_code) {
        Ok(probing::EXIT_HELD) => (ProbeResult::Held, false),
        Ok(probing::EXIT_IGNORED) => (ProbeResult::Ignored, false),
        Ok(probing::EXIT_IGNORED_BUT_OURS) => (ProbeResult::Ignored, true),
        Ok(probing::EXIT_NO_ANSWER) => (ProbeResult::NoAnswer, false),
        _ => return nothing(&format!("the asking pod ended with {}: {said}", end.exit_code)),
    };
    // A silent end is not evidence: something else than our program may have ended so.
    if said.is_empty() {
        return nothing("the asking pod ended without a word");
    }
    Finding { result, enforcer_seen, evidence: said.chars().take(MAX_EVIDENCE).collect() }
}

/// Whether a node is to be probed now.
pub fn is_due(status: Option<&NodeNetworkStatus>, mode: Mode, interval: SignedDuration, now: Timestamp) -> bool {
    let Some(probe) = status.and_then(|status| status.probe.as_ref()) else { return true };
    let wait = match probe.result {
        ProbeResult::NoAnswer => (RETRY * probe.streak.max(1)).min(RETRY_LIMIT),
        ProbeResult::Held if probe.streak < HELD_COUNTS => CONFIRM,
        ProbeResult::Ignored if mode == Mode::Auto && !probe.enforcer_seen && probe.streak < ENFORCER_COUNTS => CONFIRM,
        ProbeResult::Ignored if mode == Mode::Auto && !probe.enforcer_seen => RETRY_LIMIT,
        ProbeResult::Held | ProbeResult::Ignored => interval,
    };
    now.duration_since(probe.time.0) >= wait
}

/// The status after a probe.
pub fn after(before: Option<&NodeNetworkStatus>, mode: Mode, found: Finding, now: Timestamp) -> NodeNetworkStatus {
    let Finding { result, enforcer_seen, evidence } = found;
    let last = before.and_then(|before| before.probe.as_ref()).filter(|last| last.result == result);
    let streak = last.map_or(1, |last| last.streak.saturating_add(1).min(MAX_STREAK));
    let settled = match result {
        ProbeResult::Ignored => Some(result),
        ProbeResult::Held if streak >= HELD_COUNTS => Some(result),
        ProbeResult::Held | ProbeResult::NoAnswer => before.and_then(|before| before.settled),
    };
    let probe = Some(NetworkProbe { time: Time(now), result, enforcer_seen, streak, evidence });
    let conditions = before.map(|before| before.conditions.clone()).unwrap_or_default();
    told(&NodeNetworkStatus { probe, settled, enforcer: None, conditions }, mode, now)
}

/// What follows from what is settled, in this mode.
pub fn told(status: &NodeNetworkStatus, mode: Mode, now: Timestamp) -> NodeNetworkStatus {
    let judged = match (mode, status.settled) {
        (Mode::Always, _) | (Mode::Auto, Some(ProbeResult::Ignored)) => Judged::Everybodys,
        (Mode::Off, _) | (Mode::Auto, Some(ProbeResult::Held)) => Judged::Nobodys,
        (Mode::Auto, _) => Judged::Tenants,
    };
    let (state, reason, text) = words(status, mode);
    let evidence = status.probe.as_ref().map_or("", |probe| probe.evidence.as_str());
    let message = format!("{text}: {evidence}");
    let enforced = three_valued(&status.conditions, "Enforced", state, reason, message, None, now);
    NodeNetworkStatus { enforcer: Some(judged), conditions: vec![enforced], ..status.clone() }
}

/// State, reason and message of the condition Enforced.
fn words(status: &NodeNetworkStatus, mode: Mode) -> (&'static str, &'static str, &'static str) {
    let last = status.probe.as_ref().filter(|last| last.result == ProbeResult::Ignored);
    let (seen, streak) = last.map_or((true, 0), |last| (last.enforcer_seen, last.streak));
    match (status.settled, mode) {
        (Some(ProbeResult::Held), Mode::Always) => {
            ("True", "Held", "NetworkPolicies hold, by the CNI or by the network enforcer, which runs everywhere (mode Always)")
        }
        (Some(ProbeResult::Held), _) => ("True", "HeldByCNI", "the CNI enforces NetworkPolicies"),
        (Some(ProbeResult::Ignored), Mode::Auto) if seen => {
            ("True", "EnforcerOn", "the CNI enforces no NetworkPolicies, so the network enforcer does")
        }
        (Some(ProbeResult::Ignored), Mode::Auto) if streak < ENFORCER_COUNTS => (
            "Unknown",
            "EnforcerStarts",
            "the CNI enforces no NetworkPolicies; the network enforcer was told to, and is asked for again at once",
        ),
        (Some(ProbeResult::Ignored), Mode::Auto | Mode::Always) => (
            "False",
            "EnforcerIgnored",
            "NetworkPolicies do not hold although the network enforcer is on: is its pod ready on this node, does the CNI bypass the host's network stack?",
        ),
        (Some(ProbeResult::Ignored), Mode::Off) => (
            "False",
            "NothingEnforces",
            "the CNI enforces no NetworkPolicies and the network enforcer is off: tenants on this node reach each other; set networkEnforcer.mode to Auto",
        ),
        (_, _) => ("Unknown", "NotKnownYet", "not found out yet; tenants' pods are closed meanwhile, unless the mode is Off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_AN_HOUR: SignedDuration = SignedDuration::from_secs(1800);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn history(mode: Mode, found: &[ProbeResult]) -> NodeNetworkStatus {
        // Told by the first probe that something is wrong, the enforcer is seen by the later ones.
        seen(mode, found, |turn| turn > 0)
    }

    fn seen(mode: Mode, found: &[ProbeResult], seen: fn(usize) -> bool) -> NodeNetworkStatus {
        let step = |before: Option<NodeNetworkStatus>, (turn, result): (usize, &ProbeResult)| {
            let found = Finding { result: *result, enforcer_seen: seen(turn), evidence: "seen".to_owned() };
            Some(after(before.as_ref(), mode, found, at(turn as i64)))
        };
        found.iter().enumerate().fold(None, step).unwrap()
    }

    #[test]
    fn a_cni_gets_tenants_only_once_it_held_twice_and_loses_them_at_once() {
        use ProbeResult::{Held, Ignored, NoAnswer};
        for (found, judged, state) in [
            (&[NoAnswer][..], Judged::Tenants, "Unknown"),
            (&[Held], Judged::Tenants, "Unknown"),
            (&[Held, Held], Judged::Nobodys, "True"),
            (&[Held, NoAnswer, Held], Judged::Tenants, "Unknown"),
            (&[Held, Held, NoAnswer], Judged::Nobodys, "True"),
            (&[Held, Held, Ignored], Judged::Everybodys, "True"),
            (&[Ignored], Judged::Everybodys, "Unknown"),
            (&[Ignored, Ignored], Judged::Everybodys, "True"),
            (&[Ignored, NoAnswer], Judged::Everybodys, "True"),
            (&[Ignored, Held], Judged::Everybodys, "True"),
            (&[Ignored, Held, Held], Judged::Nobodys, "True"),
        ] {
            let status = history(Mode::Auto, found);
            assert_eq!((status.enforcer, status.conditions[0].status.as_str()), (Some(judged), state), "{found:?}");
        }
    }

    #[test]
    fn an_enforcer_without_effect_is_told() {
        use ProbeResult::Ignored;
        let states = |count: usize| seen(Mode::Auto, &vec![Ignored; count], |_| false).conditions[0].reason.clone();
        assert_eq!([1, 2, 3].map(states), ["EnforcerStarts", "EnforcerStarts", "EnforcerIgnored"]);
    }

    #[test]
    fn other_modes_report_and_say_what_to_do() {
        use ProbeResult::{Held, Ignored};
        for (mode, found, judged, state, reason) in [
            (Mode::Off, Ignored, Judged::Nobodys, "False", "NothingEnforces"),
            (Mode::Off, Held, Judged::Nobodys, "True", "HeldByCNI"),
            (Mode::Always, Held, Judged::Everybodys, "True", "Held"),
            (Mode::Always, Ignored, Judged::Everybodys, "False", "EnforcerIgnored"),
        ] {
            let status = history(mode, &[found, found]);
            let condition = &status.conditions[0];
            assert_eq!((status.enforcer, condition.status.as_str(), condition.reason.as_str()), (Some(judged), state, reason));
            assert_eq!(told(&status, mode, at(99)), status, "saying it again is no change");
        }
        // A new mode follows from what is known, without another probe.
        let switched = told(&history(Mode::Off, &[Ignored]), Mode::Auto, at(9));
        assert_eq!(switched.enforcer, Some(Judged::Everybodys));
    }

    #[test]
    fn asked_again_from_time_to_time_and_not_more_often() {
        use ProbeResult::{Held, Ignored, NoAnswer};
        assert!(is_due(None, Mode::Auto, HALF_AN_HOUR, at(0)));
        for (found, wait) in [
            (&[Ignored][..], 15),
            (&[Ignored, Ignored], 1800),
            (&[Held], 15),
            (&[Held, Held], 1800),
            (&[NoAnswer], 60),
            (&[NoAnswer; 3], 180),
            (&[NoAnswer; 30], 600),
        ] {
            let status = history(Mode::Auto, found);
            let last = found.len() as i64 - 1;
            let due = |second| is_due(Some(&status), Mode::Auto, HALF_AN_HOUR, at(second));
            assert_eq!((due(last + wait - 1), due(last + wait)), (false, true), "{found:?}");
        }
        let without_effect = seen(Mode::Auto, &[Ignored; 3], |_| false);
        assert!(!is_due(Some(&without_effect), Mode::Auto, HALF_AN_HOUR, at(2 + 599)));
    }

    #[test]
    fn only_our_own_words_are_evidence() {
        let end = |exit_code, message: Option<&str>| ContainerStateTerminated {
            exit_code,
            message: message.map(str::to_owned),
            ..ContainerStateTerminated::default()
        };
        for (code, message, expected) in [
            (0, Some("of 3 rounds"), ProbeResult::Held),
            (3, Some("of 20 rounds"), ProbeResult::Ignored),
            (5, Some("of 20 rounds"), ProbeResult::Ignored),
            (4, Some("of 20 rounds"), ProbeResult::NoAnswer),
            (0, None, ProbeResult::NoAnswer),
            (137, Some("killed"), ProbeResult::NoAnswer),
            (-1, Some("?"), ProbeResult::NoAnswer),
            (256, Some("of 3 rounds"), ProbeResult::NoAnswer),
        ] {
            assert_eq!(reading(&end(code, message)).result, expected, "{code} {message:?}");
        }
        assert_eq!(reading(&end(0, Some(&"x".repeat(5000)))).evidence.chars().count(), MAX_EVIDENCE);
    }

    #[test]
    fn its_pods_hold_nothing_and_are_typed() {
        let made =
            pod(probing::ASK, "node1", "d1", "registry/enforcer:1", "Never", &["probe-ask".to_owned(), "10.0.0.1".to_owned()]);
        let read: Pod = serde_json::from_value(made.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), made, "the API server would drop what is no field");
        let spec = read.spec.unwrap();
        assert_eq!((spec.automount_service_account_token, spec.volumes, spec.host_network), (Some(false), None, None));
    }
}
