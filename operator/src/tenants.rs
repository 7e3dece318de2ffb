//! The Tenants' controller: grants, what each namespace needs, status, and what happens when a Tenant goes.
//!
//! Only loads, calls and applies; what must exist is decided in [`crate::desired`], what is said in [`crate::conditions`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_crds::{
    DeletionPolicy, DnsAccess, EnforcementMode, PodBoundary, TENANT_LABEL, Tenant, TenantNamespaceStatus, TenantStatus,
    TenantWouldDeny,
};
use freehold_policy::classes;
use freehold_policy::namespaces::GRANTS_NAMESPACE;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use crate::apply::{FIELD_MANAGER, Scribe, WriteError, said};
use crate::cache::Cache;
use crate::conditions::{self, Findings};
use crate::desired::namespace::Namespace;
use crate::desired::resolve;
use crate::desired::tenant::Mark;
use crate::desired::{Kind, Object, budget, cluster_network, declared, heir, hosts, namespace, network, siblings, tenant, trust};
use crate::guard::guard;
use crate::leavers;
use crate::owned::{Key, Whose};
use crate::shards::Shards;
use crate::survey::{self, Moment, Survey};

/// Keeps a deleted Tenant until its grants are gone.
pub const FINALIZER: &str = "freehold.dev/tenant";
/// Namespaces of one Tenant that are worked on at once.
const CONCURRENT_NAMESPACES: usize = 8;
/// Time until a Tenant whose objects were refused is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Time until a Tenant is looked at although nothing happened.
const RESYNC: Duration = Duration::from_secs(600);
/// Least time between two writes of a status in which only the usage differs: pods come and go by the hundred.
const USAGE_PAUSE: Duration = Duration::from_secs(10);

/// Characters of an event's note; the API server takes 1024 bytes, and a character has up to four.
const MAX_NOTE: usize = 256;

