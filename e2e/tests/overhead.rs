//! What a machine takes beside its containers is charged to its tenant, and nobody can say that theirs takes less (row D8).
#![cfg(feature = "live")]

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{BOUNDARY, QUOTA, TENANT, api, namespace, sees, tenant};
use freehold_e2e::{Answer, People, objects};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

/// What the pod's container asks for, in MiB.
const REQUESTED: u64 = 32;

fn mebibytes(quantity: &str) -> anyhow::Result<u64> {
    let digits = quantity.strip_suffix("Mi").with_context(|| format!("{quantity:?} is not in Mi"))?;
    Ok(digits.parse()?)
}

#[tokio::test]
async fn a_machines_own_memory_is_charged_to_the_tenants_quota() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let classes: Api<RuntimeClass> = Api::all(platform.clone());
    let overhead = classes.get("freehold-microvm").await?.overhead.and_then(|overhead| overhead.pod_fixed).unwrap_or_default();
    let overhead = mebibytes(&overhead.get("memory").context("the RuntimeClass says nothing of a machine's own memory")?.0)?;
    ensure!(overhead > 0, "a machine is said to take nothing");

    let hard = json!({"requests.memory": format!("{}Mi", REQUESTED + overhead + 1), "requests.cpu": "2", "pods": "9"});
    let spec = json!({"owners": [{"kind": "User", "name": "carol"}], "deletionPolicy": "Delete", "namespaces": {"max": 1}, "quota": {"hard": hard}});
    tenant(&platform, "heavy", spec).await?;
    namespace(&platform, "heavy-dev", "heavy").await?;
    sees(&api(&platform, BOUNDARY, Some("heavy-dev")), "boundary", "/spec/state", json!("Active")).await?;
    let quotas = api(&platform, QUOTA, Some("heavy-dev"));
    sees(&quotas, "freehold", "/status/used/requests.memory", json!("0")).await?;

    // Held back from the scheduler: what is charged does not depend on where it would run.
    let pod = |name: &str, more: &[(&str, Value)]| {
        let gates = ("/schedulingGates", json!([{"name": "freehold.example/never"}]));
        objects::pod(name, "true", &[&[gates], more].concat())
    };
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "heavy-dev");
    let none = json!({"memory": "0", "cpu": "0"});
    let answer = Answer::of(pods.create(&PostParams::default(), &pod("light", &[("/overhead", none)])).await)?;
    ensure!(answer.says("Overhead doesn't match"), "a pod that says its machine takes nothing: {answer}");
    let made = pods.create(&PostParams::default(), &pod("first", &[])).await?;
    let charged = made.spec.and_then(|spec| spec.overhead).unwrap_or_default();
    ensure!(charged.get("memory").map(|memory| mebibytes(&memory.0)).transpose()? == Some(overhead), "the pod has {charged:?}");
    sees(&quotas, "freehold", "/status/used/requests.memory", json!(format!("{}Mi", REQUESTED + overhead))).await?;
    let answer = Answer::of(pods.create(&PostParams::default(), &pod("second", &[])).await)?;
    ensure!(answer.says("exceeded quota"), "a second machine, for which there is no room: {answer}");

    api(&platform, TENANT, None).delete("heavy", &DeleteParams::default()).await?;
    Ok(())
}
