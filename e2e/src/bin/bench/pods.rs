//! Pods that are measured: made, waited for, asked, removed.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, AttachParams, DeleteParams, LogParams, PostParams};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::Kind;

/// One small layer.
pub const SMALL: &str = "freehold.dev/test:dev";
/// Ten layers.
pub const LAYERS: &str = "freehold.dev/layers:dev";
/// 500 MB in one layer.
pub const LARGE: &str = "freehold.dev/large:dev";
/// Longest wait for anything: a crowd of machines boots by emulation on few processors.
const LONG: Duration = Duration::from_secs(300);

fn pod(kind: &Kind, name: &str, image: &str) -> anyhow::Result<Pod> {
    let container = json!({
        "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
        // A process that takes TERM, so that deleting is not a wait for the grace to be over.
        "command": ["sh", "-c", "trap 'exit 0' TERM; echo first; sleep 100000 & wait"],
    });
    let spec = json!({"automountServiceAccountToken": false, "containers": [container]});
    let mut pod = json!({"metadata": {"name": name}, "spec": spec});
    if let Some(class) = kind.class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    Ok(serde_json::from_value(pod)?)
}

/// Makes a pod and waits until the API server says that it runs.
pub async fn create(pods: &Api<Pod>, kind: &Kind, name: &str, image: &str) -> anyhow::Result<()> {
    pods.create(&PostParams::default(), &pod(kind, name, image)?).await?;
    let is_running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let running = kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_some_and(is_running));
    tokio::time::timeout(LONG, running).await.with_context(|| format!("{name} does not run"))??;
    Ok(())
}

/// Deletes a pod and waits until it is gone.
pub async fn remove(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let gone = kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
    pods.delete(name, &DeleteParams::default()).await?;
    tokio::time::timeout(LONG, gone).await.with_context(|| format!("{name} does not go"))??;
    Ok(())
}

/// When the container runtime took the first line of a pod's log: its stamp, so that nothing is lost by looking too late.
pub async fn first_byte(pods: &Api<Pod>, name: &str) -> anyhow::Result<Timestamp> {
    let parameters = LogParams { timestamps: true, ..LogParams::default() };
    wait::until("the first byte of its log", LONG, async || {
        let log = pods.logs(name, &parameters).await?;
        let stamp = log.split_once(" first").context("nothing yet")?.0;
        stamp.parse().with_context(|| format!("the log begins with no time: {stamp}"))
    })
    .await
}

/// Runs something in a pod; what it says on stdout. It must succeed.
pub async fn run(pods: &Api<Pod>, name: &str, script: &str) -> anyhow::Result<String> {
    let mut process = pods.exec(name, ["sh", "-c", script], &AttachParams::default().stderr(false)).await?;
    let mut said = String::new();
    process.stdout().context("an exec without stdout")?.read_to_string(&mut said).await?;
    let status = process.take_status().context("an exec without an end")?.await.context("the exec did not end")?;
    ensure!(status.status.as_deref() == Some("Success"), "{name}: «{script}» failed: {:?}; it said: {said}", status.message);
    Ok(said)
}
