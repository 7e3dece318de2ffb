//! What a Tenant opens to others: namespaces by labels, which another tenant may also put on its own, and peers by consent of both.

use anyhow::ensure;
use freehold_crds::Tenant;
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::{STAGE_A, STAGE_B};
use freehold_e2e::{People, wait};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::scene::{IN_FORCE, NOBODYS, set};

async fn network(people: &People, tenant: &str, network: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"network": network}});
    Api::<Tenant>::all(people.platform.clone()).patch(tenant, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn label(namespaces: &Api<Namespace>, name: &str, value: Value) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"labels": {"role": value}}});
    namespaces.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Waits until who asks from a namespace reaches an address of another tenant, or no longer does.
async fn reaches(people: &People, (namespace, pod): (&str, &str), address: &str, reached: bool) -> anyhow::Result<()> {
    wait::until(&format!("{namespace}/{pod} to reach {address}: {reached}"), IN_FORCE, || async {
        ensure!(answers(&people.platform, namespace, pod, address, 8080).await? == reached, "not so");
        Ok(())
    })
    .await
}

/// Row E17: a label opens to namespaces of nobody's that have it, and never to one of another tenant's.
#[tokio::test]
async fn a_label_that_another_tenant_puts_on_its_namespace_opens_nothing() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let (a, bobs) = (&stage.a.address, (STAGE_B, stage.b.pod.as_str()));
    let (platforms, bobs_own) = (Api::all(people.platform.clone()), Api::all(people.bob.clone()));
    network(&people, "team-a", json!({"ingressFrom": [{"namespaceSelector": {"matchLabels": {"role": "partner"}}}]})).await?;
    label(&bobs_own, STAGE_B, json!("partner")).await?;
    ensure!(!answers(&people.platform, NOBODYS, "web", a, 8080).await?, "the label is not there yet, and nobody's pod gets in");
    // The control comes last: once it is let in, what bob did before has been seen.
    label(&platforms, NOBODYS, json!("partner")).await?;
    reaches(&people, (NOBODYS, "web"), a, true).await?;
    let got_in = answers(&people.platform, bobs.0, bobs.1, a, 8080).await?;
    label(&platforms, NOBODYS, Value::Null).await?;
    label(&bobs_own, STAGE_B, Value::Null).await?;
    network(&people, "team-a", Value::Null).await?;
    ensure!(!got_in, "bob labelled his namespace and his pod got in");
    reaches(&people, (NOBODYS, "web"), a, false).await
}

/// Row E7: another tenant gets in once both Tenants name each other, at the ports that the one who is reached says.
#[tokio::test]
async fn peers_reach_each_other_once_both_say_so() -> anyhow::Result<()> {
    let (people, stage, nobodys) = set().await?;
    let (from, b) = ((STAGE_A, stage.a.pod.as_str()), &stage.b.address);
    let with = |tenant: &str, port: u16| json!({"peers": [{"tenantName": tenant, "ports": [{"port": port}]}]});
    // With it a sign that the change is in force: a way out to nobody's pod.
    let mut one_sided = with("team-b", 8080);
    one_sided["egressTo"] = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NOBODYS}}}]);
    network(&people, "team-a", one_sided).await?;
    reaches(&people, from, &nobodys, true).await?;
    ensure!(!answers(&people.platform, from.0, from.1, b, 8080).await?, "team-a alone named team-b and reaches it");
    network(&people, "team-b", with("team-a", 8080)).await?;
    reaches(&people, from, b, true).await?;
    network(&people, "team-b", with("team-a", 9999)).await?;
    reaches(&people, from, b, false).await?;
    network(&people, "team-a", Value::Null).await?;
    network(&people, "team-b", Value::Null).await
}
