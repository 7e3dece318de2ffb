//! What the API server holds, as watched, made into a view each time it changes.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use freehold_crds::Boundary;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, PodSpec};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::view::{Objects, View};

/// Least time between two views: changes that come together go together.
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the watches, and hands out a view as soon as each has its first list. All end with the set.
///
/// # Errors
/// If a watch ended before that.
pub async fn start(client: &Client) -> anyhow::Result<(watch::Receiver<Arc<View>>, JoinSet<()>)> {
    let mut tasks = JoinSet::new();
    let changed = Arc::new(Notify::new());
    let pods: Store<Pod> = follow(&mut tasks, client, &changed, |pod| {
        pod.spec = Some(PodSpec { host_network: pod.spec.as_ref().and_then(|spec| spec.host_network), ..PodSpec::default() });
        if let Some(status) = &mut pod.status {
            (status.container_statuses, status.init_container_statuses, status.conditions) = (None, None, None);
        }
    });
    let namespaces: Store<Namespace> = follow(&mut tasks, client, &changed, |_| {});
    let boundaries: Store<Boundary> = follow(&mut tasks, client, &changed, |_| {});
    pods.wait_until_ready().await?;
    namespaces.wait_until_ready().await?;
    boundaries.wait_until_ready().await?;
    let objects = move || Objects { pods: pods.state(), namespaces: namespaces.state(), boundaries: boundaries.state() };
    let (tell, view) = watch::channel(Arc::new(View::new(&objects())));
    tasks.spawn(async move {
        while !tell.is_closed() {
            changed.notified().await;
            tell.send_replace(Arc::new(View::new(&objects())));
            tokio::time::sleep(PAUSE).await;
        }
    });
    Ok((view, tasks))
}

/// One watch. It never ends by itself; failures back off and are logged, and what was known stays in force. Of objects only
/// what decides is kept.
fn follow<K>(tasks: &mut JoinSet<()>, client: &Client, changed: &Arc<Notify>, slim: fn(&mut K)) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let mut writer = Writer::<K>::default();
    let (reader, changed, api) = (writer.as_reader(), changed.clone(), Api::<K>::all(client.clone()));
    tasks.spawn(async move {
        let events = watcher(api, watcher::Config::default()).default_backoff().modify(move |object| {
            object.managed_fields_mut().clear();
            object.annotations_mut().clear();
            slim(object);
        });
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
