//! Rights in a tenant's namespace go to people, groups and the tenant's own programs, not to everybody and not to other tenants' programs.
//!
//! Input is a Boundary and a RoleBinding; the output goes into a [`crate::Decision`]. The floor has the same rule in
//! `charts/freehold/templates/floor/role-bindings.yaml` and `role-bindings-siblings.yaml`. It holds in every enforcementMode: it is about belonging. Which rights may be
//! given is RBAC's own business (`escalate`, `bind`).

use freehold_crds::BoundarySpec;

use crate::objects::Found;
use crate::view::{RoleBinding, Subject};
use crate::{Denial, shown_list};

/// All subjects that may not have rights here; of a binding that exists only new ones. Its role can't change.
pub fn check(boundary: &BoundarySpec, old: Option<&RoleBinding>, new: &RoleBinding) -> Found {
    let mut found = Found::default();
    let stood = |subject: &Subject| old.is_some_and(|old| old.subjects.contains(subject));
    let siblings = &boundary.siblings;
    for (index, subject) in new.subjects.iter().enumerate().filter(|(_, subject)| !is_ours(siblings, subject) && !stood(subject))
    {
        let value = match &subject.namespace {
            Some(namespace) => format!("{} {namespace}/{}", subject.kind, subject.name),
            None => format!("{} {}", subject.kind, subject.name),
        };
        let allowed = format!("people, their groups, and ServiceAccounts of {}", shown_list(siblings));
        found.always.push(Denial::new(format!("subjects[{index}]"), value, "subjects of roles", allowed));
    }
    found
}

fn is_ours(siblings: &[String], subject: &Subject) -> bool {
    match subject.kind.as_str() {
        "ServiceAccount" => subject.namespace.as_ref().is_some_and(|namespace| siblings.contains(namespace)),
        "Group" => match subject.name.strip_prefix("system:serviceaccounts:") {
            Some(namespace) => siblings.iter().any(|sibling| sibling == namespace),
            None => !subject.name.starts_with("system:"),
        },
        _ => !subject.name.starts_with("system:"),
    }
}
