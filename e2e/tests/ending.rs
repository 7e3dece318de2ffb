//! Namespaces that end: what guards them stays as long as anything runs in them, nothing new comes, and nothing is taken over.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BOUNDARY, POLICY, SOON, TENANT, api, home};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, Layer, People, Tried, objects, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Rows A10, A11 and H3.
#[tokio::test]
async fn a_namespace_that_ends_keeps_its_guards_and_takes_nothing() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (tenant, mut tried) = (named("ends"), Tried::from_environment());
    let own = home(&people, &tenant, json!({"namespaces": {"max": 3}})).await?;
    let alices: Api<Namespace> = Api::all(people.alice.clone());
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), &own);
    // It waits for a node that there is not: no machine is needed for it to hold the namespace.
    let mut held = objects::pod("held", "true", &[("/nodeSelector", json!({"no": "node"}))]);
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    pods.create(&PostParams::default(), &held).await?;
    alices.delete(&own, &DeleteParams::default()).await?;
    wait::until("the held pod to be deleted", SOON, || async {
        ensure!(pods.get("held").await?.metadata.deletion_timestamp.is_some(), "it is not being deleted");
        Ok(())
    })
    .await?;

    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let change = async |patch: Value| Answer::of(alices.patch(&own, &dry, &Patch::Merge(patch)).await);
    let other = objects::pod("other", "true", &[]);
    let answer = Answer::of(pods.create(&PostParams::default(), &other).await)?;
    // The namespace's lifecycle is Kubernetes' own to hold, and the webhook may be heard before it.
    tried.attack_held_by("A10", "a new pod", &answer, &[Layer::Other, Layer::AdmissionPolicy]);
    let label = json!({"metadata": {"labels": {"freehold.dev/tenant": null}}});
    tried.attack("A10", "left without the tenant's label", &change(label).await?);
    let next = objects::namespace(&format!("{tenant}-next"), Some(&tenant));
    let post = PostParams { dry_run: true, ..PostParams::default() };
    tried.control("A10", "another namespace beside it", &Answer::of(alices.create(&post, &next).await)?);

    // Since Kubernetes 1.33 all else in a namespace waits for its pods (OrderedNamespaceDeletion), ours as well.
    let guards = async |kind, name: &str| api(&people.platform, kind, Some(&own)).get_opt(name).await;
    for (kind, name) in [(POLICY, "freehold-default-deny"), (BOUNDARY, "boundary")] {
        let there = guards(kind, name).await?;
        let stays = there.as_ref().is_some_and(|object| object.metadata.deletion_timestamp.is_none());
        tried.expect("A11", "what guards stays while a pod is there", stays, &format!("{name}: {there:?}"));
        let delete = DeleteParams { dry_run: true, ..DeleteParams::default() };
        tried.attack("A11", name, &Answer::of(api(&people.alice, kind, Some(&own)).delete(name, &delete).await)?);
    }

    let hold = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let answer = Answer::of(pods.patch("held", &dry, &Patch::Merge(hold)).await)?;
    tried.attack_held_by("H3", "a further finalizer of what is being deleted", &answer, &[Layer::Other]);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    tried.control("H3", "the finalizer goes", &Answer::of(pods.patch("held", &PatchParams::default(), &release).await)?);
    wait::until("the namespace to go", SOON * 3, || async {
        ensure!(Api::<Namespace>::all(people.platform.clone()).get_opt(&own).await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    api(&people.platform, TENANT, None).delete(&tenant, &DeleteParams::default()).await?;
    tried.judge()
}
