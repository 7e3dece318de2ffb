//! What a Tenant's owners may do outside of namespaces: see and own this one Tenant, and make namespaces.
//!
//! The verbs are those of `policy::namespaces`, which floor and webhook ask the authorizer. The fixed roles are part of the
//! chart; the operator may bind them and nothing else, so that it needs none of their rights itself.

use freehold_crds::{GROUP, NamePolicy, Owner, OwnerKind, Tenant};
use freehold_policy::namespaces::{NAME, OWN};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::namespace::is_cordoned;
use super::{Kind, Object};

/// ClusterRole of the chart, bound across the cluster: create namespaces, and the verb that marks every owner.
pub const OWNER_ROLE: &str = "freehold-owner";
/// The API group of roles and their subjects.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

/// ClusterRole of the chart, bound across the cluster: the verb that marks the tenants' own programs like owners.
pub const MEMBER_ROLE: &str = "freehold-member";

/// The binding of [`MEMBER_ROLE`] for one Tenant.
pub fn members_name(tenant: &str) -> String {
    format!("freehold-members-{tenant}")
}

/// The mark on all ServiceAccounts of the Tenant's namespaces; None while it has none.
pub fn members(tenant: &str, namespaces: &[String]) -> Option<Object> {
    let group = |namespace: &String| json!({"kind": "Group", "apiGroup": RBAC_GROUP, "name": format!("system:serviceaccounts:{namespace}")});
    let subjects: Vec<Value> = namespaces.iter().map(group).collect();
    let body = json!({"roleRef": cluster_role(MEMBER_ROLE), "subjects": subjects});
    (!subjects.is_empty()).then(|| Object::of_tenant(Kind::ClusterRoleBinding, tenant, None, &members_name(tenant), body))
}

/// The role, and its binding, for one Tenant.
pub fn own_name(tenant: &str) -> String {
    format!("freehold-tenant-{tenant}")
}

/// The binding of [`OWNER_ROLE`] for one Tenant. It has another prefix than [`own_name`], so that no two Tenants' names meet.
pub fn owners_name(tenant: &str) -> String {
    format!("freehold-owners-{tenant}")
}

/// An owner as a subject of RBAC.
pub fn subject(owner: &Owner) -> Value {
    named(owner.kind, &owner.name, owner.namespace.as_deref())
}

/// Anybody as a subject of RBAC.
pub fn named(kind: OwnerKind, name: &str, namespace: Option<&str>) -> Value {
    match kind {
        OwnerKind::User => json!({"kind": "User", "apiGroup": RBAC_GROUP, "name": name}),
        OwnerKind::Group => json!({"kind": "Group", "apiGroup": RBAC_GROUP, "name": name}),
        OwnerKind::ServiceAccount => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace.unwrap_or_default()}),
    }
}

/// A reference to a ClusterRole.
pub fn cluster_role(name: &str) -> Value {
    json!({"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name})
}

/// The grants on a Tenant; they are also what goes when it is deleted.
pub fn grants(tenant: &Tenant) -> Vec<Object> {
    let name = tenant.name_any();
    let subjects: Vec<Value> = tenant.spec.owners.iter().map(subject).collect();
    let own = own_name(&name);
    let free = tenant.spec.namespaces.as_ref().and_then(|namespaces| namespaces.name_policy) == Some(NamePolicy::Any);
    // Who may `own` a tenant may make namespaces of it; of one that is cordoned nobody may.
    let open = !is_cordoned(tenant);
    let verbs: Vec<&str> = ["get"].into_iter().chain(open.then_some(OWN)).chain((open && free).then_some(NAME)).collect();
    let rules = json!([{"apiGroups": [GROUP], "resources": ["tenants"], "resourceNames": [name], "verbs": verbs}]);
    let bind = |role: &str| json!({"roleRef": cluster_role(role), "subjects": subjects});
    let mut grants = vec![Object::of_tenant(Kind::ClusterRole, &name, None, &own, json!({"rules": rules}))];
    // Owners may all be programs that are not heeded.
    if !subjects.is_empty() {
        grants.push(Object::of_tenant(Kind::ClusterRoleBinding, &name, None, &own, bind(&own)));
        grants.push(Object::of_tenant(Kind::ClusterRoleBinding, &name, None, &owners_name(&name), bind(OWNER_ROLE)));
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;

    #[test]
    fn names_are_free_where_the_tenant_says_so() {
        for (policy, verbs) in [("Prefixed", json!(["get", "own"])), ("Any", json!(["get", "own", "name"]))] {
            let spec = json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {"namePolicy": policy}});
            assert_eq!(grants(&tenant("a", spec))[0].document["rules"][0]["verbs"], verbs);
        }
    }

    #[test]
    fn nobody_makes_namespaces_of_a_cordoned_tenant() {
        let spec =
            json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {"namePolicy": "Any"}, "state": "Cordoned"});
        let grants = grants(&tenant("a", spec));
        assert_eq!(grants[0].document["rules"][0]["verbs"], json!(["get"]));
        assert_eq!(grants.len(), 3, "the mark that restricts owners stays");
    }

    #[test]
    fn programs_of_the_tenant_are_marked() {
        assert_eq!(members("team-a", &[]), None);
        let marked = members("team-a", &["team-a-dev".to_owned()]).unwrap();
        assert_eq!(marked.document["subjects"][0]["name"], "system:serviceaccounts:team-a-dev");
        assert_eq!(marked.document["roleRef"]["name"], "freehold-member");
        crate::fixtures::is_typed(&marked);
    }

    #[test]
    fn owners_may_see_and_own_their_tenant_only() {
        let tenant = tenant(
            "team-a",
            json!({"owners": [
                {"kind": "User", "name": "alice"}, {"kind": "Group", "name": "oidc:a"},
                {"kind": "ServiceAccount", "name": "ci", "namespace": "platform-ci"},
            ]}),
        );
        let grants = grants(&tenant);
        let names: Vec<_> = grants.iter().map(|object| (object.kind, object.name.as_str())).collect();
        assert_eq!(
            names,
            [
                (Kind::ClusterRole, "freehold-tenant-team-a"),
                (Kind::ClusterRoleBinding, "freehold-tenant-team-a"),
                (Kind::ClusterRoleBinding, "freehold-owners-team-a"),
            ]
        );
        assert_eq!(grants[0].document["rules"][0]["resourceNames"], json!(["team-a"]));
        assert_eq!(grants[0].document["rules"][0]["verbs"], json!(["get", "own"]));
        assert_eq!(grants[2].document["roleRef"]["name"], "freehold-owner");
        assert_eq!(
            grants[1].document["subjects"],
            json!([
                {"kind": "User", "apiGroup": RBAC_GROUP, "name": "alice"}, {"kind": "Group", "apiGroup": RBAC_GROUP, "name": "oidc:a"},
                {"kind": "ServiceAccount", "name": "ci", "namespace": "platform-ci"},
            ])
        );
        for grant in &grants {
            crate::fixtures::is_typed(grant);
        }
    }
}
