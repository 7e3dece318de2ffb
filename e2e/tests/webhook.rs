//! What needs the webhook up and a namespace that is fresh, labels that it alone rules, or input that nobody would send: waited for, explained, outlived.
#![cfg(feature = "live")]

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{BOUNDARY, SOON, TENANT, api, home, namespace, sees, tenant};
use freehold_e2e::tried::is_explained;
use freehold_e2e::{Answer, Layer, People, Tried, node, objects, raw, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// Namespaces that are made together with a pod.
const BIRTHS: usize = 20;
/// A review's largest size, in bytes.
const MAX_REVIEW: usize = 3 << 20;
/// Containers of the largest pod that is tried; the API server takes requests of 3 MiB.
const CONTAINERS: usize = 10_000;
/// The webhook's route, as the API server reaches it from its node.
const MUTATE: &str = "/api/v1/namespaces/freehold-system/services/https:freehold-webhook:https/proxy/mutate";

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Somebody whose rights are there already makes a namespace and a pod in it at once, as `kubectl apply` of both does: the pod waits for what guards it.
#[tokio::test]
async fn a_pod_waits_for_the_boundary_of_its_namespace() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let platform = &people.platform;
    home(&people, "births", json!({"namespaces": {"max": BIRTHS + 1}})).await?;
    let nowhere = objects::pod("first", "true", &[("/runtimeClassName", Value::Null), ("/nodeSelector", json!({"no": "node"}))]);
    let mut faults = Vec::new();
    for n in 0..BIRTHS {
        let name = format!("births-{n}");
        namespace(platform, &name, "births").await?;
        let made = Api::<Pod>::namespaced(platform.clone(), &name).create(&PostParams::default(), &nowhere).await;
        let class = made.as_ref().ok().and_then(|pod| pod.spec.as_ref()?.runtime_class_name.clone());
        let guarded = api(platform, BOUNDARY, Some(&name)).get_opt("boundary").await?.is_some();
        if class.as_deref() != Some("freehold-microvm") || !guarded {
            faults.push(format!("{name}, guarded: {guarded}, class: {class:?}: {:?}", Answer::of(made)));
        }
    }
    ensure!(faults.is_empty(), "{} of {BIRTHS}: {}", faults.len(), faults.join("\n"));
    api(platform, TENANT, None).delete("births", &DeleteParams::default()).await?;
    Ok(())
}

/// The attempts of one table: what, whether it is an attack, the answer, and what a refusal says.
type Attempts = Vec<(&'static str, bool, Answer, &'static str)>;

fn judge(tried: &mut Tried, row: &'static str, attempts: Attempts) {
    for (what, attack, answer, says) in attempts {
        if attack {
            tried.attack_held_by(row, what, &answer, &[Layer::Webhook]);
            tried.expect(row, what, answer.says(says), &answer.to_string());
        } else {
            tried.control(row, what, &answer);
        }
    }
}

