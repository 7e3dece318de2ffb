//! Finds out on each node whether NetworkPolicies are enforced, and says so in its NodeNetwork.
//!
//! Only runs pods, waits and writes; see [`crate::desired::probe`]. The network enforcer acts on what is written. It is the
//! operator's, so that no node's agent may make pods.

use std::sync::Arc;
use std::time::Duration;

use freehold_crds::{NodeNetwork, NodeNetworkStatus, probing};
use freehold_serve::stop::Stop;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, ListParams, PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::apply::{FIELD_MANAGER, said};
use crate::cache::Cache;
use crate::desired::probe::{self, Mode, NODE_LABEL};
use crate::metrics::Metrics;

/// Time between two looks at which nodes are due.
const TICK: Duration = Duration::from_secs(5);
/// Nodes that are probed at once: two pods each, for some seconds.
const AT_ONCE: usize = 4;
/// Nodes of one turn; the rest comes with the next one, so that a new node does not wait for all.
const TURN: usize = 16;
/// Longest time for a pod to run, its image included; below the time after which the kubelet ends it.
const RUNS: Duration = Duration::from_secs(45);
/// Longest time for the asking pod to end: 30 s of rounds, and its start.
const ENDS: Duration = Duration::from_secs(75);
/// Nodes whose label says that they run another system are not probed.
const SYSTEM_LABEL: &str = "kubernetes.io/os";

/// What the probing needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When the enforcer is on.
    pub mode: Mode,
    /// The network enforcer's image; without one nothing is probed.
    pub image: String,
    /// When a node pulls it.
    pub pull_policy: String,
    /// Time between probes of a node of which is known what it does.
    pub interval: SignedDuration,
}

