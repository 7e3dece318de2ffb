//! With the webhook away, hanging or expired, and with the operator away too, Kubernetes' own controllers do their work in tenants' namespaces: the floor
//! stops nobody who keeps things running.
#![cfg(feature = "live")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::STAGE_A;
use freehold_e2e::live::{BOUNDARY, SOON, api};
use freehold_e2e::{Answer, Layer, People, Tried, objects, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// A machine under emulation, on a busy node.
const RUNS: Duration = Duration::from_secs(90);
const CLASS: Option<&str> = Some("freehold-microvm");

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

async fn pods_of(pods: &Api<Pod>, app: &str) -> anyhow::Result<Vec<Pod>> {
    Ok(pods.list(&ListParams::default().labels(&format!("app={app}"))).await?.items)
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Row H5, in every state of the webhook.
#[tokio::test]
async fn controllers_go_on_whoever_is_away() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let mut tried = Tried::from_environment();
    let answer = Answer::of(
        Api::<Pod>::namespaced(people.alice.clone(), STAGE_A)
            .create(&dry(), &objects::pod("h", "true", &[("/hostPID", json!(true))]))
            .await,
    )?;
    tried.attack("H5", "a pod with the node's processes meanwhile", &answer);
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), STAGE_A);
    let deployments: Api<Deployment> = Api::namespaced(people.alice.clone(), STAGE_A);

    // Jobs end, and the controller takes its finalizers off their pods.
    let mut template = serde_json::to_value(objects::deployment("counts", "true", CLASS))?["spec"]["template"].take();
    template["spec"]["restartPolicy"] = json!("Never");
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "counts"}, "spec": {"template": template}});
    let jobs: Api<Job> = Api::namespaced(people.alice.clone(), STAGE_A);
    jobs.create(&PostParams::default(), &serde_json::from_value(job)?).await?;

    // Deployments roll out, Services get their endpoints.
    let deployment = objects::deployment("serves", "exec httpd -f -p 8080 -h /", CLASS);
    deployments.create(&PostParams::default(), &deployment).await?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "serves"}, "spec": {"selector": {"app": "serves"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let services = api(&people.alice, ["v1", "Service", "services"], Some(STAGE_A));
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let slices = api(&people.alice, ["discovery.k8s.io/v1", "EndpointSlice", "endpointslices"], Some(STAGE_A));
    let first = wait::until("the Service to have a ready endpoint", RUNS, || async {
        let all = slices.list(&ListParams::default().labels("kubernetes.io/service-name=serves")).await?.items;
        let served = all.iter().any(|slice| slice.data["endpoints"][0]["conditions"]["ready"] == json!(true));
        ensure!(served, "{:?}", all.iter().map(|slice| &slice.data).collect::<Vec<_>>());
        pods_of(&pods, "serves").await?.into_iter().find(ready).context("no ready pod")
    })
    .await?;
    tried.expect("H5", "endpoints", true, "");
    wait::until("the Job to be complete", RUNS, || async {
        let status = jobs.get("counts").await?.status.unwrap_or_default();
        ensure!(status.succeeded == Some(1) && status.completion_time.is_some(), "{status:?}");
        Ok(())
    })
    .await?;

    // A node is drained: cordoned, and its pods evicted; their controller makes others once it is back.
    let nodes: Api<Node> = Api::all(people.platform.clone());
    let node = first.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("a ready pod is on no node")?;
    let mark = async |unschedulable: bool| {
        nodes.patch(&node, &PatchParams::default(), &Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}))).await
    };
    mark(true).await?;
    let platforms: Api<Pod> = Api::namespaced(people.platform.clone(), STAGE_A);
    tried.control(
        "H5",
        "eviction by who drains",
        &Answer::of(platforms.evict(&first.name_any(), &EvictParams::default()).await)?,
    );
    wait::until("the evicted pod to be gone", RUNS, || async {
        let found = pods.get_opt(&first.name_any()).await?;
        ensure!(found.is_none(), "it is there");
        Ok(())
    })
    .await?;
    mark(false).await?;
    wait::until("another pod to take its place", RUNS, || async {
        pods_of(&pods, "serves").await?.into_iter().find(ready).context("none is ready")
    })
    .await?;

    // Garbage is collected: what belonged to a Deployment goes with it.
    let sets = api(&people.alice, ["apps/v1", "ReplicaSet", "replicasets"], Some(STAGE_A));
    deployments.delete("serves", &DeleteParams::foreground()).await?;
    jobs.delete("counts", &DeleteParams::background()).await?;
    services.delete("serves", &DeleteParams::default()).await?;
    wait::until("the Deployment's and the Job's pods to go with them", RUNS, || async {
        let left = [pods_of(&pods, "serves").await?.len(), pods_of(&pods, "counts").await?.len()];
        let sets = sets.list(&ListParams::default().labels("app=serves")).await?.items.len();
        ensure!(left == [0, 0] && sets == 0, "{left:?} pods, {sets} ReplicaSets");
        Ok(())
    })
    .await?;

    tried.judge()
}

/// Row H5: a namespace comes, gets what Kubernetes puts into each, stays closed, and goes.
#[tokio::test]
async fn a_namespace_that_nobody_guards_stays_closed_and_goes() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let mut tried = Tried::from_environment();
    let (namespaces, fresh): (Api<Namespace>, _) = (Api::all(people.alice.clone()), "team-a-deserted");
    let made = Answer::of(namespaces.create(&PostParams::default(), &objects::namespace(fresh, Some("team-a"))).await)?;
    tried.control("H5", "a namespace of one's own", &made);
    wait::until("what Kubernetes puts into each namespace", SOON, || async {
        Api::<ConfigMap>::namespaced(people.platform.clone(), fresh).get("kube-root-ca.crt").await?;
        Ok(Api::<ServiceAccount>::namespaced(people.platform.clone(), fresh).get("default").await?)
    })
    .await?;
    ensure!(api(&people.platform, BOUNDARY, Some(fresh)).get_opt("boundary").await?.is_none(), "an operator is there");
    let there: Api<Pod> = Api::namespaced(people.platform.clone(), fresh);
    let answer = Answer::of(there.create(&dry(), &objects::pod("early", "true", &[])).await)?;
    tried.attack_held_by("H5", "a pod in a namespace that nobody guards yet", &answer, &[Layer::AdmissionPolicy]);
    Api::<Namespace>::all(people.platform.clone()).delete(fresh, &DeleteParams::default()).await?;
    let objects: Api<DynamicObject> = api(&people.platform, ["v1", "Namespace", "namespaces"], None);
    wait::until("the namespace to go", RUNS, || async {
        let found = objects.get_opt(fresh).await?;
        ensure!(found.is_none(), "{:?}", found.map(|found| found.data));
        Ok(())
    })
    .await?;
    tried.judge()
}
