//! What a Tenant's owners may do outside of namespaces: see and own this one Tenant, and make namespaces.
//!
//! The verbs are those of `policy::namespaces`, which floor and webhook ask the authorizer. The fixed roles are part of the
//! chart; the operator may bind them and nothing else, so that it needs none of their rights itself.

use freehold_crds::{GROUP, NamePolicy, Owner, OwnerKind, Tenant};
use freehold_policy::namespaces::{GRANTS_NAMESPACE, NAME, OWN};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::namespace::is_cordoned;
use super::{Kind, Object};
use crate::owned::Key;

/// The API group of roles and their subjects.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
/// Bindings of each [`Mark`]. At 2,000 Tenants each has the subjects of some sixty; an object of the API server may have 1.5 MiB, some ten thousand subjects.
pub const SHARDS: usize = 32;

/// What the chart's ClusterRoles say of people and programs of any Tenant, across the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// ClusterRole `freehold-owner`: create namespaces, and the verb that marks every owner.
    Owner,
    /// ClusterRole `freehold-member`: the verb that marks the tenants' own programs like owners.
    Member,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Owner, Self::Member];

    fn role(self) -> &'static str {
        match self {
            Self::Owner => "freehold-owner",
            Self::Member => "freehold-member",
        }
    }

    /// The mark and the number of the binding that has a name.
    pub fn named(name: &str) -> Option<(Self, usize)> {
        let of = |mark: Self| (0..SHARDS).find(|number| mark.binding(*number) == name).map(|number| (mark, number));
        Self::ALL.into_iter().find_map(of)
    }

    /// The names of all bindings.
    pub fn all() -> impl Iterator<Item = String> {
        Self::ALL.into_iter().flat_map(|mark| (0..SHARDS).map(move |number| mark.binding(number)))
    }

    /// The names of those with a Tenant's subjects.
    pub fn of(tenant: &str) -> [String; 2] {
        Self::ALL.map(|mark| mark.binding(shard(tenant)))
    }

    fn binding(self, number: usize) -> String {
        format!("{}s-{number:02}", self.role())
    }
}

/// The number of the bindings that have a Tenant's subjects: FNV-1a of its name.
pub fn shard(tenant: &str) -> usize {
    let hash = tenant.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash as usize % SHARDS
}

/// One binding of a mark.
pub fn marked(mark: Mark, number: usize, subjects: Vec<Value>) -> Object {
    let body = json!({"roleRef": cluster_role(mark.role()), "subjects": subjects});
    Object::new(Kind::ClusterRoleBinding, None, &mark.binding(number), &[], body)
}

/// The subjects that are all ServiceAccounts of the Tenant's namespaces.
pub fn members(namespaces: &[String]) -> Vec<Value> {
    let group = |namespace: &String| json!({"kind": "Group", "apiGroup": RBAC_GROUP, "name": format!("system:serviceaccounts:{namespace}")});
    namespaces.iter().map(group).collect()
}

/// The role, and its binding, for one Tenant.
pub fn own_name(tenant: &str) -> String {
    format!("freehold-tenant-{tenant}")
}

/// The Tenant's owners as subjects of RBAC.
pub fn owners(tenant: &Tenant) -> Vec<Value> {
    tenant.spec.owners.iter().map(subject).collect()
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

/// Where owners' rights on their Tenant are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Bound {
    /// Across the cluster, with the right to read it.
    #[default]
    Cluster,
    /// In [`GRANTS_NAMESPACE`], which gives no right to read it: a Tenant is no object of a namespace.
    Namespace,
}

/// Who has the grants of a Tenant, in one of the two places.
pub fn grant_keys(tenant: &str) -> [Key; 2] {
    let key = |kind, namespace: Option<&str>| Key { kind, namespace: namespace.map(str::to_owned), name: own_name(tenant) };
    [key(Kind::ClusterRoleBinding, None), key(Kind::RoleBinding, Some(GRANTS_NAMESPACE))]
}