/// What a round needs.
pub struct Context {
    /// What is watched.
    pub cache: Arc<Cache>,
    /// What writes.
    pub scribe: Scribe,
    /// When each Tenant's status was last written.
    pub told: Mutex<HashMap<String, Instant>>,
    /// What was last found in each Tenant's namespaces.
    pub surveys: Mutex<HashMap<String, Survey>>,
    /// Where owners' rights on their Tenants are bound.
    pub bound: tenant::Bound,
    /// The marks that Tenants share.
    pub shards: Arc<Shards>,
    /// Who writes events.
    pub recorder: Recorder,
    /// The name server of tenants that have one of their own.
    pub name_servers: resolve::NameServers,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A Tenant itself could not be written.
    #[error("could not write {what} of Tenant {name}: {}", said(source))]
    Tenant {
        /// Which part of it.
        what: &'static str,
        /// Its name.
        name: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// A grant could not be taken away.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// One round for one Tenant.
///
/// # Errors
/// If the Tenant itself could not be written; refusals of its objects are said in its status instead.
pub async fn reconcile(tenant: Arc<Tenant>, context: Arc<Context>) -> Result<Action, Error> {
    let name = tenant.name_any();
    // From here on the Tenant is what is in force of it.
    let (tenant, class) = classed(&tenant, &context.cache);
    let tenant = Arc::new(tenant);
    if tenant.metadata.deletion_timestamp.is_some() {
        return release(&tenant, &context).await;
    }
    if !tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let finalizers = tenant.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
        set_finalizers(&tenant, finalizers, &context).await?;
    }

    let (taken, mut unmade) = tend(&tenant, &context).await;
    let (namespaces, held) = namespaces(&context.cache, &tenant);
    // From here on only those are owners whom somebody can vouch for.
    let (mut heeded, withheld) = trust::heeded(&tenant, |namespace| context.cache.home(namespace));
    let others = if hosts::hosts(&tenant).is_empty() { Vec::new() } else { context.cache.tenants.state() };
    let (own_hosts, taken_hosts) = hosts::own(&tenant, others.iter().map(AsRef::as_ref));
    if let Some(ingress) = &mut heeded.spec.ingress {
        ingress.hosts = Some(own_hosts);
    }
    heeded.spec.storage_classes = resolve::storage_classes(&tenant.spec, context.cache.reclaim_policies().into_iter());
    let known: BTreeMap<_, _> = context
        .cache
        .sandboxes
        .state()
        .iter()
        .map(|sandbox| (sandbox.name_any(), sandbox.spec.runtime_class.name.clone()))
        .collect();
    let runtimes = resolve::runtimes(&tenant.spec, &known);
    let pods = resolve::pods(&tenant.spec, &runtimes.classes, context.cache.usual_priority_class().as_deref());
    let mut findings = Findings { missing: runtimes.missing.clone(), taken, withheld, held: held.clone(), ..Findings::default() };
    findings.class_missing = tenant.spec.tenant_class_name.clone().filter(|_| class.missing);
    findings.taken_hosts = taken_hosts;
    let isolated = tenant.spec.network.as_ref().and_then(|network| network.dns) == Some(DnsAccess::Isolated);
    findings.name_server_missing = isolated && context.name_servers.addresses.is_empty();
    findings.beyond_class.clone_from(&class.beyond);
    findings.failed.append(&mut unmade);
    let mut wanted: HashSet<Key> = HashSet::new();
    let mut want = |object: &Object| wanted.insert(Key::of(object));

    let siblings: Vec<String> = namespaces.iter().filter(|one| !one.terminating).map(|one| one.name.clone()).collect();
    // The grant remembers who was an owner, so it is read before it is written.
    if let Some(news) = leavers::part(&tenant, &siblings, &context.scribe, &context.cache).await {
        announce(&tenant, news, &context).await;
    }
    // The mark restricts: programs in what an earlier Tenant left behind have it too.
    let marked: Vec<String> = siblings.iter().chain(held.iter().map(|(namespace, _)| namespace)).cloned().collect();
    for (mark, subjects) in [(Mark::Owner, tenant::owners(&heeded)), (Mark::Member, tenant::members(&marked))] {
        if let Err(error) = context.shards.say(mark, &name, &subjects, &context.scribe, &context.cache).await {
            findings.failed.push(error.to_string());
        }
    }
    for grant in tenant::grants(&heeded, context.bound) {
        want(&grant);
        if let Err(error) = context.scribe.put(&context.cache, &grant).await {
            findings.failed.push(error.to_string());
        }
    }
    let joining = siblings::pause(namespaces.iter().map(|one| one.created), Timestamp::now().as_second());
    let wishes = network::wishes(peers(&tenant, &context.cache).iter().map(AsRef::as_ref));
    let shares = usize::try_from(budget::max_namespaces(&tenant.spec)).unwrap_or(1);
    let (mut fresh, mut rounds, mut moved) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (index, namespace) in namespaces.iter().enumerate() {
        findings.namespaces.push(TenantNamespaceStatus { name: namespace.name.clone(), uid: namespace.uid.clone() });
        if namespace.terminating {
            findings.terminating.push(namespace.name.clone());
            continue;
        }
        let has_share = index < shares;
        if !has_share {
            findings.beyond.push(namespace.name.clone());
        }
        let network = network::resolve(&tenant, &namespace.name, &wishes);
        let ground = namespace::ground(&heeded, &namespace.name, &network, has_share, context.cache.optional);
        let pods = PodBoundary { name_server: context.name_servers.for_namespace(&namespace.name, &network), ..pods.clone() };
        let live = context.cache.boundary(&namespace.name);
        if let Some(other) = live.as_ref().and_then(|live| live["spec"]["tenant"]["name"].as_str()).filter(|other| *other != name)
            && let Some(other) = context.cache.tenants.get(&ObjectRef::new(other))
        {
            moved.insert(namespace.name.clone(), (other, Some(Arc::clone(&tenant))));
        }
        let named = live.as_ref().and_then(|live| serde_json::from_value(live["spec"]["siblings"].clone()).ok());
        let named = siblings::now(named, siblings::named(&siblings, &namespace.name), joining.is_some());
        let boundary = namespace::boundary(&heeded, namespace, &pods, &network, named, has_share);
        // What a class that is not there would bound is not known.
        let boundary = if class.missing { namespace::closed(boundary) } else { boundary };
        ground.iter().chain([&boundary]).for_each(|object| {
            want(object);
        });
        // Before its Boundary stands, a namespace has just joined; what has joined comes first, as people wait for it.
        let joined = live.is_none();
        let rules = boundary.document["spec"].clone();
        let Context { scribe, cache, .. } = &*context;
        let round = async move { (namespace, (joined, rules), guard(scribe, cache, ground, boundary).await) };
        if joined { fresh.push(round) } else { rounds.push(round) }
    }
    fresh.append(&mut rounds);
    let mut rounds = futures::stream::iter(fresh).buffered(CONCURRENT_NAMESPACES);
    let (mut guarded, mut arrived) = (Vec::new(), Vec::new());
    while let Some((namespace, rules, outcome)) = rounds.next().await {
        match outcome {
            Ok(true) => {
                findings.guarded += 1;
                if rules.0 && !context.cache.births.knows(&namespace.uid) {
                    arrived.push(namespace.name.clone());
                }
                guarded.push((namespace, rules));
            }
            Ok(false) => findings.waiting.push(namespace.name.clone()),
            Err(error) => findings.failed.push(error.to_string()),
        }
    }
    findings.waiting.sort();
    let left: HashSet<&String> = findings.terminating.iter().chain(held.iter().map(|(namespace, _)| namespace)).collect();
    for key in context.cache.owned_by(&Whose::Tenant(name.clone())) {
        let left = key.namespace.as_ref().is_some_and(|namespace| left.contains(namespace))
            || (Kind::OPTIONAL.contains(&key.kind) && left.iter().any(|one| cluster_network::name(one) == key.name));
        if wanted.contains(&*key) || left {
            continue;
        }
        if let Some(namespace) = key.namespace.as_ref().and_then(|namespace| context.cache.namespace(namespace))
            && namespace.name_any() != GRANTS_NAMESPACE
        {
            let now = namespace.labels().get(TENANT_LABEL);
            if now != Some(&name) {
                let to = now.and_then(|now| context.cache.tenants.get(&ObjectRef::new(now)));
                moved.insert(namespace.name_any(), (Arc::clone(&tenant), to));
            }
        }
        if let Err(error) = context.scribe.remove_known(&context.cache, &key).await {
            findings.failed.push(error.to_string());
        }
    }
    if let Some(news) = conditions::adopted(&arrived) {
        announce(&tenant, news, &context).await;
    }
    // Only now, as who still has rights there could give them to himself again.
    for (namespace, (from, to)) in moved {
        announce(&tenant, conditions::moved(&namespace, from.name_any() != name, to.is_some()), &context).await;
        if let Some(news) = leavers::moved(&namespace, &from, to.as_deref(), &context.scribe, &context.cache).await {
            announce(&tenant, news, &context).await;
        }
    }
    findings.would_deny = survey_all(&tenant, guarded, &siblings, &context).await;
    let again = if findings.would_deny.is_some() || is_looking(&tenant) { survey::EVERY } else { RESYNC };
    findings.quota = usage(&context.cache, &tenant, &namespaces);
    findings.summary = Some(conditions::summary(&tenant.spec, class.name.as_deref(), namespaces.len(), findings.quota.as_ref()));
    for error in &findings.failed {
        tracing::warn!(tenant = name, error, "refused");
    }
    let failed = !findings.failed.is_empty();
    let wait = tell(&tenant, findings, &context).await?;
    let wait = wait.into_iter().chain(joining).min();
    Ok(Action::requeue(wait.unwrap_or(if failed { RETRY } else { again })))
}

/// A Tenant's class.
#[derive(Debug, Default)]
struct Classed {
    name: Option<String>,
    missing: bool,
    beyond: Vec<String>,
}

/// The Tenant with the spec that is in force.
fn classed(tenant: &Tenant, cache: &Cache) -> (Tenant, Classed) {
    let all = cache.classes.state();
    let mut tenant = tenant.clone();
    let class = match classes::choose(&tenant.spec, all.iter().map(|class| (&**class).into())) {
        classes::Choice::None => Classed::default(),
        classes::Choice::Missing => Classed { missing: true, ..Classed::default() },
        classes::Choice::Class(class) => {
            let (spec, beyond) = classes::resolve(&tenant.spec, class.spec);
            tenant.spec = spec;
            Classed { name: Some(class.name.to_owned()), missing: false, beyond }
        }
    };
    (tenant, class)
}

/// The Tenants that it names as peers.
fn peers(tenant: &Tenant, cache: &Cache) -> Vec<Arc<Tenant>> {
    let network = tenant.spec.network.as_ref();
    let named = network.iter().flat_map(|network| &network.peers);
    named.filter_map(|peer| cache.tenants.get(&ObjectRef::new(&peer.tenant_name))).collect()
}

/// Whether the Tenant refuses nothing that could only be told.
fn is_looking(tenant: &Tenant) -> bool {
    tenant.spec.enforcement_mode.unwrap_or_default() != EnforcementMode::Enforce
}

/// Looks through the namespaces where that is due; what would be refused in all of them.
async fn survey_all(
    tenant: &Tenant,
    guarded: Vec<(&Namespace, (bool, Value))>,
    siblings: &[String],
    context: &Context,
) -> Option<TenantWouldDeny> {
    let (name, generation) = (tenant.name_any(), tenant.metadata.generation);
    let before = tenant.status.as_ref();
    let known = context.surveys.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
    let open = before.is_none_or(|status| status.would_deny.is_some() || status.observed_generation != generation);
    let mut survey = known.unwrap_or_default();
    survey.retain(siblings);
    for (namespace, (joined, rules)) in guarded {
        let moment = Moment { generation, looking: is_looking(tenant), joined, open, now: Instant::now() };
        let Namespace { name: namespace, uid, .. } = namespace;
        if context.cache.births.take(uid) {
            survey.keep(namespace, generation, moment.now, Vec::new());
        }
        if !survey.is_due(namespace, moment) {
            continue;
        }
        let Ok(rules) = serde_json::from_value(rules) else { continue };
        match survey::look(&context.scribe.client, namespace, &rules).await {
            Ok(refused) => survey.keep(namespace, generation, moment.now, refused),
            Err(error) => tracing::warn!(tenant = name, namespace, error = said(&error), "could not look through a namespace"),
        }
    }
    let (told, now) = (survey.told(), survey.objects());
    let before = context.surveys.lock().unwrap_or_else(PoisonError::into_inner).insert(name, survey);
    context.scribe.metrics.would_deny(before.map_or(0, |before| before.objects()), now);
    told
}

/// Makes declared namespaces and puts managed labels in place; gives names that are somebody else's, and what was refused.
async fn tend(tenant: &Tenant, context: &Context) -> (Vec<String>, Vec<String>) {
    let labels = |one: Arc<kube::api::PartialObjectMeta<CoreNamespace>>| (one.name_any(), one.labels().clone());
    let names = tenant.spec.namespaces.iter().flat_map(|said| said.declared.iter().flatten());
    let known = names.filter_map(|declared| context.cache.namespace(&declared.name));
    let known = known.chain(context.cache.namespaces_of(&tenant.name_any())).map(labels);
    let todo = declared::declared(tenant, &known.collect());
    let (api, mut failed): (Api<DynamicObject>, _) =
        (Api::all_with(context.scribe.client.clone(), &kube::api::ApiResource::erase::<CoreNamespace>(&())), Vec::new());
    let mut note = |name: &str, outcome: Result<DynamicObject, kube::Error>| match outcome {
        Ok(_) => tracing::info!(namespace = name, "written"),
        // The watch has not told yet.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => failed.push(format!("could not write Namespace {name}: {}", said(&error))),
    };
    for document in todo.create {
        let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        context.scribe.metrics.wrote_to("Namespace", "create");
        match serde_json::from_value(document) {
            Ok(object) => note(&name, api.create(&PostParams::default(), &object).await),
            Err(error) => tracing::error!(%error, "a namespace has no such form"),
        }
    }
    for (name, labels) in todo.label {
        context.scribe.metrics.wrote_to("Namespace", "patch");
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        note(
            &name,
            api.patch(&name, &PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }, &patch)
                .await,
        );
    }
    (todo.taken, failed)
}

