//! The decision about a pod, and about the pod template of a workload.
//!
//! Input is the Boundary of the namespace and the pod; the webhook answers with the output. A pod that exists is judged again
//! only where its spec or annotations change: removing a finalizer from, or labelling, a pod older than the boundary passes.

use crate::view::{Boundary, EnforcementMode, Pod};
use crate::{Decision, Phase, host_access, runtime_class, set};

/// A pod that is created, or (with `old`) updated, directly or through `pods/ephemeralcontainers`.
///
/// Host access is always enforced. The runtime class follows the Boundary's enforcementMode: with Warn or Audit nothing is
/// refused and nothing is filled in, since a team that only looks must not find its pods elsewhere.
pub fn check(boundary: &Boundary, phase: Phase, old: Option<&Pod>, new: &Pod) -> Decision {
    let mut decision = Decision::default();
    let unchanged = old.is_some_and(|old| old.spec == new.spec && old.metadata.annotations == new.metadata.annotations);
    if !unchanged {
        decision.denials = host_access::check("", new);
    }
    let choice = &boundary.spec.pods.runtime_class_names;
    let name = new.spec.runtime_class_name.as_deref();
    let outcome = match old {
        Some(old) => runtime_class::on_update(old.spec.runtime_class_name.as_deref(), name)
            .map_or(runtime_class::Outcome::Keep, runtime_class::Outcome::Deny),
        None => runtime_class::on_create(choice, name),
    };
    let enforced = boundary.spec.enforcement_mode == EnforcementMode::Enforce;
    let denial = match outcome {
        runtime_class::Outcome::Keep => None,
        runtime_class::Outcome::Set(default) if enforced && phase == Phase::Complete => {
            decision.patch.0.push(set(&["spec"], "runtimeClassName", default.into()));
            None
        }
        runtime_class::Outcome::Set(_) => Some(runtime_class::missing(choice)),
        runtime_class::Outcome::Deny(denial) => Some(denial),
    };
    if enforced {
        decision.denials.extend(denial)
    } else {
        decision.observed.extend(denial)
    }
    if !decision.admitted() {
        decision.patch.0.clear();
    }
    decision
}

/// A workload's pod template, told at apply time; `prefix` is where it stands, such as `spec.template.`.
///
/// A template without a runtime class is fine: its pods get the default.
pub fn check_template(boundary: &Boundary, prefix: &str, template: &Pod) -> Decision {
    let mut decision = Decision { denials: host_access::check(prefix, template), ..Decision::default() };
    let name = template.spec.runtime_class_name.as_deref();
    if let runtime_class::Outcome::Deny(mut denial) = runtime_class::on_create(&boundary.spec.pods.runtime_class_names, name) {
        denial.field.insert_str(0, prefix);
        match boundary.spec.enforcement_mode {
            EnforcementMode::Enforce => decision.denials.push(denial),
            EnforcementMode::Warn | EnforcementMode::Audit => decision.observed.push(denial),
        }
    }
    decision
}
