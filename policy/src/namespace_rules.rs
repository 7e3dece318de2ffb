//! How many namespaces a tenant may make, and what labels and annotations they carry: what its Tenant says.
//!
//! Input is the Tenant's rules, how many namespaces it has, and a Namespace; the output goes into a Namespace's [`crate::Decision`]. The
//! webhook alone holds these; what the floor holds of namespaces stands in [`crate::namespaces`]. A namespace beyond the number
//! that comes while no webhook answers gets no share of the budget, and so runs nothing.

use freehold_crds::{OwnerKind, TenantNamespaces, TenantSpec};

use crate::namespaces::prefixed;
use crate::view::{Metadata, Namespace};
use crate::{Decision, Denial, Phase, TENANT_LABEL, metadata};

/// Namespaces of a Tenant that does not say.
pub const DEFAULT_MAX: i32 = 5;

/// What a Tenant says, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// As the Tenant says.
    pub said: TenantNamespaces,
    /// Namespaces that the tenant has.
    pub existing: usize,
    /// Whether the tenant is cordoned.
    pub cordoned: bool,
    /// Whether the name in question is somebody else's: see [`is_spoken_for`].
    pub spoken_for: bool,
}

/// Namespaces whose ServiceAccounts a Tenant gives rights to, as owners or by a role. Who has such a namespace has those rights.
pub fn trusted_namespaces(spec: &TenantSpec) -> impl Iterator<Item = &str> {
    let owners = spec.owners.iter().map(|owner| (owner.kind, owner.namespace.as_deref()));
    let subjects = spec.role_bindings.iter().flatten().flat_map(|binding| &binding.subjects);
    let subjects = subjects.map(|subject| (subject.kind, subject.namespace.as_deref()));
    owners.chain(subjects).filter(|(kind, _)| *kind == OwnerKind::ServiceAccount).filter_map(|(_, namespace)| namespace)
}

/// Whether a namespace of this name is not `tenant`'s to make: programs in it would have rights in another Tenant, or it is named after
/// another Tenant whose name goes on from this one's (`team` and `team-a`).
pub fn is_spoken_for<'a>(tenant: &str, name: &str, mut tenants: impl Iterator<Item = (&'a str, &'a TenantSpec)>) -> bool {
    tenants.any(|(other, spec)| {
        other != tenant
            && (trusted_namespaces(spec).any(|trusted| trusted == name)
                || (prefixed(tenant, name) && prefixed(tenant, other) && prefixed(other, name)))
    })
}

/// Judges what `decision` would leave of a Namespace that a requester creates or changes; `labels` are those after its patch.
pub fn check(phase: Phase, rules: &Rules, old: Option<&Namespace>, new: &Namespace, decision: &mut Decision) {
    let none = Metadata::default();
    let before = old.map_or(&none, |old| &old.metadata);
    if old.is_none() && rules.cordoned {
        let field = format!("metadata.labels[{TENANT_LABEL}]");
        decision.denials.push(Denial::new(field, "cordoned", "tenant state", "none for now; ask the platform team"));
    }
    let max = rules.said.max.unwrap_or(DEFAULT_MAX);
    if old.is_none() && usize::try_from(max).is_ok_and(|max| rules.existing >= max) {
        let field = format!("metadata.labels[{TENANT_LABEL}]");
        let allowed = format!("{max} in all; delete one, or ask the platform team");
        decision.denials.push(Denial::new(field, format!("namespace {}", rules.existing + 1), "number of namespaces", allowed));
    }
    if old.is_none() && rules.spoken_for {
        decision.denials.push(Denial::new(
            "metadata.name",
            &new.metadata.name,
            "names of namespaces",
            "another name; this one is taken",
        ));
    }
    let labels = rules.said.labels.clone().unwrap_or_default();
    for (denial, operation) in
        metadata::managed(&labels, old.map(|old| &old.metadata), &new.metadata, decision.patch.0.is_empty())
    {
        match operation {
            Some(operation) if phase == Phase::Complete => decision.patch.0.push(operation),
            _ => decision.denials.push(denial),
        }
    }
    decision.denials.extend(metadata::required(&labels, old.map(|old| &old.metadata), &new.metadata));
    decision.denials.extend(metadata::forbidden(&labels, rules.said.annotations.as_ref(), before, &new.metadata));
}