/// A failed round is tried again soon.
pub fn on_error(_: Arc<Tenant>, error: &Error, _: Arc<Context>) -> Action {
    tracing::warn!(%error, "a round failed");
    Action::requeue(RETRY)
}

/// The Tenant's namespaces, oldest first, and apart from them those of earlier Tenants of its name, each with that one's UID.
fn namespaces(cache: &Cache, tenant: &Tenant) -> (Vec<Namespace>, Vec<(String, String)>) {
    let (mut namespaces, mut held) = (Vec::new(), Vec::new());
    for namespace in cache.namespaces_of(&tenant.name_any()) {
        let boundary = cache.boundary(&namespace.name_any());
        if let Some(uid) = heir::predecessor(tenant, boundary.as_ref()) {
            held.push((namespace.name_any(), uid));
            continue;
        }
        namespaces.push(Namespace {
            created: namespace.creation_timestamp().map_or(0, |time| time.0.as_second()),
            name: namespace.name_any(),
            uid: namespace.uid().unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
        });
    }
    namespaces.sort();
    held.sort();
    (namespaces, held)
}

/// What the namespaces use together, as their quotas say.
fn usage(cache: &Cache, tenant: &Tenant, namespaces: &[Namespace]) -> Option<freehold_crds::TenantQuotaStatus> {
    let quotas: Vec<Value> = namespaces
        .iter()
        .flat_map(|namespace| budget::objects(&tenant.name_any(), &namespace.name, &tenant.spec, true))
        .filter(|object| object.kind == Kind::ResourceQuota)
        .filter_map(|object| cache.live(&object))
        .collect();
    budget::status(&tenant.spec, quotas.iter())
}

