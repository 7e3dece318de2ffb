//! What the API server holds, as watched, and who must look again when it changes.
//!
//! Output are stores that reconcilers read, and wakes of the two controllers. Watching what we wrote is how drift is seen:
//! whoever changes or deletes it wakes the Tenant or SandboxRuntime that it belongs to.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use freehold_crds::{
    BOUNDARY_NAME, DEFAULT_CLASS_ANNOTATION, NodeNetwork, NodeRuntime, SandboxRuntime, TENANT_LABEL, Tenant, TenantClass,
};
use freehold_policy::namespace_rules::trusted_namespaces;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use crate::births::Births;
use crate::desired::hosts::hosts;
use crate::desired::tenant::Mark;
use crate::desired::trust::Home;
use crate::desired::{Kind, MANAGED, MANAGED_LABEL, Object};
use crate::owned::{Index, Key, Owned, Whose, whose};
use crate::wake::Wakes;

/// Everything that is watched.
pub struct Cache {
    /// Every Tenant.
    pub tenants: Store<Tenant>,
    /// Every TenantClass.
    pub classes: Store<TenantClass>,
    /// Every SandboxRuntime.
    pub sandboxes: Store<SandboxRuntime>,
    /// Every NodeRuntime.
    pub reports: Store<NodeRuntime>,
    /// Every NodeNetwork.
    pub networks: Store<NodeNetwork>,
    /// Metadata of every Namespace: one that loses our label must be seen too.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Metadata of every Node.
    pub nodes: Store<PartialObjectMeta<Node>>,
    /// Every PriorityClass: one is given to pods that name none.
    pub priorities: Store<PriorityClass>,
    /// Every StorageClass: what becomes of volumes of a claim stands there alone.
    pub storage: Store<StorageClass>,
    /// What carries our label.
    pub owned: Owned,
    /// The kind of [`Kind::OPTIONAL`] that the cluster served when this began.
    pub optional: Option<Kind>,
    /// Tenants to look at.
    pub tenant_wakes: Arc<Wakes>,
    /// SandboxRuntimes to look at.
    pub sandbox_wakes: Arc<Wakes>,
    /// Bindings that Tenants share, to look at.
    pub shard_wakes: Arc<Wakes>,
    /// Namespaces that were made as a tenant's since we watch.
    pub births: Births,
    /// Namespaces by the tenant whose they say they are.
    belonging: RwLock<Index<String, String>>,
    change: watch::Sender<()>,
}

/// Longest wait for the first list of StorageClasses.
const STORAGE_LIMIT: Duration = Duration::from_secs(5);

/// The watches of a [`Cache`]; they end with it.
pub type Watches = tokio::task::JoinSet<()>;

/// Whom a change of an object concerns.
#[derive(Debug, PartialEq, Eq)]
enum Concern {
    Tenant(String),
    Sandbox(String),
    Shard(String),
    AllTenants,
    AllSandboxes,
    AllShards,
}

impl From<Whose> for Concern {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Tenant(name) => Self::Tenant(name),
            Whose::Runtime(name) => Self::Sandbox(name),
        }
    }
}

