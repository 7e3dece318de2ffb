//! Who owns which Tenants, as the Tenants say it: an index for hints.
//!
//! Input are all Tenants; output are candidates. They decide nothing: whether somebody may `own` a Tenant is asked of the
//! authorizer, this only says about which ones to ask when a person names none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use freehold_crds::{OwnerKind, Tenant};

use crate::review::User;

/// Candidates that are looked at for one request; somebody who owns more has to say which anyway.
pub const MAX_CANDIDATES: usize = 16;

/// Tenants by the name under which an owner authenticates.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Owners {
    users: HashMap<String, BTreeSet<String>>,
    groups: HashMap<String, BTreeSet<String>>,
}

impl Owners {
    /// The index of these Tenants. One that is being deleted takes no new namespaces.
    pub fn of(tenants: &[Arc<Tenant>]) -> Self {
        let mut index = Self::default();
        for tenant in tenants.iter().filter(|tenant| tenant.metadata.deletion_timestamp.is_none()) {
            let Some(name) = &tenant.metadata.name else { continue };
            for owner in &tenant.spec.owners {
                let (map, key) = match owner.kind {
                    OwnerKind::User => (&mut index.users, owner.name.clone()),
                    OwnerKind::Group => (&mut index.groups, owner.name.clone()),
                    OwnerKind::ServiceAccount => {
                        let namespace = owner.namespace.as_deref().unwrap_or_default();
                        (&mut index.users, format!("system:serviceaccount:{namespace}:{}", owner.name))
                    }
                };
                map.entry(key).or_default().insert(name.clone());
            }
        }
        index
    }

    /// Tenants that name this person or one of their groups, in order, at most [`MAX_CANDIDATES`].
    pub fn candidates(&self, user: &User) -> Vec<String> {
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group));
        let found: BTreeSet<&String> = self.users.get(&user.username).into_iter().chain(by_group).flatten().collect();
        found.into_iter().take(MAX_CANDIDATES).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tenant(name: &str, owners: serde_json::Value) -> Arc<Tenant> {
        let document = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "spec": {"owners": owners}});
        Arc::new(serde_json::from_value(document).unwrap())
    }

    fn user(name: &str, groups: &[&str]) -> User {
        User { username: name.into(), groups: groups.iter().map(|group| (*group).into()).collect(), ..User::default() }
    }

    #[test]
    fn owners_are_found_as_they_authenticate() {
        let mut ending = (*tenant("d", json!([{"kind": "User", "name": "alice"}]))).clone();
        ending.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default()));
        let index = Owners::of(&[
            tenant("a", json!([{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "dev"}])),
            tenant("b", json!([{"kind": "Group", "name": "dev"}])),
            tenant("c", json!([{"kind": "ServiceAccount", "name": "ci", "namespace": "infra"}])),
            Arc::new(ending),
        ]);
        for (user, expected) in [
            (user("alice", &[]), vec!["a"]),
            (user("alice", &["dev"]), vec!["a", "b"]),
            (user("bob", &["dev", "ops"]), vec!["a", "b"]),
            (user("system:serviceaccount:infra:ci", &[]), vec!["c"]),
            (user("ci", &[]), vec![]),
            (user("dev", &[]), vec![]),
        ] {
            assert_eq!(index.candidates(&user), expected, "{user:?}");
        }
    }

    #[test]
    fn candidates_are_bounded() {
        let tenants: Vec<_> = (0..100).map(|n| tenant(&format!("t{n}"), json!([{"kind": "User", "name": "alice"}]))).collect();
        assert_eq!(Owners::of(&tenants).candidates(&user("alice", &[])).len(), MAX_CANDIDATES);
    }
}
