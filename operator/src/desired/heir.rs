//! Whether a namespace is this Tenant's, or that of an earlier one of its name.
//!
//! Input are the Tenant and the namespace's Boundary, which says for which Tenant it was written, by name and UID; nobody but the operator
//! writes it, and it stays when a Tenant is deleted with Retain. A Tenant that is made anew under the name may have other owners: it gets
//! what was there only when the platform team says so, by `spec.replacesUID`.

use freehold_crds::Tenant;
use kube::ResourceExt as _;
use serde_json::Value;

/// UID of the earlier Tenant whose namespace it still is; None if it is this Tenant's, or nobody's yet.
pub fn predecessor(tenant: &Tenant, boundary: Option<&Value>) -> Option<String> {
    let written_for = &boundary?["spec"]["tenant"];
    // Of another name: the platform team moved the namespace.
    let uid = written_for["uid"].as_str().filter(|uid| !uid.is_empty() && written_for["name"] == tenant.name_any())?;
    let ours = tenant.uid().as_deref() == Some(uid) || tenant.spec.replaces_uid.as_deref() == Some(uid);
    (!ours).then(|| uid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_namespace_stays_with_the_tenant_it_was_guarded_for() {
        let boundary = |name: &str, uid: &str| Some(json!({"spec": {"tenant": {"name": name, "uid": uid, "generation": 1}}}));
        for (what, replaces, boundary, held) in [
            ("a fresh one", None, None, None),
            ("its own", None, boundary("a", "uid-of-a"), None),
            ("that of an earlier one", None, boundary("a", "older"), Some("older")),
            ("taken over", Some("older"), boundary("a", "older"), None),
            ("another one is taken over", Some("oldest"), boundary("a", "older"), Some("older")),
            ("its own after it took one over", Some("older"), boundary("a", "uid-of-a"), None),
            ("moved here", None, boundary("b", "uid-of-b"), None),
            ("written before UIDs were", None, boundary("a", ""), None),
        ] {
            let spec = json!({"owners": [{"kind": "User", "name": "alice"}], "replacesUID": replaces});
            let found = predecessor(&crate::fixtures::tenant("a", spec), boundary.as_ref());
            assert_eq!(found.as_deref(), held, "{what}");
        }
    }
}
