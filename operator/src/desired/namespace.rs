//! Everything of ours in one namespace of a tenant, in the order in which it is needed.
//!
//! The Boundary comes last, after the quota counts: it is what lets pods in.

use freehold_crds::{
    BOUNDARY_NAME, BoundarySpec, BoundaryState, NamespaceDeletion, Network, OwnerClusterRole, PodBoundary, Tenant,
    TenantReference, TenantState,
};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::tenant::{cluster_role, named as named_subject, subject};
use super::{Kind, Object, budget, cluster_network, network, resolve};

/// ClusterRole of the chart for every owner: see the Namespace and its Boundary.
pub const VIEW_ROLE: &str = "freehold-namespace-view";
/// ClusterRole of the chart for owners with `admin` where only the platform team deletes: change the Namespace itself.
pub const EDIT_ROLE: &str = "freehold-namespace-edit";
/// ClusterRole of the chart for owners with `admin`: change and delete the Namespace itself.
pub const ADMIN_ROLE: &str = "freehold-namespace-admin";

/// A namespace of a tenant, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    /// When it was made, in seconds; older ones are served first. First, because namespaces are ordered by it.
    pub created: i64,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted: nothing can be made in it any more.
    pub terminating: bool,
}

/// Everything but the Boundary: these may be written in any order. `cluster` is the kind of ClusterNetworkPolicies, where served.
pub fn ground(tenant: &Tenant, namespace: &str, network: &Network, has_share: bool, cluster: Option<Kind>) -> Vec<Object> {
    let name = tenant.name_any();
    // The quota first, since the API server takes its time to count by it, then the rights, which people wait for.
    let mut objects = budget::objects(&name, namespace, &tenant.spec, has_share);
    objects.extend(bindings(tenant, namespace));
    objects.extend(cluster.map(|kind| cluster_network::object(kind, &name, namespace, network)));
    objects.extend(network::objects(&name, namespace, network));
    objects
}

/// The Boundary.
pub fn boundary(
    tenant: &Tenant,
    namespace: &Namespace,
    pods: &PodBoundary,
    network: &Network,
    siblings: Vec<String>,
    has_share: bool,
) -> Object {
    let name = tenant.name_any();
    let spec = BoundarySpec {
        tenant: TenantReference {
            name: name.clone(),
            uid: tenant.uid().unwrap_or_default(),
            generation: tenant.metadata.generation.unwrap_or_default(),
        },
        namespace_uid: namespace.uid.clone(),
        enforcement_mode: tenant.spec.enforcement_mode.unwrap_or_default(),
        state: state(tenant, has_share),
        pods: resolve::at_home(pods.clone(), &name, &tenant.spec),
        network: (*network != Network::default()).then(|| network.clone()),
        services: resolve::services(&tenant.spec),
        ingress: resolve::ingress(&tenant.spec),
        gateway: resolve::gateway(&tenant.spec),
        storage: resolve::storage(&tenant.spec),
        objects: tenant.spec.objects.clone().unwrap_or_default(),
        template_violations: tenant.spec.template_violations.unwrap_or_default(),
        custom_groups: tenant.spec.api.clone().and_then(|api| api.allowed_groups).unwrap_or_default(),
        siblings,
    };
    Object::of_tenant(Kind::Boundary, &name, Some(&namespace.name), BOUNDARY_NAME, json!({"spec": spec}))
}

/// The Boundary where something that guards is refused: what runs stays, nothing new comes until it is in place.
pub fn closed(mut boundary: Object) -> Object {
    if boundary.document["spec"]["state"] == json!(BoundaryState::Active) {
        boundary.document["spec"]["state"] = json!(BoundaryState::Closed);
    }
    boundary
}

/// Whether the platform team froze the tenant.
pub fn is_cordoned(tenant: &Tenant) -> bool {
    tenant.spec.state == Some(TenantState::Cordoned)
}

fn state(tenant: &Tenant, has_share: bool) -> BoundaryState {
    match BoundaryState::from(tenant.spec.state.unwrap_or_default()) {
        BoundaryState::Active if !has_share => BoundaryState::Closed,
        state => state,
    }
}

