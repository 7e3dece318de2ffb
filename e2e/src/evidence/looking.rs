//! What one tenant sees of another.

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, ListParams};

use super::{STAGE_A, STAGE_B, api};
use crate::{Answer, Counts, People, Row};

/// Alice looks at team-b, and at what is hers. RBAC answers, whoever else is up: `counts` only says when it was.
///
/// # Errors
/// If the API server gives no verdict.
pub async fn rows(people: &People, counts: Counts) -> anyhow::Result<Vec<Row>> {
    let every = ListParams::default();
    let alice = &people.alice;
    let pods = Answer::of(api::<Pod>(alice, STAGE_A).list(&every).await)?;
    let secrets = Answer::of(api::<Secret>(alice, STAGE_A).list(&every).await)?;
    let own = Answer::of(Api::<Namespace>::all(alice.clone()).get(STAGE_A).await)?;
    let bobs_pods = Answer::of(api::<Pod>(alice, STAGE_B).list(&every).await)?;
    let bobs_secrets = Answer::of(api::<Secret>(alice, STAGE_B).list(&every).await)?;
    let namespaces = Answer::of(Api::<Namespace>::all(alice.clone()).list(&every).await)?;
    Ok(vec![
        Row::refused("alice lists team-b's pods", &bobs_pods, counts, "her own", &pods),
        Row::refused("alice lists team-b's secrets", &bobs_secrets, counts, "her own", &secrets),
        Row::refused("alice lists all namespaces", &namespaces, counts, "she reads her own", &own),
    ])
}
