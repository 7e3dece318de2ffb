//! Mode Auto on a real cluster: a CNI that enforces nothing, then something that does what an enforcing CNI does, then nothing again.

use anyhow::{Context as _, ensure};
use freehold_crds::{Judged, NodeNetwork, NodeNetworkStatus, ProbeResult};
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::{STAGE_A, STAGE_B};
use freehold_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};

use crate::scene::{IN_FORCE, STARTED, judged, said, set};

/// What a CNI that enforces does with the probe's policies, by a table that is not ours.
const OTHERS: &str = "table inet somebodys-cni { chain forward { type filter hook forward priority -1; tcp dport { 8081, 8082 } ip saddr 10.244.0.0/16 drop; }; }";

/// Asks anew by deleting what was found; what is found then.
async fn asked_anew(platform: &Client, node: &str, whose: Judged) -> anyhow::Result<NodeNetworkStatus> {
    Api::<NodeNetwork>::all(platform.clone()).delete(node, &DeleteParams::default()).await?;
    judged(platform, node, whose).await?.status.context("it says nothing")
}

/// Waits until our table is on the node, or no longer is.
async fn table(there: bool) -> anyhow::Result<()> {
    wait::until(&format!("the enforcer's table to be there: {there}"), IN_FORCE, || async {
        let tables = said(&["nft", "list", "tables"])?;
        ensure!(tables.lines().any(|line| line == "table inet freehold") == there, "{tables}");
        Ok(())
    })
    .await
}

fn says(status: &NodeNetworkStatus, settled: ProbeResult, reason: &str) -> anyhow::Result<()> {
    let condition = status.conditions.first().context("no condition")?;
    ensure!(status.settled == Some(settled) && condition.reason == reason && condition.status == "True", "{status:?}");
    let probe = status.probe.as_ref().context("no probe")?;
    ensure!(
        condition.message.contains(&probe.evidence) && probe.evidence.contains("rounds the open port answered"),
        "{status:?}"
    );
    Ok(())
}

/// Waits until a probe found that the CNI enforces nothing and that the enforcer does: a port that only it closes is closed.
async fn enforcer_seen(platform: &Client, node: &str) -> anyhow::Result<()> {
    let networks: Api<NodeNetwork> = Api::all(platform.clone());
    wait::until("a probe to see the enforcer", STARTED, || async {
        let status = networks.get(node).await?.status.context("it says nothing")?;
        ensure!(status.probe.as_ref().is_some_and(|probe| probe.enforcer_seen), "{status:?}");
        says(&status, ProbeResult::Ignored, "EnforcerOn")
    })
    .await
}

/// Row E12: the enforcer leaves where the CNI enforces, comes back at once where it does not, and says why.
#[tokio::test]
async fn the_enforcer_is_on_where_nothing_else_enforces() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let (platform, node) = (&people.platform, &stage.a.node);
    let found = judged(platform, node, Judged::Everybodys).await?.status.context("it says nothing")?;
    ensure!(found.settled == Some(ProbeResult::Ignored), "{found:?}");
    table(true).await?;
    enforcer_seen(platform, node).await?;

    said(&["nft", OTHERS])?;
    let left = async {
        let found = asked_anew(platform, node, Judged::Nobodys).await?;
        says(&found, ProbeResult::Held, "HeldByCNI")?;
        ensure!(found.probe.is_some_and(|probe| probe.streak >= 2), "one probe was enough to leave tenants to a CNI");
        table(false).await?;
        // The stand-in holds the probe's ports only, and so shows that nothing of ours is left.
        wait::until("another tenant's pod to answer, as nothing keeps it", IN_FORCE, || async {
            ensure!(answers(platform, STAGE_A, &stage.a.pod, &stage.b.address, 8080).await?, "it does not");
            Ok(())
        })
        .await
    }
    .await;
    said(&["nft", "delete table inet somebodys-cni"])?;
    // Not known again: tenants are closed before anything is found out.
    let networks: Api<NodeNetwork> = Api::all(platform.clone());
    networks.delete(node, &DeleteParams::default()).await?;
    table(true).await?;
    ensure!(!answers(platform, STAGE_B, &stage.b.pod, &stage.a.address, 8080).await?, "a tenant is open for want of an answer");
    judged(platform, node, Judged::Everybodys).await?;
    left?;
    enforcer_seen(platform, node).await?;
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-probe");
    wait::until("the probe's pods to be gone", STARTED, || async {
        let found = pods.list(&ListParams::default()).await?.items;
        ensure!(found.is_empty(), "{} are left", found.len());
        Ok(())
    })
    .await
}
