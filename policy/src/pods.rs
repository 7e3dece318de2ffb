//! The decision about a pod, and about the pod template of a workload.
//!
//! Input is the Boundary of the namespace and the pod; the webhook answers with the output. A pod that exists is judged again
//! only where its spec or annotations change: removing a finalizer from, or labelling, a pod older than the boundary passes.

use freehold_crds::{BoundarySpec, BoundaryState, EnforcementMode, NodeTenancy, PodBoundary, PodSecurityLevel};

use crate::placement::Home;
use crate::view::Pod;
use crate::{
    Decision, Denial, Phase, devices, dns, host_access, images, metadata, placement, priority, qos, restricted, runtime_class,
    set, storage, tokens, worse,
};

/// A pod that is created, or (with `old`) updated and then judged by what that makes worse, directly or through `pods/ephemeralcontainers` or `pods/resize`.
///
/// Host access and the namespace's state are always enforced. Everything else follows the Boundary's enforcementMode: with Warn or Audit nothing is
/// refused and nothing is filled in, since a team that only looks must not find its pods elsewhere.
pub fn check(boundary: &BoundarySpec, namespace: &str, phase: Phase, old: Option<&Pod>, new: &Pod) -> Decision {
    let carried = metadata::check(&boundary.objects, "Pod", old.map(|old| &old.metadata), &new.metadata);
    if old.is_some_and(|old| old.spec == new.spec && old.metadata.annotations == new.metadata.annotations) {
        return carried.decide(boundary, phase);
    }
    let mut decision = Decision::default();
    let enforced = boundary.enforcement_mode == EnforcementMode::Enforce;
    let limits = &boundary.pods;
    decision.denials = host_access::check("", old, new);
    if old.is_none() {
        decision.denials.extend(state(boundary));
    }
    claims(boundary, namespace, "", old, new, &mut decision);

    // What completes a new pod; what it would complete does not stand against it.
    let (mut denials, mut patch) = (carried.by_mode, Vec::new());
    let (operations, missing): (Vec<_>, Vec<_>) = carried.missing.into_iter().unzip();
    if enforced && phase == Phase::Complete {
        patch.extend(operations);
    } else {
        denials.extend(missing);
    }
    let completes = enforced && phase == Phase::Complete && old.is_none();
    match old {
        Some(old) => denials
            .extend(runtime_class::on_update(old.spec.runtime_class_name.as_deref(), new.spec.runtime_class_name.as_deref())),
        None => match runtime_class::on_create(&limits.runtime_class_names, new.spec.runtime_class_name.as_deref()) {
            runtime_class::Outcome::Keep => {}
            runtime_class::Outcome::Set(default) if completes => patch.push(set(&["spec"], "runtimeClassName", default.into())),
            runtime_class::Outcome::Set(_) => denials.push(runtime_class::missing(&limits.runtime_class_names)),
            runtime_class::Outcome::Deny(denial) => denials.push(denial),
        },
    }
    if old.is_none() {
        denials.extend(qos::check(limits.qos_classes.as_deref(), new));
        match priority::complete(limits, &new.spec) {
            operations if completes && !operations.is_empty() => patch.extend(operations),
            _ => denials.extend(priority::check("", limits, &new.spec)),
        }
        match devices::complete(limits, new) {
            Some(operation) if completes => patch.push(operation),
            _ => denials.extend(devices::host_users("", limits, false, new)),
        }
        let missing = |denial: &Denial| completes && denial.value == "(unset)";
        let (missing, wrong): (Vec<_>, Vec<_>) = placement::node_selector("", limits, new).into_iter().partition(missing);
        denials.extend(wrong);
        if !missing.is_empty() {
            let labels = new.spec.node_selector.iter().chain(&limits.node_selector);
            let labels = labels.map(|(key, value)| (key.clone(), value.clone().into())).collect();
            patch.push(set(&["spec"], "nodeSelector", serde_json::Value::Object(labels)));
        }
    }
    denials.extend(common(boundary, namespace, "", old, new));
    if old.is_none() && limits.tenancy == NodeTenancy::Dedicated && completes {
        patch.extend(placement::complete(&boundary.tenant.name, new));
    }
    // The network is closed whatever the mode, so a pod that may ask nobody else is told whom to ask.
    if phase == Phase::Complete && old.is_none() {
        patch.extend(dns::complete(limits.name_server.as_ref(), &new.spec));
    }

    decision.by_mode(boundary.enforcement_mode).extend(denials);
    if decision.admitted() {
        decision.patch.0 = patch;
    }
    decision
}

