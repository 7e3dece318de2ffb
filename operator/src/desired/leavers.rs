//! Owners that a Tenant names no more, and what they gave themselves while they were owners.
//!
//! Input are the grant as it stands, which remembers the owners until it is written anew, the Tenant's owners, and the RoleBindings of its namespaces. A
//! binding for nobody but former owners goes. One that others share stays, since RBAC lets nobody write a binding to a role that they don't hold: it is told.

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::Value;

use super::{MANAGED, MANAGED_LABEL};

/// Subjects of the grant that are owners no more.
pub fn leavers(granted: &Value, owners: &[Value]) -> Vec<Value> {
    granted.as_array().into_iter().flatten().filter(|subject| !owners.contains(subject)).cloned().collect()
}

/// What becomes of a RoleBinding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It names no former owner, or is ours and follows the owners anyway.
    Stays,
    /// It names former owners and nobody else.
    Goes,
    /// It names former owners and others.
    IsTold,
}

/// The namespace of a program, or of a group of programs.
pub fn home(subject: &Value) -> Option<&str> {
    let name = subject["name"].as_str()?;
    match subject["kind"].as_str()? {
        "ServiceAccount" => subject["namespace"].as_str(),
        "Group" => name.strip_prefix("system:serviceaccounts:"),
        _ => None,
    }
}

/// What becomes of a RoleBinding once these have nothing to do with its namespace any more.
pub fn fate(binding: &DynamicObject, leaves: impl Fn(&Value) -> bool) -> Fate {
    let subjects = binding.data["subjects"].as_array().map_or(&[][..], Vec::as_slice);
    let left = subjects.iter().filter(|subject| leaves(subject)).count();
    let is_ours = binding.labels().get(MANAGED_LABEL).is_some_and(|value| value == MANAGED);
    match left {
        0 => Fate::Stays,
        _ if is_ours => Fate::Stays,
        all if all == subjects.len() => Fate::Goes,
        _ => Fate::IsTold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_former_owners_gave_themselves_goes() {
        let person = |name: &str| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name});
        let left = leavers(&json!([person("alice"), person("bob")]), &[person("alice"), person("carol")]);
        assert_eq!(left, [person("bob")]);
        assert_eq!(leavers(&Value::Null, &[person("alice")]), Vec::<Value>::new());
        for (what, subjects, label, expected) in [
            ("for a former owner", json!([person("bob")]), "x", Fate::Goes),
            ("for an owner", json!([person("alice")]), "x", Fate::Stays),
            ("for both", json!([person("alice"), person("bob")]), "x", Fate::IsTold),
            ("for nobody", Value::Null, "x", Fate::Stays),
            (
                "a group of that name",
                json!([{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "bob"}]),
                "x",
                Fate::Stays,
            ),
            ("ours", json!([person("bob")]), MANAGED, Fate::Stays),
        ] {
            let binding = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "b", "labels": {MANAGED_LABEL: label}}, "subjects": subjects,
            });
            assert_eq!(fate(&serde_json::from_value(binding).unwrap(), |one| left.contains(one)), expected, "{what}");
        }
    }

    #[test]
    fn programs_are_of_their_namespace() {
        for (subject, expected) in [
            (json!({"kind": "ServiceAccount", "name": "ci", "namespace": "a-ci"}), Some("a-ci")),
            (json!({"kind": "Group", "name": "system:serviceaccounts:a-ci"}), Some("a-ci")),
            (json!({"kind": "Group", "name": "a-ci"}), None),
            (json!({"kind": "User", "name": "a-ci", "namespace": "a-ci"}), None),
        ] {
            assert_eq!(home(&subject), expected, "{subject}");
        }
    }
}
