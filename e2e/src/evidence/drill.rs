//! The zero-replica drill: the webhook goes away, the floor must hold alone, and the webhook comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::api;
use crate::wait;

const NAMESPACE: &str = "freehold-system";
const WEBHOOK: &str = "freehold-webhook";
/// A replica ends within its grace period of 30 s and starts within seconds.
const SCALED: Duration = Duration::from_secs(60);

/// Scales the webhook to zero and waits until nothing serves it; how many replicas there were.
///
/// # Errors
/// If it can't be scaled, or something still serves it after a minute.
pub async fn away(platform: &Client) -> anyhow::Result<i32> {
    let deployments: Api<Deployment> = api(platform, NAMESPACE);
    let replicas = deployments.get(WEBHOOK).await?.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    ensure!(replicas > 0, "the webhook is away already, so that its absence shows nothing new");
    scale(platform, 0).await?;
    wait::until("the webhook to serve nobody", SCALED, || async {
        let serving = serving(platform).await?;
        let left = deployments.get(WEBHOOK).await?.status.and_then(|status| status.replicas).unwrap_or_default();
        ensure!(serving == 0 && left == 0, "{serving} endpoints, {left} replicas");
        Ok(())
    })
    .await?;
    Ok(replicas)
}

/// Scales the webhook back and waits until all its replicas serve.
///
/// # Errors
/// If they do not within a minute.
pub async fn back(platform: &Client, replicas: i32) -> anyhow::Result<()> {
    scale(platform, replicas).await?;
    let wanted = usize::try_from(replicas).context("a negative number of replicas")?;
    wait::until("the webhook to serve again", SCALED, || async {
        let serving = serving(platform).await?;
        ensure!(serving == wanted, "{serving} of {wanted} replicas serve");
        Ok(())
    })
    .await
}

async fn scale(platform: &Client, replicas: i32) -> anyhow::Result<()> {
    let patch = json!({"spec": {"replicas": replicas}});
    let deployments: Api<Deployment> = api(platform, NAMESPACE);
    deployments.patch_scale(WEBHOOK, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// How many endpoints the API server may send reviews to.
async fn serving(platform: &Client) -> anyhow::Result<usize> {
    let selector = format!("kubernetes.io/service-name={WEBHOOK}");
    let slices = api::<EndpointSlice>(platform, NAMESPACE).list(&ListParams::default().labels(&selector)).await?;
    let ready: BTreeSet<String> = slices
        .items
        .into_iter()
        .flat_map(|slice| slice.endpoints)
        .filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true)))
        .flat_map(|endpoint| endpoint.addresses)
        .collect();
    Ok(ready.len())
}
