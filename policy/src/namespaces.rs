//! Belonging: whose is a namespace, and may the requester say so.
//!
//! Input is the Namespace before and after, and answers about the requester's RBAC: [`questions`] says which to fetch, [`check`]
//! decides from them. The webhook asks and answers; the floor asks the same verbs in
//! `charts/freehold/templates/floor/namespaces.yaml`. What was not answered counts as no.
//!
//! Joining is an RBAC verb: `own` on `tenants/<name>` lets one create a namespace with that label; `adopt`, which only the platform
//! team holds, lets one change it on an existing namespace (taking in, releasing, moving) and change what is guarded.

use std::collections::BTreeSet;

use crate::view::Namespace;
use crate::{Decision, Denial, Phase, TENANT_LABEL, namespace_rules, set};

/// Verb on `tenants/<name>`: may create namespaces of that tenant.
pub const OWN: &str = "own";
/// Verb on `tenants/<name>`: may take existing namespaces in, release and move them.
pub const ADOPT: &str = "adopt";
/// Verb on `tenants/<name>`: may name that tenant's namespaces as one likes; owners hold it where namePolicy is Any.
pub const NAME: &str = "name";
/// Verb on `tenants`, without a name, that marks every owner of any tenant.
pub const BELONG: &str = "belong";
/// Verb on `tenants`, without a name, that only wide administrators hold: may create namespaces of no tenant although an owner.
pub const ROAM: &str = "roam";

/// Where [`OWN`] and [`NAME`] are asked, and bound for owners who may not see their Tenant: what is bound in a namespace costs requests there alone, what is
/// bound across the cluster costs all. Who holds them across the cluster holds them there too.
pub const GRANTS_NAMESPACE: &str = "freehold-system";

/// The account that keeps what is guarded as the Tenant says.
pub const OPERATOR: &str = "system:serviceaccount:freehold-system:freehold-operator";

/// Names that no tenant's namespace has, besides all that start with `kube-`: others trust them by name.
pub const RESERVED_NAMES: &[&str] = &["default", "freehold-system", "freehold-node", "freehold-probe"];

/// Labels that are guarded in a tenant's namespace: what device claims trust, and by which well-known webhooks (Gatekeeper, kube-mgmt, cert-manager)
/// pass a namespace over.
pub const GUARDED_LABELS: &[&str] = &[
    "resource.kubernetes.io/admin-access",
    "resource.k8s.io/admin-access",
    "admission.gatekeeper.sh/ignore",
    "openpolicyagent.org/webhook",
    "cert-manager.io/disable-validation",
];
/// Annotations that are guarded: admission plugins of Kubernetes rewrite every pod by them.
pub const GUARDED_ANNOTATIONS: &[&str] = &[
    "scheduler.alpha.kubernetes.io/node-selector",
    "scheduler.alpha.kubernetes.io/defaultTolerations",
    "scheduler.alpha.kubernetes.io/tolerationsWhitelist",
];
/// Labels of a tenant's namespace. Who serves all tenants holds all namespaces in memory, so what one may weigh is bounded.
pub const MAX_LABELS: usize = 64;
/// Annotations of a tenant's namespace; see [`MAX_LABELS`].
pub const MAX_ANNOTATIONS: usize = 32;
/// Characters of one annotation: what `kubectl apply` keeps of a Namespace's manifest there fits.
pub const MAX_ANNOTATION_CHARACTERS: usize = 4096;
/// Every other label with this prefix is ours.
pub const OUR_PREFIX: &str = "freehold.dev/";

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// One question to RBAC about the requester, on `tenants.freehold.dev`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// [`OWN`], [`ADOPT`], [`BELONG`] or [`ROAM`].
    pub verb: &'static str,
    /// Name of a tenant; None asks without a name. Never empty: an empty name would ask for all tenants.
    pub tenant: Option<String>,
}

impl Question {
    /// The namespace in which it is asked, if not across the cluster.
    pub fn namespace(&self) -> Option<&'static str> {
        matches!(self.verb, OWN | NAME).then_some(GRANTS_NAMESPACE)
    }
}

/// Who asks and what RBAC said about them.
#[derive(Clone, Debug, Default)]
pub struct Requester {
    /// Username as authenticated.
    pub username: String,
    /// The questions that were answered with yes.
    pub allowed: BTreeSet<Question>,
    /// Tenants that the requester owns: fills the label in, and is what a message may name.
    pub owned: Vec<String>,
    /// What the tenant in question says of its namespaces, as far as it is known.
    pub rules: Option<namespace_rules::Rules>,
}