impl Cache {
    /// Starts all watches and waits until each has its first list.
    ///
    /// # Errors
    /// If a watch ended before that.
    pub async fn start(client: &Client) -> anyhow::Result<(Arc<Self>, Watches)> {
        let (tenants, sandboxes, reports) = (Writer::default(), Writer::default(), Writer::default());
        let (classes, networks) = (Writer::default(), Writer::default());
        let (namespaces, nodes, priorities) = (Writer::default(), Writer::default(), Writer::default());
        let storage = Writer::default();
        let optional = served(client).await?;
        let kinds = Kind::ALL.into_iter().chain(optional);
        let kinds: Vec<_> = kinds.collect();
        let (listed, mut all_listed) = watch::channel(0);
        let cache = Arc::new(Self {
            tenants: tenants.as_reader(),
            classes: classes.as_reader(),
            sandboxes: sandboxes.as_reader(),
            reports: reports.as_reader(),
            networks: networks.as_reader(),
            namespaces: namespaces.as_reader(),
            nodes: nodes.as_reader(),
            priorities: priorities.as_reader(),
            storage: storage.as_reader(),
            owned: Owned::default(),
            optional,
            tenant_wakes: Arc::default(),
            sandbox_wakes: Arc::default(),
            shard_wakes: Arc::default(),
            births: Births::default(),
            belonging: RwLock::default(),
            change: watch::Sender::default(),
        });
        let mut watches = Watches::new();
        let every = cache.clone();
        cache.watch(&mut watches, client, kept(tenants, concerned_tenants));
        cache.watch(
            &mut watches,
            client,
            kept(sandboxes, |_, sandbox: &SandboxRuntime| vec![Concern::Sandbox(sandbox.name_any()), Concern::AllTenants]),
        );
        cache.watch(
            &mut watches,
            client,
            kept(reports, |_, report: &NodeRuntime| vec![Concern::Sandbox(report.spec.sandbox_runtime_name.clone())]),
        );
        cache.watch(&mut watches, client, kept(networks, |_, _: &NodeNetwork| Vec::new()));
        cache.watch(&mut watches, client, kept(classes, |_, _: &TenantClass| vec![Concern::AllTenants]));
        let mut keep = kept(namespaces, move |before: Option<&PartialObjectMeta<Namespace>>, namespace| {
            if let (None, None, Some(uid), Some(_)) =
                (before, &namespace.metadata.deletion_timestamp, &namespace.metadata.uid, tenant_of(namespace))
            {
                every.births.note(uid);
            }
            concerned_by_namespace(before, namespace, || every.tenants.state())
        });
        let indexed = cache.clone();
        cache.watch(&mut watches, client, move |event: Event<PartialObjectMeta<Namespace>>| {
            indexed.index(&event);
            keep(event)
        });
        let usual = |class: &PriorityClass| class.global_default == Some(true);
        cache.watch(
            &mut watches,
            client,
            kept(
                priorities,
                move |before, class: &PriorityClass| {
                    if usual(class) || before.is_some_and(usual) { vec![Concern::AllTenants] } else { Vec::new() }
                },
            ),
        );
        let reclaims = |before: Option<&StorageClass>, class: &StorageClass| {
            let changed = before.is_none_or(|before| before.reclaim_policy != class.reclaim_policy);
            if changed { vec![Concern::AllTenants] } else { Vec::new() }
        };
        cache.watch(&mut watches, client, kept(storage, reclaims));
        // A node's heartbeat must wake nobody.
        let relabelled = |before: Option<&PartialObjectMeta<Node>>, node: &PartialObjectMeta<Node>| {
            let changed = before.is_none_or(|before| before.metadata.labels != node.metadata.labels);
            if changed { vec![Concern::AllSandboxes] } else { Vec::new() }
        };
        cache.watch(&mut watches, client, kept(nodes, relabelled));
        let ours = watcher::Config::default().labels(&format!("{MANAGED_LABEL}={MANAGED}"));
        for &kind in &kinds {
            let (resource, owned, listed, mut is_listed) = (kind.resource(), cache.clone(), listed.clone(), false);
            let events = watcher(Api::all_with(client.clone(), &resource), ours.clone());
            watches.spawn(follow(cache.clone(), events, resource.kind, move |event| {
                let concerned = match &event {
                    Event::Apply(object) | Event::Delete(object) => concerned_by_ours(kind, object).into_iter().collect(),
                    _ => Vec::new(),
                };
                if owned.owned.apply(kind, &event) && !is_listed {
                    is_listed = true;
                    listed.send_modify(|count| *count += 1);
                }
                concerned
            }));
        }
        cache.tenants.wait_until_ready().await?;
        cache.classes.wait_until_ready().await?;
        cache.sandboxes.wait_until_ready().await?;
        cache.reports.wait_until_ready().await?;
        cache.networks.wait_until_ready().await?;
        cache.namespaces.wait_until_ready().await?;
        cache.nodes.wait_until_ready().await?;
        cache.priorities.wait_until_ready().await?;
        all_listed.wait_for(|count| *count == kinds.len()).await?;
        // An older chart gives no right to read them, and few Tenants ask for it: those get no StorageClass until they are there.
        if tokio::time::timeout(STORAGE_LIMIT, cache.storage.wait_until_ready()).await.is_err() {
            tracing::warn!("StorageClasses can't be read; Tenants that say reclaimPolicies have none until then");
        }
        // Everything is looked at once, whatever the order in which the lists came.
        cache.tell(&Concern::AllTenants);
        cache.tell(&Concern::AllSandboxes);
        Ok((cache, watches))
    }

    /// An object of ours as it is stored.
    pub fn live(&self, object: &Object) -> Option<Value> {
        self.owned.get(&Key::of(object))
    }

