//! Which pods a tenant may have.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::{STAGE_A, api, create};
use crate::{Counts, People, Row, objects};

/// Hostile pods as alice, each beside the compliant pod that differs in one thing. `counts` says who must have refused.
///
/// # Errors
/// If the API server gives no verdict.
pub async fn rows(people: &People, counts: Counts) -> anyhow::Result<Vec<Row>> {
    let pods: Api<Pod> = api(&people.alice, STAGE_A);
    let control = create(&pods, &objects::pod("compliant", "true", &[])).await?;
    let mut rows = Vec::new();
    for (what, path, value) in objects::hostile_pods() {
        let answer = create(&pods, &objects::pod("hostile", "true", &[(path, value)])).await?;
        rows.push(Row::refused(&format!("alice creates a pod with {what}"), &answer, counts, "the same without it", &control));
    }
    if counts == Counts::Floor {
        let answer = create(&pods, &objects::pod("no-class", "true", &[("/runtimeClassName", json!(null))])).await?;
        rows.push(Row::refused("alice creates a pod without runtimeClassName", &answer, counts, "one that names it", &control));
    }
    pods.delete("compliant", &DeleteParams::default()).await?;
    crate::wait::until("the compliant pod to be gone", std::time::Duration::from_secs(60), || async {
        match pods.get_opt("compliant").await? {
            None => Ok(()),
            Some(_) => anyhow::bail!("it is still there"),
        }
    })
    .await?;
    Ok(rows)
}
