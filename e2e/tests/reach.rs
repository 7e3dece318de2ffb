//! How far an owner reaches beside their namespaces: other tenants' objects, nodes, the cluster's own, and what tells of others.
#![cfg(feature = "live")]

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{BOUNDARY, CLUSTER_BINDING, SOON, TENANT, api, grant, home, namespace, sees, spec, tenant};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, Layer, People, Tried, objects, wait};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, EvictParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

fn post() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// A pod that waits for a node which there is not.
fn waiting(name: &str) -> Pod {
    objects::pod(name, "true", &[("/nodeSelector", json!({"no": "node"}))])
}

/// Rows B8, B10, B13, E9 and H10.
#[tokio::test]
async fn other_tenants_nodes_and_admission_itself_are_out_of_reach() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (mine, other, mut tried) = (named("reaches"), named("reached"), Tried::from_environment());
    let own = home(&people, &mine, json!({"podSecurity": {"level": "Baseline"}})).await?;
    let foreign = format!("{other}-dev");
    tenant(&people.platform, &other, spec(r#", "deletionPolicy": "Delete""#)).await?;
    namespace(&people.platform, &foreign, &other).await?;
    sees(&api(&people.platform, BOUNDARY, Some(&foreign)), "boundary", "/spec/state", json!("Active")).await?;
    let (pods, foreign_pods): (Api<Pod>, Api<Pod>) =
        (Api::namespaced(people.alice.clone(), &own), Api::namespaced(people.alice.clone(), &foreign));
    pods.create(&PostParams::default(), &waiting("p")).await?;
    Api::<Pod>::namespaced(people.platform.clone(), &foreign).create(&PostParams::default(), &waiting("p")).await?;

    // B10: into a pod of another tenant.
    for subresource in ["exec", "attach", "portforward"] {
        let answer = Answer::of(foreign_pods.create_subresource::<Value, Value>(subresource, "p", &post(), &json!({})).await)?;
        tried.attack("B10", subresource, &answer);
    }
    let rules = json!([{"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["patch"]}]);
    grant(&people, "e2e-debug", Some(&own), rules).await?;
    let debug = Patch::Strategic(json!({"spec": {"ephemeralContainers": [{"name": "d", "image": objects::image()}]}}));
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    tried.attack("B10", "a debug container", &Answer::of(foreign_pods.patch_ephemeral_containers("p", &dry, &debug).await)?);
    tried.control(
        "B10",
        "a debug container of one's own",
        &Answer::of(pods.patch_ephemeral_containers("p", &dry, &debug).await)?,
    );
    let platforms: Api<Pod> = Api::namespaced(people.platform.clone(), &own);
    let on_node = objects::pod("agent", "true", &[("/hostNetwork", json!(true))]);
    tried.attack(
        "B10",
        "a pod of the platform's in a tenant's namespace",
        &Answer::of(platforms.create(&post(), &on_node).await)?,
    );

    // H10: nothing whose deletion is kept from somebody can be evicted by them.
    let evict = EvictParams { post_options: post(), ..EvictParams::default() };
    tried.attack("H10", "another tenant's pod", &Answer::of(foreign_pods.evict("p", &evict).await)?);
    tried.control("H10", "a pod of one's own", &Answer::of(pods.evict("p", &evict).await)?);

    // E9: the API server as a proxy.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    let by: Api<Service> = Api::namespaced(people.platform.clone(), &foreign);
    by.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let theirs: Api<Service> = Api::namespaced(people.alice.clone(), &foreign);
    let proxied = theirs.get_subresource("proxy", "s");
    tried.attack("E9", "another tenant's Service", &Answer::of(proxied.await)?);
    tried.attack("E9", "another tenant's pod", &Answer::of(foreign_pods.get_subresource("proxy", "p").await)?);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "s"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 10250}]}],
    });
    let of_own = api(&people.alice, ["v1", "Endpoints", "endpoints"], Some(&own));
    let answer = Answer::of(of_own.create(&post(), &serde_json::from_value(endpoints)?).await)?;
    tried.attack("E9", "an own Service that leads to the node", &answer);
    // It has no endpoints, and a client asks again for as long as it hears that: whether alice may ask is the control.
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
        "spec": {"resourceAttributes": {"namespace": own, "resource": "services", "subresource": "proxy", "name": "s", "verb": "get"}},
    });
    let ask = api(&people.alice, ["authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"], None);
    let answer = ask.create(&PostParams::default(), &serde_json::from_value(question)?).await?.data["status"].clone();
    tried.expect("E9", "an own Service may be asked", answer["allowed"] == json!(true), &answer.to_string());

    // B8: the node's kubelet through the API server, also with a role that RBAC alone would let through.
    let nodes: Api<Node> = Api::all(people.alice.clone());
    let node = Api::<Node>::all(people.platform.clone()).list(&ListParams::default()).await?.items;
    let node = node.first().context("there is no node")?.name_any();
    for subresource in ["proxy", "log", "stats"] {
        tried.attack("B8", subresource, &Answer::of(nodes.get_subresource(subresource, &node).await)?);
    }
    let rules = json!([{"apiGroups": [""], "resources": ["nodes/proxy", "nodes"], "verbs": ["get"]}]);
    grant(&people, "e2e-nodes", None, rules).await?;
    wait::until("the role to count", SOON, || async { Ok(nodes.get(&node).await?) }).await?;
    let answer = Answer::of(nodes.get_subresource("proxy", &node).await)?;
    tried.attack_held_by("B8", "proxy with a role for it", &answer, &[Layer::AdmissionPolicy]);
    tried.control("B8", "the pods that are one's own", &Answer::of(pods.list(&ListParams::default()).await)?);
    for kind in [CLUSTER_BINDING, freehold_e2e::live::CLUSTER_ROLE] {
        api(&people.platform, kind, None).delete("e2e-nodes", &DeleteParams::default()).await?;
    }

    // B13: what is beside admission is RBAC's alone to hold.
    for (version, kind, plural, body) in [
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            "mutatingwebhookconfigurations",
            json!({"webhooks": []}),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            "validatingwebhookconfigurations",
            json!({"webhooks": []}),
        ),
        ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", json!({"spec": {}})),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", json!({"spec": {}})),
        ("apiregistration.k8s.io/v1", "APIService", "apiservices", json!({"spec": {}})),
    ] {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x.example"}});
        json_patch::merge(&mut object, &body);
        let all = api(&people.alice, [version, kind, plural], None);
        let answer = Answer::of(all.create(&post(), &serde_json::from_value::<DynamicObject>(object)?).await)?;
        tried.attack_held_by("B13", kind, &answer, &[Layer::Rbac]);
    }
    let settings: DynamicObject =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}))?;
    let answer = Answer::of(api(&people.alice, ["v1", "ConfigMap", "configmaps"], Some(&own)).create(&post(), &settings).await)?;
    tried.control("B13", "settings in the own namespace", &answer);
    for name in [&mine, &other] {
        api(&people.platform, TENANT, None).delete(name, &DeleteParams::default()).await?;
    }
    tried.judge()
}

