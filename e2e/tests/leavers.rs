//! Somebody who is owner no more keeps nothing that they gave themselves.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BINDING, SOON, TENANT, api, home, tenant};
use freehold_e2e::tried::named;
use freehold_e2e::{Answer, Layer, People, Tried, wait};
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

/// Row B16.
#[tokio::test]
async fn roles_go_with_ownership() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (name, mut tried) = (named("leaves"), Tried::from_environment());
    let owners = |names: &[&str]| names.iter().map(|name| json!({"kind": "User", "name": name})).collect::<Vec<_>>();
    let own = home(&people, &name, json!({"owners": owners(&["alice", "carol"])})).await?;
    let person = |name: &str| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name});
    let bindings = api(&people.alice, BINDING, Some(&own));
    for (binding, subjects) in [("mine", vec![person("alice")]), ("hers", vec![person("carol")])] {
        let object = json!({
            "apiVersion": BINDING[0], "kind": BINDING[1], "metadata": {"name": binding},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": subjects,
        });
        bindings.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    tenant(&people.platform, &name, json!({"owners": owners(&["carol"]), "deletionPolicy": "Delete"})).await?;
    let pods = api(&people.alice, ["v1", "Pod", "pods"], Some(&own));
    let answer = wait::until("alice to be owner no more", SOON, || async {
        let answer = Answer::of(pods.list(&ListParams::default()).await)?;
        ensure!(answer != Answer::Admitted, "she still looks into {own}");
        Ok(answer)
    })
    .await?;
    tried.attack_held_by("B16", "a look by a role of one's own making", &answer, &[Layer::Rbac]);
    let left = api(&people.platform, BINDING, Some(&own)).list(&ListParams::default()).await?.items;
    let names: Vec<_> = left.iter().filter_map(|one| one.metadata.name.as_deref()).collect();
    tried.expect(
        "B16",
        "a role of somebody who stays",
        names.contains(&"hers") && !names.contains(&"mine"),
        &format!("{names:?}"),
    );
    api(&people.platform, TENANT, None).delete(&name, &DeleteParams::default()).await?;
    tried.judge()
}
