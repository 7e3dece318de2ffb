//! Tenants' templates on this node: the map of whose namespace is whose, and templates made when shims ask for them.
//!
//! Input: the wishes that shims leave in a folder. Output: runs of the shim's own `templates`, and beside them the map of [`tenants`].
//! It stands apart from the rounds, which are rare; this looks every few seconds.
//! Nothing here can fail a node: a shim without a map or a template boots its machine cold.

use crate::handler::TEMPLATES;
use crate::register::below;
use crate::{host, tenants};
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

/// Time between two looks at the wishes.
const LOOK: Duration = Duration::from_secs(3);
/// Time for one run of the shim, which makes several templates one after the other, emulated on a busy node.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// How templates are made on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Templating {
    /// The shim of the bundle in force.
    pub shim: String,
    /// The handler's file.
    pub config: String,
}

/// Keeps the map and makes templates until it is dropped.
pub async fn keep(client: &kube::Client, root: &Path, templating: &Templating) -> Infallible {
    let folder = below(root, TEMPLATES);
    let (never, _) = tokio::join!(tenants::keep(client, &folder), make_all(&folder, templating));
    never
}

async fn make_all(folder: &Path, templating: &Templating) -> Infallible {
    loop {
        if let Err(error) = make(folder, templating).await {
            tracing::warn!("templates are not made: {error:#}; machines boot cold");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn make(folder: &Path, templating: &Templating) -> anyhow::Result<()> {
    let wanted = std::fs::read_dir(folder.join("wanted")).is_ok_and(|mut entries| entries.next().is_some());
    if !wanted {
        return Ok(());
    }
    let said = host::run(&[&templating.shim, "templates", "--config", &templating.config], RUN_LIMIT).await?;
    tracing::info!(said = said.trim(), "templates were made");
    Ok(())
}
