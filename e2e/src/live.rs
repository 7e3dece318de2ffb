//! Objects of any kind on a real API server, and waiting for what the operator makes of them.
//!
//! Untyped, so that a test says what is written and looks at what is stored by pointers, whatever version of the kind it was built with.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::{People, objects, wait};

/// Longest wait for what the operator does at once.
pub const SOON: Duration = Duration::from_secs(20);

/// Version, kind and plural of Boundary.
pub const BOUNDARY: [&str; 3] = ["freehold.dev/v1alpha1", "Boundary", "boundaries"];
/// Version, kind and plural of Tenant.
pub const TENANT: [&str; 3] = ["freehold.dev/v1alpha1", "Tenant", "tenants"];
/// Version, kind and plural of SandboxRuntime.
pub const SANDBOX_RUNTIME: [&str; 3] = ["freehold.dev/v1alpha1", "SandboxRuntime", "sandboxruntimes"];
/// Version, kind and plural of NodeRuntime.
pub const NODE_RUNTIME: [&str; 3] = ["freehold.dev/v1alpha1", "NodeRuntime", "noderuntimes"];
/// Version, kind and plural of ResourceQuota.
pub const QUOTA: [&str; 3] = ["v1", "ResourceQuota", "resourcequotas"];
/// Version, kind and plural of LimitRange.
pub const LIMITS: [&str; 3] = ["v1", "LimitRange", "limitranges"];
/// Version, kind and plural of NetworkPolicy.
pub const POLICY: [&str; 3] = ["networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"];
/// Version, kind and plural of RoleBinding.
pub const BINDING: [&str; 3] = ["rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"];
/// Version, kind and plural of ClusterRole.
pub const CLUSTER_ROLE: [&str; 3] = ["rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"];
/// Version, kind and plural of ClusterRoleBinding.
pub const CLUSTER_BINDING: [&str; 3] = ["rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"];
/// Version, kind and plural of RuntimeClass.
pub const CLASS: [&str; 3] = ["node.k8s.io/v1", "RuntimeClass", "runtimeclasses"];

/// Access to a kind, in one namespace or in the cluster.
pub fn api(client: &Client, [version, kind, plural]: [&str; 3], namespace: Option<&str>) -> Api<DynamicObject> {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.rsplit('/').next().unwrap_or_default().to_owned(),
        api_version: version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Applies a Tenant as the platform team does.
///
/// # Errors
/// If the API server refused it.
pub async fn tenant(client: &Client, name: &str, spec: Value) -> anyhow::Result<()> {
    let tenant = json!({"apiVersion": TENANT[0], "kind": TENANT[1], "metadata": {"name": name}, "spec": spec});
    let parameters = PatchParams::apply("freehold-e2e").force();
    api(client, TENANT, None).patch(name, &parameters, &Patch::Apply(tenant)).await.context("could not apply the Tenant")?;
    Ok(())
}

/// Makes a namespace of a tenant.
///
/// # Errors
/// If the API server refused it.
pub async fn namespace(client: &Client, name: &str, tenant: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(name, Some(tenant))).await?;
    Ok(())
}

/// A Tenant of alice's that goes with its namespaces, and a namespace of it made by her, guarded and hers. `rest` is the Tenant's spec beside that.
///
/// # Errors
/// If it is refused, or not usable after [`SOON`].
pub async fn home(people: &People, name: &str, rest: Value) -> anyhow::Result<String> {
    let mut spec = json!({"owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete"});
    json_patch::merge(&mut spec, &rest);
    tenant(&people.platform, name, spec).await?;
    let own = format!("{name}-dev");
    wait::until(&format!("alice to be let in as owner of {name}"), SOON, || async {
        match namespace(&people.alice, &own, name).await {
            Err(error) if !format!("{error:#}").contains("AlreadyExists") => Err(error),
            _ => Ok(()),
        }
    })
    .await?;
    sees(&api(&people.platform, BOUNDARY, Some(&own)), "boundary", "/spec/state", json!("Active")).await?;
    let pods = api(&people.alice, ["v1", "Pod", "pods"], Some(&own));
    wait::until(&format!("alice's rights in {own}"), SOON, || async { Ok(pods.list(&ListParams::default().limit(1)).await?) })
        .await?;
    Ok(own)
}

