//! The decision about everything in a tenant's namespace that is neither a pod nor the namespace itself.
//!
//! Input is the Boundary and an object, by its resource; the webhook answers with the output. Each kind's rules stand in a file of their
//! own; here is what they share, and which is asked.

use freehold_crds::{BoundarySpec, EnforcementMode, TemplateViolations};
use json_patch::PatchOperation;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use crate::view::{DeviceClaim, Ingress, Metadata, PersistentVolumeClaim, Pod, RoleBinding, Service, Workload};
use crate::{
    Decision, Denial, Phase, device_claims, ingresses, listed, network, pods, role_bindings, services, shown_list, storage,
};

/// An object that has rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An Ingress.
    Ingress(Ingress),
    /// A NetworkPolicy: what it says, not what it is called.
    NetworkPolicy(Box<NetworkPolicySpec>),
    /// A PersistentVolumeClaim.
    Claim(PersistentVolumeClaim),
    /// A RoleBinding.
    RoleBinding(RoleBinding),
    /// A ResourceClaim or ResourceClaimTemplate.
    Devices(DeviceClaim),
    /// Whatever makes pods from a template.
    Workload(Box<Workload>),
}

/// The kinds: group, resource, and the name that people know.
pub const KINDS: &[(&str, &str, &str)] = &[
    ("", "services", "Service"),
    ("networking.k8s.io", "ingresses", "Ingress"),
    ("networking.k8s.io", "networkpolicies", "NetworkPolicy"),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim"),
    ("rbac.authorization.k8s.io", "rolebindings", "RoleBinding"),
    ("resource.k8s.io", "resourceclaims", "ResourceClaim"),
    ("resource.k8s.io", "resourceclaimtemplates", "ResourceClaimTemplate"),
    ("apps", "deployments", "Deployment"),
    ("apps", "statefulsets", "StatefulSet"),
    ("apps", "daemonsets", "DaemonSet"),
    ("apps", "replicasets", "ReplicaSet"),
    ("batch", "jobs", "Job"),
    ("batch", "cronjobs", "CronJob"),
    ("", "replicationcontrollers", "ReplicationController"),
];

/// The name of a kind that has rules here.
pub fn kind(group: &str, resource: &str) -> Option<&'static str> {
    KINDS.iter().find(|(one, other, _)| (*one, *other) == (group, resource)).map(|(_, _, kind)| *kind)
}

impl Object {
    /// Reads an object of one of [`KINDS`].
    ///
    /// # Errors
    /// If it is not of the form that its kind has.
    pub fn read(kind: &str, json: &str) -> serde_json::Result<Self> {
        Ok(match kind {
            "Service" => Self::Service(serde_json::from_str(json)?),
            "Ingress" => Self::Ingress(serde_json::from_str(json)?),
            "NetworkPolicy" => {
                let policy: NetworkPolicy = serde_json::from_str(json)?;
                Self::NetworkPolicy(Box::new(policy.spec.unwrap_or_default()))
            }
            "PersistentVolumeClaim" => Self::Claim(serde_json::from_str(json)?),
            "RoleBinding" => Self::RoleBinding(serde_json::from_str(json)?),
            "ResourceClaim" | "ResourceClaimTemplate" => Self::Devices(serde_json::from_str(json)?),
            _ => Self::Workload(serde_json::from_str(json)?),
        })
    }
}

/// What a kind's rules found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is refused in every enforcementMode: it would harm others.
    pub always: Vec<Denial>,
    /// What is refused where the tenant's mode says so.
    pub by_mode: Vec<Denial>,
    /// What completes the object, with the denial for the case that it can't be completed.
    pub missing: Vec<(PatchOperation, Denial)>,
}

impl Found {
    /// Something that is missing, and what would fill it in if anything would.
    pub(crate) fn complete(&mut self, operation: Option<PatchOperation>, denial: Denial) {
        match operation {
            Some(operation) => self.missing.push((operation, denial)),
            None => self.by_mode.push(denial),
        }
    }
}

