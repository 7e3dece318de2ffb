//! Namespaces that the platform team takes in while pods are made in them, so that none that shares the node's kernel stays unseen; and those that it
//! moves to another tenant and releases.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BINDING, BOUNDARY, LIMITS, POLICY, QUOTA, SOON, TENANT, api, event, home, sees, tenant};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, People, Tried, objects, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// Pods that are tried around the moment at which the namespace is taken in.
const PODS: usize = 30;

/// Without a runtime class, and never scheduled: what is looked at is what stands there.
fn plain(name: &str) -> Pod {
    objects::pod(name, "true", &[("/runtimeClassName", json!(null)), ("/nodeSelector", json!({"no": "node"}))])
}

/// Rows A15 and C13.
#[tokio::test]
async fn pods_from_before_are_found_and_none_comes_after() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (name, mut tried) = (named("adopts"), Tried::from_environment());
    let own = format!("{name}-old");
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(&own, None)).await?;
    tenant(&people.platform, &name, json!({"owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete"})).await?;

    let accounts: Api<ServiceAccount> = Api::namespaced(people.platform.clone(), &own);
    wait::until("the namespace's ServiceAccount", SOON, || async { Ok(accounts.get("default").await?) }).await?;

    // Somebody with rights of their own goes on making pods while the namespace is taken in.
    let pods: Api<Pod> = Api::namespaced(people.platform.clone(), &own);
    let label = Patch::Merge(json!({"metadata": {"labels": {"freehold.dev/tenant": name}}}));
    let making = async {
        let mut made = 0;
        for n in 0..PODS {
            // Once the namespace is a tenant's, the floor refuses such a pod, or the webhook gives it a machine.
            match pods.create(&PostParams::default(), &plain(&format!("old-{n}"))).await {
                Ok(pod) if pod.spec.as_ref().is_some_and(|spec| spec.runtime_class_name.is_none()) => made += 1,
                outcome => drop(Answer::of(outcome)?),
            }
        }
        anyhow::Ok(made)
    };
    let adopting = async {
        wait::until("a third of the pods", SOON, || async { Ok(pods.get(&format!("old-{}", PODS / 3)).await?) }).await?;
        namespaces.patch(&own, &PatchParams::default(), &label).await?;
        anyhow::Ok(())
    };
    let (made, ()) = tokio::try_join!(making, adopting)?;
    ensure!(made > 0, "no pod was made before");
    sees(&api(&people.platform, BOUNDARY, Some(&own)), "boundary", "/spec/state", json!("Active")).await?;

    // The webhook would complete it: another class is what neither of the two lets through.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let class =
        json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "e2e-other"}, "handler": "runc"});
    let classes = api(&people.platform, ["node.k8s.io/v1", "RuntimeClass", "runtimeclasses"], None);
    classes.patch("e2e-other", &PatchParams::apply("e2e").force(), &Patch::Apply(&class)).await?;
    let foreign = objects::pod("next", "true", &[("/runtimeClassName", json!("e2e-other"))]);
    tried.attack("A15", "a pod on the node's kernel after that", &Answer::of(pods.create(&dry, &foreign).await)?);
    tried.control("A15", "a pod in a machine", &Answer::of(pods.create(&dry, &objects::pod("next", "true", &[])).await)?);

    // Every one that was let in is counted, and named.
    let tenants = api(&people.platform, TENANT, None);
    sees(&tenants, &name, "/status/wouldDeny/objects", json!(made)).await?;
    event(&people.platform, &name, "NamespaceAdopted").await?;
    let told = serde_json::to_value(tenants.get(&name).await?)?["status"]["wouldDeny"]["sample"].clone();
    let named =
        told[0].as_str().is_some_and(|one| one.starts_with(&format!("Pod {own}/old-")) && one.contains("runtime classes"));
    tried.expect("C13", "pods from before are named", named, &told.to_string());
    tried.attack("C13", "another pod on the node's kernel", &Answer::of(pods.create(&dry, &foreign).await)?);
    tenants.delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}

