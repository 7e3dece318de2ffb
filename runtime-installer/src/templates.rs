//! Tenants' templates on this node: whose namespace is whose, and templates made when shims ask for them.
//!
//! Input: the Boundaries, which the operator alone writes, and the wishes that shims leave in a folder. Output: a map that shims
//! read, and runs of the shim's own `templates`. It stands apart from the rounds, which are rare; this looks every few seconds.
//! Nothing here can fail a node: a shim without a map or a template boots its machine cold.

use crate::handler::TEMPLATES;
use crate::host;
use crate::register::below;
use anyhow::Context;
use freehold_crds::Boundary;
use kube::api::{Api, ListParams};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Time between two maps; shims believe one for a minute.
const MAP: Duration = Duration::from_secs(15);
/// Time between two looks at the wishes.
const LOOK: Duration = Duration::from_secs(3);
/// Time for one run of the shim, which makes several templates one after the other, emulated on a busy node.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// Boundaries asked for at once.
const PAGE: u32 = 500;
/// Most namespaces in the map: the shim reads 4 MiB of it.
const MAX_NAMESPACES: usize = 30_000;

/// How templates are made on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Templating {
    /// The shim of the bundle in force.
    pub shim: String,
    /// The handler's file.
    pub config: String,
}

/// Writes maps and makes templates until it is dropped.
pub async fn keep(client: &kube::Client, root: &Path, templating: &Templating) {
    let folder = below(root, TEMPLATES);
    tokio::join!(
        every(MAP, async || map(client, &folder).await.context("the map of tenants' namespaces is not renewed")),
        every(LOOK, async || make(&folder, templating).await.context("templates are not made")),
    );
}

async fn every(time: Duration, work: impl AsyncFn() -> anyhow::Result<()>) {
    loop {
        if let Err(error) = work().await {
            tracing::warn!("{error:#}; machines boot cold");
        }
        tokio::time::sleep(time).await;
    }
}

async fn map(client: &kube::Client, folder: &Path) -> anyhow::Result<()> {
    let boundaries: Api<Boundary> = Api::all(client.clone());
    let (mut all, mut parameters) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = boundaries.list(&parameters).await.context("could not list Boundaries")?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if all.len() < MAX_NAMESPACES => parameters = parameters.continue_token(&token),
            _ => break,
        }
    }
    write(folder, &text(&all))
}

/// The map's text: namespace to UID of the tenant.
fn text(boundaries: &[Boundary]) -> String {
    let namespaces: BTreeMap<&str, &str> = boundaries
        .iter()
        .filter_map(|boundary| Some((boundary.metadata.namespace.as_deref()?, boundary.spec.tenant.uid.as_str())))
        .collect();
    json!({ "namespaces": namespaces }).to_string()
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

async fn make(folder: &Path, templating: &Templating) -> anyhow::Result<()> {
    let wanted = fs::read_dir(folder.join("wanted")).is_ok_and(|mut entries| entries.next().is_some());
    if !wanted {
        return Ok(());
    }
    let said = host::run(&[&templating.shim, "templates", "--config", &templating.config], RUN_LIMIT).await?;
    tracing::info!(said = said.trim(), "templates were made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_crds::{BoundarySpec, TenantReference};

    fn boundary(namespace: &str, uid: &str) -> Boundary {
        let tenant = TenantReference { uid: uid.into(), ..TenantReference::default() };
        let mut boundary = Boundary::new("boundary", BoundarySpec { tenant, ..BoundarySpec::default() });
        boundary.metadata.namespace = Some(namespace.into());
        boundary
    }

    #[test]
    fn the_map_has_what_the_shim_reads() {
        let text = text(&[boundary("a-dev", "u1"), boundary("b-dev", "u2")]);
        assert_eq!(text, r#"{"namespaces":{"a-dev":"u1","b-dev":"u2"}}"#);
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
