//! What the API server holds, as watched, and who must look again when it changes.
//!
//! Output are stores that reconcilers read, and wakes of the two controllers. Watching what we wrote is how drift is seen:
//! whoever changes or deletes it wakes the Tenant or SandboxRuntime that it belongs to.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;

use freehold_crds::{
    BOUNDARY_NAME, DEFAULT_CLASS_ANNOTATION, NodeNetwork, NodeRuntime, SandboxRuntime, TENANT_LABEL, Tenant, TenantClass,
};
use freehold_policy::namespace_rules::trusted_namespaces;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::births::Births;
use crate::desired::hosts::hosts;
use crate::desired::runtime::RUNTIME_LABEL;
use crate::desired::trust::Home;
use crate::desired::{Kind, MANAGED, MANAGED_LABEL, Object};
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
    /// What carries our label, by kind.
    pub owned: HashMap<Kind, Store<DynamicObject>>,
    /// The kind of [`Kind::OPTIONAL`] that the cluster served when this began.
    pub optional: Option<Kind>,
    /// Tenants to look at.
    pub tenant_wakes: Arc<Wakes>,
    /// SandboxRuntimes to look at.
    pub sandbox_wakes: Arc<Wakes>,
    /// Namespaces that were made as a tenant's since we watch.
    pub births: Births,
    change: watch::Sender<()>,
}

/// The watches of a [`Cache`]; they end with it.
pub type Watches = tokio::task::JoinSet<()>;