/// Row A7: number, required and managed labels of namespaces, and labels and annotations of objects.
#[tokio::test]
async fn what_a_tenant_says_of_labels_and_numbers_holds() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let mut tried = Tried::from_environment();
    let own = home(&people, "ruled", json!({})).await?;
    let ruled = json!({
        "owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete",
        "namespaces": {"max": 2, "labels": {"managed": {"team": "pay"}, "required": [{"key": "stage", "values": ["dev", "prod"]}]}},
        "objects": [{
            "kinds": ["Service"], "annotations": {"forbidden": ["x.example/note"]},
            "labels": {"managed": {"team": "pay"}, "required": [{"key": "app"}], "forbidden": ["x.example/*"]},
        }],
    });
    tenant(&people.platform, "ruled", ruled).await?;
    sees(&api(&people.platform, BOUNDARY, Some(&own)), "boundary", "/spec/objects/0/kinds/0", json!("Service")).await?;
    sees(&api(&people.platform, ["v1", "Namespace", "namespaces"], None), &own, "/metadata/labels/team", json!("pay")).await?;

    let alices: Api<Namespace> = Api::all(people.alice.clone());
    let labelled = |name: &str, labels: Value| -> anyhow::Result<Namespace> {
        let mut all = json!({"freehold.dev/tenant": "ruled"});
        json_patch::merge(&mut all, &labels);
        Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": all}}))?)
    };
    let makes = async |labels: Value| Answer::of(alices.create(&dry(), &labelled("ruled-next", labels)?).await);
    // The webhook learns of the Tenant's rules a moment later.
    wait::until("the rules to count", SOON, || async {
        let answer = makes(json!({})).await?;
        ensure!(answer != Answer::Admitted, "a namespace without a required label is admitted");
        Ok(())
    })
    .await?;
    let changes = async |labels: Value| {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        Answer::of(alices.patch(&own, &PatchParams { dry_run: true, ..PatchParams::default() }, &patch).await)
    };
    let (required, managed) =
        ("refused by rule \"required labels\"; allowed: dev, prod", "refused by rule \"managed labels\"; allowed: pay");
    let attempts = vec![
        ("a namespace without a required label", true, makes(json!({})).await?, required),
        ("a required label of another value", true, makes(json!({"stage": "test"})).await?, "metadata.labels[stage] is \"test\""),
        ("a namespace as required", false, makes(json!({"stage": "dev"})).await?, ""),
        ("a managed label of another value", true, makes(json!({"stage": "dev", "team": "mine"})).await?, managed),
        ("a managed label changed", true, changes(json!({"team": "mine"})).await?, managed),
        ("a label of one's own", false, changes(json!({"mine": "x"})).await?, ""),
    ];
    judge(&mut tried, "A7", attempts);
    let taken = Patch::Merge(json!({"metadata": {"labels": {"team": null}}}));
    let left = alices.patch(&own, &PatchParams { dry_run: true, ..PatchParams::default() }, &taken).await?;
    let labels = left.metadata.labels.unwrap_or_default();
    tried.expect(
        "A7",
        "a managed label taken away is put back",
        labels.get("team").is_some_and(|team| team == "pay"),
        &format!("{labels:?}"),
    );
    let next = alices.create(&PostParams::default(), &labelled("ruled-next", json!({"stage": "dev"}))?).await?;
    let labels = next.metadata.labels.unwrap_or_default();
    tried.expect(
        "A7",
        "a managed label is filled in",
        labels.get("team").is_some_and(|team| team == "pay"),
        &format!("{labels:?}"),
    );
    let many = wait::until("two namespaces to be as many as may be", SOON, || async {
        let answer = Answer::of(alices.create(&dry(), &labelled("ruled-third", json!({"stage": "dev"}))?).await)?;
        ensure!(answer != Answer::Admitted, "a third is admitted");
        Ok(answer)
    })
    .await?;
    judge(
        &mut tried,
        "A7",
        vec![("one namespace too many", true, many, "refused by rule \"number of namespaces\"; allowed: 2 in all")],
    );

    let services = api(&people.alice, ["v1", "Service", "services"], Some(&own));
    let service = |labels: Value, annotations: Value| -> anyhow::Result<DynamicObject> {
        let metadata = json!({"name": "s", "labels": labels, "annotations": annotations});
        Ok(serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}),
        )?)
    };
    let serves =
        async |labels: Value, annotations: Value| Answer::of(services.create(&dry(), &service(labels, annotations)?).await);
    let forbidden = "refused by rule \"forbidden metadata\"";
    let attempts = vec![
        (
            "a Service without a required label",
            true,
            serves(json!({}), Value::Null).await?,
            "metadata.labels[app] is \"(unset)\"",
        ),
        ("a Service as required", false, serves(json!({"app": "x"}), Value::Null).await?, ""),
        ("a Service's managed label", true, serves(json!({"app": "x", "team": "mine"}), Value::Null).await?, managed),
        ("a Service's forbidden label", true, serves(json!({"app": "x", "x.example/A": "1"}), Value::Null).await?, forbidden),
        ("its forbidden annotation", true, serves(json!({"app": "x"}), json!({"x.example/Note": "1"})).await?, forbidden),
        ("an annotation beside it", false, serves(json!({"app": "x"}), json!({"y.example/note": "1"})).await?, ""),
    ];
    judge(&mut tried, "A7", attempts);
    let made = services.create(&dry(), &service(json!({"app": "x"}), Value::Null)?).await?;
    let labels = made.metadata.labels.unwrap_or_default();
    tried.expect(
        "A7",
        "a Service's managed label is filled in",
        labels.get("team").is_some_and(|team| team == "pay"),
        &format!("{labels:?}"),
    );
    api(&people.platform, TENANT, None).delete("ruled", &DeleteParams::default()).await?;
    tried.judge()
}