/// Writes the status if it says something new; gives the time to wait if only the usage did, and too soon.
async fn tell(tenant: &Tenant, findings: Findings, context: &Context) -> Result<Option<Duration>, Error> {
    let (name, before) = (tenant.name_any(), tenant.status.as_ref());
    let status = conditions::tenant(before, tenant.metadata.generation, findings, Timestamp::now());
    if before == Some(&status) {
        return Ok(None);
    }
    let told = context.told.lock().unwrap_or_else(PoisonError::into_inner).get(&name).copied();
    let but_usage = |status: &TenantStatus| TenantStatus { quota: None, summary: None, ..status.clone() };
    if before.map(but_usage) == Some(but_usage(&status))
        && let Some(left) = told.and_then(|told| USAGE_PAUSE.checked_sub(told.elapsed()))
    {
        return Ok(Some(left));
    }
    let document = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name}, "status": status});
    let api: Api<DynamicObject> = Api::all_with(context.scribe.client.clone(), &resource());
    context.scribe.metrics.wrote_to("Tenant", "status");
    api.patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&document))
        .await
        .map_err(|source| Error::Tenant { what: "the status", name: name.clone(), source: Box::new(source) })?;
    context.told.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
    for news in conditions::news(before, &status) {
        announce(tenant, news, context).await;
    }
    Ok(None)
}

