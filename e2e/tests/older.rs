//! What is older than the boundary (cases of `policy/cases` that say `older`): it stands in a namespace that is then taken in, and is changed as
//! the tenant's own user. What stood there stays and is in nobody's way; nothing may be added.
//!
//! Changes are dry-run: admission judges them and the next case finds things as they were. `FREEHOLD_WEBHOOK=1` as for `attacks.rs`.
#![cfg(feature = "live")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{self, SOON, api, sees};
use freehold_e2e::{Answer, Layer, People, objects, wait};
use freehold_policy::cases::{self, Case, NAMESPACE, TENANT};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The operator has this long to let somebody in, and to let go.
const LONG: Duration = Duration::from_secs(90);
/// Rights of alice's beside `admin`: what is tried is admission, not RBAC.
const WIDE: &str = "older-wide";
/// Kinds that nobody writes while the webhook is away: it alone judges them.
const NEVER_WITHOUT_WEBHOOK: &[&str] = &["networkpolicies"];

/// With other hosts: those of the table's Tenants, which may be there, are theirs.
fn at_own_hosts(value: &Value) -> Value {
    serde_json::from_str(&value.to_string().replace("pay.example", "older.example")).expect("JSON stays JSON")
}

fn renamed(object: &Value, tenant: &str) -> Value {
    let text = at_own_hosts(object)
        .to_string()
        .replace(NAMESPACE, &format!("{tenant}-dev"))
        .replace(&format!("\"{TENANT}\""), &format!("\"{tenant}\""));
    serde_json::from_str(&text).expect("JSON stays JSON")
}

/// Version, kind and plural of what is no kind of Kubernetes itself.
const DEFINED: [[&str; 3]; 4] = [
    ["gateway.networking.k8s.io/v1", "Gateway", "gateways"],
    ["gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"],
    ["gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "referencegrants"],
    ["snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots"],
];

/// Those kinds, but for their schema: what is tried is admission, and the cluster may have the real ones.
async fn prepared(people: &People) -> anyhow::Result<()> {
    for [api_version, kind, plural] in DEFINED {
        let (group, version) = api_version.split_once('/').context("a group has versions")?;
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}"), "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
            },
        });
        let definitions =
            api(&people.platform, ["apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"], None);
        let made = definitions.create(&PostParams::default(), &serde_json::from_value(definition)?).await;
        ensure!(made.is_ok() || matches!(&made, Err(kube::Error::Api(status)) if status.code == 409), "{made:?}");
    }
    for kind in DEFINED {
        let served = api(&people.platform, kind, None);
        wait::until(&format!("{} to be served", kind[1]), SOON, || async { Ok(served.list(&ListParams::default()).await?) })
            .await?;
    }
    Ok(())
}

/// A namespace of nobody's with what is older than the boundary, by the number of its case; then it is a tenant's.
async fn taken_in(people: &People, tenant: &str, spec: &Value, cases: &[(usize, Case)]) -> anyhow::Result<()> {
    let own = format!("{tenant}-dev");
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    namespaces.create(&PostParams::default(), &objects::namespace(&own, None)).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(people.platform.clone(), &own);
    wait::until("the namespace's ServiceAccount", SOON, || async { Ok(accounts.get("default").await?) }).await?;
    for (number, case) in cases {
        let kind = &case.resource;
        let mut old = renamed(case.old.as_ref().context("an older case says what was there")?, tenant);
        old["metadata"]["name"] = json!(format!("old-{number}"));
        api(&people.platform, [&kind.api_version, &kind.kind, &kind.plural], Some(&own))
            .create(&PostParams::default(), &serde_json::from_value(old)?)
            .await
            .with_context(|| format!("the object of {:?}", case.name))?;
    }
    let mut document = json!({"owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete"});
    for (key, value) in spec.as_object().into_iter().flatten() {
        document[key] = at_own_hosts(value);
    }
    live::tenant(&people.platform, tenant, document).await?;
    let label = Patch::Merge(json!({"metadata": {"labels": {"freehold.dev/tenant": tenant}}}));
    namespaces.patch(&own, &PatchParams::default(), &label).await?;
    sees(&api(&people.platform, live::BOUNDARY, Some(&own)), "boundary", "/spec/state", json!("Active")).await?;
    let services: Api<DynamicObject> = api(&people.alice, ["v1", "Service", "services"], Some(&own));
    wait::until("alice to be let in", SOON, || async { Ok(services.list(&ListParams::default()).await?) }).await?;
    let rule = |group: &str, resources: Value| json!({"apiGroups": [group], "resources": resources, "verbs": ["patch", "get"]});
    let rules = json!([
        rule("", json!(["pods/ephemeralcontainers", "pods/resize"])),
        rule("gateway.networking.k8s.io", json!(["gateways", "httproutes", "referencegrants"])),
        rule("snapshot.storage.k8s.io", json!(["volumesnapshots"])),
    ]);
    live::grant(people, WIDE, Some(&own), rules).await
}

