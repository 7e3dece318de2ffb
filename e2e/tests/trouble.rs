//! Trouble on a real cluster: what is killed comes back, what is wrong is said, and nothing opens meanwhile.
#![cfg(feature = "live")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::{STAGE_A, kernel, stage};
use freehold_e2e::live::home;
use freehold_e2e::storm::Storm;
use freehold_e2e::{Answer, People, node, objects, wait};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

/// Longest wait for a program of ours to be there again after it was killed.
const BACK: Duration = Duration::from_secs(60);
/// Longest wait until certificates of 30 s validity were replaced twice; at two thirds comes the next.
const ROTATING: Duration = Duration::from_secs(70);

/// Every live test has the stage of the demo.
async fn people() -> anyhow::Result<People> {
    let people = People::from_environment().await?;
    for tenant in ["team-a", "team-b"] {
        stage::tenant(&people.platform, &std::path::Path::new("../examples").join(format!("{tenant}.yaml"))).await?;
    }
    Ok(people)
}

fn tenants(client: &Client) -> Api<freehold_crds::Tenant> {
    Api::all(client.clone())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Kills the pods of one of our programs at once, as a node that dies would.
async fn kill(platform: &Client, namespace: &str, program: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), namespace);
    let all = pods.list(&ListParams::default().labels(&format!("app.kubernetes.io/name={program}"))).await?.items;
    ensure!(!all.is_empty(), "there is no pod of {program} to kill");
    for pod in all {
        let name = pod.metadata.name.context("a pod without a name")?;
        pods.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_operator_heals_what_was_broken_meanwhile() -> anyhow::Result<()> {
    let people = people().await?;
    stage::set(&people).await?;
    let operator = freehold_e2e::people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?;
    kill(&people.platform, "freehold-system", "freehold-operator").await?;
    let policies: Api<NetworkPolicy> = Api::namespaced(operator, STAGE_A);
    policies.delete("freehold-default-deny", &DeleteParams::default()).await.context("could not tamper")?;
    wait::until("the next operator to put the policy back", BACK, || async { Ok(policies.get("freehold-default-deny").await?) })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_webhook_opens_nothing_and_comes_back() -> anyhow::Result<()> {
    let people = people().await?;
    stage::set(&people).await?;
    kill(&people.platform, "freehold-system", "freehold-webhook").await?;
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), STAGE_A);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let unnamed = objects::pod("unnamed", "true", &[("/runtimeClassName", Value::Null)]);
    let (began, mut rounds) = (Instant::now(), 0);
    loop {
        for (what, path, value) in objects::hostile_pods() {
            let answer = Answer::of(pods.create(&dry, &objects::pod("hostile", "true", &[(path, value)])).await)?;
            ensure!(answer != Answer::Admitted, "while the webhook was away, a pod with {what} was admitted");
        }
        let control = Answer::of(pods.create(&dry, &objects::pod("compliant", "true", &[])).await)?;
        ensure!(control == Answer::Admitted, "a compliant pod was refused in round {rounds}: {control}");
        rounds += 1;
        if Answer::of(pods.create(&dry, &unnamed).await)? == Answer::Admitted {
            return Ok(());
        }
        ensure!(began.elapsed() < BACK, "after {rounds} rounds no webhook completes pods again");
    }
}

#[tokio::test]
async fn certificates_are_replaced_while_requests_go_on() -> anyhow::Result<()> {
    let people = people().await?;
    stage::set(&people).await?;
    let secrets: Api<Secret> = Api::namespaced(people.platform.clone(), "freehold-system");
    let made = || async {
        let secret = secrets.get("freehold-webhook-certificates").await?;
        let document = secret.data.unwrap_or_default().remove("generations.json").context("there is no certificate")?;
        let generations: Vec<Value> = serde_json::from_slice(&document.0)?;
        anyhow::Ok(generations.into_iter().filter_map(|one| one["made"].as_i64()).collect::<Vec<_>>())
    };
    // Only the webhook names a class, and without a class the floor refuses: with no retry each such admission is an answer over TLS. Dry runs, as they
    // are many.
    let own = home(&people, "rotates", json!({})).await?;
    let storm = Storm::new(Api::namespaced(people.alice.clone(), &own), false, Some(0));
    let seen = Mutex::new(BTreeSet::new());
    let replaced = wait::until("two certificates to be replaced", ROTATING, || async {
        let made = made().await?;
        let mut seen = seen.lock().unwrap();
        seen.extend(made);
        ensure!(seen.len() >= 3, "{seen:?}");
        Ok(seen.len())
    });
    let seen = storm.around(replaced).await?;
    println!("{} pods over {seen} certificates", storm.counts().0);
    tenants(&people.platform).delete("rotates", &DeleteParams::default()).await?;
    Ok(())
}

