//! Whose a namespace is, on a real API server: what its labels, annotations, status and finalizers may become, and by whom.
#![cfg(feature = "live")]

use freehold_e2e::live::{api, grant, home};
use freehold_e2e::tried::{named, webhook_answers};
use freehold_e2e::{Answer, Layer, People, Tried};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const TENANT: &str = "freehold.dev/tenant";

fn dry() -> PatchParams {
    PatchParams { dry_run: true, ..PatchParams::default() }
}

fn post() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn of(name: &str, labels: Value, annotations: Value) -> anyhow::Result<Namespace> {
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    Ok(serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))?)
}

/// Rows A1, A4 to A8, A13, A14 and A17 to A19.
#[tokio::test]
async fn a_namespace_is_what_its_tenant_may_make_of_it() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (tenant, mut tried) = (named("belongs"), Tried::from_environment());
    let rules = json!({"namespaces": {"max": 9, "labels": {"forbidden": ["policy.example/*"]}, "annotations": {"forbidden": ["example.com/exempt"]}}});
    let own = home(&people, &tenant, rules).await?;
    let alices: Api<Namespace> = Api::all(people.alice.clone());

    let (next, labelled) = (format!("{tenant}-next"), json!({TENANT: tenant}));
    let with = |more: Value| {
        let mut labels = labelled.clone();
        json_patch::merge(&mut labels, &more);
        labels
    };
    let many = |count: usize| (0..count).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    for (row, what, attack, name, labels, annotations) in [
        ("A1", "another tenant's label", true, next.as_str(), json!({TENANT: "foreign"}), Value::Null),
        ("A1", "a system name", true, "kube-mine", labelled.clone(), Value::Null),
        ("A1", "the tenant's own label", false, &next, labelled.clone(), Value::Null),
        ("A4", "less Pod Security", true, &next, with(json!({"pod-security.kubernetes.io/enforce": "privileged"})), Value::Null),
        ("A4", "more Pod Security", false, &next, with(json!({"pod-security.kubernetes.io/enforce": "restricted"})), Value::Null),
        (
            "A5",
            "administrators' access to devices",
            true,
            &next,
            with(json!({"resource.kubernetes.io/admin-access": "true"})),
            Value::Null,
        ),
        ("A5", "a label of one's own", false, &next, with(json!({"env": "dev"})), Value::Null),
        ("A6", "passed over by Gatekeeper", true, &next, with(json!({"admission.gatekeeper.sh/ignore": "x"})), Value::Null),
        ("A6", "a label that nobody selects by", false, &next, with(json!({"team": "x"})), Value::Null),
        (
            "A8",
            "another tenant's label beside one's own",
            true,
            &next,
            with(json!({"freehold.dev/peer": "foreign"})),
            Value::Null,
        ),
        ("A8", "a label that only looks alike", false, &next, with(json!({"dev.freehold/tenant": "foreign"})), Value::Null),
        ("A14", "no label", true, &next, Value::Null, Value::Null),
        ("A14", "the label", false, &next, labelled.clone(), Value::Null),
        ("A17", "a name that something else refers to", true, "metrics-server", labelled.clone(), Value::Null),
        ("A17", "a name after the tenant", false, &next, labelled.clone(), Value::Null),
        (
            "A18",
            "a node selector for all pods",
            true,
            &next,
            labelled.clone(),
            json!({"scheduler.alpha.kubernetes.io/node-selector": "x=y"}),
        ),
        ("A18", "an annotation of one's own", false, &next, labelled.clone(), json!({"note": "x"})),
        ("A19", "more annotations than may be", true, &next, labelled.clone(), Value::Object(many(33))),
        ("A19", "as many as may be", false, &next, labelled.clone(), Value::Object(many(30))),
    ] {
        let answer = Answer::of(alices.create(&post(), &of(name, labels, annotations)?).await)?;
        match attack {
            true => tried.attack(row, what, &answer),
            false => tried.control(row, what, &answer),
        }
    }
    let mut generated = of("", Value::Null, Value::Null)?;
    (generated.metadata.name, generated.metadata.generate_name) = (None, Some(format!("{tenant}-")));
    tried.attack("A14", "no label by generateName", &Answer::of(alices.create(&post(), &generated).await)?);
    let applied = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": next}});
    let apply = PatchParams { dry_run: true, force: true, ..PatchParams::apply("attacks") };
    tried.attack(
        "A14",
        "no label by server-side apply",
        &Answer::of(alices.patch(&next, &apply, &Patch::Apply(&applied)).await)?,
    );

    for (row, what, attack, change) in [
        ("A1", "another tenant's label", true, json!({"labels": {TENANT: "foreign"}})),
        ("A4", "less Pod Security", true, json!({"labels": {"pod-security.kubernetes.io/enforce": "privileged"}})),
        ("A5", "administrators' access to devices", true, json!({"labels": {"resource.kubernetes.io/admin-access": "true"}})),
        ("A6", "passed over by cert-manager", true, json!({"labels": {"cert-manager.io/disable-validation": "true"}})),
        ("A13", "no label any more", true, json!({"labels": {TENANT: null}})),
        ("A13", "a label of one's own", false, json!({"labels": {"env": "dev"}})),
        (
            "A18",
            "tolerations for all pods",
            true,
            json!({"annotations": {"scheduler.alpha.kubernetes.io/defaultTolerations": "[]"}}),
        ),
    ] {
        let patch = Patch::Merge(json!({"metadata": change}));
        let answer = Answer::of(alices.patch(&own, &dry(), &patch).await)?;
        match attack {
            true => tried.attack(row, what, &answer),
            false => tried.control(row, what, &answer),
        }
    }
    // The webhook alone knows what a Tenant forbids.
    if webhook_answers() {
        for (what, change) in [
            ("a forbidden label in another case", json!({"labels": {"policy.example/Skip": "1"}})),
            ("a forbidden annotation", json!({"annotations": {"example.com/exempt": "1"}})),
        ] {
            let answer = Answer::of(alices.patch(&own, &dry(), &Patch::Merge(json!({"metadata": change}))).await)?;
            tried.attack_held_by("A7", what, &answer, &[Layer::Webhook]);
        }
        let free = Patch::Merge(json!({"metadata": {"labels": {"policies.example/skip": "1"}}}));
        tried.control("A7", "a label beside the forbidden ones", &Answer::of(alices.patch(&own, &dry(), &free).await)?);
    }
    api(&people.platform, freehold_e2e::live::TENANT, None).delete(&tenant, &DeleteParams::default()).await?;
    tried.judge()
}

