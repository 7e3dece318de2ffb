//! The Tenants' controller: grants, what each namespace needs, status, and what happens when a Tenant goes.
//!
//! Only loads, calls and applies; what must exist is decided in [`crate::desired`], what is said in [`crate::conditions`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_crds::{DeletionPolicy, TENANT_LABEL, Tenant, TenantNamespaceStatus, TenantStatus};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace as CoreNamespace;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use serde_json::{Value, json};

use crate::apply::{FIELD_MANAGER, Scribe, WriteError, said};
use crate::cache::Cache;
use crate::conditions::{self, Findings};
use crate::desired::namespace::Namespace;
use crate::desired::resolve;
use crate::desired::{Kind, Object, budget, declared, namespace, network, tenant};

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

/// What a round needs.
pub struct Context {
    /// What is watched.
    pub cache: Arc<Cache>,
    /// What writes.
    pub scribe: Scribe,
    /// When each Tenant's status was last written.
    pub told: Mutex<HashMap<String, Instant>>,
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
    if tenant.metadata.deletion_timestamp.is_some() {
        return release(&tenant, &context).await;
    }
    if !tenant.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        let finalizers = tenant.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
        set_finalizers(&tenant, finalizers, &context).await?;
    }

    let (taken, mut unmade) = tend(&tenant, &context).await;
    let namespaces = namespaces(&context.cache, &name);
    let known: BTreeMap<_, _> = context
        .cache
        .sandboxes
        .state()
        .iter()
        .map(|sandbox| (sandbox.name_any(), sandbox.spec.runtime_class.name.clone()))
        .collect();
    let runtimes = resolve::runtimes(&tenant.spec, &known);
    let pods = resolve::pods(&tenant.spec, &runtimes.classes, context.cache.usual_priority_class().as_deref());
    let mut findings = Findings { missing: runtimes.missing.clone(), taken, ..Findings::default() };
    findings.failed.append(&mut unmade);
    let mut wanted: HashSet<(Kind, Option<String>, String)> = HashSet::new();
    let mut want = |object: &Object| wanted.insert((object.kind, object.namespace.clone(), object.name.clone()));

    let siblings: Vec<String> = namespaces.iter().filter(|one| !one.terminating).map(|one| one.name.clone()).collect();
    for grant in tenant::grants(&tenant).into_iter().chain(tenant::members(&name, &siblings)) {
        want(&grant);
        if let Err(error) = context.scribe.put(&context.cache, &grant).await {
            findings.failed.push(error.to_string());
        }
    }
    let wishes = network::wishes(context.cache.tenants.state().iter().map(AsRef::as_ref));
    let shares = usize::try_from(budget::max_namespaces(&tenant.spec)).unwrap_or(1);
    let mut rounds = Vec::new();
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
        let ground = namespace::ground(&tenant, &namespace.name, &network, has_share);
        let boundary = namespace::boundary(&tenant, namespace, &pods, &network, &siblings, has_share);
        ground.iter().chain([&boundary]).for_each(|object| {
            want(object);
        });
        let context = &context;
        rounds.push(async move { (namespace, guard(context, ground, boundary).await) });
    }
    let mut rounds = futures::stream::iter(rounds).buffered(CONCURRENT_NAMESPACES);
    while let Some((namespace, outcome)) = rounds.next().await {
        match outcome {
            Ok(true) => findings.guarded += 1,
            Ok(false) => findings.waiting.push(namespace.name.clone()),
            Err(error) => findings.failed.push(error.to_string()),
        }
    }
    let terminating: HashSet<&String> = findings.terminating.iter().collect();
    for (kind, object) in context.cache.labelled(TENANT_LABEL, &name) {
        let key = (kind, object.namespace(), object.name_any());
        let going = object.namespace().is_some_and(|namespace| terminating.contains(&namespace));
        if !wanted.contains(&key)
            && !going
            && let Err(error) = context.scribe.remove(kind, &object).await
        {
            findings.failed.push(error.to_string());
        }
    }
    findings.quota = usage(&context.cache, &tenant, &namespaces);
    for error in &findings.failed {
        tracing::warn!(tenant = name, error, "refused");
    }
    let failed = !findings.failed.is_empty();
    let wait = tell(&tenant, findings, &context).await?;
    Ok(Action::requeue(wait.unwrap_or(if failed { RETRY } else { RESYNC })))
}

/// Makes declared namespaces and puts managed labels in place; gives names that are somebody else's, and what was refused.
async fn tend(tenant: &Tenant, context: &Context) -> (Vec<String>, Vec<String>) {
    let labels = |one: &Arc<kube::api::PartialObjectMeta<CoreNamespace>>| (one.name_any(), one.labels().clone());
    let todo = declared::declared(tenant, &context.cache.namespaces.state().iter().map(labels).collect());
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

/// The Tenant's namespaces, oldest first.
fn namespaces(cache: &Cache, tenant: &str) -> Vec<Namespace> {
    let belongs = |namespace: &kube::api::PartialObjectMeta<CoreNamespace>| {
        namespace.labels().get(TENANT_LABEL).is_some_and(|label| label == tenant)
    };
    let mut namespaces: Vec<_> = cache
        .namespaces
        .state_filter(belongs)
        .iter()
        .map(|namespace| Namespace {
            created: namespace.creation_timestamp().map_or(0, |time| time.0.as_second()),
            name: namespace.name_any(),
            uid: namespace.uid().unwrap_or_default(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
        })
        .collect();
    namespaces.sort();
    namespaces
}

/// Puts everything in place in one namespace: the Boundary only once the quota counts. False if it does not yet.
async fn guard(context: &Context, ground: Vec<Object>, boundary: Object) -> Result<bool, WriteError> {
    let mut counted = true;
    for object in ground {
        let live = context.scribe.put(&context.cache, &object).await?;
        counted &= object.kind != Kind::ResourceQuota || budget::is_counted(&live);
    }
    if counted {
        context.scribe.put(&context.cache, &boundary).await?;
    }
    Ok(counted)
}

/// What the namespaces use together, as their quotas say.
fn usage(cache: &Cache, tenant: &Tenant, namespaces: &[Namespace]) -> Option<freehold_crds::TenantQuotaStatus> {
    let quotas: Vec<Value> = namespaces
        .iter()
        .flat_map(|namespace| budget::objects(&tenant.name_any(), &namespace.name, &tenant.spec, true))
        .filter(|object| object.kind == Kind::ResourceQuota)
        .filter_map(|object| cache.live(&object))
        .filter_map(|live| serde_json::to_value(&*live).ok())
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
    let but_usage = |status: &TenantStatus| TenantStatus { quota: None, ..status.clone() };
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
    Ok(None)
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
    for grant in tenant::grants(tenant) {
        if let Some(live) = context.cache.live(&grant) {
            context.scribe.remove(grant.kind, &live).await?;
        }
    }
    if tenant.spec.deletion_policy == Some(DeletionPolicy::Delete) {
        let left = namespaces(&context.cache, &name);
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
    // Only a name is needed to take the mark away.
    let members = tenant::members(&name, std::slice::from_ref(&name));
    if let Some((kind, live)) = members.and_then(|members| Some((members.kind, context.cache.live(&members)?))) {
        context.scribe.remove(kind, &live).await?;
    }
    let finalizers = tenant.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    set_finalizers(tenant, finalizers, context).await?;
    context.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
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
