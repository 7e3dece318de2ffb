//! A cordoned tenant on a real cluster: nothing changes by its people and programs, what runs may end, and a break-glass identity passes.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BINDING, BOUNDARY, CLUSTER_ROLE, QUOTA, SOON, TENANT, api, sees, tenant};
use freehold_e2e::{Answer, People, objects, people, wait};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn configuration(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "b"}})).unwrap()
}

fn state(state: &str) -> Value {
    // Nothing of it ever runs: what is tried is admission.
    json!({"owners": [{"kind": "User", "name": "alice"}], "state": state, "deletionPolicy": "Delete"})
}

async fn creates(client: &Client, namespace: &str) -> anyhow::Result<Answer> {
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    Answer::of(Api::namespaced(client.clone(), namespace).create(&dry, &configuration("new")).await)
}

#[tokio::test]
async fn nothing_changes_in_a_cordoned_tenant_and_pods_may_end() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (alice, platform) = (people.alice, people.platform);
    let (restorer, program) = (people::client("FREEHOLD_KUBECONFIG_RESTORER").await?, "frozen-dev");
    tenant(&platform, "frozen", state("Active")).await?;
    let namespaces: Api<Namespace> = Api::all(alice.clone());
    wait::until("alice to make a namespace", SOON, || async {
        let answer = Answer::of(namespaces.create(&PostParams::default(), &objects::namespace(program, Some("frozen"))).await)?;
        ensure!(answer == Answer::Admitted, "{answer}");
        Ok(())
    })
    .await?;
    let boundary = api(&platform, BOUNDARY, Some(program));
    sees(&boundary, "boundary", "/spec/state", json!("Active")).await?;
    sees(&api(&platform, BINDING, Some(program)), "freehold-owner-admin", "/subjects/0/name", json!("alice")).await?;
    let (configurations, pods): (Api<ConfigMap>, Api<Pod>) =
        (Api::namespaced(alice.clone(), program), Api::namespaced(alice.clone(), program));
    configurations.create(&PostParams::default(), &configuration("kept")).await?;
    for name in ["ends", "evicted"] {
        let pod = objects::pod(name, "true", &[("/nodeSelector", json!({"no": "node"}))]);
        pods.create(&PostParams::default(), &pod).await?;
    }

    tenant(&platform, "frozen", state("Cordoned")).await?;
    sees(&boundary, "boundary", "/spec/state", json!("Cordoned")).await?;
    sees(&api(&platform, CLUSTER_ROLE, None), "freehold-tenant-frozen", "/rules/0/verbs", json!(["get"])).await?;
    sees(&api(&platform, BINDING, Some(program)), "freehold-namespace-admin", "/metadata/name", Value::Null).await?;
    let change = Patch::Merge(json!({"data": {"a": "c"}}));
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let again = PatchParams::default();
    for (what, answer) in [
        ("makes", creates(&alice, program).await?),
        ("changes", Answer::of(configurations.patch("kept", &again, &change).await)?),
        ("deletes", Answer::of(configurations.delete("kept", &DeleteParams::default()).await)?),
        ("labels a pod", Answer::of(pods.patch("ends", &again, &label).await)?),
        (
            "makes a namespace",
            Answer::of(namespaces.create(&PostParams::default(), &objects::namespace("frozen-more", Some("frozen"))).await)?,
        ),
        ("labels the namespace", Answer::of(namespaces.patch(program, &again, &label).await)?),
        ("deletes the namespace", Answer::of(namespaces.delete(program, &DeleteParams::default()).await)?),
    ] {
        ensure!(answer.refused_by_floor(), "in a cordoned tenant alice {what}: {answer}");
    }
    // Looking, and ending.
    configurations.get("kept").await?;
    pods.delete("ends", &DeleteParams::default()).await?;
    pods.evict("evicted", &EvictParams::default()).await?;
    // The platform team, and who may break the glass; he is told, and elsewhere he has nothing.
    for (who, client) in [("the platform team", &platform), ("the restorer", &restorer)] {
        let answer = creates(client, program).await?;
        ensure!(answer == Answer::Admitted, "{who} in a cordoned tenant: {answer}");
    }
    let quota =
        json!({"apiVersion": QUOTA[0], "kind": QUOTA[1], "metadata": {"name": "restored"}, "spec": {"hard": {"pods": "1"}}});
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (who, client, admitted) in [("the restorer", &restorer, true), ("the platform team", &platform, false)] {
        let answer = Answer::of(api(client, QUOTA, Some(program)).create(&dry, &serde_json::from_value(quota.clone())?).await)?;
        ensure!((answer == Answer::Admitted) == admitted, "{who} writes a quota: {answer}");
    }
    let answer = Answer::of(
        Api::<Pod>::namespaced(restorer.clone(), program)
            .create(&dry, &objects::pod("p", "true", &[("/hostPID", json!(true))]))
            .await,
    )?;
    ensure!(answer.refused_by_floor(), "the restorer makes a pod with the host's processes: {answer}");

    // Active again, but what is there stays there.
    let mut kept = state("Active");
    kept["namespaces"] = json!({"deletion": "Platform"});
    tenant(&platform, "frozen", kept).await?;
    sees(&boundary, "boundary", "/spec/state", json!("Active")).await?;
    let held = wait::until("alice to be let in again", SOON, || async {
        let labelled = Answer::of(namespaces.patch(program, &again, &label).await)?;
        ensure!(labelled == Answer::Admitted, "{labelled}");
        let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
        Answer::of(namespaces.delete(program, &dry).await)
    })
    .await?;
    ensure!(held.refused_by_floor(), "alice deletes a namespace that only the platform team may delete: {held}");
    let answer = creates(&alice, program).await?;
    ensure!(answer == Answer::Admitted, "alice, once the tenant is active again: {answer}");
    api(&platform, TENANT, None).delete("frozen", &DeleteParams::default()).await?;
    Ok(())
}
