//! The decision about everything in a tenant's namespace that is neither a pod nor the namespace itself.
//!
//! Input is the Boundary and an object, by its resource; the webhook answers with the output. Each kind's rules stand in a file of their
//! own; here is what they share, and which is asked.

use freehold_crds::{BoundarySpec, EnforcementMode, TemplateViolations};
use json_patch::PatchOperation;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use serde::Deserialize;

use crate::view::{DeviceClaim, Ingress, Metadata, PersistentVolumeClaim, Pod, RoleBinding, Service, Workload};
use crate::{
    Decision, Denial, Phase, device_claims, ingresses, listed, metadata, network, pods, role_bindings, services, shown_list,
    storage, worse,
};

/// An object that has rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind, one of [`KINDS`].
    pub kind: &'static str,
    /// Its name, labels and annotations.
    pub metadata: Metadata,
    /// What it says.
    pub said: Said,
}

/// What an object says, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
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

/// The one field of every kind.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    metadata: Metadata,
}

impl Object {
    /// Reads an object of one of [`KINDS`].
    ///
    /// # Errors
    /// If it is not of the form that its kind has.
    pub fn read(kind: &str, json: &str) -> serde_json::Result<Self> {
        let said = match kind {
            "Service" => Said::Service(serde_json::from_str(json)?),
            "Ingress" => Said::Ingress(serde_json::from_str(json)?),
            "NetworkPolicy" => {
                let policy: NetworkPolicy = serde_json::from_str(json)?;
                Said::NetworkPolicy(Box::new(policy.spec.unwrap_or_default()))
            }
            "PersistentVolumeClaim" => Said::Claim(serde_json::from_str(json)?),
            "RoleBinding" => Said::RoleBinding(serde_json::from_str(json)?),
            "ResourceClaim" | "ResourceClaimTemplate" => Said::Devices(serde_json::from_str(json)?),
            _ => Said::Workload(serde_json::from_str(json)?),
        };
        let kind = KINDS.iter().find(|(_, _, name)| *name == kind).map_or("", |(_, _, name)| name);
        Ok(Self { kind, metadata: serde_json::from_str::<Named>(json)?.metadata, said })
    }
}

/// Who writes an object that exists. Controllers of load balancers and of Ingresses note on it what they made of it, under the very keys by which
/// they are configured: `metallb.io/ip-allocated-from-pool`, `cloud.google.com/neg-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A person, or a program of the tenant's.
    Tenant,
    /// A program that may be such a controller. Whether it is a tenant's own after all (it holds `belong`) only the authorizer knows: the floor asks.
    Platform,
}

impl Writer {
    /// By the name that the API server authenticated; `siblings` are the tenant's namespaces.
    pub fn of(username: &str, siblings: &[String]) -> Self {
        let namespace = username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next());
        let own = namespace.is_some_and(|namespace| siblings.iter().any(|sibling| sibling == namespace));
        if own || !username.starts_with("system:") { Self::Tenant } else { Self::Platform }
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

/// Of several objects in one.
impl FromIterator<Found> for Found {
    fn from_iter<T: IntoIterator<Item = Self>>(all: T) -> Self {
        let mut found = Self::default();
        for one in all {
            found.always.extend(one.always);
            found.by_mode.extend(one.by_mode);
            found.missing.extend(one.missing);
        }
        found
    }
}

impl Found {
    /// What is worse than before of what is made from a template later: what is missing is filled in then.
    pub(crate) fn told(self, before: Option<Self>, boundary: &BoundarySpec, decision: &mut Decision) {
        let (always, by_mode) = before.map(|before| (before.always, before.by_mode)).unzip();
        decision.denials.extend(worse(always, self.always));
        decision.by_mode(boundary.enforcement_mode).extend(worse(by_mode, self.by_mode));
    }

