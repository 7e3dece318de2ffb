//! Pods carry a PriorityClass that the tenant has, so that they push nobody else's away.
//!
//! Input is a Boundary and a pod that is created; the output goes into a pod's [`crate::Decision`]. The floor has the same rule in
//! `charts/freehold/templates/floor/pods-boundary.yaml`. A pod without any class has priority 0 and passes, unless the
//! Boundary has a default: that may be below 0.

use freehold_crds::PodBoundary;
use json_patch::PatchOperation;

use crate::view::PodSpec;
use crate::{Denial, listed, remove, set, shown_list};

/// The name that counts: what the API server filled in for a pod that said nothing is nothing where the tenant has its own default.
fn name<'a>(limits: &PodBoundary, spec: &'a PodSpec) -> Option<&'a str> {
    let filled_in = |name: &&str| {
        limits.priority_class_names.default.is_some()
            && limits.cluster_priority_class_name.as_deref() == Some(*name)
            && !listed(&limits.priority_class_names.allowed, name)
    };
    spec.priority_class_name.as_deref().filter(|name| !name.is_empty()).filter(|name| !filled_in(name))
}

/// What completes a pod that says nothing. `priority` and `preemptionPolicy` go in the same patch: the API server resolved them
/// from the old name, and refuses a pod whose values and name differ.
pub fn complete(limits: &PodBoundary, spec: &PodSpec) -> Vec<PatchOperation> {
    let Some(default) = limits.priority_class_names.default.as_deref().filter(|_| name(limits, spec).is_none()) else {
        return Vec::new();
    };
    let stale = [("priority", spec.priority.is_some()), ("preemptionPolicy", spec.preemption_policy.is_some())];
    let gone = stale.into_iter().filter(|(_, there)| *there).map(|(field, _)| remove(&["spec"], field));
    [set(&["spec"], "priorityClassName", default.into())].into_iter().chain(gone).collect()
}

/// Whether the class stands.
pub fn check(prefix: &str, limits: &PodBoundary, spec: &PodSpec) -> Option<Denial> {
    let classes = &limits.priority_class_names;
    let said = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
    let fine = match said {
        Some(name) => listed(&classes.allowed, name),
        None => classes.default.is_none(),
    };
    let allowed = || {
        if classes.allowed.is_empty() {
            "unset: the tenant has no PriorityClass".to_owned()
        } else {
            shown_list(&classes.allowed)
        }
    };
    (!fine)
        .then(|| Denial::new(format!("{prefix}spec.priorityClassName"), said.unwrap_or("(unset)"), "priority classes", allowed()))
}

/// Of a template only what it says counts: its pods get the rest.
pub fn check_template(prefix: &str, limits: &PodBoundary, spec: &PodSpec) -> Option<Denial> {
    spec.priority_class_name.as_deref().filter(|name| !name.is_empty()).and_then(|_| check(prefix, limits, spec))
}
