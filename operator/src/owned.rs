//! What of ours is stored, by name and by whose it is.
//!
//! Kept as bytes of JSON: a tenant with three namespaces has some thirty objects, and as trees of values those of two thousand tenants would take
//! hundreds of MiB. One is read when it is looked at.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use freehold_crds::TENANT_LABEL;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use serde_json::Value;

use crate::desired::runtime::RUNTIME_LABEL;
use crate::desired::{Kind, Object};

/// Names an object of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; None for kinds of the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Key {
    /// That of an object as it must be.
    pub fn of(object: &Object) -> Self {
        Self { kind: object.kind, namespace: object.namespace.clone(), name: object.name.clone() }
    }

    fn seen(kind: Kind, object: &DynamicObject) -> Self {
        Self { kind, namespace: object.namespace(), name: object.name_any() }
    }
}

/// To whom an object says that it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// A Tenant.
    Tenant(String),
    /// A SandboxRuntime.
    Runtime(String),
}

/// Whose an object says it is; nothing of ours belongs to both.
pub fn whose(object: &DynamicObject) -> Option<Whose> {
    let said = |label: &str| object.labels().get(label).filter(|name| !name.is_empty()).cloned();
    said(TENANT_LABEL).map(Whose::Tenant).or_else(|| said(RUNTIME_LABEL).map(Whose::Runtime))
}

/// Names by what they belong to, so that one round of one Tenant does not go through all that there is.
#[derive(Debug)]
pub struct Index<O, N>(HashMap<O, BTreeSet<N>>);

impl<O, N> Default for Index<O, N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<O: Eq + Hash, N: Ord + Clone> Index<O, N> {
    /// Puts a name in.
    pub fn insert(&mut self, whose: O, name: N) {
        self.0.entry(whose).or_default().insert(name);
    }

    /// Takes a name out; an owner of nothing is forgotten.
    pub fn remove<Q: Ord + ?Sized>(&mut self, whose: &O, name: &Q)
    where
        N: Borrow<Q>,
    {
        if let Some(names) = self.0.get_mut(whose) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(whose);
            }
        }
    }

    /// The names that belong to it.
    pub fn of<Q: Eq + Hash + ?Sized>(&self, whose: &Q) -> impl Iterator<Item = &N>
    where
        O: Borrow<Q>,
    {
        self.0.get(whose).into_iter().flatten()
    }
}

#[derive(Debug)]
struct Held {
    whose: Option<Whose>,
    json: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: HashMap<Arc<Key>, Held>,
    index: Index<Whose, Arc<Key>>,
    /// While a kind is listed anew: what was in the list so far.
    listed: HashMap<Kind, HashSet<Arc<Key>>>,
}

impl Inner {
    fn put(&mut self, kind: Kind, object: &DynamicObject) -> Arc<Key> {
        let key = Key::seen(kind, object);
        self.remove(&key);
        let (key, whose) = (Arc::new(key), whose(object));
        if let Some(whose) = &whose {
            self.index.insert(whose.clone(), Arc::clone(&key));
        }
        // What came as JSON is JSON.
        let json = serde_json::to_vec(object).unwrap_or_default().into_boxed_slice();
        self.objects.insert(Arc::clone(&key), Held { whose, json });
        key
    }

    fn remove(&mut self, key: &Key) {
        if let Some(Held { whose: Some(whose), .. }) = self.objects.remove(key) {
            self.index.remove(&whose, key);
        }
    }
}

/// What of ours is stored.
#[derive(Debug, Default)]
pub struct Owned(RwLock<Inner>);

