//! What Flux, kpt and others that follow kstatus make of an object: whether it is as its manifest says, still on its way, or waits for somebody.
//!
//! The rules for kinds that kstatus does not know by name, as documented in sigs.k8s.io/cli-utils, pkg/kstatus: a deletion first, then the generation that the
//! status speaks of, then the conditions Reconciling and Stalled, which tell what is abnormal, then Ready.

use serde_json::Value;

/// The state of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As its manifest says.
    Current,
    /// On its way there.
    InProgress,
    /// It will not get there without somebody.
    Failed,
    /// Being deleted.
    Terminating,
}

/// The state of an object.
pub fn state(object: &Value) -> State {
    let status = &object["status"];
    let is = |kind: &str, value: &str| {
        status["conditions"].as_array().into_iter().flatten().any(|one| one["type"] == kind && one["status"] == value)
    };
    let observed = &status["observedGeneration"];
    if !object["metadata"]["deletionTimestamp"].is_null() {
        State::Terminating
    } else if (!observed.is_null() && *observed != object["metadata"]["generation"]) || is("Reconciling", "True") {
        State::InProgress
    } else if is("Stalled", "True") {
        State::Failed
    } else if is("Ready", "False") || is("Ready", "Unknown") {
        State::InProgress
    } else {
        State::Current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn states_follow_the_documented_rules() {
        let of = |observed: Value, conditions: &[(&str, &str)]| {
            let conditions: Vec<_> = conditions.iter().map(|(kind, status)| json!({"type": kind, "status": status})).collect();
            state(&json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}}))
        };
        for (what, found, expected) in [
            ("nothing said", of(Value::Null, &[]), State::Current),
            ("ready", of(json!(2), &[("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False")]), State::Current),
            ("ready, of an older spec", of(json!(1), &[("Ready", "True")]), State::InProgress),
            ("not ready", of(json!(2), &[("Ready", "False")]), State::InProgress),
            ("ready, and at work", of(json!(2), &[("Ready", "True"), ("Reconciling", "True")]), State::InProgress),
            ("not ready, and stalled", of(json!(2), &[("Ready", "False"), ("Stalled", "True")]), State::Failed),
        ] {
            assert_eq!(found, expected, "{what}");
        }
        assert_eq!(state(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), State::Terminating);
    }
}