    /// The decision, by the tenant's mode and who asks.
    pub(crate) fn decide(self, boundary: &BoundarySpec, phase: Phase) -> Decision {
        let enforced = boundary.enforcement_mode == EnforcementMode::Enforce;
        let mut decision = Decision { denials: self.always, ..Decision::default() };
        let (operations, missing): (Vec<_>, Vec<_>) = self.missing.into_iter().unzip();
        let target = decision.by_mode(boundary.enforcement_mode);
        target.extend(self.by_mode);
        if !(enforced && phase == Phase::Complete) {
            target.extend(missing);
        } else if decision.admitted() {
            decision.patch.0 = operations;
        }
        decision
    }
}

/// An object that is created, or (with `old`) updated by `writer`, and then judged by what that makes worse.
pub fn check(
    boundary: &BoundarySpec,
    namespace: &str,
    phase: Phase,
    writer: Writer,
    old: Option<&Object>,
    new: &Object,
) -> Decision {
    let before = old.map(|old| &old.said);
    let carried = metadata::check(&boundary.objects, new.kind, old.map(|old| &old.metadata), &new.metadata);
    let mut found = match (before, &new.said) {
        (Some(before), said) if before == said => Found::default(),
        (None, Said::Service(new)) => services::check(&boundary.services, writer, None, new),
        (Some(Said::Service(old)), Said::Service(new)) => services::check(&boundary.services, writer, Some(old), new),
        (None, Said::Ingress(new)) => ingresses::check(&boundary.ingress, writer, None, new),
        (Some(Said::Ingress(old)), Said::Ingress(new)) => ingresses::check(&boundary.ingress, writer, Some(old), new),
        (None, Said::NetworkPolicy(new)) => network::check(boundary, namespace, None, new),
        (Some(Said::NetworkPolicy(old)), Said::NetworkPolicy(new)) => network::check(boundary, namespace, Some(old), new),
        (None, Said::Claim(new)) => storage::check("", &boundary.storage, namespace, new),
        (None, Said::RoleBinding(new)) => role_bindings::check(boundary, None, new),
        (Some(Said::RoleBinding(old)), Said::RoleBinding(new)) => role_bindings::check(boundary, Some(old), new),
        (None, Said::Devices(new)) => device_claims::check(&boundary.pods, new),
        (before, Said::Workload(new)) => {
            return told(carried.decide(boundary, phase), workload(boundary, namespace, before, new));
        }
        // Their specs can't change in what rules read.
        (Some(_), _) => Found::default(),
    };
    found.by_mode.extend(carried.by_mode);
    found.missing.extend(carried.missing);
    found.decide(boundary, phase)
}

/// Two decisions about one object.
fn told(mut one: Decision, other: Decision) -> Decision {
    one.denials.extend(other.denials);
    one.observed.extend(other.observed);
    one.audited.extend(other.audited);
    if !one.admitted() {
        one.patch.0.clear();
    }
    one
}

/// A workload whose pods could never run: told when it is applied. Its pods are refused in any case.
fn workload(boundary: &BoundarySpec, namespace: &str, old: Option<&Said>, new: &Workload) -> Decision {
    let Some((prefix, pod)) = template(new) else { return Decision::default() };
    let old = match old {
        Some(Said::Workload(old)) => Some(old),
        _ => None,
    };
    let before = old.and_then(|old| template(old)).map(|(_, old)| old);
    if before == Some(pod) {
        return Decision::default();
    }
    let mut decision = pods::check_template(boundary, namespace, prefix, before, pod);
    let claims = |workload: &Workload| storage::templates(&boundary.storage, namespace, workload);
    claims(new).told(old.map(|old| claims(old)), boundary, &mut decision);
    if boundary.template_violations == TemplateViolations::Warn {
        // What is refused of its pods in every mode is said in every mode.
        let denials = std::mem::take(&mut decision.denials);
        decision.observed.splice(0..0, denials);
    }
    decision
}

fn template(workload: &Workload) -> Option<(&'static str, &Pod)> {
    let inner = workload.spec.job_template.spec.template.as_ref().map(|pod| ("spec.jobTemplate.spec.template.", pod));
    workload.spec.template.as_ref().map(|pod| ("spec.template.", pod)).or(inner)
}

/// Annotations that begin with one of `guarded` and are neither harmless nor listed; of an object that exists only changed ones, unless a controller
/// changes them.
pub(crate) fn annotations(
    guarded: &[&str],
    harmless: &[&str],
    allowed: &[String],
    writer: Writer,
    old: Option<&Metadata>,
    new: &Metadata,
) -> Vec<Denial> {
    if old.is_some() && writer == Writer::Platform {
        return Vec::new();
    }
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