impl Owned {
    /// Takes in what the watch of a kind says; whether its whole list is here now.
    pub fn apply(&self, kind: Kind, event: &Event<DynamicObject>) -> bool {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => drop(inner.put(kind, object)),
            Event::Delete(object) => inner.remove(&Key::seen(kind, object)),
            Event::Init => drop(inner.listed.insert(kind, HashSet::new())),
            Event::InitApply(object) => {
                let key = inner.put(kind, object);
                inner.listed.entry(kind).or_default().insert(key);
            }
            Event::InitDone => {
                let listed = inner.listed.remove(&kind).unwrap_or_default();
                let gone = |key: &&Arc<Key>| key.kind == kind && !listed.contains(*key);
                let gone: Vec<_> = inner.objects.keys().filter(gone).cloned().collect();
                gone.iter().for_each(|key| inner.remove(key));
            }
        }
        matches!(event, Event::InitDone)
    }

    /// An object as it is stored.
    pub fn get(&self, key: &Key) -> Option<Value> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        serde_json::from_slice(&inner.objects.get(key)?.json).ok()
    }

    /// The version of an object as it is stored; versions of one kind have an order (KEP-5504).
    pub fn version(&self, key: &Key) -> Option<u64> {
        #[derive(Deserialize)]
        struct Versioned {
            metadata: PartialMeta,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct PartialMeta {
            resource_version: String,
        }
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let versioned: Versioned = serde_json::from_slice(&inner.objects.get(key)?.json).ok()?;
        versioned.metadata.resource_version.parse().ok()
    }

    /// What belongs to one, in the order of kinds.
    pub fn of(&self, whose: &Whose) -> Vec<Arc<Key>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).index.of(whose).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, labels: Value) -> DynamicObject {
        let document =
            json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name, "namespace": "n", "labels": labels}});
        serde_json::from_value(document).unwrap()
    }

    fn names(owned: &Owned, tenant: &str) -> Vec<String> {
        owned.of(&Whose::Tenant(tenant.to_owned())).iter().map(|key| key.name.clone()).collect()
    }

    #[test]
    fn what_changes_hands_or_goes_is_found_no_more() {
        let (owned, kind) = (Owned::default(), Kind::LimitRange);
        let key = |name: &str| Key { kind, namespace: Some("n".to_owned()), name: name.to_owned() };
        owned.apply(kind, &Event::Apply(object("x", json!({TENANT_LABEL: "a"}))));
        owned.apply(kind, &Event::Apply(object("y", json!({TENANT_LABEL: "a"}))));
        assert_eq!(names(&owned, "a"), ["x", "y"]);
        assert_eq!(owned.get(&key("x")).unwrap()["metadata"]["labels"][TENANT_LABEL], "a");
        owned.apply(kind, &Event::Apply(object("x", json!({TENANT_LABEL: "b"}))));
        assert_eq!((names(&owned, "a"), names(&owned, "b")), (vec!["y".to_owned()], vec!["x".to_owned()]));
        owned.apply(kind, &Event::Apply(object("x", json!({}))));
        assert!(names(&owned, "b").is_empty() && owned.get(&key("x")).is_some(), "it belongs to nobody");
        owned.apply(kind, &Event::Delete(object("y", json!({}))));
        assert!(names(&owned, "a").is_empty() && owned.get(&key("y")).is_none());
        owned.apply(kind, &Event::Apply(object("z", json!({RUNTIME_LABEL: "a"}))));
        assert_eq!((names(&owned, "a").len(), owned.of(&Whose::Runtime("a".to_owned())).len()), (0, 1));
    }

    #[test]
    fn a_list_anew_takes_away_what_it_lacks_and_of_its_kind_alone() {
        let (owned, label) = (Owned::default(), json!({TENANT_LABEL: "a"}));
        for kind in [Kind::LimitRange, Kind::ResourceQuota] {
            for name in ["x", "y"] {
                owned.apply(kind, &Event::Apply(object(name, label.clone())));
            }
        }
        let list =
            [Event::Init, Event::InitApply(object("y", label.clone())), Event::InitApply(object("z", label)), Event::InitDone];
        let done: Vec<_> = list.iter().map(|event| owned.apply(Kind::LimitRange, event)).collect();
        assert_eq!(done, [false, false, false, true]);
        let found = owned.of(&Whose::Tenant("a".to_owned()));
        let found: Vec<_> = found.iter().map(|key| (key.kind, key.name.as_str())).collect();
        let quota = Kind::ResourceQuota;
        assert_eq!(found, [(quota, "x"), (quota, "y"), (Kind::LimitRange, "y"), (Kind::LimitRange, "z")]);
    }
}