/// Writes an event about the Tenant. The status says the same: one that can't be written is logged and forgotten.
async fn announce(tenant: &Tenant, news: conditions::News, context: &Context) {
    let event = Event {
        type_: if news.warning { EventType::Warning } else { EventType::Normal },
        reason: news.reason,
        note: Some(news.message.chars().take(MAX_NOTE).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    context.scribe.metrics.wrote_to("Event", "create");
    if let Err(error) = context.recorder.publish(&event, &tenant.object_ref(&())).await {
        tracing::warn!(tenant = tenant.name_any(), error = said(&error), "an event was not written");
    }
}

fn resource() -> kube::api::ApiResource {
    kube::api::ApiResource::erase::<Tenant>(&())
}

/// A deleted Tenant. Retain: its grants go, its namespaces stay as they are. Delete: they go first.
async fn release(tenant: &Tenant, context: &Context) -> Result<Action, Error> {
    let name = tenant.name_any();
    if !tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    // First of all nobody may make further namespaces.
    for grant in tenant::grant_keys(&name) {
        context.scribe.remove_known(&context.cache, &grant).await?;
    }
    context.shards.say(Mark::Owner, &name, &[], &context.scribe, &context.cache).await?;
    if tenant.spec.deletion_policy == Some(DeletionPolicy::Delete) {
        // What an earlier Tenant of this name left behind is not this one's to delete.
        let (left, _) = namespaces(&context.cache, tenant);
        let api: Api<CoreNamespace> = Api::all(context.scribe.client.clone());
        for namespace in left.iter().filter(|namespace| !namespace.terminating) {
            context.scribe.metrics.wrote_to("Namespace", "delete");
            match api.delete(&namespace.name, &DeleteParams::default()).await {
                Ok(_) => tracing::info!(tenant = name, namespace = namespace.name, "deleted with its Tenant"),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => {
                    return Err(Error::Tenant { what: "the namespaces", name, source: Box::new(source) });
                }
            }
        }
        if !left.is_empty() {
            let findings = Findings {
                terminating: left.iter().map(|namespace| namespace.name.clone()).collect(),
                namespaces: left
                    .iter()
                    .map(|one| TenantNamespaceStatus { name: one.name.clone(), uid: one.uid.clone() })
                    .collect(),
                quota: usage(&context.cache, tenant, &left),
                ..Findings::default()
            };
            tell(tenant, findings, context).await?;
            return Ok(Action::requeue(RETRY));
        }
    }
    context.shards.say(Mark::Member, &name, &[], &context.scribe, &context.cache).await?;
    let finalizers = tenant.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    set_finalizers(tenant, finalizers, context).await?;
    context.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    let before = context.surveys.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    context.scribe.metrics.would_deny(before.map_or(0, |before| before.objects()), 0);
    Ok(Action::await_change())
}

/// Replaces the finalizers of the Tenant as it was seen; a conflict means that it will be seen again.
async fn set_finalizers(tenant: &Tenant, finalizers: Vec<String>, context: &Context) -> Result<(), Error> {
    let name = tenant.name_any();
    let patch = json!({"metadata": {"resourceVersion": tenant.resource_version(), "finalizers": finalizers}});
    let api: Api<DynamicObject> = Api::all_with(context.scribe.client.clone(), &resource());
    context.scribe.metrics.wrote_to("Tenant", "finalizers");
    match api
        .patch_metadata(
            &name,
            &PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() },
            &Patch::Merge(patch),
        )
        .await
    {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Tenant { what: "the finalizers", name, source: Box::new(source) }),
    }
}
