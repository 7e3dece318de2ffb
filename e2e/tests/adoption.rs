//! A namespace that the platform team takes in while pods are made in it: none that shares the node's kernel stays unseen.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BOUNDARY, SOON, TENANT, api, sees, tenant};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, People, Tried, objects, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// Pods that are tried around the moment at which the namespace is taken in.
const PODS: usize = 30;

/// Without a runtime class, and never scheduled: what is looked at is what stands there.
fn plain(name: &str) -> Pod {
    objects::pod(name, "true", &[("/runtimeClassName", json!(null)), ("/nodeSelector", json!({"no": "node"}))])
}

/// Rows A15 and C13.
#[tokio::test]
async fn pods_from_before_are_found_and_none_comes_after() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (name, mut tried) = (named("adopts"), Tried::from_environment());
    let own = format!("{name}-old");
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(&own, None)).await?;
    tenant(&people.platform, &name, json!({"owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete"})).await?;

    let accounts: Api<ServiceAccount> = Api::namespaced(people.platform.clone(), &own);
    wait::until("the namespace's ServiceAccount", SOON, || async { Ok(accounts.get("default").await?) }).await?;

    // Somebody with rights of their own goes on making pods while the namespace is taken in.
    let pods: Api<Pod> = Api::namespaced(people.platform.clone(), &own);
    let label = Patch::Merge(json!({"metadata": {"labels": {"freehold.dev/tenant": name}}}));
    let making = async {
        let mut made = 0;
        for n in 0..PODS {
            // Once the namespace is a tenant's, the floor refuses such a pod, or the webhook gives it a machine.
            match pods.create(&PostParams::default(), &plain(&format!("old-{n}"))).await {
                Ok(pod) if pod.spec.as_ref().is_some_and(|spec| spec.runtime_class_name.is_none()) => made += 1,
                outcome => drop(Answer::of(outcome)?),
            }
        }
        anyhow::Ok(made)
    };
    let adopting = async {
        wait::until("a third of the pods", SOON, || async { Ok(pods.get(&format!("old-{}", PODS / 3)).await?) }).await?;
        namespaces.patch(&own, &PatchParams::default(), &label).await?;
        anyhow::Ok(())
    };
    let (made, ()) = tokio::try_join!(making, adopting)?;
    ensure!(made > 0, "no pod was made before");
    sees(&api(&people.platform, BOUNDARY, Some(&own)), "boundary", "/spec/state", json!("Active")).await?;

    // The webhook would complete it: another class is what neither of the two lets through.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let class =
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "e2e-other"}, "handler": "runc"});
    let classes = api(&people.platform, ["node.k8s.io/v1", "RuntimeClass", "runtimeclasses"], None);
    classes.patch("e2e-other", &PatchParams::apply("e2e").force(), &Patch::Apply(&class)).await?;
    let foreign = objects::pod("next", "true", &[("/runtimeClassName", json!("e2e-other"))]);
    tried.attack("A15", "a pod on the node's kernel after that", &Answer::of(pods.create(&dry, &foreign).await)?);
    tried.control("A15", "a pod in a machine", &Answer::of(pods.create(&dry, &objects::pod("next", "true", &[])).await)?);

    // Every one that was let in is counted, and named.
    let tenants = api(&people.platform, TENANT, None);
    sees(&tenants, &name, "/status/wouldDeny/objects", json!(made)).await?;
    let told = serde_json::to_value(tenants.get(&name).await?)?["status"]["wouldDeny"]["sample"].clone();
    let named =
        told[0].as_str().is_some_and(|one| one.starts_with(&format!("Pod {own}/old-")) && one.contains("runtime classes"));
    tried.expect("C13", "pods from before are named", named, &told.to_string());
    tried.attack("C13", "another pod on the node's kernel", &Answer::of(pods.create(&dry, &foreign).await)?);
    tenants.delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}