/// Rows A1 and A13, and what the platform team may: a namespace moves to another tenant, and is released; its pods run on.
#[tokio::test]
async fn a_namespace_moves_and_is_released_by_the_platform_team() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let ((from, to), mut tried) = ((named("gives"), named("takes")), Tried::from_environment());
    let quota = json!({"quota": {"hard": {"pods": "10"}}});
    let own = home(&people, &from, quota.clone()).await?;
    let mut spec = json!({"owners": [{"kind": "User", "name": "bob"}], "deletionPolicy": "Delete"});
    json_patch::merge(&mut spec, &quota);
    tenant(&people.platform, &to, spec).await?;
    let (alices, bobs): (Api<Pod>, Api<Pod>) =
        (Api::namespaced(people.alice.clone(), &own), Api::namespaced(people.bob.clone(), &own));
    alices.create(&PostParams::default(), &objects::pod("runs", "exec sleep 100000", &[])).await?;
    // Its UID, where it runs and was never started again.
    let pods: Api<Pod> = Api::namespaced(people.platform.clone(), &own);
    let running = || async {
        let pod = pods.get("runs").await?;
        let status = pod.status.unwrap_or_default();
        let whole = status.container_statuses.iter().flatten().all(|one| one.ready && one.restart_count == 0);
        ensure!(status.phase.as_deref() == Some("Running") && whole, "{status:?}");
        anyhow::Ok(pod.metadata.uid)
    };
    let before = wait::until("the pod to run", SOON * 4, running).await?;
    // What owners give themselves goes with them.
    let gives_himself = async |client: &Client, user: &str| {
        let mine = json!({
            "apiVersion": BINDING[0], "kind": BINDING[1], "metadata": {"name": format!("own-{user}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
        });
        api(client, BINDING, Some(&own)).create(&PostParams::default(), &serde_json::from_value(mine)?).await?;
        anyhow::Ok(())
    };
    gives_himself(&people.alice, "alice").await?;

    let label = |tenant: serde_json::Value| Patch::Merge(json!({"metadata": {"labels": {"freehold.dev/tenant": tenant}}}));
    let (by_alice, by_platform): (Api<Namespace>, Api<Namespace>) =
        (Api::all(people.alice.clone()), Api::all(people.platform.clone()));
    let change = PatchParams::default();
    tried.attack("A1", "moved by its owner", &Answer::of(by_alice.patch(&own, &change, &label(json!(to))).await)?);
    tried.attack("A13", "released by its owner", &Answer::of(by_alice.patch(&own, &change, &label(json!(null))).await)?);

    tried.control("A1", "moved by the platform team", &Answer::of(by_platform.patch(&own, &change, &label(json!(to))).await)?);
    let (boundaries, bindings) = (api(&people.platform, BOUNDARY, Some(&own)), api(&people.platform, BINDING, Some(&own)));
    sees(&boundaries, "boundary", "/spec/tenant/name", json!(to)).await?;
    sees(&boundaries, "boundary", "/spec/state", json!("Active")).await?;
    sees(
        &bindings,
        "freehold-owner-admin",
        "/subjects",
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}]),
    )
    .await?;
    let looks = async |pods: &Api<Pod>, expected: bool| {
        wait::until(&format!("who looks into {own} to be let in: {expected}"), SOON, || async {
            let answer = Answer::of(pods.list(&ListParams::default()).await)?;
            ensure!((answer == Answer::Admitted) == expected, "{answer}");
            Ok(())
        })
        .await
    };
    looks(&bobs, true).await?;
    looks(&alices, false).await?;
    ensure!(running().await? == before, "the pod is another one after the move");
    let tenants = api(&people.platform, TENANT, None);
    sees(&tenants, &to, "/status/namespaces/0/name", json!(own)).await?;
    sees(&tenants, &from, "/status/namespaces/0/name", json!(null)).await?;
    event(&people.platform, &from, "NamespaceMoved").await?;
    event(&people.platform, &to, "NamespaceMoved").await?;
    gives_himself(&people.bob, "bob").await?;

    tried.control(
        "A13",
        "released by the platform team",
        &Answer::of(by_platform.patch(&own, &change, &label(json!(null))).await)?,
    );
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=freehold");
    for kind in [BINDING, QUOTA, LIMITS, POLICY, BOUNDARY] {
        let left = api(&people.platform, kind, Some(&own));
        wait::until(&format!("no {} of ours in a released namespace", kind[1]), SOON, || async {
            let left: Vec<_> = left.list(&ours).await?.items.into_iter().filter_map(|one| one.metadata.name).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .await?;
    }
    // The operator deletes nothing but its own where nobody is its tenant: what bob gave himself is told, and up to the platform team.
    event(&people.platform, &to, "NamespaceReleased").await?;
    event(&people.platform, &to, "FormerOwnersBound").await?;
    looks(&bobs, true).await?;
    bindings.delete("own-bob", &DeleteParams::default()).await?;
    looks(&bobs, false).await?;
    ensure!(running().await? == before, "the pod is another one after the release");
    // Nobody's, it takes what any namespace takes.
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    tried.control("A13", "a plain pod in what is nobody's", &Answer::of(pods.create(&dry, &plain("any")).await)?);
    by_platform.delete(&own, &DeleteParams::default()).await?;
    for name in [&from, &to] {
        tenants.delete(name, &DeleteParams::default()).await?;
    }
    tried.judge()
}
