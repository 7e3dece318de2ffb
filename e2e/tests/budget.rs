//! The budget on a real API server: what fills a node or passes the share by changing what is there already.
#![cfg(feature = "live")]

use freehold_e2e::live::{QUOTA, TENANT, api, grant, home, sees};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, Layer, People, Tried, objects};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Rows D7 and D17.
#[tokio::test]
async fn what_is_there_does_not_grow_past_the_share() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (name, mut tried) = (named("budget"), Tried::from_environment());
    let rules = json!({
        "namespaces": {"max": 1}, "services": {"types": ["NodePort"]},
        "quota": {"hard": {"requests.memory": "1Gi", "limits.memory": "1Gi", "requests.ephemeral-storage": "1Gi", "services.nodeports": "1"}},
        "limitRange": {"limits": [{"type": "Container", "defaultRequest": {"ephemeral-storage": "64Mi"}, "default": {"ephemeral-storage": "256Mi"}}]},
    });
    let own = home(&people, &name, rules).await?;
    sees(&api(&people.platform, QUOTA, Some(&own)), "freehold", "/status/hard/services.nodeports", json!("1")).await?;
    let (post, dry) =
        (PostParams { dry_run: true, ..PostParams::default() }, PatchParams { dry_run: true, ..PatchParams::default() });
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), &own);

    // D7: what a pod writes is on the node's disk, what it keeps in memory in its machine, whose size its limits say.
    let pod = |changes: &[(&str, Value)]| objects::pod("p", "true", changes);
    let writes = |size: &str| json!({"requests": {"cpu": "10m", "memory": "32Mi", "ephemeral-storage": size}, "limits": {"memory": "64Mi", "ephemeral-storage": size}});
    let in_memory = |memory: &str| {
        let volume = json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]);
        let resources = json!({"requests": {"cpu": "10m", "memory": memory}, "limits": {"memory": memory}});
        pod(&[("/volumes", volume), ("/containers/0/resources", resources)])
    };
    for (what, pod, attack) in [
        ("more on disk than the share", pod(&[("/containers/0/resources", writes("2Gi"))]), true),
        ("on disk within the share", pod(&[("/containers/0/resources", writes("128Mi"))]), false),
        ("more in memory than the share", in_memory("2Gi"), true),
        ("in memory within the share", in_memory("64Mi"), false),
    ] {
        let answer = Answer::of(pods.create(&post, &pod).await)?;
        match attack {
            true => tried.attack_held_by("D7", what, &answer, &[Layer::Quota]),
            false => tried.control("D7", what, &answer),
        }
    }

    // D17: by update.
    grant(&people, "e2e-resize", Some(&own), json!([{"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]}]))
        .await?;
    pods.create(&PostParams::default(), &objects::pod("there", "true", &[("/nodeSelector", json!({"no": "node"}))])).await?;
    let to = |memory: &str| {
        Patch::Strategic(
            json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"memory": memory}, "limits": {"memory": memory}}}]}}),
        )
    };
    let answer = Answer::of(pods.patch_resize("there", &dry, &to("2Gi")).await)?;
    tried.attack_held_by("D17", "a pod that is resized", &answer, &[Layer::Quota]);
    let services = api(&people.alice, ["v1", "Service", "services"], Some(&own));
    for service in ["a", "b"] {
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": {"ports": [{"port": 80}]}});
        services.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    let port = Patch::Merge(json!({"spec": {"type": "NodePort"}}));
    tried.control("D17", "the one node port", &Answer::of(services.patch("a", &PatchParams::default(), &port).await)?);
    let answer = Answer::of(services.patch("b", &dry, &port).await)?;
    tried.attack_held_by("D17", "a Service that becomes a second node port", &answer, &[Layer::Quota]);
    api(&people.platform, TENANT, None).delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}
