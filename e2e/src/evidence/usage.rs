//! What tenants use of what they may.

use freehold_crds::{NodeRuntime, Tenant};
use kube::Client;
use kube::api::{Api, ListParams};

use super::kernel::Facts;
use crate::Row;

/// Used against hard, as each Tenant's status says.
///
/// # Errors
/// If a Tenant can't be read.
pub async fn quota(platform: &Client, tenant: &str) -> anyhow::Result<Row> {
    let status = Api::<Tenant>::all(platform.clone()).get(tenant).await?.status.unwrap_or_default();
    let quota = status.quota.unwrap_or_default();
    let figures: Vec<String> = quota
        .hard
        .iter()
        .map(|(name, hard)| format!("{name} {}/{}", quota.used.get(name).map_or("0", |used| used.0.as_str()), hard.0))
        .collect();
    let holds = !figures.is_empty() && quota.used.get("pods").is_some_and(|used| used.0 != "0");
    Ok(Row::fact(
        &format!("what {tenant} uses of its budget"),
        figures.join(", "),
        "its running pod is counted".to_owned(),
        "quota",
        holds,
    ))
}

/// Time from pod create to Running, and by what the machine ran.
///
/// # Errors
/// If NodeRuntimes can't be listed.
pub async fn start(platform: &Client, facts: &[&Facts]) -> anyhow::Result<Row> {
    let runtimes = Api::<NodeRuntime>::all(platform.clone()).list(&ListParams::default()).await?.items;
    let proved: Vec<String> = runtimes
        .iter()
        .filter_map(|runtime| {
            let status = runtime.status.as_ref()?;
            let canary = status.canary.as_ref()?;
            Some(format!("{:?}, canary {} ms", status.acceleration?, canary.start_milliseconds?))
        })
        .collect();
    let seconds: Vec<String> = facts.iter().map(|facts| format!("{} s", facts.start_seconds)).collect();
    Ok(Row::fact(
        "time from pod create to Running",
        seconds.join(", "),
        format!("the node's proof: {}", proved.join("; ")),
        "virtual machine",
        !proved.is_empty(),
    ))
}