/// Row C11, and what a Tenant that only warns hears: the field of what it admits although a rule stands against it.
#[tokio::test]
async fn what_is_admitted_against_a_rule_is_told_to_who_sends_it() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let rules =
        json!({"images": {"registries": ["registry.example/*"]}, "templateViolations": "Warn", "enforcementMode": "Warn"});
    let own = home(&people, "warned", rules).await?;
    let (pods, deployments) = (["v1", "Pod", "pods"], ["apps/v1", "Deployment", "deployments"]);
    let pod = |image: &str| serde_json::to_value(objects::pod("p", "true", &[("/containers/0/image", json!(image))]));
    let told = async |kind, object: Value| raw::warnings(&people.alice, kind, &own, &object).await;
    let deployment = serde_json::to_value(objects::deployment("d", "true", None))?;
    for (what, said, field) in [
        ("a pod", told(pods, pod("foreign.example/x")?).await?, Some("spec.containers[0].image is \"foreign.example/x\"")),
        ("a Deployment", told(deployments, deployment).await?, Some("spec.template.spec.containers[0].image is")),
        ("a pod as it may be", told(pods, pod("registry.example/x")?).await?, None),
    ] {
        let fits = match field {
            Some(field) => said.iter().any(|one| one.contains(field) && is_explained(one)),
            None => said.is_empty(),
        };
        ensure!(fits, "{what}: {said:?}");
    }
    // One that only records admits the same and says nothing.
    let rules = json!({"images": {"registries": ["registry.example/*"]}, "enforcementMode": "Audit"});
    let silent = home(&people, "recorded", rules).await?;
    let said = raw::warnings(&people.alice, pods, &silent, &pod("foreign.example/x")?).await?;
    ensure!(said.is_empty(), "a Tenant that only records: {said:?}");
    for name in ["warned", "recorded"] {
        api(&people.platform, TENANT, None).delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

/// The webhook's pods, each with how often it was started again.
async fn replicas(platform: &Client) -> anyhow::Result<Vec<(String, i32)>> {
    let pods: Api<Pod> = Api::namespaced(platform.clone(), "freehold-system");
    let all = pods.list(&ListParams::default().labels("app.kubernetes.io/name=freehold-webhook")).await?.items;
    let restarts = |pod: &Pod| {
        pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten()).map(|one| one.restart_count).sum()
    };
    Ok(all.into_iter().map(|pod| (pod.metadata.name.clone().unwrap_or_default(), restarts(&pod))).collect())
}

/// The most memory that a process of the webhook ever held and may hold, in KiB.
async fn memory(platform: &Client) -> anyhow::Result<(u64, u64)> {
    let deployments: Api<Deployment> = Api::namespaced(platform.clone(), "freehold-system");
    let deployment = serde_json::to_value(deployments.get("freehold-webhook").await?)?;
    let limit = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"];
    let limit: u64 = limit
        .as_str()
        .and_then(|limit| limit.strip_suffix("Mi")?.parse().ok())
        .with_context(|| format!("{limit} is not in Mi"))?;
    let said = node::sh(
        "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in */freehold-webhook\\ *) sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\) kB/\\1/p' $p/status;; esac; done; true",
    )?;
    let most = said.lines().filter_map(|line| line.trim().parse::<u64>().ok()).max();
    Ok((most.with_context(|| format!("no process of the webhook: {said}"))?, limit * 1024))
}