/// Whom a change of an object concerns.
#[derive(Debug, PartialEq, Eq)]
enum Concern {
    Tenant(String),
    Sandbox(String),
    AllTenants,
    AllSandboxes,
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
        let optional = served(client).await?;
        let kinds = Kind::ALL.into_iter().chain(optional);
        let owned: Vec<_> = kinds.map(|kind| (kind, Writer::new(kind.resource()))).collect();
        let cache = Arc::new(Self {
            tenants: tenants.as_reader(),
            classes: classes.as_reader(),
            sandboxes: sandboxes.as_reader(),
            reports: reports.as_reader(),
            networks: networks.as_reader(),
            namespaces: namespaces.as_reader(),
            nodes: nodes.as_reader(),
            priorities: priorities.as_reader(),
            owned: owned.iter().map(|(kind, writer)| (*kind, writer.as_reader())).collect(),
            optional,
            tenant_wakes: Arc::default(),
            sandbox_wakes: Arc::default(),
            births: Births::default(),
            change: watch::Sender::default(),
        });
        let (mut watches, all) = (Watches::new(), watcher::Config::default());
        let ours = watcher::Config::default().labels(&format!("{MANAGED_LABEL}={MANAGED}"));
        watches.spawn(follow(cache.clone(), Api::all(client.clone()), all.clone(), (), tenants, |before, tenant: &Tenant| {
            concerned_tenants(before, tenant)
        }));
        watches.spawn(follow(
            cache.clone(),
            Api::all(client.clone()),
            all.clone(),
            (),
            sandboxes,
            |_, sandbox: &SandboxRuntime| vec![Concern::Sandbox(sandbox.name_any()), Concern::AllTenants],
        ));
        watches.spawn(follow(cache.clone(), Api::all(client.clone()), all.clone(), (), reports, |_, report: &NodeRuntime| {
            vec![Concern::Sandbox(report.spec.sandbox_runtime_name.clone())]
        }));
        watches
            .spawn(follow(cache.clone(), Api::all(client.clone()), all.clone(), (), networks, |_, _: &NodeNetwork| Vec::new()));
        watches.spawn(follow(cache.clone(), Api::all(client.clone()), all.clone(), (), classes, |_, _: &TenantClass| {
            vec![Concern::AllTenants]
        }));
        let (every, born) = (cache.tenants.clone(), cache.clone());
        watches.spawn(follow(
            cache.clone(),
            Api::all(client.clone()),
            all.clone(),
            (),
            namespaces,
            move |before: Option<&PartialObjectMeta<Namespace>>, namespace: &PartialObjectMeta<Namespace>| {
                if let (None, None, Some(uid), Some(_)) =
                    (before, &namespace.metadata.deletion_timestamp, &namespace.metadata.uid, tenant_of(namespace))
                {
                    born.births.note(uid);
                }
                concerned_by_namespace(before, namespace, &every.state())
            },
        ));
        watches.spawn(follow(
            cache.clone(),
            Api::all(client.clone()),
            all.clone(),
            (),
            priorities,
            |before, class: &PriorityClass| {
                let usual = |class: &PriorityClass| class.global_default == Some(true);
                if usual(class) || before.is_some_and(usual) { vec![Concern::AllTenants] } else { Vec::new() }
            },
        ));
        // A node's heartbeat must wake nobody.
        watches.spawn(follow(
            cache.clone(),
            Api::all(client.clone()),
            all,
            (),
            nodes,
            |before, node: &PartialObjectMeta<Node>| {
                let changed = before.is_none_or(|before| before.metadata.labels != node.metadata.labels);
                if changed { vec![Concern::AllSandboxes] } else { Vec::new() }
            },
        ));
        for (kind, writer) in owned {
            let resource = kind.resource();
            let api = Api::all_with(client.clone(), &resource);
            watches.spawn(follow(cache.clone(), api, ours.clone(), resource, writer, |_, object: &DynamicObject| {
                let sandbox = object.labels().get(RUNTIME_LABEL).cloned().map(Concern::Sandbox);
                tenant_of(object).map(Concern::Tenant).into_iter().chain(sandbox).collect()
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
        for store in cache.owned.values() {
            store.wait_until_ready().await?;
        }
        // Everything is looked at once, whatever the order in which the lists came.
        cache.tell(&Concern::AllTenants);
        cache.tell(&Concern::AllSandboxes);
        Ok((cache, watches))
    }

    /// An object of ours as it is stored.
    pub fn live(&self, object: &Object) -> Option<Arc<DynamicObject>> {
        let mut reference = ObjectRef::new_with(&object.name, object.kind.resource());
        if let Some(namespace) = &object.namespace {
            reference = reference.within(namespace);
        }
        self.owned.get(&object.kind)?.get(&reference)
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

    /// An object of ours that is the cluster's, as it is stored.
    pub fn cluster_object(&self, kind: Kind, name: &str) -> Option<Arc<DynamicObject>> {
        self.owned.get(&kind)?.get(&ObjectRef::new_with(name, kind.resource()))
    }

    /// The Boundary of a namespace as it is stored.
    pub fn boundary(&self, namespace: &str) -> Option<Arc<DynamicObject>> {
        let reference = ObjectRef::new_with(BOUNDARY_NAME, Kind::Boundary.resource()).within(namespace);
        self.owned.get(&Kind::Boundary)?.get(&reference)
    }

    /// What carries our label and one more, with its kind; rights first, since they are the first to be taken away.
    pub fn labelled(&self, key: &str, value: &str) -> Vec<(Kind, Arc<DynamicObject>)> {
        let has = |object: &DynamicObject| object.labels().get(key).is_some_and(|found| found == value);
        let of = |(kind, store): (&Kind, &Store<DynamicObject>)| {
            store.state_filter(has).into_iter().map(|object| (*kind, object)).collect::<Vec<_>>()
        };
        let mut found: Vec<_> = self.owned.iter().flat_map(of).collect();
        found.sort_by_key(|(kind, object)| (!kind.has_fixed_fields(), *kind, object.namespace(), object.name_any()));
        found
    }

    /// The PriorityClass that the API server gives to pods that name none. Of several it takes the lowest (its priority plugin does).
    pub fn usual_priority_class(&self) -> Option<String> {
        let classes = self.priorities.state();
        let usual = classes.iter().filter(|class| class.global_default == Some(true));
        usual.min_by_key(|class| (class.value, class.name_any())).map(|class| class.name_any())
    }

    fn tell(&self, concern: &Concern) {
        match concern {
            Concern::Tenant(name) => self.tenant_wakes.wake(name),
            Concern::Sandbox(name) => self.sandbox_wakes.wake(name),
            Concern::AllTenants => self.tenants.state().iter().for_each(|tenant| self.tenant_wakes.wake(tenant.name_any())),
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
    let came_or_went = before.is_none() && !hosts(tenant).is_empty();
    if came_or_went || before.is_some_and(|before| hosts(before) != hosts(tenant)) {
        return vec![Concern::AllTenants, Concern::Tenant(tenant.name_any())];
    }
    let peers = before.into_iter().chain([tenant]).filter_map(|tenant| tenant.spec.network.as_ref());
    let names = peers.flat_map(|network| network.peers.iter().map(|peer| peer.tenant_name.clone()));
    [tenant.name_any()].into_iter().chain(names).map(Concern::Tenant).collect()
}

/// Whose a namespace is and was, and the Tenants that heed its ServiceAccounts: whether they may hangs on whose it is.
fn concerned_by_namespace(
    before: Option<&PartialObjectMeta<Namespace>>,
    namespace: &PartialObjectMeta<Namespace>,
    tenants: &[Arc<Tenant>],
) -> Vec<Concern> {
    let name = namespace.name_any();
    let trusting = tenants.iter().filter(|tenant| trusted_namespaces(&tenant.spec).any(|trusted| trusted == name));
    let own = before.into_iter().chain([namespace]).filter_map(tenant_of);
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

/// One watch: fills its store and tells whom each event concerns. It never ends by itself; failures back off and are logged.
async fn follow<K>(
    cache: Arc<Cache>,
    api: Api<K>,
    config: watcher::Config,
    dynamic: K::DynamicType,
    mut writer: Writer<K>,
    concerns: impl Fn(Option<&K>, &K) -> Vec<Concern>,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let reader = writer.as_reader();
    let kind = K::kind(&dynamic).into_owned();
    let mut events = pin!(watcher(api, config).default_backoff().modify(slim));
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind, %error, "a watch failed; it is taken up again");
                continue;
            }
        };
        let concerned = match &event {
            Event::Apply(object) => {
                let before = reader.get(&ObjectRef::from_obj_with(object, dynamic.clone()));
                concerns(before.as_deref(), object)
            }
            Event::Delete(object) => concerns(None, object),
            // A list was taken anew: what went in between is known to nobody, so everyone looks.
            Event::InitDone => vec![Concern::AllTenants, Concern::AllSandboxes],
            Event::Init | Event::InitApply(_) => Vec::new(),
        };
        writer.apply_watcher_event(&event);
        cache.change.send_replace(());
        concerned.iter().for_each(|concern| cache.tell(concern));
    }
}
