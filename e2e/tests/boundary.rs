//! The tenant boundary on a real API server, with no webhook: what RBAC and the floor's policies answer.
//!
//! Every attack has a control: the nearest compliant request, by the same person in the same state, is admitted.
#![cfg(feature = "live")]

use std::time::Duration;

use anyhow::ensure;
use freehold_e2e::{Answer, People, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The operator has this long to guard a fresh namespace.
const GUARDED: Duration = Duration::from_secs(30);

fn namespace(name: &str, tenant: Option<&str>) -> Namespace {
    let labels = tenant.map(|tenant| json!({"freehold.dev/tenant": tenant}));
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
        .unwrap()
}

fn pod(name: &str, changes: &[(&str, Value)]) -> Pod {
    let mut spec = json!({
        "runtimeClassName": "freehold-microvm",
        "containers": [{"name": "main", "image": "freehold.dev/test:dev", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}}}],
    });
    for (path, value) in changes {
        let (parent, key) = path.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})).unwrap()
}

/// Creates for good, so that the control is what people do; `AlreadyExists` would be no evidence and fails.
async fn create<K>(api: &Api<K>, object: K) -> anyhow::Result<Answer>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    Answer::of(api.create(&PostParams::default(), &object).await)
}

async fn guarded(people: &People, name: &str) -> anyhow::Result<()> {
    let boundaries: Api<freehold_crds::Boundary> = Api::namespaced(people.platform.clone(), name);
    wait::until(&format!("the Boundary of namespace {name}"), GUARDED, || async { Ok(boundaries.get("boundary").await?) })
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_boundary_holds_without_a_webhook() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (alices, bobs): (Api<Namespace>, Api<Namespace>) = (Api::all(people.alice.clone()), Api::all(people.bob.clone()));

    // Control first: each owner makes a namespace of their own tenant, and the operator guards it.
    for (who, api, name, tenant) in [("alice", &alices, "team-a-floor", "team-a"), ("bob", &bobs, "team-b-floor", "team-b")] {
        wait::until(&format!("{who} to be let in as owner of {tenant}"), GUARDED, || async {
            let answer = create(api, namespace(name, Some(tenant))).await?;
            ensure!(answer == Answer::Admitted, "{answer}");
            Ok(())
        })
        .await?;
        guarded(&people, name).await?;
    }

    // Belonging.
    for (what, object) in [
        ("another tenant's label", namespace("team-a-steals", Some("team-b"))),
        ("a tenant that does not exist", namespace("team-a-ghost", Some("nobody"))),
        ("no label", namespace("team-a-loose", None)),
        ("a name that something else may refer to", namespace("metrics-server", Some("team-a"))),
    ] {
        let answer = create(&alices, object).await?;
        ensure!(answer.refused_by_floor(), "alice creates a namespace with {what}: {answer}");
        ensure!(!answer.says("bob"), "the message names another tenant's people: {answer}");
    }
    for (what, patch) in [
        ("removes the label of her namespace", json!({"metadata": {"labels": {"freehold.dev/tenant": null}}})),
        ("gives her namespace to team-b", json!({"metadata": {"labels": {"freehold.dev/tenant": "team-b"}}})),
    ] {
        let answer = Answer::of(alices.patch("team-a-floor", &PatchParams::default(), &Patch::Merge(patch)).await)?;
        ensure!(answer.refused_by_floor(), "alice {what}: {answer}");
    }

    // Looking across.
    let (bobs_pods, bobs_secrets): (Api<Pod>, Api<Secret>) =
        (Api::namespaced(people.alice.clone(), "team-b-floor"), Api::namespaced(people.alice.clone(), "team-b-floor"));
    for (what, answer) in [
        ("pods", Answer::of(bobs_pods.list(&ListParams::default()).await)?),
        ("secrets", Answer::of(bobs_secrets.list(&ListParams::default()).await)?),
        ("namespaces", Answer::of(alices.list(&ListParams::default()).await)?),
    ] {
        ensure!(answer.refused_by_floor(), "alice lists {what} across the boundary: {answer}");
    }
    let own: Api<Pod> = Api::namespaced(people.alice.clone(), "team-a-floor");
    wait::until("alice to list her own pods", GUARDED, || async { Ok(own.list(&ListParams::default()).await?) }).await?;

    // Pods: the compliant one is admitted, each neighbour of it is refused.
    let answer = create(&own, pod("compliant", &[])).await?;
    ensure!(answer == Answer::Admitted, "alice creates a compliant pod: {answer}");
    for (name, changes) in [
        ("privileged", vec![("/containers/0/securityContext", json!({"privileged": true}))]),
        ("host-path", vec![("/volumes", json!([{"name": "host", "hostPath": {"path": "/"}}]))]),
        ("host-network", vec![("/hostNetwork", json!(true))]),
        ("host-pid", vec![("/hostPID", json!(true))]),
        ("host-port", vec![("/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}]))]),
        ("added-capability", vec![("/containers/0/securityContext", json!({"capabilities": {"add": ["SYS_ADMIN"]}}))]),
        (
            "privileged-init",
            vec![(
                "/initContainers",
                json!([{"name": "init", "image": "freehold.dev/test:dev", "securityContext": {"privileged": true}}]),
            )],
        ),
        ("no-runtime-class", vec![("/runtimeClassName", Value::Null)]),
        ("other-runtime-class", vec![("/runtimeClassName", json!("runc"))]),
    ] {
        let answer = Answer::of(own.create(&PostParams::default(), &pod(name, &changes)).await);
        // A RuntimeClass that does not exist is refused by the API server itself before any policy is asked.
        let refused = answer.as_ref().is_ok_and(|answer| matches!(answer, Answer::Refused { .. }));
        ensure!(refused, "alice creates a pod with {name}: {answer:?}");
    }

    // The boundary's own objects.
    let boundary: Api<freehold_crds::Boundary> = Api::namespaced(people.alice.clone(), "team-a-floor");
    let answer = Answer::of(boundary.delete("boundary", &DeleteParams::default()).await)?;
    ensure!(answer.refused_by_floor(), "alice deletes her Boundary: {answer}");
    Ok(())
}
