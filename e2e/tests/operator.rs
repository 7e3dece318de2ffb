//! The operator on a real API server: what it makes is healed, left alone at rest, and goes as the Tenant says.
//!
//! Beside the people's kubeconfigs it needs `FREEHOLD_KUBECONFIG_OPERATOR` and `FREEHOLD_KUBECONFIG_INSTALLER`: the floor lets nobody
//! else tamper with what must be healed, and nobody else report about a node.
#![cfg(feature = "live")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{
    BINDING, BOUNDARY, CLASS, CLUSTER_BINDING, CLUSTER_ROLE, LIMITS, NODE_RUNTIME, POLICY, QUOTA, SANDBOX_RUNTIME, SOON, TENANT,
    api, marked, namespace, sees, spec, tenant,
};
use freehold_e2e::{People, people, wait};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Longest wait for a namespace to be emptied and go.
const GONE: Duration = Duration::from_secs(60);
/// How long nothing may be written at rest: longer than the pause between two writes of usage.
const REST: Duration = Duration::from_secs(12);

#[tokio::test]
async fn drift_is_healed_and_nothing_is_written_at_rest() -> anyhow::Result<()> {
    let (platform, operator) =
        (People::from_environment().await?.platform, people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?);
    tenant(&platform, "drifts", spec(r#", "quota": {"hard": {"pods": "10", "requests.memory": "5Gi"}}"#)).await?;
    namespace(&platform, "drifts-dev", "drifts").await?;
    let of = |kind| api(&operator, kind, Some("drifts-dev"));
    let all = |kind| api(&platform, kind, None);
    sees(&of(BOUNDARY), "boundary", "/spec/state", json!("Active")).await?;
    sees(&of(QUOTA), "freehold", "/spec/hard", json!({"pods": "2", "requests.memory": "1Gi"})).await?;

    let merge = |value: Value| (PatchParams::default(), Patch::Merge(value));
    for (kind, name, patch, pointer, healed) in [
        (BOUNDARY, "boundary", json!({"spec": {"state": "Cordoned"}}), "/spec/state", json!("Active")),
        (QUOTA, "freehold", json!({"spec": {"hard": {"pods": "99"}}}), "/spec/hard/pods", json!("2")),
        (QUOTA, "freehold", json!({"spec": {"hard": {"secrets": "9"}}}), "/spec/hard/secrets", Value::Null),
        (LIMITS, "freehold", json!({"spec": {"limits": []}}), "/spec/limits/0/type", json!("Container")),
        (POLICY, "freehold-dns", json!({"spec": {"ingress": [{}]}}), "/spec/ingress", Value::Null),
        (BINDING, "freehold-owner-admin", json!({"subjects": []}), "/subjects/0/name", json!("carol")),
        (
            BINDING,
            "freehold-owner-admin",
            json!({"metadata": {"labels": null}}),
            "/metadata/labels/freehold.dev~1tenant",
            json!("drifts"),
        ),
    ] {
        let (parameters, patch) = merge(patch);
        of(kind).patch(name, &parameters, &patch).await.with_context(|| format!("could not tamper with {name}"))?;
        sees(&of(kind), name, pointer, healed).await?;
    }
    for (kind, name) in
        [(POLICY, "freehold-default-deny"), (QUOTA, "freehold"), (BINDING, "freehold-namespace-view"), (BOUNDARY, "boundary")]
    {
        of(kind).delete(name, &DeleteParams::default()).await?;
        sees(&of(kind), name, "/metadata/name", json!(name)).await?;
    }
    for (kind, name) in
        [(CLUSTER_ROLE, "freehold-tenant-drifts"), (CLUSTER_BINDING, "freehold-tenant-drifts"), (CLASS, "freehold-microvm")]
    {
        all(kind).delete(name, &DeleteParams::default()).await?;
        sees(&all(kind), name, "/metadata/name", json!(name)).await?;
    }
    // What earlier versions bound for each Tenant goes.
    let earlier = json!({
        "apiVersion": CLUSTER_BINDING[0], "kind": CLUSTER_BINDING[1],
        "metadata": {"name": "freehold-owners-drifts", "labels": {"app.kubernetes.io/managed-by": "freehold", "freehold.dev/tenant": "drifts"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "freehold-owner"},
    });
    all(CLUSTER_BINDING).create(&PostParams::default(), &serde_json::from_value(earlier)?).await?;
    sees(&all(CLUSTER_BINDING), "freehold-owners-drifts", "/metadata/name", Value::Null).await?;
    // What Tenants share heals too.
    let group = "system:serviceaccounts:drifts-dev";
    let shared = marked(&platform, "freehold-members-", group, true).await?;
    all(CLUSTER_BINDING).delete(&shared, &DeleteParams::default()).await?;
    marked(&platform, "freehold-members-", group, true).await?;
    let (parameters, patch) = merge(
        json!({"subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts:eve"}]}),
    );
    all(CLUSTER_BINDING).patch(&shared, &parameters, &patch).await?;
    marked(&platform, "freehold-members-", "system:serviceaccounts:eve", false).await?;
    marked(&platform, "freehold-members-", group, true).await?;
    // roleRef never changes: a foreign binding under our name is made anew.
    let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}]);
    let foreign = json!({
        "apiVersion": CLUSTER_BINDING[0], "kind": CLUSTER_BINDING[1], "metadata": {"name": "freehold-tenant-drifts"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": subjects,
    });
    all(CLUSTER_BINDING).delete("freehold-tenant-drifts", &DeleteParams::default()).await?;
    // Who comes first is open; either way ours must stand in the end.
    let _ = all(CLUSTER_BINDING).create(&PostParams::default(), &serde_json::from_value(foreign)?).await;
    sees(&all(CLUSTER_BINDING), "freehold-tenant-drifts", "/roleRef/name", json!("freehold-tenant-drifts")).await?;
    sees(&all(CLUSTER_BINDING), "freehold-tenant-drifts", "/subjects/0/name", json!("carol")).await?;

    // An owner that is taken out loses the role.
    tenant(&platform, "drifts", json!({"owners": [{"kind": "User", "name": "carol", "clusterRoleNames": ["view"]}]})).await?;
    sees(&of(BINDING), "freehold-owner-view", "/subjects/0/name", json!("carol")).await?;
    sees(&of(BINDING), "freehold-owner-admin", "/metadata/name", Value::Null).await?;
    sees(&of(QUOTA), "freehold", "/metadata/name", Value::Null).await?;

    // At rest: no object of ours and no Tenant is written.
    let versions = || async {
        let (ours, mut found) = (ListParams::default().labels("app.kubernetes.io/managed-by=freehold"), BTreeMap::new());
        for kind in [BOUNDARY, QUOTA, LIMITS, POLICY, BINDING, CLUSTER_ROLE, CLUSTER_BINDING, CLASS, TENANT] {
            let parameters = if kind == TENANT { ListParams::default() } else { ours.clone() };
            for object in all(kind).list(&parameters).await? {
                found.insert((kind[1], object.namespace(), object.name_any()), object.resource_version());
            }
        }
        anyhow::Ok(found)
    };
    let mut before = versions().await?;
    ensure!(before.len() > 20, "only {} objects were found", before.len());
    let (began, mut since, mut changed) = (Instant::now(), Instant::now(), Vec::new());
    while since.elapsed() < REST {
        let now = versions().await?;
        if now != before {
            changed =
                now.iter().filter(|(key, version)| before.get(*key) != Some(*version)).map(|(key, _)| key.clone()).collect();
            (before, since) = (now, Instant::now());
        }
        ensure!(began.elapsed() < SOON + REST, "still written after {:?}: {changed:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_says_what_is_missing_and_goes_as_it_says() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let (tenants, namespaces) = (api(&platform, TENANT, None), Api::<Namespace>::all(platform.clone()));
    let boundary = |namespace: &'static str| api(&platform, BOUNDARY, Some(namespace));

    // A runtime that does not exist: accepted, said, and closed.
    tenant(&platform, "waits", spec(r#", "runtimes": {"allowed": ["not-there"]}"#)).await?;
    namespace(&platform, "waits-dev", "waits").await?;
    sees(&tenants, "waits", "/status/conditions/0/reason", json!("RuntimeMissing")).await?;
    sees(&boundary("waits-dev"), "boundary", "/spec/pods/runtimeClassNames", json!({"allowed": []})).await?;

    // Limits are taken as they are said, and stay so: what the API server fills in is no drift.
    let limits = r#", "limitRange": {"limits": [{"type": "Container", "default": {"memory": "1024Mi"}, "max": {"memory": "2Gi", "cpu": "2000m"}}]}"#;
    tenant(&platform, "waits", spec(limits)).await?;
    let ranges = api(&platform, LIMITS, Some("waits-dev"));
    sees(&ranges, "freehold", "/spec/limits/0/max", json!({"cpu": "2", "memory": "2Gi"})).await?;
    sees(&ranges, "freehold", "/spec/limits/0/defaultRequest", json!({"cpu": "2", "memory": "1Gi"})).await?;
    sees(&tenants, "waits", "/status/conditions/0/reason", json!("Enforced")).await?;
    let version = ranges.get("freehold").await?.resource_version();
    tenant(&platform, "waits", spec(&format!(r#"{limits}, "templateViolations": "Deny""#))).await?;
    sees(&boundary("waits-dev"), "boundary", "/spec/templateViolations", json!("Deny")).await?;
    ensure!(ranges.get("freehold").await?.resource_version() == version, "a LimitRange that is settled was written again");

    // One namespace too many gets nothing, until there is room.
    tenant(&platform, "waits", spec(r#", "namespaces": {"max": 1}"#)).await?;
    sees(&tenants, "waits", "/status/conditions/0/reason", json!("Enforced")).await?;
    namespace(&platform, "waits-more", "waits").await?;
    sees(&boundary("waits-more"), "boundary", "/spec/state", json!("Closed")).await?;
    sees(&api(&platform, QUOTA, Some("waits-more")), "freehold", "/spec/hard", json!({"pods": "0"})).await?;
    sees(&tenants, "waits", "/status/conditions/0/reason", json!("TooManyNamespaces")).await?;
    tenant(&platform, "waits", spec(r#", "namespaces": {"max": 2}"#)).await?;
    sees(&boundary("waits-more"), "boundary", "/spec/state", json!("Active")).await?;
    sees(&tenants, "waits", "/status/conditions/0/reason", json!("Enforced")).await?;

    // Retain is the default: the grants go, what is in the namespaces stays.
    marked(&platform, "freehold-members-", "system:serviceaccounts:waits-dev", true).await?;
    tenants.delete("waits", &DeleteParams::default()).await?;
    sees(&tenants, "waits", "/metadata/name", Value::Null).await?;
    sees(&api(&platform, CLUSTER_BINDING, None), "freehold-tenant-waits", "/metadata/name", Value::Null).await?;
    marked(&platform, "freehold-members-", "system:serviceaccounts:waits-dev", false).await?;
    let left = boundary("waits-dev").get("boundary").await.context("the Boundary did not outlive its Tenant")?;
    ensure!(left.metadata.deletion_timestamp.is_none(), "the Boundary is being deleted");
    ensure!(namespaces.get("waits-dev").await?.metadata.deletion_timestamp.is_none(), "the namespace is being deleted");

    // Delete takes the namespaces along, and nobody else's.
    tenant(&platform, "goes", spec(r#", "deletionPolicy": "Delete""#)).await?;
    namespace(&platform, "goes-dev", "goes").await?;
    sees(&boundary("goes-dev"), "boundary", "/spec/state", json!("Active")).await?;
    tenants.delete("goes", &DeleteParams::default()).await?;
    wait::until("the Tenant and its namespace to go", GONE, || async {
        let left = (tenants.get_opt("goes").await?.is_some(), namespaces.get_opt("goes-dev").await?.is_some());
        ensure!(left == (false, false), "tenant and namespace still there: {left:?}");
        Ok(())
    })
    .await?;
    ensure!(namespaces.get_opt("waits-dev").await?.is_some(), "another tenant's namespace went along");
    Ok(())
}

#[tokio::test]
async fn a_node_is_labelled_by_proof_only() -> anyhow::Result<()> {
    let (platform, installer) =
        (People::from_environment().await?.platform, people::client("FREEHOLD_KUBECONFIG_INSTALLER").await?);
    let nodes: Api<Node> = Api::all(platform.clone());
    let node = nodes.list_metadata(&ListParams::default()).await?.items.first().context("there is no node")?.name_any();
    // A SandboxRuntime of its own, so that the real agent's proof of the real one is left alone.
    let runtimes = api(&platform, SANDBOX_RUNTIME, None);
    let runtime = json!({
        "apiVersion": SANDBOX_RUNTIME[0], "kind": SANDBOX_RUNTIME[1], "metadata": {"name": "proved"},
        "spec": {"type": "MicroVM", "microVM": {"emulation": "Never"}, "runtimeClass": {"name": "freehold-proved"}},
    });
    runtimes.patch("proved", &PatchParams::apply("freehold-e2e").force(), &Patch::Apply(runtime)).await?;
    let (name, label) = (format!("proved.{node}"), "freehold.dev.node-restriction.kubernetes.io/proved");
    let (reports, theirs) = (api(&installer, NODE_RUNTIME, None), api(&platform, NODE_RUNTIME, None));
    let document = |status: Value| {
        let spec = json!({"nodeName": node, "sandboxRuntimeName": "proved"});
        json!({"apiVersion": NODE_RUNTIME[0], "kind": NODE_RUNTIME[1], "metadata": {"name": name}, "spec": spec, "status": status})
    };
    let proof = |ready: &str, acceleration: &str| {
        let condition =
            json!({"type": "Ready", "status": ready, "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        Patch::Apply(document(json!({"acceleration": acceleration, "conditions": [condition]})))
    };
    let parameters = PatchParams::apply("freehold-e2e").force();
    let labelled = async |expected: Option<&str>| {
        wait::until(&format!("node {node} to have the label {expected:?}"), SOON, || async {
            let found = nodes.get_metadata(&node).await?.labels().get(label).cloned();
            ensure!(found.as_deref() == expected, "{found:?}");
            Ok(())
        })
        .await
    };
    reports.patch(&name, &parameters, &Patch::Apply(document(Value::Null))).await.context("the installer could not report")?;
    let forged = theirs.patch_status(&name, &parameters, &proof("True", "KVM")).await;
    ensure!(forged.is_err(), "the platform team could prove a node by hand");
    reports.patch_status(&name, &parameters, &proof("True", "KVM")).await?;
    labelled(Some("ready")).await?;
    sees(&runtimes, "proved", "/status/nodes/ready", json!(1)).await?;
    // Emulation was not allowed.
    reports.patch_status(&name, &parameters, &proof("True", "Emulated")).await?;
    labelled(None).await?;
    reports.patch_status(&name, &parameters, &proof("True", "KVM")).await?;
    labelled(Some("ready")).await?;
    // Whoever takes the label away, or forges it, is corrected.
    let strip = json!({"metadata": {"labels": {label: null}}});
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(strip)).await?;
    labelled(Some("ready")).await?;
    theirs.delete(&name, &DeleteParams::default()).await?;
    labelled(None).await?;
    runtimes.delete("proved", &DeleteParams::default()).await?;
    Ok(())
}