/// Takes back what the table's cases gave to alice across the cluster: here RBAC is what is tried.
async fn only_her_own(people: &People) -> anyhow::Result<()> {
    match api(&people.platform, CLUSTER_BINDING, None).delete("cases-across", &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        outcome => drop(outcome?),
    }
    let volumes = api(&people.alice, ["v1", "PersistentVolume", "persistentvolumes"], None);
    wait::until("alice's further rights to go", SOON, || async {
        let answer = Answer::of(volumes.get("any").await)?;
        ensure!(matches!(answer, Answer::Refused { layer: Layer::Rbac, .. }), "{answer}");
        Ok(())
    })
    .await
}

/// Rows K1 and K4.
#[tokio::test]
async fn nothing_tells_of_others() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (mine, mut tried) = (named("senses"), Tried::from_environment());
    let own = home(&people, &mine, json!({"quota": {"hard": {"pods": "2", "requests.memory": "1Gi"}}, "namespaces": {"max": 1}}))
        .await?;
    only_her_own(&people).await?;
    for (version, kind, plural) in [
        ("v1", "Namespace", "namespaces"),
        ("v1", "Node", "nodes"),
        ("v1", "PersistentVolume", "persistentvolumes"),
        ("v1", "Pod", "pods"),
        ("v1", "Event", "events"),
        ("storage.k8s.io/v1", "StorageClass", "storageclasses"),
        ("node.k8s.io/v1", "RuntimeClass", "runtimeclasses"),
        ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses"),
        (TENANT[0], TENANT[1], TENANT[2]),
        (BOUNDARY[0], BOUNDARY[1], BOUNDARY[2]),
    ] {
        let all = api(&people.alice, [version, kind, plural], None);
        let answer = Answer::of(all.list(&ListParams::default()).await)?;
        tried.attack_held_by("K1", &format!("all {plural}"), &answer, &[Layer::Rbac]);
    }
    let tenants = api(&people.alice, TENANT, None);
    tried.control("K1", "one's own Tenant", &Answer::of(tenants.get(&mine).await)?);
    let namespaces = api(&people.alice, ["v1", "Namespace", "namespaces"], None);
    tried.control("K1", "one's own namespace", &Answer::of(namespaces.get(&own).await)?);
    tried.attack_held_by("K1", "a Tenant that may be there", &Answer::of(tenants.get("foreign").await)?, &[Layer::Rbac]);
    tried.attack_held_by(
        "K1",
        "a namespace that may be there",
        &Answer::of(namespaces.get("foreign-dev").await)?,
        &[Layer::Rbac],
    );

    // K4: what messages, events and statuses say.
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), &own);
    pods.create(&PostParams::default(), &waiting("nowhere")).await?;
    let large = json!({"requests": {"cpu": "10m", "memory": "2Gi"}, "limits": {"cpu": "10m", "memory": "2Gi"}});
    let answer = Answer::of(pods.create(&post(), &objects::pod("large", "true", &[("/containers/0/resources", large)])).await)?;
    tried.attack_held_by("K4", "more than the quota", &answer, &[Layer::Quota]);
    let events = api(&people.alice, ["v1", "Event", "events"], Some(&own));
    let told = wait::until("the scheduler to say that no node fits", SOON, || async {
        let all = serde_json::to_string(&events.list(&ListParams::default()).await?.items)?;
        ensure!(all.contains("FailedScheduling"), "{all}");
        Ok(all)
    })
    .await?;
    let status = serde_json::to_string(&tenants.get(&mine).await?)?;
    let boundary = serde_json::to_string(&api(&people.alice, BOUNDARY, Some(&own)).get("boundary").await?)?;
    for (what, text) in [("events", &told), ("the Tenant", &status), ("the Boundary", &boundary)] {
        let named = ["team-b", "\"bob\""].iter().find(|name| text.contains(**name));
        tried.expect("K4", what, named.is_none(), &format!("{what} name {named:?}: {text}"));
    }
    api(&people.platform, TENANT, None).delete(&mine, &DeleteParams::default()).await?;
    tried.judge()
}