/// Rows A2 and A3: with a role that the platform team gave, which RBAC alone would let through.
#[tokio::test]
async fn neither_status_nor_finalizers_are_a_way_round() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (tenant, mut tried) = (named("rounds"), Tried::from_environment());
    let own = home(&people, &tenant, json!({})).await?;
    let rules = json!([{"apiGroups": [""], "resources": ["namespaces/status", "namespaces/finalize"], "verbs": ["get", "update", "patch"]}]);
    grant(&people, "e2e-namespaces", Some(&own), rules).await?;
    let alices: Api<Namespace> = Api::all(people.alice.clone());
    let status = |change: Value| Patch::Merge(json!({"metadata": change}));
    let given = async || Answer::of(alices.patch_status(&own, &dry(), &status(json!({"annotations": {"note": "x"}}))).await);
    freehold_e2e::wait::until("the role to count", freehold_e2e::live::SOON, async || {
        anyhow::ensure!(given().await? == Answer::Admitted, "refused");
        Ok(())
    })
    .await?;
    for (what, change) in [
        ("another tenant's label", json!({"labels": {TENANT: "foreign"}})),
        ("no label any more", json!({"labels": {TENANT: null}})),
        ("less Pod Security", json!({"labels": {"pod-security.kubernetes.io/enforce": "privileged"}})),
    ] {
        tried.attack("A2", what, &Answer::of(alices.patch_status(&own, &dry(), &status(change)).await)?);
    }
    tried.control("A2", "a note", &given().await?);

    let finalize = async |by: &kube::Client, labels: Value, finalizers: Value| {
        let mut body = serde_json::to_value(Api::<Namespace>::all(people.platform.clone()).get(&own).await?)?;
        json_patch::merge(&mut body, &json!({"metadata": {"labels": labels}, "spec": {"finalizers": finalizers}}));
        let all: Api<Namespace> = Api::all(by.clone());
        Answer::of(all.replace_subresource("finalize", &own, &post(), &body).await)
    };
    let kept = json!(["kubernetes"]);
    tried.attack("A3", "another tenant's label", &finalize(&people.alice, json!({TENANT: "foreign"}), kept.clone()).await?);
    tried.attack("A3", "an early release", &finalize(&people.alice, json!({}), json!([])).await?);
    tried.control("A3", "by the platform team", &finalize(&people.platform, json!({}), kept).await?);
    api(&people.platform, freehold_e2e::live::TENANT, None).delete(&tenant, &DeleteParams::default()).await?;
    tried.judge()
}
