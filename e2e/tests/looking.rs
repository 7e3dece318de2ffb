//! A Tenant that only looks: what would be refused is admitted and stands in its status, also once it enforces, and goes when it is gone.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BINDING, BOUNDARY, SOON, TENANT, api, namespace, sees, tenant};
use freehold_e2e::{Answer, People, objects, wait};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

#[tokio::test]
async fn what_would_be_refused_stands_in_the_status() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let platform = people.platform;
    let tenants = api(&platform, TENANT, None);
    let rules = |mode: &str, level: &str| {
        json!({
            "owners": [{"kind": "User", "name": "alice"}], "enforcementMode": mode, "deletionPolicy": "Delete",
            "images": {"registries": ["registry.example/*"]}, "podSecurity": {"level": level}, "templateViolations": "Deny",
        })
    };
    tenant(&platform, "looks", rules("Warn", "Baseline")).await?;
    namespace(&platform, "looks-dev", "looks").await?;
    sees(&api(&platform, BOUNDARY, Some("looks-dev")), "boundary", "/spec/enforcementMode", json!("Warn")).await?;
    sees(&api(&platform, BINDING, Some("looks-dev")), "freehold-owner-admin", "/subjects/0/name", json!("alice")).await?;

    let (deployments, parameters): (Api<Deployment>, _) =
        (Api::namespaced(people.alice.clone(), "looks-dev"), PostParams::default());
    // Nothing of it runs: what is looked at is what stands there.
    let mut foreign = objects::deployment("foreign", "true", Some("freehold-microvm"));
    foreign.spec.as_mut().unwrap().replicas = Some(0);
    wait::until("alice to be let in", SOON, || async {
        let answer = Answer::of(deployments.create(&parameters, &foreign).await)?;
        ensure!(answer == Answer::Admitted, "{answer}");
        Ok(())
    })
    .await?;
    // A change of the Tenant makes it look at once; else it does within a minute.
    for (mode, level, count) in [("Audit", "Baseline", 1), ("Enforce", "Baseline", 1)] {
        tenant(&platform, "looks", rules(mode, level)).await?;
        sees(&tenants, "looks", "/status/summary/mode", json!(mode)).await?;
        sees(&tenants, "looks", "/status/wouldDeny/objects", json!(count)).await?;
        let sample = json!("Deployment looks-dev/foreign: spec.template.spec.containers[0].image (image registries)");
        sees(&tenants, "looks", "/status/wouldDeny/sample/0", sample).await?;
    }
    deployments.delete("foreign", &DeleteParams::default()).await?;
    wait::until("the deployment to go", SOON, || async {
        ensure!(deployments.get_opt("foreign").await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    tenant(&platform, "looks", rules("Enforce", "Restricted")).await?;
    sees(&tenants, "looks", "/status/wouldDeny", Value::Null).await?;
    tenants.delete("looks", &DeleteParams::default()).await?;
    Ok(())
}
