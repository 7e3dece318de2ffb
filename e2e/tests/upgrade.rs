//! From the last version's chart to this one's with Tenants in place: what they have and run is the same before and after, and nothing opens between.
//!
//! `FREEHOLD_UPGRADE` is the command that upgrades, split at spaces; who runs this installed the last version's chart.
#![cfg(feature = "live")]

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use freehold_e2e::evidence::{STAGE_A, STAGE_B, stage};
use freehold_e2e::kstatus::{State, state};
use freehold_e2e::live::{BINDING, BOUNDARY, LIMITS, POLICY, QUOTA, SANDBOX_RUNTIME, SOON, TENANT, api, home, namespace, sees};
use freehold_e2e::storm::Storm;
use freehold_e2e::{People, wait};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};

/// Objects by kind, namespace and name: each one's UID, and what must not be lost of it.
type Kept = BTreeMap<(&'static str, Option<String>, String), (Option<String>, Value)>;

/// What tenants have and run. Of a Boundary its spec, of a pod how often it was started again and where it runs.
async fn kept(people: &People) -> anyhow::Result<Kept> {
    let mut kept = Kept::new();
    for kind in [TENANT, SANDBOX_RUNTIME, ["v1", "Namespace", "namespaces"]] {
        for object in api(&people.platform, kind, None).list(&ListParams::default()).await? {
            let of_tenant = kind[1] != "Namespace" || object.labels().contains_key("freehold.dev/tenant");
            let spec = object.data["spec"].clone();
            kept.extend(of_tenant.then(|| ((kind[1], None, object.name_any()), (object.uid(), spec))));
        }
    }
    for namespace in [STAGE_A, STAGE_B] {
        for kind in [BOUNDARY, QUOTA, LIMITS, POLICY, BINDING, ["v1", "Pod", "pods"]] {
            for object in api(&people.platform, kind, Some(namespace)).list(&ListParams::default()).await? {
                let status = &object.data["status"];
                let what = match kind[1] {
                    "Pod" => json!([status["phase"], status["podIP"], status["containerStatuses"][0]["restartCount"]]),
                    "RoleBinding" => object.data["subjects"].clone(),
                    _ => object.data["spec"].clone(),
                };
                kept.insert((kind[1], object.namespace(), object.name_any()), (object.uid(), what));
            }
        }
    }
    Ok(kept)
}

/// Whether all that was said is said still; a version may say more.
fn holds(before: &Value, after: &Value) -> bool {
    let mut merged = after.clone();
    json_patch::merge(&mut merged, before);
    merged == *after
}

/// What was there and is not, or not as it was.
fn lost(before: &Kept, after: &Kept) -> Vec<String> {
    let stands = |now: &(Option<String>, Value), was: &(Option<String>, Value)| now.0 == was.0 && holds(&was.1, &now.1);
    let lost = before.iter().filter(|(key, was)| !after.get(*key).is_some_and(|now| stands(now, was)));
    lost.map(|(key, was)| format!("{key:?} was {was:?}, is {:?}", after.get(key))).collect()
}

async fn upgrade() -> anyhow::Result<()> {
    let way = std::env::var("FREEHOLD_UPGRADE").context("FREEHOLD_UPGRADE names no command that upgrades")?;
    let mut words = way.split_whitespace();
    let output = tokio::process::Command::new(words.next().context("FREEHOLD_UPGRADE is empty")?).args(words).output().await?;
    ensure!(output.status.success(), "the chart could not be upgraded: {output:?}");
    Ok(())
}

#[tokio::test]
async fn an_upgrade_takes_nothing_from_tenants() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    stage::set(&people).await?;
    let own = home(&people, "upgrades", json!({})).await?;
    let leases = api(&people.platform, ["coordination.k8s.io/v1", "Lease", "leases"], Some("freehold-system"));
    let leader = || async { anyhow::Ok(leases.get("freehold-operator").await?.data["spec"]["holderIdentity"].clone()) };
    let (before, led) = (kept(&people).await?, leader().await?);
    ensure!(before.len() > 20, "only {} objects are there", before.len());

    // Pods that name their class pass and hostile ones don't, whichever version answers; a webhook that comes and goes completes none for sure.
    let storm = Storm::new(Api::namespaced(people.alice.clone(), &own), false, None);
    storm.around(upgrade()).await?;
    println!("{} pods meanwhile", storm.counts().0);
    wait::until("an operator of this version to lead", SOON * 3, || async {
        let leads = leader().await?;
        ensure!(leads != led && !leads.is_null() && leads != json!(""), "{leads}");
        Ok(())
    })
    .await?;
    // A namespace that is made now is guarded in a round that goes through all of the Tenant's.
    let tenants = api(&people.platform, TENANT, None);
    for (client, tenant) in [(&people.alice, "team-a"), (&people.bob, "team-b")] {
        let name = format!("{tenant}-upgraded");
        namespace(client, &name, tenant).await?;
        sees(&tenants, tenant, "/status/namespaces/1/name", json!(name)).await?;
        sees(&api(&people.platform, BOUNDARY, Some(&name)), "boundary", "/spec/state", json!("Active")).await?;
        wait::until(&format!("{tenant} to be Ready"), SOON, || async {
            let object = serde_json::to_value(tenants.get(tenant).await?)?;
            ensure!(state(&object) == State::Current, "{}", object["status"]);
            Ok(())
        })
        .await?;
        Api::<Namespace>::all(people.platform.clone()).delete(&name, &DeleteParams::default()).await?;
        sees(&tenants, tenant, "/status/namespaces/1/name", Value::Null).await?;
    }
    wait::until("all to be as before", SOON, || async {
        let lost = lost(&before, &kept(&people).await?);
        ensure!(lost.is_empty(), "an upgrade changed:\n{}", lost.join("\n"));
        Ok(())
    })
    .await?;
    tenants.delete("upgrades", &DeleteParams::default()).await?;
    Ok(())
}
