//! Where the cluster serves ClusterNetworkPolicy, the boundary is written there too, and healed; where it does not, nothing is.

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::{STAGE_A, STAGE_B};
use freehold_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::scene::{IN_FORCE, STARTED, set};

const NAME: &str = "clusternetworkpolicies.policy.networking.k8s.io";

fn policies(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "policy.networking.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "policy.networking.k8s.io/v1beta1".to_owned(),
        kind: "ClusterNetworkPolicy".to_owned(),
        plural: "clusternetworkpolicies".to_owned(),
    };
    Api::all_with(client.clone(), &resource)
}

/// What is served is asked by each operator as it begins to lead.
async fn next_leader(platform: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-system");
    let operators = ListParams::default().labels("app.kubernetes.io/name=freehold-operator");
    for pod in pods.list(&operators).await?.items {
        pods.delete(&pod.metadata.name.context("a pod without a name")?, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// Waits until the policy of a namespace denies everything that is not passed before, both ways, in the tier before NetworkPolicies.
async fn in_place(api: &Api<DynamicObject>, namespace: &str, tenant: &str) -> anyhow::Result<()> {
    wait::until(&format!("the ClusterNetworkPolicy of {namespace}"), STARTED, || async {
        let found = api.get(&format!("freehold-{namespace}")).await?;
        let spec = &found.data["spec"];
        ensure!(
            spec["tier"] == "Admin"
                && spec["subject"] == json!({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}),
            "{spec}"
        );
        let siblings = json!([{"namespaces": {"matchLabels": {"freehold.dev/tenant": tenant}}}]);
        ensure!(spec["ingress"][0]["from"] == siblings && spec["egress"][0]["to"] == siblings, "{spec}");
        for (direction, peers, whom) in
            [("ingress", "from", json!([{"namespaces": {}}])), ("egress", "to", json!([{"networks": ["0.0.0.0/0", "::/0"]}]))]
        {
            let last = spec[direction].as_array().and_then(|rules| rules.last()).context("no rules")?;
            ensure!(last["action"] == "Deny" && last[peers] == whom, "{spec}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_boundary_is_written_as_a_cluster_policy_where_that_is_served() -> anyhow::Result<()> {
    let (people, ..) = set().await?;
    let platform = &people.platform;
    let definitions: Api<CustomResourceDefinition> = Api::all(platform.clone());
    ensure!(definitions.get_opt(NAME).await?.is_none(), "the cluster serves them before this test");
    let definition: CustomResourceDefinition = serde_yaml::from_str(include_str!("clusternetworkpolicies.yaml"))?;
    definitions.create(&PostParams::default(), &definition).await?;
    let api = policies(platform);
    wait::until("the definition to be served", IN_FORCE, || async { Ok(api.list(&ListParams::default()).await.map(drop)?) })
        .await?;
    next_leader(platform).await?;
    let seen = async {
        in_place(&api, STAGE_A, "team-a").await?;
        in_place(&api, STAGE_B, "team-b").await?;
        api.delete(&format!("freehold-{STAGE_A}"), &DeleteParams::default()).await?;
        in_place(&api, STAGE_A, "team-a").await.context("somebody deleted it")?;
        let opened = json!({"spec": {"ingress": [{"action": "Accept", "from": [{"namespaces": {}}]}]}});
        api.patch(&format!("freehold-{STAGE_A}"), &PatchParams::default(), &Patch::Merge(&opened)).await?;
        in_place(&api, STAGE_A, "team-a").await.context("somebody opened it")
    }
    .await;
    definitions.delete(NAME, &DeleteParams::default()).await?;
    next_leader(platform).await?;
    seen
}
