//! Looks up what a decision needs: caches fed by watches, and questions to the authorizer.
//!
//! A review tells nothing about itself that is believed beyond who asks and the object: whose a namespace is and how it is
//! bounded is read from the API server. Everything here ends within a named time.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use freehold_crds::{
    BOUNDARY_NAME, Boundary, DEFAULT_CLASS_ANNOTATION, GROUP, TENANT_LABEL, Tenant, TenantClass, TenantSpec, TenantState,
};
use freehold_policy::classes;
use freehold_policy::namespace_rules::{Rules, is_spoken_for};
use freehold_policy::namespaces::{BELONG, OWN, Question};
use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PartialObjectMeta, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::decide::{Bounds, Found, Need, RequesterAnswers};
use crate::owners::Owners;
use crate::review::User;

/// How long a pod waits for the Boundary of a fresh namespace; the operator needs well below a second.
pub const BOUNDARY_WAIT: Duration = Duration::from_secs(2);
/// Time for one round of questions to the authorizer.
pub const AUTHORIZER_LIMIT: Duration = Duration::from_secs(3);
/// Questions to the authorizer at once, over all reviews: a flood must not queue behind itself in the API server.
pub const MAX_QUESTIONS_AT_ONCE: usize = 64;

/// What is looked up in.
#[derive(Clone)]
pub struct LookUp {
    client: Client,
    namespaces: Store<PartialObjectMeta<Namespace>>,
    boundaries: Store<Boundary>,
    tenants: Store<Tenant>,
    classes: Store<TenantClass>,
    owners: Arc<ArcSwap<Owners>>,
    changed: watch::Receiver<()>,
    places: Arc<Semaphore>,
}

