//! What a tenant's own NetworkPolicies do, and those of who may write what admission would refuse.

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::network::answers;
use freehold_e2e::evidence::{STAGE_A, STAGE_B};
use freehold_e2e::people;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::connection::Connection;
use crate::scene::{becomes, probed, ready, set};

fn policy(name: &str, ingress: Value, egress: Value) -> NetworkPolicy {
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": ingress, "egress": egress});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a NetworkPolicy")
}

#[tokio::test]
async fn a_tenants_own_policies_narrow_and_never_widen() -> anyhow::Result<()> {
    let (people, stage, _) = set().await?;
    let platform = &people.platform;
    let (a, b, neighbour) = (&stage.a.pod, &stage.b.address, &stage.neighbour.address);
    let policies: Api<NetworkPolicy> = Api::namespaced(people.alice.clone(), STAGE_A);
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), STAGE_A);
    let mut connection = Connection::open(platform, &stage).await?;

    policies.create(&PostParams::default(), &policy("deny-all", json!([]), json!([]))).await?;
    connection.becomes(false).await.context("alice denied everything")?;
    becomes(platform, a, neighbour, false).await?;
    pods.create(&PostParams::default(), &probed("denied")).await?;
    ready(platform, "denied").await.context("probes come from the node, and no policy stops them")?;
    policies.delete("deny-all", &DeleteParams::default()).await?;
    connection.becomes(true).await.context("the denial is gone")?;
    becomes(platform, a, neighbour, true).await?;
    pods.delete("denied", &DeleteParams::default()).await?;

    // As the operator, who may: whether alice may write such a policy is for admission to say, what it does is for the table.
    let operator = people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?;
    for namespace in [STAGE_A, STAGE_B] {
        let policies: Api<NetworkPolicy> = Api::namespaced(operator.clone(), namespace);
        policies.create(&PostParams::default(), &policy("open-all", json!([{}]), json!([{}]))).await?;
    }
    // Another policy of alice's that can be seen says when the table has had both.
    let shut = json!({"podSelector": {"matchLabels": {"app": "neighbour"}}, "policyTypes": ["Ingress"]});
    policies
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "later"}, "spec": shut}))?)
        .await?;
    Api::<NetworkPolicy>::namespaced(operator.clone(), STAGE_A).delete("open-all", &DeleteParams::default()).await?;
    becomes(platform, a, neighbour, false).await.context("alice shut one pod")?;
    Api::<NetworkPolicy>::namespaced(operator.clone(), STAGE_A)
        .create(&PostParams::default(), &policy("open-all", json!([{}]), json!([{}])))
        .await?;
    becomes(platform, a, neighbour, true).await.context("open-all opens what the tenant shut itself")?;
    ensure!(!answers(platform, STAGE_A, a, b, 8080).await?, "a policy that opens everything opened another tenant");
    policies.delete("later", &DeleteParams::default()).await?;
    for namespace in [STAGE_A, STAGE_B] {
        Api::<NetworkPolicy>::namespaced(operator.clone(), namespace).delete("open-all", &DeleteParams::default()).await?;
    }
    Ok(())
}