/// What the platform team gives to alice beside her own rights: what is refused must not hang on RBAC alone. In one namespace, or across the cluster.
///
/// # Errors
/// If it was refused; that it is there already is none.
pub async fn grant(people: &People, name: &str, namespace: Option<&str>, rules: Value) -> anyhow::Result<()> {
    let role =
        json!({"apiVersion": CLUSTER_ROLE[0], "kind": CLUSTER_ROLE[1], "metadata": {"name": name}, "rules": rules.clone()});
    let kind = if namespace.is_some() { BINDING } else { CLUSTER_BINDING };
    let binding = json!({
        "apiVersion": kind[0], "kind": kind[1], "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    let apply = PatchParams::apply("freehold-e2e").force();
    api(&people.platform, CLUSTER_ROLE, None).patch(name, &apply, &Patch::Apply(role)).await?;
    api(&people.platform, kind, namespace).patch(name, &apply, &Patch::Apply(binding)).await?;
    // The authorizer learns of it a moment later; rules are taken in together.
    let (resource, subresource) = rules[0]["resources"][0]
        .as_str()
        .and_then(|one| one.split_once('/'))
        .unwrap_or((rules[0]["resources"][0].as_str().unwrap_or_default(), ""));
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
        "spec": {"resourceAttributes": {
            "namespace": namespace, "group": rules[0]["apiGroups"][0], "resource": resource, "subresource": subresource, "verb": rules[0]["verbs"][0],
        }},
    });
    let ask = api(&people.alice, ["authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"], None);
    wait::until(&format!("the role {name} to count"), SOON, || async {
        let answer = ask.create(&PostParams::default(), &serde_json::from_value(question.clone())?).await?;
        ensure!(answer.data["status"]["allowed"] == json!(true), "{}", answer.data["status"]);
        Ok(())
    })
    .await
}

/// Waits until the object has this value at this pointer; `Null` is also an object or field that is not there.
///
/// # Errors
/// After [`SOON`], with what was seen last.
pub async fn sees(api: &Api<DynamicObject>, name: &str, pointer: &str, expected: Value) -> anyhow::Result<()> {
    wait::until(&format!("{name} to have {expected} at {pointer}"), SOON, || async {
        let found = api.get_opt(name).await?.map(serde_json::to_value).transpose()?.unwrap_or_default();
        let found = found.pointer(pointer).cloned().unwrap_or_default();
        ensure!(found == expected, "{found}");
        Ok(())
    })
    .await
}

/// Waits until a subject of this name is in none or one of the ClusterRoleBindings that Tenants share, whose names begin with this; gives the binding's name.
///
/// # Errors
/// After [`SOON`], with the bindings that have it.
pub async fn marked(platform: &Client, prefix: &str, subject: &str, expected: bool) -> anyhow::Result<String> {
    let (bindings, name) = (api(platform, CLUSTER_BINDING, None), Mutex::new(String::new()));
    wait::until(&format!("{subject} in bindings {prefix}...: {expected}"), SOON, || async {
        let mut found = Vec::new();
        for binding in bindings.list(&ListParams::default()).await?.items {
            let has = binding.data["subjects"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == subject));
            found.extend(Some(binding.name_any()).filter(|name| has && name.starts_with(prefix)));
        }
        ensure!(found.len() == usize::from(expected), "{found:?}");
        *name.lock().unwrap_or_else(PoisonError::into_inner) = found.pop().unwrap_or_default();
        Ok(())
    })
    .await?;
    Ok(name.into_inner().unwrap_or_default())
}

/// Waits until an event with this reason is there about the Tenant that has this name now.
///
/// # Errors
/// After [`SOON`], or if there is no such Tenant.
pub async fn event(platform: &Client, tenant: &str, reason: &str) -> anyhow::Result<()> {
    let uid = api(platform, TENANT, None).get(tenant).await?.metadata.uid;
    let events: Api<Event> = Api::namespaced(platform.clone(), "default");
    wait::until(&format!("an event {reason} about {tenant}"), SOON, || async {
        let all = events.list(&ListParams::default().fields(&format!("reason={reason}"))).await?.items;
        let about = |event: &Event| event.regarding.as_ref().and_then(|object| object.uid.clone());
        ensure!(all.iter().any(|event| about(event) == uid), "{} events, none about it", all.len());
        Ok(())
    })
    .await
}

/// The spec of a Tenant of carol's; `rest` begins with a comma.
///
/// # Panics
/// If that is no JSON.
pub fn spec(rest: &str) -> Value {
    serde_json::from_str(&format!(r#"{{"owners": [{{"kind": "User", "name": "carol"}}]{rest}}}"#))
        .unwrap_or_else(|error| panic!("{error}: {rest}"))
}