impl LookUp {
    /// Starts the watches and waits until each has its first list. The watches end with the set.
    ///
    /// # Errors
    /// If a watch ended before that.
    pub async fn start(client: &Client) -> anyhow::Result<(Self, JoinSet<()>)> {
        let (namespaces, boundaries, tenants) = (Writer::default(), Writer::default(), Writer::default());
        let classes = Writer::default();
        let tenant_store = tenants.as_reader();
        let owners: Arc<ArcSwap<Owners>> = Arc::default();
        let (change, changed) = watch::channel(());
        let change = Arc::new(change);
        let look_up = Self {
            client: client.clone(),
            namespaces: namespaces.as_reader(),
            boundaries: boundaries.as_reader(),
            tenants: tenants.as_reader(),
            classes: classes.as_reader(),
            owners: owners.clone(),
            changed,
            places: Arc::new(Semaphore::new(MAX_QUESTIONS_AT_ONCE)),
        };
        let mut watches = JoinSet::new();
        let config = watcher::Config::default;
        let tell = change.clone();
        let stream = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), config());
        watches.spawn(follow("Namespace", stream, namespaces, move || tell.send_replace(())));
        let stream = watcher(Api::<Boundary>::all(client.clone()), config());
        watches.spawn(follow("Boundary", stream, boundaries, move || change.send_replace(())));
        let stream = watcher(Api::<TenantClass>::all(client.clone()), config());
        watches.spawn(follow("TenantClass", stream, classes, || {}));
        let (stream, indexed) = (watcher(Api::<Tenant>::all(client.clone()), config()), tenant_store.clone());
        watches.spawn(follow("Tenant", stream, tenants, move || owners.store(Arc::new(Owners::of(&indexed.state())))));
        look_up.namespaces.wait_until_ready().await?;
        look_up.boundaries.wait_until_ready().await?;
        tenant_store.wait_until_ready().await?;
        look_up.classes.wait_until_ready().await?;
        Ok((look_up, watches))
    }

    /// Looks up what a decision needs.
    pub async fn find(&self, user: &User, need: Need) -> Found {
        match need {
            Need::Nothing => Found::Nothing,
            Need::Boundary(namespace) => Found::Bounds(self.bounds(&namespace).await),
            Need::Requester { questions, owned, tenant, namespace } => {
                Found::Requester(self.requester(user, questions, owned, tenant, namespace).await)
            }
        }
    }

    /// Waits until the namespace is known with a Boundary that fits, at most [`BOUNDARY_WAIT`]: the API server may have seen
    /// both before us.
    async fn bounds(&self, namespace: &str) -> Bounds {
        let mut changed = self.changed.clone();
        let found = async {
            loop {
                changed.mark_unchanged();
                if let Bounds::Found(boundary) = self.bounds_now(namespace) {
                    return Bounds::Found(boundary);
                }
                if changed.changed().await.is_err() {
                    return self.bounds_now(namespace);
                }
            }
        };
        tokio::time::timeout(BOUNDARY_WAIT, found).await.unwrap_or_else(|_| self.bounds_now(namespace))
    }

    fn bounds_now(&self, name: &str) -> Bounds {
        let Some(namespace) = self.namespaces.get(&ObjectRef::new(name)) else { return Bounds::Free };
        let Some(tenant) = namespace.labels().get(TENANT_LABEL) else { return Bounds::Free };
        match self.boundaries.get(&ObjectRef::new(BOUNDARY_NAME).within(name)) {
            // One that is left from an earlier namespace of this name, or from another tenant, bounds nothing.
            Some(boundary)
                if boundary.spec.tenant.name == *tenant
                    && Some(boundary.spec.namespace_uid.as_str()) == namespace.metadata.uid.as_deref() =>
            {
                Bounds::Found(Box::new(boundary.spec.clone()))
            }
            _ => Bounds::Missing { tenant: tenant.clone() },
        }
    }

    async fn requester(
        &self,
        user: &User,
        questions: BTreeSet<Question>,
        owned: bool,
        tenant: Option<String>,
        namespace: String,
    ) -> Result<RequesterAnswers, String> {
        let allowed = self.ask_all(user, questions).await?;
        let mut answers = RequesterAnswers { allowed, ..RequesterAnswers::default() };
        let belonging = Question { verb: BELONG, tenant: None };
        // Of use where the label is missing and must be there, and where the label that stands there is refused.
        if owned && (answers.allowed.is_empty() || answers.allowed.contains(&belonging)) {
            let candidates = self.owners.load().candidates(user);
            let own = candidates.into_iter().map(|tenant| Question { verb: OWN, tenant: Some(tenant) }).collect();
            answers.owned = self.ask_all(user, own).await?.into_iter().filter_map(|question| question.tenant).collect();
        }
        // The label that will be filled in counts like one that is there.
        let filled_in = answers.owned.first().filter(|_| answers.owned.len() == 1).cloned();
        answers.rules = tenant.or(filled_in).and_then(|tenant| self.rules(&tenant, &namespace));
        Ok(answers)
    }

    /// What a Tenant says of its namespaces, and how many it has. Two that are made at once may both pass: the one too many gets no share.
    fn rules(&self, name: &str, namespace: &str) -> Option<Rules> {
        let tenant = self.tenants.get(&ObjectRef::new(name))?;
        let spec = self.in_force(&tenant.spec);
        let is_its = |one: &PartialObjectMeta<Namespace>| one.labels().get(TENANT_LABEL).is_some_and(|label| label == name);
        let all = self.tenants.state();
        let named = all.iter().filter_map(|tenant| Some((tenant.metadata.name.as_deref()?, &tenant.spec)));
        Some(Rules {
            cordoned: spec.state == Some(TenantState::Cordoned),
            spoken_for: is_spoken_for(name, namespace, named),
            said: spec.namespaces.unwrap_or_default(),
            existing: self.namespaces.state_filter(is_its).len(),
        })
    }

    /// A Tenant's spec together with its class; of one whose class is not there as it stands.
    fn in_force(&self, spec: &TenantSpec) -> TenantSpec {
        let all = self.classes.state();
        match classes::choose(spec, all.iter().map(|class| (&**class).into())) {
            classes::Choice::Class(class) => classes::resolve(spec, class.spec).0,
            classes::Choice::None | classes::Choice::Missing => spec.clone(),
        }
    }

    /// The questions that the authorizer answers with yes.
    async fn ask_all(&self, user: &User, questions: BTreeSet<Question>) -> Result<BTreeSet<Question>, String> {
        let asked = questions.into_iter().map(|question| async { Ok(self.ask(user, &question).await?.then_some(question)) });
        let answered = tokio::time::timeout(AUTHORIZER_LIMIT, futures::future::try_join_all(asked))
            .await
            .map_err(|_| format!("no answer within {} s", AUTHORIZER_LIMIT.as_secs()))?;
        let answered: Vec<Option<Question>> = answered.map_err(|error: kube::Error| {
            tracing::warn!(%error, "the authorizer could not be asked");
            "the API server did not answer".to_owned()
        })?;
        Ok(answered.into_iter().flatten().collect())
    }

    async fn ask(&self, user: &User, question: &Question) -> Result<bool, kube::Error> {
        let _place = self.places.acquire().await;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.username.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("tenants".to_owned()),
                    verb: Some(question.verb.to_owned()),
                    name: question.tenant.clone(),
                    namespace: question.namespace().map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answered = Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answered.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// Leaves of metadata what a decision reads: names, labels and UIDs. A tenant must not fill our memory with the rest.
fn slim<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    (metadata.managed_fields, metadata.owner_references, metadata.finalizers) = (None, None, None);
    if let Some(annotations) = &mut metadata.annotations {
        annotations.retain(|key, _| key == DEFAULT_CLASS_ANNOTATION);
    }
    if let Some(labels) = &mut metadata.labels {
        labels.retain(|key, _| key == TENANT_LABEL);
    }
}

/// One watch: fills its store with what [`slim`] leaves and tells of every change after the first list. Failures back off.
async fn follow<K>(
    kind: &'static str,
    stream: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    mut writer: Writer<K>,
    changed: impl Fn(),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let mut events = std::pin::pin!(stream.default_backoff().modify(slim));
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                writer.apply_watcher_event(&event);
                if !matches!(event, Event::Init | Event::InitApply(_)) {
                    changed();
                }
            }
            Err(error) => tracing::warn!(kind, %error, "a watch failed; it is taken up again"),
        }
    }
}
