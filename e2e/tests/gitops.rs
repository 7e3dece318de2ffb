//! What programs that apply from Git see: the right state, a spec that nobody rewrites, and Namespaces of theirs beside declared ones.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::kstatus::{State, state};
use freehold_e2e::live::{BOUNDARY, SOON, TENANT, api, namespace, sees, spec, tenant};
use freehold_e2e::{People, wait};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

const NAMESPACE: [&str; 3] = ["v1", "Namespace", "namespaces"];

async fn becomes(tenants: &Api<DynamicObject>, name: &str, expected: State) -> anyhow::Result<Value> {
    wait::until(&format!("{name} to be {expected:?}"), SOON, || async {
        let object = serde_json::to_value(tenants.get(name).await?)?;
        ensure!(state(&object) == expected && !object["status"].is_null(), "{}", object["status"]["conditions"]);
        Ok(object)
    })
    .await
}

/// Flux's rule on what the operator really writes.
#[tokio::test]
async fn the_state_of_a_tenant_is_read_right() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let tenants = api(&platform, TENANT, None);
    let said = spec(r#", "quota": {"hard": {"pods": "8", "requests.memory": "2Gi"}}, "namespaces": {"max": 2}"#);
    tenant(&platform, "gitops", said.clone()).await?;
    let object = becomes(&tenants, "gitops", State::Current).await?;
    ensure!(object["spec"] == said, "the spec was rewritten: {}", object["spec"]);
    namespace(&platform, "gitops-dev", "gitops").await?;
    sees(&api(&platform, BOUNDARY, Some("gitops-dev")), "boundary", "/spec/state", json!("Active")).await?;

    // Each change is in progress until the operator has seen it, and so is what can't be yet.
    let mut missing = said.clone();
    missing["runtimes"] = json!({"allowed": ["not-there"]});
    tenant(&platform, "gitops", missing).await?;
    let object = becomes(&tenants, "gitops", State::InProgress).await?;
    sees(&tenants, "gitops", "/status/conditions/0/reason", json!("RuntimeMissing")).await?;
    ensure!(object["spec"]["quota"] == said["quota"], "the spec was rewritten: {}", object["spec"]);
    tenant(&platform, "gitops", said.clone()).await?;
    becomes(&tenants, "gitops", State::Current).await?;

    // What waits for a decision says so at once: made anew, it is another Tenant.
    let uid = tenants.get("gitops").await?.metadata.uid;
    tenants.delete("gitops", &DeleteParams::default()).await?;
    wait::until("the Tenant to go", SOON, || async {
        ensure!(tenants.get_opt("gitops").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    tenant(&platform, "gitops", said.clone()).await?;
    becomes(&tenants, "gitops", State::Failed).await?;
    let mut heir = said;
    (heir["replacesUID"], heir["deletionPolicy"]) = (json!(uid), json!("Delete"));
    tenant(&platform, "gitops", heir).await?;
    becomes(&tenants, "gitops", State::Current).await?;
    tenants.delete("gitops", &DeleteParams::default()).await?;
    Ok(())
}

/// A Namespace in Git keeps what it says, beside one that the Tenant declares; what the operator adds is no drift.
#[tokio::test]
async fn a_namespace_in_git_stands_beside_a_declared_one() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let rules = r#", "deletionPolicy": "Delete", "namespaces": {"declared": [{"name": "tracked-prod", "labels": {"env": "prod"}}], "labels": {"managed": {"team": "pay"}}}"#;
    tenant(&platform, "tracked", spec(rules)).await?;
    let namespaces = api(&platform, NAMESPACE, None);
    sees(&namespaces, "tracked-prod", "/metadata/labels/team", json!("pay")).await?;
    let manifest = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "tracked-dev", "labels": {"freehold.dev/tenant": "tracked", "env": "dev"}},
    });
    let flux = PatchParams::apply("kustomize-controller").force();
    let apply = async || namespaces.patch("tracked-dev", &flux, &Patch::Apply(&manifest)).await;
    apply().await?;
    sees(&namespaces, "tracked-dev", "/metadata/labels/team", json!("pay")).await?;
    sees(&api(&platform, BOUNDARY, Some("tracked-dev")), "boundary", "/spec/state", json!("Active")).await?;
    let (before, after) = (namespaces.get("tracked-dev").await?, apply().await?);
    ensure!(before.metadata.resource_version == after.metadata.resource_version, "applying the same again changed something");
    sees(&namespaces, "tracked-dev", "/metadata/labels/team", json!("pay")).await?;

    // A declared name that is in Git too: whoever is first makes it, and both say what they say.
    let declared = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "tracked-prod", "labels": {"freehold.dev/tenant": "tracked", "tier": "1"}},
    });
    namespaces.patch("tracked-prod", &flux, &Patch::Apply(&declared)).await?;
    let labels = namespaces.get("tracked-prod").await?.metadata.labels.unwrap_or_default();
    for (key, value) in [("env", "prod"), ("team", "pay"), ("tier", "1")] {
        ensure!(labels.get(key).is_some_and(|found| found == value), "{key} is not {value}: {labels:?}");
    }
    api(&platform, TENANT, None).delete("tracked", &DeleteParams::default()).await?;
    Ok(())
}
