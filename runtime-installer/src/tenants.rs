//! Whose namespace is whose: the Boundaries watched, and a map of them that shims read.
//!
//! Input: the Boundaries, which the operator alone writes. Output: a file on the node. A shim believes it for a minute, so it says not
//! only what was heard but that the API server was heard just now: it is written anew whenever a watch is taken up, which is often,
//! and that is why this does not use kube's `watcher`, which takes watches up without a word. Nothing here can fail a node: a shim
//! without a map boots its machine cold.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use freehold_crds::Boundary;
use futures::StreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use serde_json::json;

/// Seconds that one watch lasts, and with it the time between two maps if nothing changes.
const WATCH_SECONDS: u32 = 15;
/// Time after which a watch that should have ended is given up: its connection is dead. With [`WATCH_SECONDS`] well under a minute.
const WATCH_LIMIT: Duration = Duration::from_secs(25);
/// Time between two watches: an API server that ends each at once is not asked more often.
const PAUSE: Duration = Duration::from_secs(1);
/// Time until all is listed again after a failure, on every node of the cluster.
const AGAIN: Duration = Duration::from_secs(15);
/// Time to list all of them.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Boundaries asked for at once.
const PAGE: u32 = 500;
/// Most events taken before the map is written.
const TOGETHER: usize = 256;
/// Most namespaces in the map: the shim reads 4 MiB of it.
const MAX_NAMESPACES: usize = 30_000;

/// Keeps the map in a folder true until it is dropped.
pub async fn keep(client: &kube::Client, folder: &Path) -> Infallible {
    let boundaries = Api::all(client.clone());
    loop {
        let Err(error) = follow(&boundaries, folder).await;
        tracing::warn!("the map of tenants' namespaces is not renewed: {error:#}; machines boot cold");
        tokio::time::sleep(AGAIN).await;
    }
}

