//! Sets the stage: two Tenants by the platform team, then a namespace and Deployments by each tenant's owner.
//!
//! Everything may be there already: the evidence can be collected again on the same cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use freehold_crds::{Boundary, Tenant};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};

use super::kernel::{self, Facts};
use super::{STAGE_A, STAGE_B, api};
use crate::{Answer, People, objects, wait};

/// Everything of ours that reacts to a fresh namespace has this long.
const GUARDED: Duration = Duration::from_secs(60);

/// The pods on the stage.
pub struct Stage {
    /// Alice's pod.
    pub a: Facts,
    /// Bob's pod.
    pub b: Facts,
    /// A second pod of alice, beside her first.
    pub neighbour: Facts,
}

/// Applies a Tenant from a file, as the platform team would.
///
/// # Errors
/// If the file is no Tenant, or it is refused.
pub async fn tenant(platform: &Client, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let tenant: serde_json::Value = serde_yaml::from_str(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    let name = tenant["metadata"]["name"].as_str().with_context(|| format!("{} names no Tenant", file.display()))?.to_owned();
    Api::<Tenant>::all(platform.clone())
        .patch(&name, &PatchParams::apply("platform-team").force(), &Patch::Apply(tenant))
        .await
        .with_context(|| format!("the Tenant of {} was not taken", file.display()))?;
    Ok(())
}

/// Namespaces and Deployments as alice and bob; none of their pods names a runtime class.
///
/// # Errors
/// If something is refused or does not run in time; says what.
pub async fn set(people: &People) -> anyhow::Result<Stage> {
    namespace(people, &people.alice, STAGE_A, "team-a").await?;
    namespace(people, &people.bob, STAGE_B, "team-b").await?;
    deploy(&people.alice, STAGE_A, "web").await?;
    deploy(&people.bob, STAGE_B, "web").await?;
    deploy(&people.alice, STAGE_A, "neighbour").await?;
    Ok(Stage {
        a: kernel::facts(&people.alice, STAGE_A, "web").await?,
        b: kernel::facts(&people.bob, STAGE_B, "web").await?,
        neighbour: kernel::facts(&people.alice, STAGE_A, "neighbour").await?,
    })
}

/// A namespace of a tenant, made by its owner, once it is guarded.
async fn namespace(people: &People, owner: &Client, name: &str, tenant: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(owner.clone());
    created(&format!("the owner of {tenant} to be let in"), || async {
        Ok(namespaces.create(&PostParams::default(), &objects::namespace(name, Some(tenant))).await.map(|_| ()))
    })
    .await?;
    let boundaries: Api<Boundary> = Api::namespaced(people.platform.clone(), name);
    wait::until(&format!("the Boundary of {name}"), GUARDED, || async { Ok(boundaries.get("boundary").await.map(|_| ())?) }).await
}

async fn deploy(owner: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = api(owner, namespace);
    let object = objects::deployment(name, kernel::SCRIPT, None);
    created(&format!("the owner to deploy {namespace}/{name}"), || async {
        Ok(deployments.create(&PostParams::default(), &object).await.map(|_| ()))
    })
    .await
}

/// Creates until it is admitted or was there: grants reach the API server a moment after the Tenant.
async fn created<F>(what: &str, create: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<Result<(), kube::Error>>>,
{
    wait::until(what, GUARDED, || async {
        match create().await? {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            outcome => match Answer::of(outcome)? {
                Answer::Admitted => Ok(()),
                refused => anyhow::bail!("{refused}"),
            },
        }
    })
    .await
}
