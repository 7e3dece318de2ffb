//! Whose kernel does a pod run on: what its own words say, beside the host's.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, ListParams, LogParams};

use super::api;
use crate::{Row, wait};

/// A pod of the stage has this long to run and to say what it runs on; under emulation a boot alone takes seconds.
const SAYS: Duration = Duration::from_secs(120);

/// Prints boot id and kernel release, then serves HTTP for the network rows.
pub const SCRIPT: &str =
    "cat /proc/sys/kernel/random/boot_id; uname -r; cd /tmp && echo hello > index.html; exec httpd -f -p 8080";

/// What a pod says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The pod's name.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// The node it runs on.
    pub node: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// `uname -r`
    pub release: String,
    /// The class it runs with.
    pub runtime_class: String,
    /// From creation to all containers running, in whole seconds as the API keeps them.
    pub start_seconds: i64,
}

/// Waits until a running pod of `app` said boot id and kernel release.
///
/// # Errors
/// After two minutes, with what was seen last.
pub async fn facts(client: &Client, namespace: &str, app: &str) -> anyhow::Result<Facts> {
    let pods = api::<Pod>(client, namespace);
    wait::until(&format!("the pod of {namespace}/{app} to run and say its kernel"), SAYS, || async {
        let found = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items;
        let pod = found.into_iter().next().ok_or_else(|| anyhow::anyhow!("there is no pod yet"))?;
        let name = pod.metadata.name.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let state = status.container_statuses.clone().unwrap_or_default();
        let running = state.iter().find_map(|container| container.state.as_ref()?.running.as_ref()?.started_at.clone());
        let Some(running) = running else {
            anyhow::bail!("phase {:?}, {:?}", status.phase, state.first().and_then(|container| container.state.clone()))
        };
        let created = pod.metadata.creation_timestamp.clone().ok_or_else(|| anyhow::anyhow!("no creation time"))?;
        let log = pods.logs(&name, &LogParams::default()).await?;
        let mut lines = log.lines();
        let (Some(boot_id), Some(release)) = (lines.next(), lines.next()) else {
            anyhow::bail!("it has not spoken yet: {log:?}")
        };
        let spec = pod.spec.unwrap_or_default();
        Ok(Facts {
            pod: name,
            address: status.pod_ip.unwrap_or_default(),
            node: spec.node_name.unwrap_or_default(),
            boot_id: boot_id.to_owned(),
            release: release.to_owned(),
            runtime_class: spec.runtime_class_name.unwrap_or_default(),
            start_seconds: running.0.as_second() - created.0.as_second(),
        })
    })
    .await
}

/// Compares both pods, and each with its node as the node's kubelet reports it: the cluster may be anywhere.
///
/// # Errors
/// If a node can't be read, or says nothing of its kernel.
pub async fn rows(platform: &Client, a: &Facts, b: &Facts) -> anyhow::Result<Vec<Row>> {
    let (host_boot, host_release) = host(platform, &a.node).await?;
    let (other_boot, other_release) = host(platform, &b.node).await?;
    let hosts = [&host_boot, &other_boot];
    let differ = a.boot_id != b.boot_id && !hosts.contains(&&a.boot_id) && !hosts.contains(&&b.boot_id);
    let same = a.release == b.release && ![&host_release, &other_release].contains(&&a.release);
    Ok(vec![
        Row::fact(
            "boot ids of alice's pod, bob's pod and the host",
            format!("{} | {} | {}", short(&a.boot_id), short(&b.boot_id), short(&host_boot)),
            "all three were read".to_owned(),
            "virtual machine",
            differ,
        ),
        Row::fact(
            "kernels of alice's pod, bob's pod and the host",
            format!("{} | {} | {}", a.release, b.release, host_release),
            "the pods' kernels are the same, and not the host's".to_owned(),
            "virtual machine",
            same,
        ),
    ])
}

/// Boot id and kernel release of a node.
async fn host(platform: &Client, node: &str) -> anyhow::Result<(String, String)> {
    let found = Api::<Node>::all(platform.clone()).get(node).await.with_context(|| format!("could not read the node {node}"))?;
    let info =
        found.status.and_then(|status| status.node_info).with_context(|| format!("the node {node} reports nothing of itself"))?;
    anyhow::ensure!(!info.boot_id.is_empty() && !info.kernel_version.is_empty(), "the node {node} reports no kernel");
    Ok((info.boot_id, info.kernel_version))
}

/// The class of pods that named none.
pub fn class(a: &Facts, b: &Facts) -> Row {
    let holds = [a, b].iter().all(|facts| facts.runtime_class == "freehold-microvm");
    Row::fact(
        "runtimeClassName of pods that named none",
        format!("{}, {}", a.runtime_class, b.runtime_class),
        "both run".to_owned(),
        "webhook",
        holds,
    )
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