/// An object that is created, or (with `old`) updated.
pub fn check(boundary: &BoundarySpec, namespace: &str, phase: Phase, old: Option<&Object>, new: &Object) -> Decision {
    let found = match (old, new) {
        (Some(old), new) if old == new => Found::default(),
        (None, Object::Service(new)) => services::check(&boundary.services, None, new),
        (Some(Object::Service(old)), Object::Service(new)) => services::check(&boundary.services, Some(old), new),
        (None, Object::Ingress(new)) => ingresses::check(&boundary.ingress, None, new),
        (Some(Object::Ingress(old)), Object::Ingress(new)) => ingresses::check(&boundary.ingress, Some(old), new),
        (_, Object::NetworkPolicy(new)) => network::check(boundary, namespace, new),
        (None, Object::Claim(new)) => storage::check(&boundary.storage, namespace, new),
        (None, Object::RoleBinding(new)) => role_bindings::check(boundary, None, new),
        (Some(Object::RoleBinding(old)), Object::RoleBinding(new)) => role_bindings::check(boundary, Some(old), new),
        (None, Object::Devices(new)) => device_claims::check(&boundary.pods, new),
        (old, Object::Workload(new)) => return workload(boundary, namespace, old, new),
        // Their specs can't change in what rules read.
        (Some(_), _) => Found::default(),
    };
    let enforced = boundary.enforcement_mode == EnforcementMode::Enforce;
    let mut decision = Decision { denials: found.always, ..Decision::default() };
    let (operations, missing): (Vec<_>, Vec<_>) = found.missing.into_iter().unzip();
    let completes = enforced && phase == Phase::Complete;
    let target = if enforced { &mut decision.denials } else { &mut decision.observed };
    target.extend(found.by_mode);
    if completes {
        if decision.admitted() {
            decision.patch.0 = operations;
        }
    } else {
        target.extend(missing);
    }
    decision
}

/// A workload whose pods could never run: told when it is applied. Its pods are refused in any case.
fn workload(boundary: &BoundarySpec, namespace: &str, old: Option<&Object>, new: &Workload) -> Decision {
    let Some((prefix, pod)) = template(new) else { return Decision::default() };
    if let Some(Object::Workload(old)) = old
        && template(old).is_some_and(|(_, old)| old == pod)
    {
        return Decision::default();
    }
    let mut decision = pods::check_template(boundary, namespace, prefix, pod);
    if boundary.template_violations == TemplateViolations::Warn {
        let denials = std::mem::take(&mut decision.denials);
        decision.observed.splice(0..0, denials);
    }
    decision
}

fn template(workload: &Workload) -> Option<(&'static str, &Pod)> {
    let inner = workload.spec.job_template.spec.template.as_ref().map(|pod| ("spec.jobTemplate.spec.template.", pod));
    workload.spec.template.as_ref().map(|pod| ("spec.template.", pod)).or(inner)
}

/// Annotations that begin with one of `guarded` and are neither harmless nor listed; of an object that exists only changed ones.
pub(crate) fn annotations(
    guarded: &[&str],
    harmless: &[&str],
    allowed: &[String],
    old: Option<&Metadata>,
    new: &Metadata,
) -> Vec<Denial> {
    let refused = |(key, value): &(&String, &String)| {
        guarded.iter().any(|start| key.starts_with(start))
            && !harmless.contains(&key.as_str())
            && !listed(allowed, key)
            && old.and_then(|old| old.annotations.get(*key)) != Some(*value)
    };
    new.annotations
        .iter()
        .filter(refused)
        .map(|(key, value)| {
            let known: Vec<String> = harmless.iter().map(|key| (*key).to_owned()).chain(allowed.iter().cloned()).collect();
            Denial::new(format!("metadata.annotations[{key}]"), value, "annotations of controllers", shown_list(&known))
        })
        .collect()
}