impl Requester {
    fn may(&self, verb: &'static str, tenant: Option<&str>) -> bool {
        self.allowed.contains(&Question { verb, tenant: tenant.map(str::to_owned) })
    }

    fn owned_shown(&self) -> String {
        match self.owned.as_slice() {
            [] => "no tenant of yours; ask the platform team".to_owned(),
            names => names.join(", "),
        }
    }
}

fn tenant(namespace: &Namespace) -> Option<&str> {
    namespace.metadata.labels.get(TENANT_LABEL).map(String::as_str)
}

/// Whether no tenant may have a namespace of this name.
pub fn reserved(name: &str) -> bool {
    name.starts_with("kube-") || RESERVED_NAMES.contains(&name)
}

/// Whether a namespace is named after its tenant.
pub fn prefixed(tenant: &str, name: &str) -> bool {
    name.strip_prefix(tenant).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// What the edge must ask before [`check`]: at most four questions.
pub fn questions(old: Option<&Namespace>, new: &Namespace) -> BTreeSet<Question> {
    let mut asked = BTreeSet::new();
    let mut ask = |verb, tenant: Option<&str>| asked.insert(Question { verb, tenant: tenant.map(str::to_owned) });
    let joined = tenant(new).filter(|name| !name.is_empty());
    match old {
        None if joined.is_some() => {
            ask(OWN, joined);
            if joined.is_some_and(|tenant| !prefixed(tenant, &new.metadata.name)) {
                ask(NAME, joined);
            }
        }
        None => {
            ask(BELONG, None);
            ask(ROAM, None);
        }
        Some(old) => {
            if let Some(left) = tenant(old).filter(|name| !name.is_empty()) {
                ask(ADOPT, Some(left));
            }
        }
    }
    if joined.is_some() {
        ask(ADOPT, joined);
    }
    asked
}

/// A Namespace that is created, or (with `old`) updated: itself, its status or its finalizers.
pub fn check(phase: Phase, requester: &Requester, old: Option<&Namespace>, new: &Namespace) -> Decision {
    let mut decision = Decision::default();
    let label = format!("metadata.labels[{TENANT_LABEL}]");
    match (old, tenant(new)) {
        (Some(old), joined) if tenant(old) == joined => {}
        (_, Some("")) => decision.denials.push(Denial::new(label, "", "tenant label", requester.owned_shown())),
        (Some(old), joined) => moved(&label, requester, tenant(old), joined, &mut decision),
        (None, Some(joined)) if !requester.may(OWN, Some(joined)) => {
            decision.denials.push(Denial::new(label, joined, "tenant label", requester.owned_shown()));
        }
        (None, Some(_)) => {}
        (None, None) => unlabelled(&label, phase, requester, new, &mut decision),
    }
    let filled = !decision.patch.0.is_empty();
    let before = old.and_then(tenant);
    if (tenant(new).is_some() || filled) && before.is_none() && reserved(&new.metadata.name) {
        let denial = Denial::new("metadata.name", &new.metadata.name, "reserved names", "another name");
        decision.denials.push(denial);
    }
    if tenant(new).is_some() || before.is_some() || filled {
        let of = before.or(tenant(new)).filter(|name| !name.is_empty());
        if requester.username != OPERATOR && !of.is_some_and(|of| requester.may(ADOPT, Some(of))) {
            if let (None, Some(of)) = (old, of)
                && !prefixed(of, &new.metadata.name)
                && !requester.may(NAME, Some(of))
            {
                let allowed = format!("{of}, or a name that begins with {of}-");
                decision.denials.push(Denial::new("metadata.name", &new.metadata.name, "names of namespaces", allowed));
            }
            if let Some(rules) = &requester.rules {
                namespace_rules::check(phase, rules, old, new, &mut decision);
            }
            guarded(old, new, &mut decision.denials);
            pod_security(old, new, &mut decision.denials);
            size(old, new, &mut decision.denials);
        }
    }
    if !decision.admitted() {
        decision.patch.0.clear();
    }
    decision
}

/// The label of an existing namespace changes: both sides must be the requester's to give and take.
fn moved(label: &str, requester: &Requester, left: Option<&str>, joined: Option<&str>, decision: &mut Decision) {
    // A namespace that has the empty label belongs to nobody; only who may adopt for the other side takes it over.
    let sides = [left, joined].into_iter().flatten().filter(|name| !name.is_empty());
    if !sides.clone().all(|name| requester.may(ADOPT, Some(name))) {
        let allowed = "unchanged; the platform team takes namespaces in and releases them";
        decision.denials.push(Denial::new(label, joined.unwrap_or("(unset)"), "tenant label of an existing namespace", allowed));
    }
}

/// A new namespace that says nothing: an owner's is labelled or asked about, anybody else's is none of our business.
fn unlabelled(label: &str, phase: Phase, requester: &Requester, new: &Namespace, decision: &mut Decision) {
    if !requester.may(BELONG, None) || requester.may(ROAM, None) {
        return;
    }
    if let ([only], Phase::Complete) = (requester.owned.as_slice(), phase) {
        if new.metadata.labels.is_empty() {
            decision.patch.0.push(set(&["metadata"], "labels", serde_json::json!({ TENANT_LABEL: only })));
        } else {
            decision.patch.0.push(set(&["metadata", "labels"], TENANT_LABEL, only.as_str().into()));
        }
        return;
    }
    decision.denials.push(Denial::new(label, "(unset)", "tenant label", format!("say which: {}", requester.owned_shown())));
}

/// Whether a label or annotation is guarded.
fn is_guarded_label(key: &str) -> bool {
    GUARDED_LABELS.contains(&key) || (key.starts_with(OUR_PREFIX) && key != TENANT_LABEL)
}

fn guarded(old: Option<&Namespace>, new: &Namespace, denials: &mut Vec<Denial>) {
    let none = Namespace::default();
    let old = &old.unwrap_or(&none).metadata;
    let maps = [
        ("labels", &old.labels, &new.metadata.labels, is_guarded_label as fn(&str) -> bool),
        ("annotations", &old.annotations, &new.metadata.annotations, |key| GUARDED_ANNOTATIONS.contains(&key)),
    ];
    for (map, before, after, is_guarded) in maps {
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).filter(|key| is_guarded(key)).collect();
        for key in keys.into_iter().filter(|key| before.get(*key) != after.get(*key)) {
            let value = after.get(key).map_or("(unset)", String::as_str);
            let allowed = before.get(key).map_or("unset".to_owned(), |value| format!("{value:?}, as it was"));
            denials.push(Denial::new(format!("metadata.{map}[{key}]"), value, "guarded metadata", allowed));
        }
    }
}