/// The grants on a Tenant alone.
pub fn grants(tenant: &Tenant, bound: Bound) -> Vec<Object> {
    let (name, subjects) = (tenant.name_any(), owners(tenant));
    let own = own_name(&name);
    let free = tenant.spec.namespaces.as_ref().and_then(|namespaces| namespaces.name_policy) == Some(NamePolicy::Any);
    // Who may `own` a tenant may make namespaces of it; of one that is cordoned nobody may.
    let open = !is_cordoned(tenant);
    let seen = (bound == Bound::Cluster).then_some("get");
    let verbs: Vec<&str> = seen.into_iter().chain(open.then_some(OWN)).chain((open && free).then_some(NAME)).collect();
    let rule = (!verbs.is_empty())
        .then(|| json!({"apiGroups": [GROUP], "resources": ["tenants"], "resourceNames": [name], "verbs": verbs}));
    let rules: Vec<Value> = rule.into_iter().collect();
    let role = Object::of_tenant(Kind::ClusterRole, &name, None, &own, json!({"rules": rules}));
    let body = json!({"roleRef": cluster_role(&own), "subjects": subjects});
    // Owners may all be programs that are not heeded.
    let (kind, namespace) = match bound {
        Bound::Cluster => (Kind::ClusterRoleBinding, None),
        Bound::Namespace => (Kind::RoleBinding, Some(GRANTS_NAMESPACE)),
    };
    let binding = (!subjects.is_empty()).then(|| Object::of_tenant(kind, &name, namespace, &own, body));
    [role].into_iter().chain(binding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::tenant;

    #[test]
    fn names_are_free_where_the_tenant_says_so() {
        for (policy, verbs) in [("Prefixed", json!(["get", "own"])), ("Any", json!(["get", "own", "name"]))] {
            let spec = json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {"namePolicy": policy}});
            assert_eq!(grants(&tenant("a", spec), Bound::Cluster)[0].document["rules"][0]["verbs"], verbs);
        }
    }

    #[test]
    fn nobody_makes_namespaces_of_a_cordoned_tenant() {
        let spec =
            json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {"namePolicy": "Any"}, "state": "Cordoned"});
        let cordoned = tenant("a", spec);
        let grants = |bound| grants(&cordoned, bound);
        assert_eq!(grants(Bound::Cluster)[0].document["rules"][0]["verbs"], json!(["get"]));
        assert_eq!(grants(Bound::Namespace)[0].document["rules"], json!([]), "a rule must have a verb");
        assert_eq!(grants(Bound::Namespace).len(), 2, "who was an owner is remembered");
    }

    #[test]
    fn owners_and_programs_are_marked_side_by_side() {
        let groups = members(&["team-a-dev".to_owned(), "team-a-test".to_owned()]);
        assert_eq!(groups[1]["name"], "system:serviceaccounts:team-a-test");
        let binding = marked(Mark::Member, 7, groups);
        assert_eq!(
            (binding.name.as_str(), &binding.document["roleRef"]["name"]),
            ("freehold-members-07", &json!("freehold-member"))
        );
        assert_eq!(marked(Mark::Owner, 31, Vec::new()).name, "freehold-owners-31");
        crate::fixtures::is_typed(&binding);
    }

    #[test]
    fn a_binding_is_found_by_its_name_and_its_shard_by_the_tenants() {
        for (name, found) in [
            ("freehold-owners-00", Some((Mark::Owner, 0))),
            ("freehold-members-31", Some((Mark::Member, 31))),
            ("freehold-owners-32", None),
            ("freehold-owners-7", None),
            ("freehold-tenant-07", None),
        ] {
            assert_eq!(Mark::named(name), found, "{name}");
        }
        // Where subjects are stored hangs on it, so it stays what it is.
        assert_eq!((shard("team-a"), shard("team-b"), shard("")), (22, 3, 5));
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
        let unseen = grants(&tenant, Bound::Namespace);
        assert_eq!(unseen[0].document["rules"][0]["verbs"], json!(["own"]));
        assert_eq!((unseen[1].kind, unseen[1].namespace.as_deref()), (Kind::RoleBinding, Some("freehold-system")));
        unseen.iter().for_each(crate::fixtures::is_typed);
        let grants = grants(&tenant, Bound::Cluster);
        let bindings: Vec<Key> = unseen[1..].iter().chain(&grants[1..]).map(Key::of).collect();
        assert!(bindings.iter().all(|key| grant_keys("team-a").contains(key)), "each is known by its name");
        let names: Vec<_> = grants.iter().map(|object| (object.kind, object.name.as_str())).collect();
        assert_eq!(names, [(Kind::ClusterRole, "freehold-tenant-team-a"), (Kind::ClusterRoleBinding, "freehold-tenant-team-a"),]);
        assert_eq!(grants[0].document["rules"][0]["resourceNames"], json!(["team-a"]));
        assert_eq!(grants[0].document["rules"][0]["verbs"], json!(["get", "own"]));
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
