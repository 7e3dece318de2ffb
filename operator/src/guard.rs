//! Puts everything in place that guards one namespace, the Boundary last.
//!
//! Input is what [`crate::desired::namespace`] wants; outcome is whether the namespace takes pods. Pods are let in by the Boundary, so it comes only once all
//! else is there and the quota counts: until the API server has seen a quota's status, the namespace is unlimited.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;

use crate::apply::{Scribe, WriteError};
use crate::cache::Cache;
use crate::desired::{Kind, Object, budget, namespace};

/// Writes of one namespace at once. With more, many namespaces at once would only queue in the API server.
const CONCURRENT_WRITES: usize = 4;
/// How long a round waits for a fresh quota to count before it goes on with the Tenant's others; the quota's status wakes the Tenant again.
const COUNT_WAIT: Duration = Duration::from_millis(300);

/// Guards a namespace. False if its quota does not count yet. Where something that guards is refused, a fresh namespace gets no Boundary, and one that has
/// it takes nothing new.
///
/// # Errors
/// What was refused; a refusal is told before anything that could pass on the next try.
pub async fn guard(scribe: &Scribe, cache: &Cache, ground: Vec<Object>, boundary: Object) -> Result<bool, WriteError> {
    let put = |object: Object| async move { (scribe.put(cache, &object).await, object) };
    let outcomes: Vec<_> = futures::stream::iter(ground).map(put).buffer_unordered(CONCURRENT_WRITES).collect().await;
    let (mut quota, mut failed) = (None, None::<WriteError>);
    for (outcome, object) in outcomes {
        match outcome {
            Ok(live) if object.kind == Kind::ResourceQuota => quota = Some((object, live)),
            Ok(_) => {}
            Err(error) if failed.as_ref().is_none_or(|first| !first.is_refusal()) => failed = Some(error),
            Err(_) => {}
        }
    }
    if let Some(error) = failed {
        if error.is_refusal() && cache.live(&boundary).is_some() {
            scribe.put(cache, &namespace::closed(boundary)).await?;
        }
        return Err(error);
    }
    if let Some((quota, live)) = quota
        && !counts(cache, &quota, &live).await
    {
        return Ok(false);
    }
    scribe.put(cache, &boundary).await.map(|_| true)
}

/// Whether a quota counts, now or within [`COUNT_WAIT`].
async fn counts(cache: &Cache, quota: &Object, written: &Value) -> bool {
    if budget::is_counted(written) {
        return true;
    }
    let mut changes = cache.changes();
    let seen = async {
        loop {
            changes.mark_unchanged();
            let live = cache.live(quota);
            // The watch may still be behind what was just written: an older quota that counts is not this one.
            if live.is_some_and(|live| budget::is_counted(&live) && live["spec"] == written["spec"]) {
                return true;
            }
            if changes.changed().await.is_err() {
                return false;
            }
        }
    };
    tokio::time::timeout(COUNT_WAIT, seen).await.unwrap_or(false)
}
