//! What the node reports: the documents of a NodeRuntime, built without acting.
//!
//! Input: what was done and proved. The operator acts on the Ready condition (it labels the node), people read the
//! message. It stands apart so that the documents can be compared in tests.

use crate::canary::Answer;
use crate::handler::Acceleration;
use crate::templates::Templating;
use serde_json::{Value, json};

/// Group and version of our resources.
pub const API_VERSION: &str = "freehold.dev/v1alpha1";

/// Versions that the schema lets a report name.
const MAX_VERSIONS: usize = 16;

/// The outcome of one round on the node.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// containerd's version and the file that names our runtime, once registered.
    pub containerd: Option<(String, String)>,
    /// The bundle's version, once unpacked.
    pub version: Option<String>,
    /// Older versions that something on the node still uses.
    pub in_use: Vec<String>,
    /// The canary's answer, if one ran.
    pub canary: Option<Answer>,
    /// How tenants' templates are made, where they are.
    pub templates: Option<Templating>,
    /// Reason of the Ready condition; only [`PASSED`] means ready.
    pub reason: &'static str,
    /// For people: what happened and what to do.
    pub message: String,
}

/// Reason of a node that can run VMs.
pub const PASSED: &str = "CanaryPassed";

/// The object's name: one a runtime and node.
pub fn name(runtime: &str, node: &str) -> String {
    format!("{runtime}.{node}")
}

/// The object for server-side apply. The Node owns it: it goes when the node goes.
pub fn object(runtime: &str, node: &str, node_uid: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "NodeRuntime",
        "metadata": {
            "name": name(runtime, node),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid}],
        },
        "spec": {"nodeName": node, "sandboxRuntimeName": runtime},
    })
}

/// The status for server-side apply. `since` is the condition's transition time, kept while its status stays.
pub fn status(runtime: &str, node: &str, outcome: &Outcome, now: &str, since: &str) -> Value {
    let ready = outcome.reason == PASSED;
    let mut status = json!({
        "acceleration": match outcome.canary.as_ref().map(|canary| canary.acceleration) {
            Some(Acceleration::Kvm) => "KVM",
            Some(Acceleration::Tcg) => "Emulated",
            None => "None",
        },
        "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": outcome.reason,
            "message": outcome.message, "lastTransitionTime": since,
        }],
    });
    if let Some((version, path)) = &outcome.containerd {
        status["containerRuntime"] = json!({"name": "containerd", "version": version, "configPath": path});
    }
    if let Some(version) = &outcome.version {
        let older = outcome.in_use.iter().take(MAX_VERSIONS - 1).map(|version| json!({"version": version, "state": "InUse"}));
        let current = json!({"version": version, "state": "Current"});
        status["versions"] = std::iter::once(current).chain(older).collect();
    }
    if let Some(canary) = &outcome.canary {
        status["canary"] = json!({
            "lastSuccessTime": now, "kernelRelease": canary.kernel_release, "startMilliseconds": canary.start_milliseconds,
        });
    }
    json!({"apiVersion": API_VERSION, "kind": "NodeRuntime", "metadata": {"name": name(runtime, node)}, "status": status})
}

/// The transition time to report: the old one if the Ready condition had the same status, else now.
pub fn since(existing: &Value, ready: bool, now: &str) -> String {
    let wanted = if ready { "True" } else { "False" };
    let conditions = existing.pointer("/status/conditions").and_then(Value::as_array);
    let same = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready" && condition["status"] == wanted);
    same.and_then(|condition| condition["lastTransitionTime"].as_str()).unwrap_or(now).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proved_node_and_a_node_without_kvm() {
        let canary = Answer { kernel_release: "6.12".to_owned(), acceleration: Acceleration::Kvm, start_milliseconds: 180 };
        let mut outcome = Outcome {
            containerd: Some(("2.1.4".to_owned(), "/x".to_owned())),
            version: Some("v1".to_owned()),
            in_use: (2..40).map(|n| format!("v{n}")).collect(),
            canary: Some(canary),
            templates: None,
            reason: PASSED,
            message: "ran".to_owned(),
        };
        let document = status("microvm", "worker-7", &outcome, "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
        assert_eq!(document["metadata"]["name"], "microvm.worker-7");
        assert_eq!(document["status"]["acceleration"], "KVM");
        assert_eq!(document["status"]["conditions"][0]["status"], "True");
        assert_eq!(document["status"]["canary"]["startMilliseconds"], 180);
        assert_eq!(document["status"]["versions"][0], json!({"version": "v1", "state": "Current"}));
        assert_eq!(document["status"]["versions"][15], json!({"version": "v16", "state": "InUse"}));
        assert_eq!(document["status"]["versions"].as_array().unwrap().len(), 16);
        let typed: freehold_crds::NodeRuntimeStatus = serde_json::from_value(document["status"].clone()).unwrap();
        assert_eq!(serde_json::to_value(&typed).unwrap(), document["status"], "the schema knows every field");
        outcome = Outcome { canary: None, reason: "KVMUnusable", ..outcome };
        let document = status("microvm", "worker-7", &outcome, "n", "s");
        assert_eq!(document["status"]["acceleration"], "None");
        assert_eq!(document["status"]["conditions"][0]["status"], "False");
        assert!(document["status"].get("canary").is_none());
    }

    #[test]
    fn the_transition_time_stays_while_the_status_stays() {
        let existing = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "old"}]}});
        assert_eq!(since(&existing, true, "now"), "old");
        assert_eq!(since(&existing, false, "now"), "now");
        assert_eq!(since(&Value::Null, true, "now"), "now");
    }
}
