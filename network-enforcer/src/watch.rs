//! What the API server holds, as watched, and a bell that rings when it changes.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use freehold_crds::{Boundary, Judged, NodeNetwork};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::convert::Objects;
use crate::judged;

/// The stores.
pub struct Cache {
    pods: Store<Pod>,
    namespaces: Store<Namespace>,
    policies: Store<NetworkPolicy>,
    boundaries: Store<Boundary>,
    nodes: Store<Node>,
    api_servers: Store<EndpointSlice>,
    network: Option<Store<NodeNetwork>>,
    /// Rings when something changed.
    pub changed: Arc<Notify>,
}

impl Cache {
    /// Starts all watches and waits until each has its first list: before that nothing may be decided. The NodeNetwork is
    /// that of `asked`, if a node's is to be heeded.
    ///
    /// # Errors
    /// If a watch ended before that.
    pub async fn start(client: &Client, asked: Option<&str>) -> anyhow::Result<(Self, JoinSet<()>)> {
        let changed = Arc::new(Notify::new());
        let mut watches = JoinSet::new();
        let all = watcher::Config::default;
        let kubernetes = all().labels("kubernetes.io/service-name=kubernetes");
        let one = |node: &str| all().fields(&format!("metadata.name={node}"));
        let cache = Self {
            network: asked.map(|node| follow(&mut watches, Api::all(client.clone()), one(node), &changed)),
            pods: follow(&mut watches, Api::all(client.clone()), all(), &changed),
            namespaces: follow(&mut watches, Api::all(client.clone()), all(), &changed),
            policies: follow(&mut watches, Api::all(client.clone()), all(), &changed),
            boundaries: follow(&mut watches, Api::all(client.clone()), all(), &changed),
            nodes: follow(&mut watches, Api::all(client.clone()), all(), &changed),
            api_servers: follow(&mut watches, Api::namespaced(client.clone(), "default"), kubernetes, &changed),
            changed,
        };
        cache.pods.wait_until_ready().await?;
        cache.namespaces.wait_until_ready().await?;
        cache.policies.wait_until_ready().await?;
        cache.boundaries.wait_until_ready().await?;
        cache.nodes.wait_until_ready().await?;
        cache.api_servers.wait_until_ready().await?;
        if let Some(network) = &cache.network {
            network.wait_until_ready().await?;
        }
        Ok((cache, watches))
    }

    /// Whose traffic is to be judged, where that is asked at all.
    pub fn judged(&self) -> Option<Judged> {
        let network = self.network.as_ref()?.state();
        Some(judged::said(network.first().map(|network| &**network)))
    }

    /// Everything as it is now.
    pub fn objects(&self) -> Objects {
        Objects {
            pods: self.pods.state(),
            namespaces: self.namespaces.state(),
            policies: self.policies.state(),
            boundaries: self.boundaries.state(),
            nodes: self.nodes.state(),
            api_servers: self.api_servers.state(),
        }
    }
}

/// The DaemonSet that this program runs for. Watched, because an uninstall takes the right to ask in the moment it matters.
pub struct Own {
    store: Store<DaemonSet>,
    // Dropped with it, which ends the watch.
    _watch: JoinSet<()>,
}

impl Own {
    /// Starts to watch it.
    pub fn follow(client: &Client, namespace: &str, name: &str) -> Self {
        let mut watch = JoinSet::new();
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let store = follow(&mut watch, Api::namespaced(client.clone(), namespace), one, &Arc::new(Notify::new()));
        Self { store, _watch: watch }
    }

    /// Whether it is known to be gone or on its way out; not known is no.
    pub fn is_gone(&self) -> bool {
        let known = matches!(self.store.wait_until_ready().now_or_never(), Some(Ok(())));
        known && self.store.state().iter().all(|found| found.metadata.deletion_timestamp.is_some())
    }
}

/// One watch. It never ends by itself; failures back off and are logged, and what was known stays in force.
fn follow<K>(watches: &mut JoinSet<()>, api: Api<K>, config: watcher::Config, changed: &Arc<Notify>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let mut writer = Writer::<K>::default();
    let (reader, changed) = (writer.as_reader(), changed.clone());
    watches.spawn(async move {
        // Managed fields are the larger part of a pod and mean nothing here.
        let events = watcher(api, config).default_backoff().modify(|object| object.managed_fields_mut().clear());
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    writer.apply_watcher_event(&event);
                    if !matches!(event, Event::Init | Event::InitApply(_)) {
                        changed.notify_one();
                    }
                }
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch failed; it is taken up again"),
            }
        }
    });
    reader
}