    /// Tells of every event after it came into its store.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.change.subscribe()
    }

    /// What is known of the namespace of a ServiceAccount.
    pub fn home(&self, namespace: &str) -> Home {
        match self.namespaces.get(&ObjectRef::new(namespace)) {
            None => Home::Missing,
            Some(found) => tenant_of(&*found).map_or(Home::Platforms, Home::Tenants),
        }
    }

    /// The Boundary of a namespace as it is stored.
    pub fn boundary(&self, namespace: &str) -> Option<Value> {
        let namespace = Some(namespace.to_owned());
        self.owned.get(&Key { kind: Kind::Boundary, namespace, name: BOUNDARY_NAME.to_owned() })
    }

    /// What belongs to one of ours, with its kind; rights first, since they are the first to be taken away.
    pub fn owned_by(&self, whose: &Whose) -> Vec<Arc<Key>> {
        let mut found = self.owned.of(whose);
        found.sort_by_key(|key| !key.kind.has_fixed_fields());
        found
    }

    /// A namespace's labels, and more of its metadata.
    pub fn namespace(&self, name: &str) -> Option<Arc<PartialObjectMeta<Namespace>>> {
        self.namespaces.get(&ObjectRef::new(name))
    }

    /// The namespaces that say they are a tenant's.
    pub fn namespaces_of(&self, tenant: &str) -> Vec<Arc<PartialObjectMeta<Namespace>>> {
        let belonging = self.belonging.read().unwrap_or_else(PoisonError::into_inner);
        let found = belonging.of(tenant).filter_map(|name| self.namespace(name));
        found.filter(|namespace| tenant_of(&**namespace).as_deref() == Some(tenant)).collect()
    }

    /// Notes whose a namespace is, before it comes into its store. One that went unseen, between two lists, stays known and is in no store.
    fn index(&self, event: &Event<PartialObjectMeta<Namespace>>) {
        let mut belonging = self.belonging.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(namespace) | Event::InitApply(namespace) => {
                let (name, now) = (namespace.name_any(), tenant_of(namespace));
                let before = self.namespace(&name).and_then(|before| tenant_of(&*before));
                if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
                    belonging.remove(&before, &name);
                }
                if let Some(now) = now {
                    belonging.insert(now, name);
                }
            }
            Event::Delete(namespace) => {
                if let Some(tenant) = tenant_of(namespace) {
                    belonging.remove(&tenant, &namespace.name_any());
                }
            }
            Event::Init | Event::InitDone => {}
        }
    }

    /// One watch of all objects of a kind.
    fn watch<K>(
        self: &Arc<Self>,
        watches: &mut Watches,
        client: &Client,
        take: impl FnMut(Event<K>) -> Vec<Concern> + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default());
        watches.spawn(follow(self.clone(), events, K::kind(&()).into_owned(), take));
    }

    /// The PriorityClass that the API server gives to pods that name none. Of several it takes the lowest (its priority plugin does).
    pub fn usual_priority_class(&self) -> Option<String> {
        let classes = self.priorities.state();
        let usual = classes.iter().filter(|class| class.global_default == Some(true));
        usual.min_by_key(|class| (class.value, class.name_any())).map(|class| class.name_any())
    }

    /// StorageClasses with their reclaim policies; `Delete` is what one has that says none.
    pub fn reclaim_policies(&self) -> Vec<(String, String)> {
        let policy = |class: &StorageClass| class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
        self.storage.state().iter().map(|class| (class.name_any(), policy(class))).collect()
    }

    fn tell(&self, concern: &Concern) {
        match concern {
            Concern::Tenant(name) => self.tenant_wakes.wake(name),
            Concern::Sandbox(name) => self.sandbox_wakes.wake(name),
            Concern::Shard(name) => self.shard_wakes.wake(name),
            Concern::AllTenants => self.tenants.state().iter().for_each(|tenant| self.tenant_wakes.wake(tenant.name_any())),
            Concern::AllShards => Mark::all().for_each(|name| self.shard_wakes.wake(name)),
            Concern::AllSandboxes => self.sandboxes.state().iter().for_each(|one| self.sandbox_wakes.wake(one.name_any())),
        }
    }
}