/// What is wrong with the answer to a change; None if nothing.
async fn fault(people: &People, case: &Case, tenant: &str, number: usize, webhook: bool) -> anyhow::Result<Option<String>> {
    let (kind, own) = (&case.resource, format!("{tenant}-dev"));
    let change = json_patch::diff(&renamed(case.old.as_ref().unwrap_or(&Value::Null), tenant), &renamed(&case.object, tenant));
    // The client has another version of the same crate.
    let patch: Patch<()> = Patch::Json(serde_json::from_value(serde_json::to_value(change)?)?);
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let (objects, name) =
        (api(&people.alice, [&kind.api_version, &kind.kind, &kind.plural], Some(&own)), format!("old-{number}"));
    let answer = Answer::of(match &case.subresource {
        Some(subresource) => objects.patch_subresource(subresource, &name, &dry, &patch).await,
        None => objects.patch(&name, &dry, &patch).await,
    })?;
    let refuse = !case.refused.is_empty() && (case.floor || webhook);
    Ok(match answer {
        Answer::Admitted if refuse => Some("is admitted".to_owned()),
        Answer::Refused { layer: Layer::Rbac | Layer::Other, .. } => Some(format!("is refused by none of ours: {answer}")),
        Answer::Refused { .. } if !refuse => Some(format!("is {answer}")),
        _ => None,
    })
}

/// Rows H13 and C6, C12.
#[tokio::test]
async fn what_is_older_than_the_boundary_may_stay_as_it_is() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let webhook = std::env::var("FREEHOLD_WEBHOOK").is_ok_and(|value| value == "1");
    prepared(&people).await?;
    let presets: BTreeMap<_, _> = cases::presets().into_iter().map(|preset| (preset.name, preset.tenant)).collect();
    let mut by_preset: BTreeMap<String, Vec<(usize, Case)>> = BTreeMap::new();
    let judged = |case: &Case| case.older && (webhook || !NEVER_WITHOUT_WEBHOOK.contains(&case.resource.plural.as_str()));
    for (number, case) in cases::all().into_iter().enumerate().filter(|(_, case)| judged(case)) {
        by_preset.entry(case.boundary.clone()).or_default().push((number, case));
    }
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (preset, cases) in &by_preset {
        let tenant = format!("older-{preset}");
        taken_in(&people, &tenant, &presets[preset], cases).await?;
        for (number, case) in cases {
            tried += 1;
            let what = format!("{} {} ({}, {preset})", case.row, case.name, case.resource.kind);
            match fault(&people, case, &tenant, *number, webhook).await {
                Err(error) => wrong.push(format!("{what}: {error:#}")),
                Ok(fault) => wrong.extend(fault.map(|fault| format!("{what} {fault}"))),
            }
        }
    }
    println!("{tried} changes of what is older, webhook: {webhook}");
    let tenants = api(&people.platform, live::TENANT, None);
    for preset in by_preset.keys() {
        tenants.delete(&format!("older-{preset}"), &DeleteParams::default()).await?;
    }
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    wait::until("the namespaces to go", LONG, || async {
        for preset in by_preset.keys() {
            ensure!(namespaces.get_opt(&format!("older-{preset}-dev")).await?.is_none(), "that of {preset} is still there");
        }
        Ok(())
    })
    .await?;
    ensure!(tried > 0 && wrong.is_empty(), "{} faults of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