/// Probes nodes when they are due, until a stop.
pub async fn run(client: Client, cache: Arc<Cache>, metrics: Metrics, settings: Settings, mut stop: Stop) {
    if settings.image.is_empty() {
        tracing::info!("no image to probe with; whether NetworkPolicies are enforced is not found out");
        return;
    }
    let prober = Prober { client, cache, metrics, settings };
    let work = async {
        loop {
            prober.turn().await;
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.wait() => {}
    }
}

/// Why a round said nothing about a node.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("could not {what}: {}", said(source))]
    Api {
        what: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the {role} pod did not {what} within {} s: {standing}", limit.as_secs())]
    Late { role: &'static str, what: &'static str, limit: Duration, standing: String },
}

struct Prober {
    client: Client,
    cache: Arc<Cache>,
    metrics: Metrics,
    settings: Settings,
}

impl Prober {
    async fn turn(&self) {
        let now = Timestamp::now();
        let mut due = Vec::new();
        for node in self.cache.nodes.state() {
            let other = node.labels().get(SYSTEM_LABEL).is_some_and(|system| system != "linux");
            if other || node.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let known = self.cache.networks.get(&ObjectRef::new(&node.name_any()));
            let status = known.as_ref().and_then(|known| known.status.as_ref());
            if probe::is_due(status, self.settings.mode, self.settings.interval, now) {
                let last = status.and_then(|status| status.probe.as_ref()).map(|probe| probe.time.0);
                due.push((last, node));
            } else if let Some(status) = status {
                // The mode may be another one since.
                let told = probe::told(status, self.settings.mode, now);
                if told != *status {
                    self.write(&node, &told).await;
                }
            }
        }
        // New ones first, then who waits longest.
        due.sort_by_key(|(last, node)| (*last, node.name_any()));
        due.truncate(TURN);
        futures::stream::iter(due).for_each_concurrent(AT_ONCE, |(_, node)| async move { self.probe(&node).await }).await;
    }

    async fn probe(&self, node: &PartialObjectMeta<Node>) {
        let name = node.name_any();
        let uid = node.uid().unwrap_or_default();
        let found = self.ask(&name, &uid).await.unwrap_or_else(|error| probe::nothing(&error.to_string()));
        if let Err(error) = self.sweep(&uid).await {
            tracing::warn!(node = name, %error, "a probe's pods are left to their own end");
        }
        tracing::info!(node = name, result = ?found.result, enforcer_seen = found.enforcer_seen, found.evidence, "network probed");
        self.metrics.probed(found.result);
        let before = self.cache.networks.get(&ObjectRef::new(&name));
        let status = before.as_ref().and_then(|before| before.status.as_ref());
        let after = probe::after(status, self.settings.mode, found, Timestamp::now());
        self.write(node, &after).await;
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), probing::NAMESPACE)
    }

    /// Two pods, one after the other; what the second one found.
    async fn ask(&self, node: &str, uid: &str) -> Result<probe::Finding, Error> {
        self.sweep(uid).await?;
        let name = self.start(probing::ANSWER, node, uid, vec!["probe-answer".to_owned()]).await?;
        let runs = |pod: Option<&Pod>| {
            let status = pod.and_then(|pod| pod.status.as_ref());
            status.is_some_and(|status| status.phase.as_deref() == Some("Running") && status.pod_ip.is_some())
        };
        let answering = self.awaited(&name, "answering", "run", RUNS, runs).await?;
        let addresses = answering.status.as_ref().and_then(|status| status.pod_ips.as_ref());
        let addresses: Vec<_> = addresses.into_iter().flatten().map(|one| one.ip.clone()).collect();
        let arguments = vec!["probe-ask".to_owned(), addresses.join(",")];
        let name = self.start(probing::ASK, node, uid, arguments).await?;
        let over = |pod: Option<&Pod>| pod.is_some_and(|pod| probe::ended(pod).is_some());
        let asking = self.awaited(&name, "asking", "end", ENDS, over).await?;
        Ok(probe::ended(&asking).map_or_else(|| probe::nothing("the asking pod is gone"), probe::reading))
    }

    async fn start(&self, role: &str, node: &str, uid: &str, arguments: Vec<String>) -> Result<String, Error> {
        let pod = probe::pod(role, node, uid, &self.settings.image, &self.settings.pull_policy, &arguments);
        let failed = |source| Error::Api { what: "create a pod of the probe", source: Box::new(source) };
        let pod: Pod = serde_json::from_value(pod).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        Ok(self.pods().create(&PostParams::default(), &pod).await.map_err(failed)?.name_any())
    }

    async fn awaited(
        &self,
        name: &str,
        role: &'static str,
        what: &'static str,
        limit: Duration,
        is: impl Fn(Option<&Pod>) -> bool,
    ) -> Result<Pod, Error> {
        let waited = tokio::time::timeout(limit, await_condition(self.pods(), name, is)).await;
        if let Ok(Ok(Some(pod))) = waited {
            return Ok(pod);
        }
        let pod = self.pods().get_opt(name).await.ok().flatten();
        Err(Error::Late { role, what, limit, standing: probe::standing(pod.as_ref()) })
    }

    /// Deletes the pods of a node's probes, those of an earlier operator too.
    async fn sweep(&self, uid: &str) -> Result<(), Error> {
        let failed = |what| move |source| Error::Api { what, source: Box::new(source) };
        let of_node = ListParams::default().labels(&format!("{NODE_LABEL}={uid}"));
        let found = self.pods().list_metadata(&of_node).await.map_err(failed("list the pods of the probe"))?;
        for pod in found.items {
            match self.pods().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                outcome => drop(outcome.map_err(failed("delete a pod of the probe"))?),
            }
        }
        Ok(())
    }

    /// Puts the NodeNetwork in place, and its status; a failure is logged, and the node is due again.
    async fn write(&self, node: &PartialObjectMeta<Node>, status: &NodeNetworkStatus) {
        let name = node.name_any();
        let api: Api<NodeNetwork> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let written = async {
            if self.cache.networks.get(&ObjectRef::new(&name)).is_none() {
                let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid()});
                let object = json!({
                    "apiVersion": "freehold.dev/v1alpha1", "kind": "NodeNetwork",
                    "metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"nodeName": name},
                });
                self.metrics.wrote_to("NodeNetwork", "apply");
                api.patch(&name, &parameters, &Patch::Apply(&object)).await?;
            }
            let document = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name}, "status": status});
            self.metrics.wrote_to("NodeNetwork", "status");
            api.patch_status(&name, &parameters, &Patch::Apply(&document)).await
        };
        if let Err(error) = written.await {
            tracing::warn!(node = name, error = said(&error), "what a probe found could not be written");
        }
    }
}