/// Row G5: answered in the end, whatever it is, and nothing dies of it.
#[tokio::test]
async fn hostile_input_is_answered_and_nothing_dies_of_it() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let mut tried = Tried::from_environment();
    let own = home(&people, "inputs", json!({})).await?;
    let before = replicas(&people.platform).await?;
    ensure!(!before.is_empty(), "there is no webhook");

    // To the webhook's own route, which the API server fills with nothing like that.
    let mut long = br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "padding": ""#.to_vec();
    long.resize(MAX_REVIEW + 1, b'x');
    for (what, body) in [
        ("longer than a review may be", long.clone()),
        ("of many times that", long.repeat(8)),
        ("deeply nested", b"[".repeat(MAX_REVIEW)),
        ("no JSON", b"{".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let reply = raw::post(&people.platform, MUTATE, body).await?;
        tried.expect("G5", what, reply.status >= 400, &format!("{reply:?}"));
    }
    // The answer is lost where the connection breaks under what is still being sent.
    wait::until("the webhook to say that a review is too long", SOON, || async {
        let reply = raw::post(&people.platform, MUTATE, long.clone()).await?;
        ensure!(reply.body.contains("the review is longer than"), "{reply:?}");
        Ok(())
    })
    .await?;

    // To the API server, as a tenant.
    let path = format!("/api/v1/namespaces/{own}/pods?dryRun=All");
    let pod = |more: &str| {
        let spec =
            r#""runtimeClassName": "freehold-microvm", "containers": [{"name": "main", "image": "freehold.dev/test:dev"}]"#;
        format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "p"}}, "spec": {{{spec}{more}}}}}"#)
    };
    let container = |n: usize| json!({"name": format!("c{n}"), "image": "freehold.dev/test:dev", "securityContext": {"privileged": n + 1 == CONTAINERS}});
    let containers: Vec<_> = (0..CONTAINERS).map(container).collect();
    let vast = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"runtimeClassName": "freehold-microvm", "containers": containers}});
    let outcome = async |body: String| {
        let reply = raw::post(&people.alice, &path, body).await?;
        let on_node = serde_json::from_str::<Value>(&reply.body).is_ok_and(|pod| pod["spec"]["hostNetwork"] == json!(true));
        anyhow::Ok((reply.status, on_node, reply.body.chars().take(300).collect::<String>()))
    };
    for (what, body) in [
        ("a pod of very many containers, the last of them privileged", vast.to_string()),
        ("a field that comes twice, hostile at last", pod(r#", "hostNetwork": false, "hostNetwork": true"#)),
        ("a whole spec that comes twice", pod(r#"}, "spec": {"hostNetwork": true, "containers": [{"name": "a", "image": "b"}]"#)),
    ] {
        let (status, _, said) = outcome(body).await?;
        tried.expect("G5", what, (400..500).contains(&status), &format!("{status}: {said}"));
    }
    // Whichever of the two the API server takes, what it stores is what was judged.
    let (status, on_node, said) = outcome(pod(r#", "hostNetwork": true, "hostNetwork": false"#)).await?;
    tried.expect("G5", "a field that comes twice, hostile at first", status >= 400 || !on_node, &format!("{status}: {said}"));
    let pods: Api<Pod> = Api::namespaced(people.alice.clone(), &own);
    tried.attack(
        "G5",
        "a pod on the node after all that",
        &Answer::of(pods.create(&dry(), &objects::pod("p", "true", &[("/hostNetwork", json!(true))])).await)?,
    );
    let unnamed = objects::pod("p", "true", &[("/runtimeClassName", Value::Null)]);
    tried.control("G5", "a pod that the webhook completes", &Answer::of(pods.create(&dry(), &unnamed).await)?);

    let after = replicas(&people.platform).await?;
    tried.expect("G5", "no replica was started again", before == after, &format!("{before:?}, then {after:?}"));
    let (most, limit) = memory(&people.platform).await?;
    println!("the webhook held {most} KiB at most, and may hold {limit}");
    tried.expect("G5", "the webhook's memory", most < limit, &format!("{most} KiB of {limit}"));
    api(&people.platform, TENANT, None).delete("inputs", &DeleteParams::default()).await?;
    tried.judge()
}
