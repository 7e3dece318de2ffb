//! How many namespaces a tenant may make, and what labels and annotations they carry: what its Tenant says.
//!
//! Input is the Tenant's rules, how many namespaces it has, and a Namespace; the output goes into a Namespace's [`crate::Decision`]. The
//! webhook alone holds these; what the floor holds of namespaces stands in [`crate::namespaces`]. A namespace beyond the number
//! that comes while no webhook answers gets no share of the budget, and so runs nothing.

use freehold_crds::{OwnerKind, TenantNamespaces, TenantSpec};

use crate::namespaces::prefixed;
use crate::view::{Metadata, Namespace};
use crate::{Decision, Denial, Phase, TENANT_LABEL, set, shown_list};

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
    for (key, value) in labels.managed.iter().flatten() {
        match new.metadata.labels.get(key) {
            Some(said) if said == value => {}
            None if phase == Phase::Complete => {
                if new.metadata.labels.is_empty() && decision.patch.0.is_empty() {
                    decision.patch.0.push(set(&["metadata"], "labels", serde_json::json!({})));
                }
                decision.patch.0.push(set(&["metadata", "labels"], key, value.as_str().into()));
            }
            said => {
                let said = said.map_or("(unset)", String::as_str);
                decision.denials.push(Denial::new(format!("metadata.labels[{key}]"), said, "managed labels", value));
            }
        }
    }
    for label in labels.required.iter().flatten() {
        let said = new.metadata.labels.get(&label.key);
        let fits = said.is_some_and(|said| label.values.as_ref().is_none_or(|values| values.contains(said)));
        // A namespace that is older than the rule may be changed elsewhere.
        if !fits && (old.is_none() || said != before.labels.get(&label.key)) {
            let allowed = label.values.as_ref().map_or("any value".to_owned(), |values| shown_list(values));
            let said = said.map_or("(unset)", String::as_str);
            decision.denials.push(Denial::new(format!("metadata.labels[{}]", label.key), said, "required labels", allowed));
        }
    }
    let annotations = rules.said.annotations.clone().unwrap_or_default();
    let maps = [
        ("labels", labels.forbidden, &before.labels, &new.metadata.labels),
        ("annotations", annotations.forbidden, &before.annotations, &new.metadata.annotations),
    ];
    for (map, forbidden, before, after) in maps {
        let forbidden = forbidden.unwrap_or_default();
        for (key, value) in after.iter().filter(|(key, value)| is_forbidden(&forbidden, key) && before.get(*key) != Some(*value))
        {
            decision.denials.push(Denial::new(format!("metadata.{map}[{key}]"), value, "forbidden metadata", "as it was"));
        }
    }
}

/// Compared without regard to case: nobody who reads a key takes care to tell `Exempt` from `exempt`.
fn is_forbidden(forbidden: &[String], key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    forbidden.iter().map(|entry| entry.to_ascii_lowercase()).any(|entry| match entry.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => entry == key,
    })
}