/// From a list on, watch by watch, until something fails.
async fn follow(boundaries: &Api<Boundary>, folder: &Path) -> anyhow::Result<Infallible> {
    let listed = tokio::time::timeout(LIST_LIMIT, list(boundaries)).await;
    let mut tenants = listed.with_context(|| format!("Boundaries could not be listed within {} s", LIST_LIMIT.as_secs()))??;
    write(folder, &tenants.text())?;
    loop {
        let watched = tokio::time::timeout(WATCH_LIMIT, watch(boundaries, &mut tenants, folder)).await;
        watched.with_context(|| format!("a watch of Boundaries did not end within {} s", WATCH_LIMIT.as_secs()))??;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn list(boundaries: &Api<Boundary>) -> anyhow::Result<Tenants> {
    let (mut tenants, mut parameters) = (Tenants::default(), ListParams::default().limit(PAGE));
    loop {
        let page = boundaries.list(&parameters).await.context("could not list Boundaries")?;
        for boundary in &page.items {
            tenants.set(boundary);
        }
        tenants.version = page.metadata.resource_version.unwrap_or_default();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if tenants.namespaces.len() < MAX_NAMESPACES => parameters = parameters.continue_token(&token),
            _ => return Ok(tenants),
        }
    }
}

/// One watch. That the API server answers it is worth a map: all that it knew up to then is in it.
async fn watch(boundaries: &Api<Boundary>, tenants: &mut Tenants, folder: &Path) -> anyhow::Result<()> {
    let parameters = WatchParams::default().timeout(WATCH_SECONDS);
    let events = boundaries.watch(&parameters, &tenants.version).await.context("could not watch Boundaries")?;
    let mut events = pin!(events.ready_chunks(TOGETHER));
    while let Some(chunk) = events.next().await {
        let mut changed = false;
        for event in chunk {
            changed |= tenants.take(event.context("a watch of Boundaries failed")?)?;
        }
        if changed {
            write(folder, &tenants.text())?;
        }
    }
    write(folder, &tenants.text())
}

/// Namespaces and the UIDs of their tenants, as of a version of the collection.
#[derive(Debug, Default, PartialEq)]
struct Tenants {
    namespaces: BTreeMap<String, String>,
    version: String,
}

impl Tenants {
    /// Whether that changes the map.
    fn set(&mut self, boundary: &Boundary) -> bool {
        let (Some(namespace), tenant) = (&boundary.metadata.namespace, &boundary.spec.tenant.uid) else { return false };
        let full = self.namespaces.len() >= MAX_NAMESPACES;
        match self.namespaces.get_mut(namespace) {
            Some(before) => std::mem::replace(before, tenant.clone()) != *tenant,
            None if full => false,
            None => self.namespaces.insert(namespace.clone(), tenant.clone()).is_none(),
        }
    }

    /// Whether that changes the map.
    fn take(&mut self, event: WatchEvent<Boundary>) -> anyhow::Result<bool> {
        let (boundary, changed) = match event {
            WatchEvent::Added(boundary) | WatchEvent::Modified(boundary) => {
                let changed = self.set(&boundary);
                (boundary, changed)
            }
            WatchEvent::Deleted(boundary) => {
                let gone = boundary.metadata.namespace.as_ref().and_then(|namespace| self.namespaces.remove(namespace));
                (boundary, gone.is_some())
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                return Ok(false);
            }
            // 410 above all: what changed since then is forgotten, so all is listed again.
            WatchEvent::Error(status) => bail!("the API server ended a watch of Boundaries: {}", status.message),
        };
        self.version = boundary.metadata.resource_version.context("a Boundary without a resource version")?;
        Ok(changed)
    }

    /// The map's text.
    fn text(&self) -> String {
        json!({ "namespaces": self.namespaces }).to_string()
    }
}

/// Whole and for root alone; its time says that it was true just now, so it is written whether it differs or not.
fn write(folder: &Path, text: &str) -> anyhow::Result<()> {
    let (new, path) = (folder.join(".tenants.json.new"), folder.join("tenants.json"));
    fs::create_dir_all(folder)
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o700)))
        .and_then(|()| fs::write(&new, text))
        .and_then(|()| fs::set_permissions(&new, Permissions::from_mode(0o600)))
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("could not write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, namespace: &str, tenant: &str, version: &str) -> WatchEvent<Boundary> {
        let metadata = json!({"name": "boundary", "namespace": namespace, "resourceVersion": version});
        let spec = freehold_crds::BoundarySpec {
            tenant: freehold_crds::TenantReference { uid: tenant.into(), ..Default::default() },
            ..Default::default()
        };
        let object = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Boundary", "metadata": metadata, "spec": spec});
        serde_json::from_value(json!({"type": kind, "object": object})).unwrap()
    }

    fn after(events: Vec<WatchEvent<Boundary>>) -> Tenants {
        let mut tenants = Tenants::default();
        for event in events {
            tenants.take(event).unwrap();
        }
        tenants
    }

    #[test]
    fn the_map_has_what_the_shim_reads() {
        let tenants = after(vec![event("ADDED", "b-dev", "u2", "1"), event("ADDED", "a-dev", "u1", "2")]);
        assert_eq!(tenants.text(), r#"{"namespaces":{"a-dev":"u1","b-dev":"u2"}}"#);
    }

    #[test]
    fn it_follows_what_happens_and_knows_from_where_to_go_on() {
        let made_anew = [event("ADDED", "a", "u1", "1"), event("DELETED", "a", "u1", "2"), event("ADDED", "a", "u2", "3")];
        let gone = [event("ADDED", "a", "u1", "1"), event("DELETED", "a", "u1", "5")];
        let handed_on = [event("ADDED", "a", "u1", "1"), event("MODIFIED", "a", "u3", "4"), event("BOOKMARK", "", "", "9")];
        for (events, text, version) in [
            (made_anew.into(), r#"{"namespaces":{"a":"u2"}}"#, "3"),
            (gone.into(), r#"{"namespaces":{}}"#, "5"),
            (handed_on.into(), r#"{"namespaces":{"a":"u3"}}"#, "9"),
        ] {
            let tenants = after(events);
            assert_eq!((tenants.text().as_str(), tenants.version.as_str()), (text, version));
        }
    }

    #[test]
    fn a_watch_whose_past_is_forgotten_ends_so_that_all_is_listed_again() {
        let status = json!({"kind": "Status", "status": "Failure", "message": "too old resource version", "code": 410});
        let event = serde_json::from_value(json!({"type": "ERROR", "object": status})).unwrap();
        let error = Tenants::default().take(event).unwrap_err().to_string();
        assert!(error.contains("too old"), "{error}");
    }

    #[test]
    fn beyond_the_bound_nothing_is_added_and_what_is_there_stays_true() {
        let mut tenants = Tenants::default();
        for n in 0..=MAX_NAMESPACES {
            tenants.take(event("ADDED", &format!("n{n}"), "u1", "1")).unwrap();
        }
        assert!(tenants.take(event("MODIFIED", "n0", "u2", "2")).unwrap());
        assert!(!tenants.take(event("MODIFIED", "n0", "u2", "3")).unwrap(), "nothing new");
        assert_eq!((tenants.namespaces.len(), tenants.namespaces["n0"].as_str()), (MAX_NAMESPACES, "u2"));
        assert!(tenants.text().len() < 4 << 20, "the shim reads 4 MiB");
    }

    #[test]
    fn it_is_written_anew_although_nothing_changed_and_for_root_alone() {
        let folder = std::env::temp_dir().join(format!("freehold-tenants-{}", std::process::id()));
        write(&folder, "{}").unwrap();
        let path = folder.join("tenants.json");
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        write(&folder, "{}").unwrap();
        let about = fs::metadata(&path).unwrap();
        assert!(about.modified().unwrap() > old);
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&folder).unwrap();
    }
}