/// The owners' roles inside the namespace: one binding a role, none for a role that no owner has.
fn bindings(tenant: &Tenant, namespace: &str) -> Vec<Object> {
    let holders = |role: OwnerClusterRole| -> Vec<Value> {
        let has = |roles: &Option<Vec<OwnerClusterRole>>| {
            roles.as_ref().map_or(role == OwnerClusterRole::Admin, |roles| roles.contains(&role))
        };
        tenant.spec.owners.iter().filter(|owner| has(&owner.cluster_role_names)).map(subject).collect()
    };
    let everyone = tenant.spec.owners.iter().map(subject).collect();
    // Nobody changes or deletes the Namespace of a tenant that is cordoned.
    let admins = if is_cordoned(tenant) { Vec::new() } else { holders(OwnerClusterRole::Admin) };
    let deletion = tenant.spec.namespaces.as_ref().and_then(|namespaces| namespaces.deletion).unwrap_or_default();
    let admin = match deletion {
        NamespaceDeletion::Owners => ADMIN_ROLE,
        NamespaceDeletion::Platform => EDIT_ROLE,
    };
    let mut all = vec![(VIEW_ROLE, VIEW_ROLE.to_owned(), everyone), (admin, admin.to_owned(), admins)];
    for role in [OwnerClusterRole::Admin, OwnerClusterRole::Edit, OwnerClusterRole::View] {
        all.push((role.name(), format!("freehold-owner-{}", role.name()), holders(role)));
    }
    for binding in tenant.spec.role_bindings.iter().flatten() {
        let subjects = binding.subjects.iter().map(|one| named_subject(one.kind, &one.name, one.namespace.as_deref())).collect();
        all.push((binding.cluster_role_name.name(), format!("freehold-role-{}", binding.name), subjects));
    }
    let name = tenant.name_any();
    all.into_iter()
        .filter(|(_, _, subjects)| !subjects.is_empty())
        .map(|(role, binding, subjects)| {
            let body = json!({"roleRef": cluster_role(role), "subjects": subjects});
            Object::of_tenant(Kind::RoleBinding, &name, Some(namespace), &binding, body)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{is_typed, tenant};
    use freehold_crds::ClassNames;

    fn namespace() -> Namespace {
        Namespace { created: 0, name: "a-dev".to_owned(), uid: "8c1e".to_owned(), terminating: false }
    }

    #[test]
    fn roles_are_bound_as_owners_have_them() {
        for (owners, expected) in [
            (
                json!([{"kind": "User", "name": "alice"}]),
                json!({"admin": ["alice"], "freehold-namespace-admin": ["alice"], "freehold-namespace-view": ["alice"]}),
            ),
            (
                json!([{"kind": "User", "name": "alice", "clusterRoleNames": ["admin"]}, {"kind": "User", "name": "eve", "clusterRoleNames": ["view", "edit"]}]),
                json!({"admin": ["alice"], "edit": ["eve"], "view": ["eve"], "freehold-namespace-admin": ["alice"], "freehold-namespace-view": ["alice", "eve"]}),
            ),
            (
                json!([{"kind": "User", "name": "eve", "clusterRoleNames": ["view"]}]),
                json!({"view": ["eve"], "freehold-namespace-view": ["eve"]}),
            ),
        ] {
            let mut found = json!({});
            for binding in bindings(&tenant("a", json!({"owners": owners})), "a-dev") {
                is_typed(&binding);
                let names: Vec<_> =
                    binding.document["subjects"].as_array().unwrap().iter().map(|subject| subject["name"].clone()).collect();
                found[binding.document["roleRef"]["name"].as_str().unwrap()] = json!(names);
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn others_than_owners_get_the_roles_that_the_tenant_gives_them() {
        let spec = json!({"owners": [{"kind": "User", "name": "alice"}], "roleBindings": [
            {"name": "metrics", "clusterRoleName": "view", "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}]},
        ]});
        let found = bindings(&tenant("a", spec), "a-dev").into_iter().find(|one| one.name == "freehold-role-metrics").unwrap();
        is_typed(&found);
        assert_eq!(found.document["roleRef"]["name"], "view");
        assert_eq!(
            found.document["subjects"],
            json!([{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}])
        );
    }

    #[test]
    fn a_boundary_says_whose_it_is_and_what_may_run() {
        let tenant = tenant("a", json!({"owners": [{"kind": "User", "name": "alice"}]}));
        let classes = ClassNames { default: None, allowed: vec!["freehold-microvm".to_owned()] };
        let pods = resolve::pods(&tenant.spec, &classes, Some("usual"));
        let spec = |has_share| {
            boundary(&tenant, &namespace(), &pods, &Network::default(), vec!["a-dev".to_owned()], has_share).document["spec"]
                .clone()
        };
        assert_eq!(
            spec(true),
            json!({
                "tenant": {"name": "a", "uid": "uid-of-a", "generation": 3}, "namespaceUID": "8c1e", "enforcementMode": "Enforce",
                "state": "Active",
                "pods": {
                    "runtimeClassNames": {"allowed": ["freehold-microvm"]}, "securityLevel": "Baseline", "userNamespaces": "Optional",
                    "images": {}, "priorityClassNames": {"allowed": ["usual"]}, "clusterPriorityClassName": "usual",
                    "schedulerNames": [], "tenancy": "Shared", "nodeSelector": {}, "tolerations": [], "extendedResources": [], "deviceClassNames": [], "tokenAudiences": [], "csiDrivers": [],
                },
                "services": {"types": [], "loadBalancerClassNames": {"allowed": []}, "externalNames": [], "annotations": []},
                "ingress": {"classNames": {"allowed": ["*"]}, "hosts": [], "annotations": []},
                "gateway": {"classNames": [], "parents": []},
                "storage": {"classNames": {"allowed": ["*"]}}, "objects": [], "templateViolations": "Warn", "customGroups": [], "siblings": ["a-dev"],
            })
        );
        crate::fixtures::is_typed(&boundary(&tenant, &namespace(), &pods, &Network::default(), Vec::new(), true));
        assert_eq!(spec(false)["state"], "Closed");
        let open = boundary(&tenant, &namespace(), &pods, &Network::default(), Vec::new(), true);
        assert_eq!(closed(open).document["spec"]["state"], "Closed");
    }

    #[test]
    fn where_the_platform_team_deletes_namespaces_owners_only_change_them() {
        for (deletion, expected) in [("Owners", "freehold-namespace-admin"), ("Platform", "freehold-namespace-edit")] {
            let spec = json!({"owners": [{"kind": "User", "name": "alice"}], "namespaces": {"deletion": deletion}});
            let found = bindings(&tenant("a", spec), "a-dev");
            let names: Vec<_> = found.iter().map(|object| object.name.as_str()).collect();
            assert_eq!(names, ["freehold-namespace-view", expected, "freehold-owner-admin"]);
            found.iter().for_each(is_typed);
        }
    }

    #[test]
    fn a_cordoned_tenant_keeps_its_roles_but_not_its_namespaces() {
        let tenant = tenant("a", json!({"owners": [{"kind": "User", "name": "alice"}], "state": "Cordoned"}));
        let names: Vec<_> = bindings(&tenant, "a-dev").into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["freehold-namespace-view", "freehold-owner-admin"]);
        for has_share in [true, false] {
            let pods = PodBoundary::default();
            let made = boundary(&tenant, &namespace(), &pods, &Network::default(), Vec::new(), has_share);
            assert_eq!(closed(made).document["spec"]["state"], "Cordoned");
        }
    }

    #[test]
    fn the_ground_of_a_namespace() {
        let tenant = tenant("a", json!({"owners": [{"kind": "User", "name": "alice"}], "quota": {"hard": {"pods": "10"}}}));
        let names: Vec<_> = ground(&tenant, "a-dev", &Network::default(), true, None)
            .into_iter()
            .map(|object| (object.kind, object.name))
            .collect();
        let expected = [
            (Kind::LimitRange, "freehold"),
            (Kind::ResourceQuota, "freehold"),
            (Kind::RoleBinding, "freehold-namespace-view"),
            (Kind::RoleBinding, "freehold-namespace-admin"),
            (Kind::RoleBinding, "freehold-owner-admin"),
            (Kind::NetworkPolicy, "freehold-default-deny"),
            (Kind::NetworkPolicy, "freehold-within-tenant"),
            (Kind::NetworkPolicy, "freehold-dns"),
        ];
        assert_eq!(names, expected.map(|(kind, name)| (kind, name.to_owned())));
    }
}
