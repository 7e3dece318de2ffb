//! Whose requests wait behind whose: API Priority and Fairness (KEP-1040).
#![cfg(feature = "live")]

use anyhow::{Context as _, ensure};
use freehold_e2e::People;
use freehold_e2e::live::api;
use kube::Client;
use kube::client::Body;

/// The level of priority and fairness that the API server puts a request of this user into: its UID, by the answer's header.
async fn level(client: &Client, user: &str, groups: &[&str]) -> anyhow::Result<String> {
    let mut request = http::Request::get("/api/v1/namespaces?limit=1").header("Impersonate-User", user);
    for group in groups {
        request = request.header("Impersonate-Group", *group);
    }
    let answer = client.send(request.body(Body::empty())?).await?;
    let level = answer.headers().get("x-kubernetes-pf-prioritylevel-uid").context("the API server names no priority level")?;
    Ok(level.to_str()?.to_owned())
}

/// Row H12: the requests that wait for the webhook are sorted into another queue than those that it asks itself. No flood is made.
#[tokio::test]
async fn what_a_tenant_asks_is_sorted_into_no_seat_of_ours() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let levels = ["flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "prioritylevelconfigurations"];
    let ours = api(&people.platform, levels, None).get("freehold").await?.metadata.uid.context("a level without a UID")?;
    let account = |namespace: &str, name: &str| format!("system:serviceaccount:{namespace}:{name}");
    let of = async |user: &str, groups: &[&str]| level(&people.platform, user, groups).await;
    for program in ["freehold-webhook", "freehold-operator"] {
        let groups = ["system:serviceaccounts", "system:serviceaccounts:freehold-system", "system:authenticated"];
        let level = of(&account("freehold-system", program), &groups).await?;
        ensure!(level == ours, "{program} sits at level {level}, not at its own, {ours}");
    }
    let groups = ["system:serviceaccounts", "system:serviceaccounts:team-a-dev", "system:authenticated"];
    for (who, user, groups) in [
        ("an owner", "alice".to_owned(), &groups[2..]),
        ("a tenant's program", account("team-a-dev", "default"), &groups[..]),
        ("a ServiceAccount named as ours", account("team-a-dev", "freehold-webhook"), &groups[..]),
        ("the name without the namespace's right to it", "freehold-webhook".to_owned(), &groups[2..]),
    ] {
        let level = of(&user, groups).await?;
        ensure!(level != ours, "{who} sits on our seats");
    }
    Ok(())
}