/// The first of the optional kinds that the API server knows. One that comes later is written by the next leader.
async fn served(client: &Client) -> Result<Option<Kind>, kube::Error> {
    for kind in Kind::OPTIONAL {
        let resource = kind.resource();
        let known = match client.list_api_group_resources(&resource.api_version).await {
            Ok(list) => list.resources.iter().any(|one| one.name == resource.plural),
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => return Err(error),
        };
        if known {
            return Ok(Some(kind));
        }
    }
    Ok(None)
}

/// A Tenant, and those that it named or names as peers: what both agreed to is in force for both. Whose a host is hangs on all.
fn concerned_tenants(before: Option<&Tenant>, tenant: &Tenant) -> Vec<Concern> {
    let came_or_went = before.is_none();
    if came_or_went && !hosts(tenant).is_empty() || before.is_some_and(|before| hosts(before) != hosts(tenant)) {
        return vec![Concern::AllTenants, Concern::Tenant(tenant.name_any())];
    }
    let peers = before.into_iter().chain([tenant]).filter_map(|tenant| tenant.spec.network.as_ref());
    let names = peers.flat_map(|network| network.peers.iter().map(|peer| peer.tenant_name.clone()));
    let shared = came_or_went.then(|| Mark::of(&tenant.name_any())).into_iter().flatten();
    [tenant.name_any()].into_iter().chain(names).map(Concern::Tenant).chain(shared.map(Concern::Shard)).collect()
}

/// Whose an object of ours is; if it is nobody's, the binding that it is if Tenants share it.
fn concerned_by_ours(kind: Kind, object: &DynamicObject) -> Option<Concern> {
    let shared = || Some(object.name_any()).filter(|name| kind == Kind::ClusterRoleBinding && Mark::named(name).is_some());
    whose(object).map(Concern::from).or_else(|| shared().map(Concern::Shard))
}

/// Whose a namespace is and was, and the Tenants that heed its ServiceAccounts: whether they may hangs on whose it is.
fn concerned_by_namespace(
    before: Option<&PartialObjectMeta<Namespace>>,
    namespace: &PartialObjectMeta<Namespace>,
    tenants: impl FnOnce() -> Vec<Arc<Tenant>>,
) -> Vec<Concern> {
    let name = namespace.name_any();
    let own = before.into_iter().chain([namespace]).filter_map(tenant_of);
    // It comes, changes hands or goes; of the last a watch tells without what was before.
    let moved = before.is_none_or(|before| tenant_of(before) != tenant_of(namespace));
    let all = if moved { tenants() } else { Vec::new() };
    let trusting = all.iter().filter(|tenant| trusted_namespaces(&tenant.spec).any(|trusted| trusted == name));
    own.chain(trusting.map(|tenant| tenant.name_any())).map(Concern::Tenant).collect()
}

/// The tenant that an object says it belongs to.
fn tenant_of(object: &impl ResourceExt) -> Option<String> {
    object.labels().get(TENANT_LABEL).filter(|name| !name.is_empty()).cloned()
}

/// Leaves away what no reconciler reads: a tenant must not fill our memory with it.
fn slim<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key == DEFAULT_CLASS_ANNOTATION);
    }
}

/// Keeps a store by what a watch says; gives whom it concerns.
fn kept<K>(mut writer: Writer<K>, concerns: impl Fn(Option<&K>, &K) -> Vec<Concern>) -> impl FnMut(Event<K>) -> Vec<Concern>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let reader = writer.as_reader();
    move |event| {
        let concerned = match &event {
            Event::Apply(object) => concerns(reader.get(&ObjectRef::from_obj(object)).as_deref(), object),
            Event::Delete(object) => concerns(None, object),
            Event::Init | Event::InitApply(_) | Event::InitDone => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        concerned
    }
}

/// One watch: hands its events on and wakes whom each concerns. It never ends by itself; failures back off and are logged.
async fn follow<K: Resource>(
    cache: Arc<Cache>,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    kind: String,
    mut take: impl FnMut(Event<K>) -> Vec<Concern>,
) {
    let mut events = pin!(events.default_backoff().modify(slim));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind, %error, "a watch failed; it is taken up again");
                continue;
            }
        };
        // A list was taken anew: what went in between is known to nobody, so everyone looks.
        let everyone = || vec![Concern::AllTenants, Concern::AllSandboxes, Concern::AllShards];
        let anew = if matches!(event, Event::InitDone) { everyone() } else { Vec::new() };
        let concerned = take(event);
        cache.change.send_replace(());
        concerned.iter().chain(&anew).for_each(|concern| cache.tell(concern));
    }
}