/// How much metadata there may be; what was more before may stay and shrink.
fn size(old: Option<&Namespace>, new: &Namespace, denials: &mut Vec<Denial>) {
    let none = Namespace::default();
    let (old, new) = (&old.unwrap_or(&none).metadata, &new.metadata);
    let counts = [
        ("labels", old.labels.len(), new.labels.len(), MAX_LABELS),
        ("annotations", old.annotations.len(), new.annotations.len(), MAX_ANNOTATIONS),
    ];
    for (map, before, after, max) in counts.into_iter().filter(|(_, before, after, max)| after > max && after > before) {
        denials.push(Denial::new(
            format!("metadata.{map}"),
            format!("{after} {map}"),
            "size of metadata",
            format!("{max}; had {before}"),
        ));
    }
    let long = |value: &String| value.chars().count() > MAX_ANNOTATION_CHARACTERS;
    for (key, value) in new.annotations.iter().filter(|(key, value)| long(value) && old.annotations.get(*key) != Some(*value)) {
        let allowed = format!("at most {MAX_ANNOTATION_CHARACTERS} characters");
        denials.push(Denial::new(format!("metadata.annotations[{key}]"), value, "size of metadata", allowed));
    }
}

/// How much a level binds. No label means the cluster's default, which is never less than privileged.
fn rank(level: Option<&str>) -> u8 {
    match level {
        Some("restricted") => 3,
        Some("baseline") => 2,
        None => 1,
        Some(_) => 0,
    }
}

fn pod_security(old: Option<&Namespace>, new: &Namespace, denials: &mut Vec<Denial>) {
    let get = |namespace: &Namespace, key: &str| namespace.metadata.labels.get(key).cloned();
    let (was, is) = (old.and_then(|old| get(old, ENFORCE)), get(new, ENFORCE));
    let least = old.map_or(1, |_| rank(was.as_deref()));
    if was != is && rank(is.as_deref()) < least {
        let allowed = match least {
            3 => "restricted",
            2 => "baseline, restricted",
            _ => "unset, baseline, restricted",
        };
        let value = is.as_deref().unwrap_or("(unset)");
        denials.push(Denial::new(format!("metadata.labels[{ENFORCE}]"), value, "pod security is not weakened", allowed));
    }
    let (was, is) = (old.and_then(|old| get(old, ENFORCE_VERSION)), get(new, ENFORCE_VERSION));
    if let Some(version) = is.as_deref().filter(|version| was != is && *version != "latest") {
        let field = format!("metadata.labels[{ENFORCE_VERSION}]");
        denials.push(Denial::new(field, version, "pod security is not weakened", "unset, latest"));
    }
}
