//! Which of a Tenant's ServiceAccounts are heeded: a ServiceAccount is only as much worth as the namespace it lives in.
//!
//! Input are a Tenant and what is known of the namespaces it names; output is the Tenant without those that nobody can vouch for, and their
//! namespaces. A namespace that does not exist could be made by another tenant, and one that is another tenant's is in their hands: whoever
//! has it would be an owner here. The webhook refuses to make such a namespace meanwhile (`policy::namespace_rules`).

use freehold_crds::{OwnerKind, Tenant};
use kube::ResourceExt as _;

/// What is known of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// It does not exist.
    Missing,
    /// It exists and is no tenant's: the platform's.
    Platforms,
    /// It is this tenant's.
    Tenants(String),
}

/// The Tenant as it is heeded, and namespaces whose ServiceAccounts are not, each once, in its order.
pub fn heeded(tenant: &Tenant, home: impl Fn(&str) -> Home) -> (Tenant, Vec<String>) {
    let (name, mut heeded, mut withheld) = (tenant.name_any(), tenant.clone(), Vec::<String>::new());
    let mut is_heeded = |kind: OwnerKind, namespace: Option<&str>| {
        let (OwnerKind::ServiceAccount, Some(namespace)) = (kind, namespace) else { return true };
        match home(namespace) {
            Home::Platforms => true,
            Home::Tenants(owner) if owner == name => true,
            Home::Missing | Home::Tenants(_) => {
                if !withheld.iter().any(|known| known == namespace) {
                    withheld.push(namespace.to_owned());
                }
                false
            }
        }
    };
    heeded.spec.owners.retain(|owner| is_heeded(owner.kind, owner.namespace.as_deref()));
    for binding in heeded.spec.role_bindings.iter_mut().flatten() {
        binding.subjects.retain(|subject| is_heeded(subject.kind, subject.namespace.as_deref()));
    }
    (heeded, withheld)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_program_is_heeded_where_its_namespace_is_the_platforms_or_the_tenants_own() {
        let account = |namespace: &str| json!({"kind": "ServiceAccount", "name": "ci", "namespace": namespace});
        let tenant = crate::fixtures::tenant(
            "a",
            json!({
                "owners": [{"kind": "User", "name": "alice"}, account("platform-ci"), account("a-ci"), account("b-ci"), account("not-there")],
                "roleBindings": [{"name": "m", "clusterRoleName": "view", "subjects": [account("monitoring"), account("not-there"), account("gone")]}],
            }),
        );
        let home = |name: &str| match name {
            "platform-ci" => Home::Platforms,
            "a-ci" => Home::Tenants("a".to_owned()),
            "b-ci" => Home::Tenants("b".to_owned()),
            "monitoring" => Home::Platforms,
            _ => Home::Missing,
        };
        let (heeded, withheld) = heeded(&tenant, home);
        let owners: Vec<_> = heeded.spec.owners.iter().map(|owner| owner.namespace.as_deref().unwrap_or(&owner.name)).collect();
        assert_eq!(owners, ["alice", "platform-ci", "a-ci"]);
        let subjects = &heeded.spec.role_bindings.unwrap()[0].subjects;
        assert_eq!(subjects.iter().map(|one| one.namespace.as_deref().unwrap()).collect::<Vec<_>>(), ["monitoring"]);
        assert_eq!(withheld, ["b-ci", "not-there", "gone"]);
    }
}