/// A workload's pod template, told at apply time; `prefix` is where it stands, such as `spec.template.`, `old` what it was.
///
/// What a template does not say is fine where its pods get a default.
pub fn check_template(boundary: &BoundarySpec, namespace: &str, prefix: &str, old: Option<&Pod>, template: &Pod) -> Decision {
    let mut decision = Decision { denials: host_access::check(prefix, old, template), ..Decision::default() };
    let said = |template: &Pod| said(&boundary.pods, prefix, template);
    let mut denials = worse(old.map(said), said(template));
    denials.extend(common(boundary, namespace, prefix, old, template));
    claims(boundary, namespace, prefix, old, template, &mut decision);
    decision.by_mode(boundary.enforcement_mode).extend(denials);
    decision
}

/// The rules that complete a pod: of a template only what it says counts.
fn said(limits: &PodBoundary, prefix: &str, template: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    let name = template.spec.runtime_class_name.as_deref();
    if let runtime_class::Outcome::Deny(mut denial) = runtime_class::on_create(&limits.runtime_class_names, name) {
        denial.field.insert_str(0, prefix);
        denials.push(denial);
    }
    denials.extend(priority::check_template(prefix, limits, &template.spec));
    denials.extend(devices::host_users(prefix, limits, true, template));
    denials.extend(placement::node_selector(prefix, limits, template).into_iter().filter(|denial| denial.value != "(unset)"));
    denials.extend(qos::check_template(prefix, limits.qos_classes.as_deref(), template));
    denials
}

/// Claims that are made with the pod.
fn claims(boundary: &BoundarySpec, namespace: &str, prefix: &str, old: Option<&Pod>, new: &Pod, decision: &mut Decision) {
    let claims = |pod: &Pod| storage::ephemeral(prefix, &boundary.storage, namespace, pod);
    claims(new).told(old.map(claims), boundary, decision);
}

/// The rules that complete nothing.
fn common(boundary: &BoundarySpec, namespace: &str, prefix: &str, old: Option<&Pod>, new: &Pod) -> Vec<Denial> {
    let limits = &boundary.pods;
    let home = Home { tenant: &boundary.tenant.name, namespace };
    let mut denials = placement::check(prefix, limits, home, old, new);
    denials.extend(images::check(prefix, &limits.images, old, new));
    denials.extend(devices::check(prefix, limits, old, new));
    let volumes = |pod: &Pod| [tokens::check(prefix, limits, pod), storage::inline(prefix, limits, pod)].concat();
    denials.extend(worse(old.map(volumes), volumes(new)));
    if limits.security_level == PodSecurityLevel::Restricted {
        let check = |pod: &Pod| restricted::check(prefix, &limits.security_exceptions, pod);
        denials.extend(worse(old.map(check), check(new)));
    }
    denials
}

/// A namespace that takes no new pods.
fn state(boundary: &BoundarySpec) -> Option<Denial> {
    let (value, allowed) = match boundary.state {
        BoundaryState::Active => return None,
        BoundaryState::Closed => ("closed", "what runs stays; the Tenant's status says what is missing; ask the platform team"),
        BoundaryState::Cordoned => ("cordoned", "what runs stays; ask the platform team for new pods"),
    };
    Some(Denial::new("metadata.namespace", value, "tenant state", allowed))
}
