//! Marks that many Tenants share: who owns any Tenant, and which programs are of one, in a few ClusterRoleBindings.
//!
//! RBAC looks through all ClusterRoleBindings of a cluster for each request, so that two a Tenant would cost everybody time; subjects side by side cost
//! next to none. Input is what each Tenant adds, and who adds waits until it is written. What was stored before this process stays until every Tenant of
//! a shard has said what it adds: a mark that stays a moment longer gives no rights to anything, one that is missing frees from the floor's rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt as _;
use serde_json::Value;

use crate::apply::{Scribe, WriteError};
use crate::cache::Cache;
use crate::desired::tenant::{Mark, SHARDS, marked, shard};
use crate::owned::Key;

/// Subjects as text, which has an order; a set, as Tenants may share owners.
type Subjects = BTreeSet<String>;

/// What the Tenants of one shard add.
#[derive(Debug, Default)]
struct Added {
    by_tenant: BTreeMap<String, Subjects>,
    /// Whether each of them has said it.
    complete: bool,
    /// Counts the changes.
    changes: u64,
}

impl Added {
    /// Takes in what a Tenant adds; gives the count of changes that has it.
    fn say(&mut self, tenant: &str, subjects: Subjects) -> u64 {
        if self.by_tenant.get(tenant) != Some(&subjects) {
            self.by_tenant.insert(tenant.to_owned(), subjects);
            self.changes += 1;
        }
        self.changes
    }

    /// All that must be stored, beside what is; `tenants` are those that there are.
    fn all(&mut self, stored: &Value, tenants: &BTreeSet<String>) -> Vec<Value> {
        self.by_tenant.retain(|name, _| tenants.contains(name));
        self.complete |= tenants.iter().all(|name| self.by_tenant.contains_key(name));
        let mut all: Subjects = self.by_tenant.values().flatten().cloned().collect();
        if !self.complete {
            all.extend(stored["subjects"].as_array().into_iter().flatten().map(Value::to_string));
        }
        // What was written as JSON is JSON.
        all.iter().filter_map(|subject| serde_json::from_str(subject).ok()).collect()
    }
}

#[derive(Debug, Default)]
struct Shard {
    added: Mutex<Added>,
    /// The count of changes up to which all is stored.
    stored: AtomicU64,
    /// Held while it is written: the version that this gave it, of which the watch may not have told yet.
    writing: tokio::sync::Mutex<Option<u64>>,
}

/// What all Tenants add.
#[derive(Debug, Default)]
pub struct Shards {
    owners: [Shard; SHARDS],
    members: [Shard; SHARDS],
}

impl Shards {
    /// Says what a Tenant adds to a mark, nothing for one that goes; returns once that is stored.
    ///
    /// # Errors
    /// If the API server refused; whoever comes next tries again.
    pub async fn say(&self, mark: Mark, of: &str, subjects: &[Value], scribe: &Scribe, cache: &Cache) -> Result<(), WriteError> {
        let (number, subjects) = (shard(of), subjects.iter().map(Value::to_string).collect());
        let shard = self.shard(mark, number);
        let change = shard.added.lock().unwrap_or_else(PoisonError::into_inner).say(of, subjects);
        if shard.stored.load(Ordering::Acquire) >= change { Ok(()) } else { self.write(mark, number, false, scribe, cache).await }
    }

    /// Looks after shards that change under others' hands, until it is dropped.
    pub async fn keep(self: Arc<Self>, scribe: Scribe, cache: Arc<Cache>) {
        loop {
            let name = cache.shard_wakes.next().await;
            if let Some((mark, number)) = Mark::named(&name)
                && let Err(error) = self.write(mark, number, true, &scribe, &cache).await
            {
                tracing::warn!(%error, "a mark that Tenants share was not written");
            }
        }
    }

    /// Writes a shard if what is stored is not what must be. One who waited for another's write finds that it has theirs too. One that is not there is
    /// `gone` for who was told so by the watch, and else may be what the watch has not told of.
    async fn write(&self, mark: Mark, number: usize, gone: bool, scribe: &Scribe, cache: &Cache) -> Result<(), WriteError> {
        let shard = self.shard(mark, number);
        let mut ours = shard.writing.lock().await;
        let key = Key::of(&marked(mark, number, Vec::new()));
        let is_behind = ours.is_some_and(|ours| cache.owned.version(&key).map_or(!gone, |seen| seen < ours));
        let is_known =
            || shard.stored.load(Ordering::Acquire) == shard.added.lock().unwrap_or_else(PoisonError::into_inner).changes;
        if is_behind && is_known() {
            return Ok(());
        }
        let stored = cache.owned.get(&key);
        let tenants = tenants(number, cache);
        let (subjects, changes) = {
            let mut added = shard.added.lock().unwrap_or_else(PoisonError::into_inner);
            (added.all(stored.as_ref().unwrap_or(&Value::Null), &tenants), added.changes)
        };
        let wanted = marked(mark, number, subjects);
        if wanted.document["subjects"].as_array().is_none_or(Vec::is_empty) {
            scribe.remove_known(cache, &key).await?;
            *ours = None;
        } else if is_behind || stored.is_none_or(|stored| !wanted.is_settled(&stored)) {
            *ours = version(&scribe.write(&wanted).await?);
        }
        shard.stored.store(changes, Ordering::Release);
        Ok(())
    }

    fn shard(&self, mark: Mark, number: usize) -> &Shard {
        match mark {
            Mark::Owner => &self.owners[number],
            Mark::Member => &self.members[number],
        }
    }
}

/// The Tenants of a shard that there are.
fn tenants(number: usize, cache: &Cache) -> BTreeSet<String> {
    cache.tenants.state().iter().map(|tenant| tenant.name_any()).filter(|name| shard(name) == number).collect()
}

/// The version under which an object is stored.
fn version(stored: &Value) -> Option<u64> {
    stored["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(names: &[&str]) -> Subjects {
        names.iter().map(|name| json!({"name": name}).to_string()).collect()
    }

    fn names(subjects: Vec<Value>) -> String {
        subjects.iter().map(|subject| subject["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_stored_stays_until_every_tenant_has_spoken() {
        let (mut added, stored) = (Added::default(), json!({"subjects": [{"name": "bob"}, {"name": "gone"}]}));
        let tenants = ["a", "b"].map(str::to_owned).into();
        assert_eq!(added.say("a", of(&["alice"])), 1);
        assert_eq!(names(added.all(&stored, &tenants)), "alice bob gone");
        assert_eq!(added.say("b", of(&["bob", "alice"])), 2);
        assert_eq!(names(added.all(&stored, &tenants)), "alice bob");
        assert_eq!(
            names(added.all(&stored, &["a", "b", "new"].map(str::to_owned).into())),
            "alice bob",
            "who comes later has nothing stored"
        );
    }

    #[test]
    fn who_says_the_same_again_changes_nothing_and_who_is_gone_adds_nothing() {
        let mut added = Added::default();
        assert_eq!((added.say("a", of(&["alice"])), added.say("a", of(&["alice"])), added.say("b", of(&["bob"]))), (1, 1, 2));
        assert_eq!(names(added.all(&Value::Null, &["b".to_owned()].into())), "bob");
        assert_eq!(added.say("b", of(&[])), 3);
        assert_eq!(names(added.all(&json!({"subjects": [{"name": "bob"}]}), &["b".to_owned()].into())), "");
    }
}