/// Row H1: one of two replicas dies in the middle of many requests. What is admitted is stored.
#[tokio::test]
async fn one_replica_killed_in_a_storm_opens_and_refuses_nothing() -> anyhow::Result<()> {
    let people = people().await?;
    let own = home(&people, "storms", json!({})).await?;
    let replicas: Api<Pod> = Api::namespaced(people.platform.clone(), "freehold-system");
    let of_webhook = ListParams::default().labels("app.kubernetes.io/name=freehold-webhook");
    let ready = || async {
        let found = replicas.list(&of_webhook).await?.items.into_iter().filter(is_ready);
        anyhow::Ok(found.filter_map(|pod| pod.metadata.name).collect::<Vec<_>>())
    };
    let storm = Storm::new(Api::namespaced(people.alice.clone(), &own), true, Some(1));
    let killed = async {
        let before = wait::until("two replicas", BACK, || async {
            let found = ready().await?;
            ensure!(found.len() == 2, "{found:?}");
            Ok(found)
        })
        .await?;
        storm.more(100).await?;
        replicas.delete(&before[0], &DeleteParams::default().grace_period(0)).await?;
        storm.more(100).await?;
        wait::until("two replicas again", BACK, || async {
            let found = ready().await?;
            ensure!(found.len() == 2 && !found.contains(&before[0]), "{found:?}");
            Ok(())
        })
        .await?;
        storm.more(100).await
    };
    storm.around(killed).await?;
    println!("pods, and tried again: {:?}", storm.counts());
    tenants(&people.platform).delete("storms", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_machine_is_a_new_pod() -> anyhow::Result<()> {
    let people = people().await?;
    let before = stage::set(&people).await?;
    let pods: Api<Pod> = Api::namespaced(people.platform.clone(), STAGE_A);
    let pod = pods.get(&before.a.pod).await?;
    let uid = pod.metadata.uid.context("a pod without a UID")?;
    // A pod's processes are those whose cgroup names it.
    let script = format!(
        "for p in /proc/[0-9]*; do grep -qs pod{uid} $p/cgroup && tr '\\0' ' ' <$p/cmdline | grep -q qemu-system && kill -9 ${{p#/proc/}} && echo killed; done; true"
    );
    let said = node::sh(&script)?;
    ensure!(said.contains("killed"), "no machine was found to kill: {said}");
    let after = wait::until("another pod to run in another machine", Duration::from_secs(90), || async {
        let facts = kernel::facts(&people.alice, STAGE_A, "web").await?;
        ensure!(facts.boot_id != before.a.boot_id, "it is still the same machine");
        Ok(facts)
    })
    .await?;
    ensure!(after.release == before.a.release, "the next pod runs on {}", after.release);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_tenant_is_said_with_the_field() -> anyhow::Result<()> {
    let platform = people().await?.platform;
    let tenants: Api<freehold_crds::Tenant> = Api::all(platform);
    let owner = json!([{"kind": "User", "name": "carol"}]);
    for (spec, field) in [
        (json!({"owners": []}), "spec.owners"),
        (json!({"owners": [{"kind": "ServiceAccount", "name": "ci"}]}), "spec.owners[0]"),
        (json!({"owners": [{"kind": "User", "name": "system:admin"}]}), "spec.owners[0]"),
        (json!({"owners": owner, "namespaces": {"max": 0}}), "spec.namespaces.max"),
        (json!({"owners": owner, "runtimes": {"default": "x", "allowed": ["y"]}}), "spec.runtimes"),
    ] {
        let tenant =
            json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "wrong"}, "spec": spec});
        let tenant: freehold_crds::Tenant = serde_json::from_value(tenant)?;
        let answer = Answer::of(tenants.create(&PostParams { dry_run: true, ..PostParams::default() }, &tenant).await)?;
        ensure!(answer.says(field), "{spec}: the answer does not name {field}: {answer}");
    }
    Ok(())
}
