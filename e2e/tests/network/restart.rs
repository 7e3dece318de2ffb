//! What holds while the enforcer is away, and when it comes back.

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::STAGE_A;
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::stage::Stage;
use freehold_e2e::{People, wait};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::scene::{STARTED, becomes, probed, ready, said, set};

/// Takes the enforcer off the node, or puts it back, and waits until that is so.
async fn enforcer(platform: &Client, there: bool) -> anyhow::Result<()> {
    let sets: Api<DaemonSet> = Api::namespaced(platform.clone(), "freehold-node");
    let nowhere = if there { Value::Null } else { json!("true") };
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": {"freehold.dev/nowhere": nowhere}}}}});
    sets.patch("freehold-network-enforcer", &PatchParams::default(), &Patch::Merge(patch)).await?;
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-node");
    let own = ListParams::default().labels("app.kubernetes.io/name=freehold-network-enforcer");
    wait::until(&format!("the enforcer to be there: {there}"), STARTED, || async {
        let found = pods.list(&own).await?.items;
        let ready = found.iter().filter(|pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
        });
        ensure!((ready.count() > 0) == there && (there || found.is_empty()), "{} pods", found.len());
        Ok(())
    })
    .await
}

/// What must hold while no enforcer runs on the node.
async fn without_enforcer(people: &People, stage: &Stage, connection: &mut Connection) -> anyhow::Result<String> {
    let platform = &people.platform;
    ensure!(connection.carries().await?, "the open connection ended with the enforcer");
    ensure!(!answers(platform, STAGE_A, &stage.a.pod, &stage.b.address, 8080).await?, "another tenant's pod answers");
    ensure!(answers(platform, STAGE_A, &stage.a.pod, &stage.neighbour.address, 8080).await?, "the neighbour does not answer");
    // Nobody tells the table of this one: its probe comes through, and nothing else.
    Api::<Pod>::namespaced(people.alice.clone(), STAGE_A).create(&PostParams::default(), &probed("unknown")).await?;
    let address = ready(platform, "unknown").await?;
    ensure!(!answers(platform, STAGE_A, &stage.a.pod, &address, 8080).await?, "a pod that is not known yet is reached");
    ensure!(
        !answers(platform, STAGE_A, "unknown", &stage.neighbour.address, 8080).await?,
        "a pod that is not known yet gets out"
    );
    Ok(address)
}

#[tokio::test]
async fn a_restart_opens_nothing_and_breaks_nothing() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let platform = &people.platform;
    let (a, b) = (&stage.a.pod, &stage.b.address);
    let mut connection = Connection::open(platform, &stage).await?;

    enforcer(platform, false).await?;
    let held = without_enforcer(&people, &stage, &mut connection).await;
    // Also where that failed: the cluster is somebody's.
    let (back, leaked) = tokio::join!(enforcer(platform, true), async {
        let mut leaked = Vec::new();
        for _ in 0..3 {
            leaked.push(answers(platform, STAGE_A, a, b, 8080).await);
        }
        leaked
    });
    back?;
    let unknown = held?;
    for answer in leaked {
        ensure!(!answer?, "another tenant's pod answered while the enforcer came back");
    }
    ensure!(connection.carries().await?, "the open connection ended when the enforcer came back");
    becomes(platform, a, &unknown, true).await.context("it is known now")?;
    Api::<Pod>::namespaced(people.alice.clone(), STAGE_A).delete("unknown", &DeleteParams::default()).await?;

    said(&["nft", "flush", "table", "inet", "freehold"])?;
    becomes(platform, a, b, false).await.context("someone flushed the table by hand")?;
    ensure!(connection.carries().await?, "the open connection ended");
    Ok(())
}
