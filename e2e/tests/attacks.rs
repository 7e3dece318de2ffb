//! The one table of cases (`policy/cases`) on a real API server, as the tenant's own user.
//!
//! Each Boundary of the table is a Tenant here, which the operator resolves. Every case is sent by create and by server-side apply, or
//! as a patch of an object that is there, dry-run: admission judges it and nothing stays. `FREEHOLD_WEBHOOK=1` says that the webhook
//! answers; without it the floor must refuse alone. `FREEHOLD_KEEP=1` leaves the Tenants for a run in the next state, in which no operator may be there to
//! make them.
#![cfg(feature = "live")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{self, api};
use freehold_e2e::tried::{is_explained, is_uncalled, webhook_answers};
use freehold_e2e::{Answer, Layer, People, objects, raw, wait};
use freehold_policy::cases::{self, Case, Live, NAMESPACE, Preset, TENANT};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// The operator has this long to guard a fresh namespace.
const GUARDED: Duration = Duration::from_secs(30);
/// Cases at once: a webhook that hangs is waited for in each.
const AT_ONCE: usize = 8;
/// Longest wait for the Tenants to go.
const GONE: Duration = Duration::from_secs(90);
/// A role that the platform team gave to alice, wider than `admin`: what the floor refuses must not hang on RBAC alone.
const WIDE: &str = "cases-wide";
/// The same across the cluster, for objects that are the cluster's.
const ACROSS: &str = "cases-across";
/// Containers of the largest pod that is promised to fit the API server's cost limit.
const MANY_CONTAINERS: usize = 100;
/// Kinds that nobody writes while the webhook is away: it alone judges them.
const NEVER_WITHOUT_WEBHOOK: &[&str] = &["networkpolicies"];

fn tenants(client: &Client) -> Api<DynamicObject> {
    api(client, live::TENANT, None)
}

/// What [`WIDE`] and the cases name must be there; it may be there from another test.
async fn prepared(people: &People) -> anyhow::Result<()> {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "tenant-normal"}, "value": 10});
    let everything = json!(["create", "get", "update", "patch", "delete"]);
    let rule = |group: &str, resources: Value| json!({"apiGroups": [group], "resources": resources, "verbs": everything});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": WIDE},
        "rules": [
            rule("", json!(["pods/ephemeralcontainers", "pods/resize", "pods/binding", "pods/status", "bindings", "services/status", "endpoints", "serviceaccounts/token", "resourcequotas"])),
            rule("discovery.k8s.io", json!(["endpointslices"])),
            rule("resource.k8s.io", json!(["resourceclaims", "resourceclaimtemplates"])),
            rule("cases.example", json!(["deputies"])),
            rule("gateway.networking.k8s.io", json!(["gateways", "httproutes", "referencegrants"])),
        ],
    });
    let across = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ACROSS},
        "rules": [
            rule("rbac.authorization.k8s.io", json!(["clusterroles", "clusterrolebindings"])),
            rule("certificates.k8s.io", json!(["certificatesigningrequests"])),
            rule("", json!(["persistentvolumes"])),
            rule("freehold.dev", json!(["tenants"])),
        ],
    });
    let grant = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACROSS},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACROSS},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    let deputies = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "deputies.cases.example"},
        "spec": {
            "group": "cases.example", "scope": "Namespaced", "names": {"kind": "Deputy", "plural": "deputies", "singular": "deputy"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object"}}}}}],
        },
    });
    // As the Gateway API has them, but for the schema: what is tried is admission, and the cluster may have the real ones.
    let gateway_kind = |kind: &str, version: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.gateway.networking.k8s.io"), "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"}},
            "spec": {
                "group": "gateway.networking.k8s.io", "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
            },
        })
    };
    let all = [
        (gateway_kind("Gateway", "v1"), "customresourcedefinitions"),
        (gateway_kind("HTTPRoute", "v1"), "customresourcedefinitions"),
        (gateway_kind("ReferenceGrant", "v1beta1"), "customresourcedefinitions"),
        (class, "priorityclasses"),
        (role, "clusterroles"),
        (across, "clusterroles"),
        (grant, "clusterrolebindings"),
        (deputies, "customresourcedefinitions"),
    ];
    for (object, plural) in all {
        let (version, kind) = (object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default());
        let made = api(&people.platform, [version, kind, plural], None)
            .create(&PostParams::default(), &serde_json::from_value(object.clone())?)
            .await;
        ensure!(made.is_ok() || matches!(&made, Err(kube::Error::Api(status)) if status.code == 409), "{made:?}");
    }
    for (version, kind, plural) in [
        ("cases.example/v1", "Deputy", "deputies"),
        ("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "referencegrants"),
    ] {
        let served = api(&people.platform, [version, kind, plural], None);
        wait::until(&format!("{kind} of the cases to be served"), GUARDED, || async {
            Ok(served.list(&ListParams::default()).await?)
        })
        .await?;
    }
    Ok(())
}

/// Whether Tenants of the cases stay for the next state.
fn kept() -> bool {
    std::env::var("FREEHOLD_KEEP").is_ok_and(|value| value == "1")
}

/// Makes a Tenant of alice's and a namespace of it, and waits until the Boundary is there.
async fn guarded(people: &People, tenant: &str, spec: &Value) -> anyhow::Result<String> {
    if kept() && tenants(&people.platform).get_opt(tenant).await?.is_some() {
        return Ok(format!("{tenant}-dev"));
    }
    let mut document = json!({
        "apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": tenant},
        "spec": {"owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete"},
    });
    // A cordoned tenant gets no namespaces: it is cordoned once it has one.
    let state = json!({"spec": {"state": spec["state"]}});
    for (key, value) in spec.as_object().into_iter().flatten().filter(|(key, _)| *key != "state") {
        document["spec"][key] = value.clone();
    }
    tenants(&people.platform)
        .create(&PostParams::default(), &serde_json::from_value(document)?)
        .await
        .with_context(|| format!("Tenant {tenant}"))?;
    let (namespaces, name): (Api<Namespace>, _) = (Api::all(people.alice.clone()), format!("{tenant}-dev"));
    wait::until(&format!("alice to be let in as owner of {tenant}"), GUARDED, || async {
        let answer = Answer::of(namespaces.create(&PostParams::default(), &objects::namespace(&name, Some(tenant))).await)?;
        ensure!(answer == Answer::Admitted, "{answer}");
        Ok(())
    })
    .await?;
    let boundaries: Api<freehold_crds::Boundary> = Api::namespaced(people.alice.clone(), &name);
    wait::until(&format!("the Boundary of {name}"), GUARDED, || async { Ok(boundaries.get("boundary").await?) }).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": WIDE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": WIDE},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    let bindings = api(&people.platform, live::BINDING, Some(&name));
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    if !state["spec"]["state"].is_null() {
        tenants(&people.platform).patch(tenant, &PatchParams::default(), &Patch::Merge(&state)).await?;
        wait::until(&format!("{name} to be {}", state["spec"]["state"]), GUARDED, || async {
            let found = serde_json::to_value(boundaries.get("boundary").await?.spec.state)?;
            ensure!(found == state["spec"]["state"], "{found}");
            Ok(())
        })
        .await?;
    }
    Ok(name)
}

/// The case's objects say `team-a`; here the tenant has another name.
fn renamed(object: &Value, tenant: &str) -> Value {
    let text = object
        .to_string()
        .replace(NAMESPACE, &format!("{tenant}-dev"))
        .replace(&format!("\"{TENANT}\""), &format!("\"{tenant}\""));
    serde_json::from_str(&text).expect("JSON stays JSON")
}

/// The answers to a case, by the way in which it was sent.
async fn sent(people: &People, case: &Case, tenant: &str, number: usize) -> anyhow::Result<Vec<(&'static str, Answer)>> {
    let kind = &case.resource;
    let namespace = format!("{tenant}-dev");
    let namespace = (!kind.cluster).then_some(namespace.as_str());
    let on = |client: &Client| api(client, [&kind.api_version, &kind.kind, &kind.plural], namespace);
    let own = on(&people.alice);
    let object = renamed(&case.object, tenant);
    let Some(old) = &case.old else {
        let (name, typed): (_, DynamicObject) =
            (object["metadata"]["name"].as_str().unwrap_or_default().to_owned(), serde_json::from_value(object.clone())?);
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let created = Answer::of(own.create(&dry, &typed).await)?;
        let apply = PatchParams { dry_run: true, force: true, ..PatchParams::apply("attacks") };
        return Ok(match own.patch(&name, &apply, &Patch::Apply(&object)).await {
            // Some kinds can only be created, and have no path of their own.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => vec![("create", created)],
            applied => vec![("create", created), ("apply", Answer::of(applied)?)],
        });
    };
    // What is there is real; the change is not.
    let mut old = renamed(old, tenant);
    let change = json_patch::diff(&old, &object);
    let name = format!("old-{number}");
    old["metadata"]["name"] = json!(name);
    own.create(&PostParams::default(), &serde_json::from_value(old)?).await.context("the object to be changed")?;
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    // The client has another version of the same crate.
    let patch: Patch<()> = Patch::Json(serde_json::from_value(serde_json::to_value(change)?)?);
    let outcome = match &case.subresource {
        Some(subresource) => own.patch_subresource(subresource, &name, &dry, &patch).await,
        None => own.patch(&name, &dry, &patch).await,
    };
    let answer = Answer::of(outcome);
    own.delete(&name, &DeleteParams::default().grace_period(0)).await?;
    Ok(vec![("patch", answer?)])
}

/// What is wrong with the answer to an object that nobody is there to judge: it must not be taken. None if nothing.
async fn unjudged(people: &People, case: &Case, tenant: &str) -> anyhow::Result<Option<String>> {
    let (kind, namespace) = (&case.resource, format!("{tenant}-dev"));
    let own = api(&people.alice, [&kind.api_version, &kind.kind, &kind.plural], Some(&namespace));
    let object: DynamicObject = serde_json::from_value(renamed(&case.object, tenant))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    Ok(match own.create(&dry, &object).await {
        Err(kube::Error::Api(status)) if is_uncalled(&status.message) => None,
        outcome => Some(format!("is answered though nobody judges it: {outcome:?}")),
    })
}

/// Whether somebody must refuse it, in this state.
fn is_refused(case: &Case, webhook: bool) -> bool {
    !case.refused.is_empty() && (case.floor || webhook) && !(case.completed && webhook)
}

/// What is wrong with the answer; None if nothing.
fn fault(case: &Case, answer: &Answer, webhook: bool) -> Option<String> {
    let expect_refusal = is_refused(case, webhook);
    match answer {
        Answer::Admitted if expect_refusal => Some("is admitted".to_owned()),
        Answer::Admitted => None,
        Answer::Refused { .. } if !expect_refusal => Some(format!("is {answer}")),
        Answer::Refused { message, .. } if is_uncalled(message) => Some(format!("is judged by nobody: {message}")),
        Answer::Refused { layer: Layer::Rbac, message } => Some(format!("is refused by RBAC and so tries nothing: {message}")),
        // The API server's own validation of what this subresource or object may hold at all.
        Answer::Refused { layer: Layer::Other, .. } if case.live != Live::Server && case.subresource.is_none() => {
            Some(format!("is refused by none of ours: {answer}"))
        }
        Answer::Refused { message, .. } if message.contains("bob") || message.contains("team-b") => {
            Some(format!("names others: {message}"))
        }
        Answer::Refused { layer: Layer::Webhook, message } => unexplained(case, message),
        Answer::Refused { layer: Layer::AdmissionPolicy, message } if webhook && case.rules && !case.resource.cluster => {
            Some(format!("is refused before the webhook explains it: {message}"))
        }
        Answer::Refused { layer: Layer::AdmissionPolicy, message }
            if !["rule '", "rules '"].iter().any(|word| message.contains(word)) =>
        {
            Some(format!("is told no rule: {message}"))
        }
        Answer::Refused { .. } => None,
    }
}

/// What the webhook's refusal does not say of a case: each field, and for each a rule and what is allowed.
fn unexplained(case: &Case, message: &str) -> Option<String> {
    let missing: Vec<_> = case.refused.iter().filter(|field| !message.contains(&format!("{field} is "))).collect();
    (!missing.is_empty() || !is_explained(message)).then(|| format!("is told nothing of {missing:?}: {message}"))
}

/// Whether a Tenant's mode tells nothing to who sends an object.
fn is_silent(case: &Case) -> bool {
    cases::presets().iter().any(|preset| preset.name == case.boundary && preset.tenant["enforcementMode"] == json!("Audit"))
}

/// What is wrong with the warnings beside an object that is admitted although rules stand against it; None if nothing.
async fn unwarned(people: &People, case: &Case, tenant: &str) -> anyhow::Result<Option<String>> {
    let (kind, namespace) = (&case.resource, format!("{tenant}-dev"));
    let kind = [kind.api_version.as_str(), &kind.kind, &kind.plural];
    let said = raw::warnings(&people.alice, kind, &namespace, &renamed(&case.object, tenant)).await?;
    let missing =
        case.observed.iter().find(|field| !said.iter().any(|one| one.contains(&format!("{field} is ")) && is_explained(one)));
    Ok(missing.map(|field| format!("is warned of nothing in {field}: {said:?}")))
}

/// What is wrong with the answers to a case, and how many there were.
async fn judged(people: &People, number: usize, case: &Case, webhook: bool) -> (usize, Vec<String>) {
    let tenant = format!("cases-{}", case.boundary);
    let what = format!("{} {} ({}, {})", case.row, case.name, case.resource.kind, case.boundary);
    let found = async {
        if !webhook && NEVER_WITHOUT_WEBHOOK.contains(&case.resource.plural.as_str()) {
            return anyhow::Ok((1, Vec::from_iter(unjudged(people, case, &tenant).await?)));
        }
        let answers = sent(people, case, &tenant, number).await?;
        let fault = |(way, answer): &(&str, Answer)| Some(format!("by {way} {}", fault(case, answer, webhook)?));
        let mut faults: Vec<_> = answers.iter().filter_map(fault).collect();
        if webhook && !case.observed.is_empty() && case.old.is_none() && !is_refused(case, webhook) && !is_silent(case) {
            faults.extend(unwarned(people, case, &tenant).await?);
        }
        anyhow::Ok((answers.len(), faults))
    };
    match found.await {
        Ok((tried, faults)) => (tried, faults.into_iter().map(|fault| format!("{what} {fault}")).collect()),
        Err(error) => (0, vec![format!("{what}: {error:#}")]),
    }
}

#[tokio::test]
async fn the_table_of_cases_holds() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let webhook = webhook_answers();
    prepared(&people).await?;
    let presets: Vec<_> = cases::presets().into_iter().filter(|preset| !preset.tenant.is_null()).collect();
    let tenant_of = |preset: &Preset| format!("cases-{}", preset.name);
    for preset in &presets {
        guarded(&people, &tenant_of(preset), &preset.tenant).await?;
    }
    let all = cases::all();
    let live = all.iter().enumerate().filter(|(_, case)| case.live != Live::No && case.user.is_none());
    let answered = live.map(|(number, case)| judged(&people, number, case, webhook));
    let (tried, wrong): (Vec<usize>, Vec<Vec<String>>) = futures::stream::iter(answered).buffered(AT_ONCE).unzip().await;
    let (tried, wrong): (usize, Vec<_>) = (tried.iter().sum(), wrong.concat());
    println!("{tried} requests for {} cases, webhook: {webhook}", all.len());
    ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    if kept() {
        return Ok(());
    }
    gone(&people, &presets.iter().map(tenant_of).collect::<Vec<_>>()).await
}

/// Deletes Tenants with their namespaces and waits until they are gone, so that this can be run again.
async fn gone(people: &People, names: &[String]) -> anyhow::Result<()> {
    let all = tenants(&people.platform);
    for name in names {
        all.delete(name, &DeleteParams::default()).await?;
    }
    wait::until("the Tenants of the cases to go", GONE, || async {
        for name in names {
            ensure!(all.get_opt(name).await?.is_none(), "Tenant {name} is still there");
        }
        Ok(())
    })
    .await
}

/// What a Tenant declares is made and labelled, and goes again although a controller's finalizer holds a pod.
#[tokio::test]
async fn declared_namespaces_come_and_finalizers_leave_with_them() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let (tenant, name) = ("cases-declared", "cases-declared-prod");
    let spec = json!({
        "owners": [{"kind": "User", "name": "alice"}], "deletionPolicy": "Delete",
        "namespaces": {"declared": [{"name": name, "labels": {"env": "prod"}}], "labels": {"managed": {"team": "pay"}}},
    });
    let document = json!({"apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": tenant}, "spec": spec});
    tenants(&people.platform).create(&PostParams::default(), &serde_json::from_value(document)?).await?;
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    let boundaries: Api<freehold_crds::Boundary> = Api::namespaced(people.platform.clone(), name);
    wait::until("the declared namespace and its Boundary", GUARDED, || async { Ok(boundaries.get("boundary").await?) }).await?;
    let labels = namespaces.get(name).await?.metadata.labels.unwrap_or_default();
    ensure!(
        labels.get("env").is_some_and(|env| env == "prod") && labels.get("team").is_some_and(|team| team == "pay"),
        "{labels:?}"
    );

    let pods = |client: &Client| api(client, ["v1", "Pod", "pods"], Some(name));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "held", "finalizers": ["example.com/hold"]},
        "spec": {"runtimeClassName": "freehold-microvm", "nodeSelector": {"no": "node"}, "containers": [{"name": "main", "image": "freehold.dev/test:dev"}]},
    });
    pods(&people.alice).create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    tenants(&people.platform).delete(tenant, &DeleteParams::default()).await?;
    // Since 1.33 the rest of a namespace waits for its pods, before that the Boundary may be gone by now: both must let go.
    wait::until("the held pod to be deleted", GONE, || async {
        ensure!(pods(&people.platform).get("held").await?.metadata.deletion_timestamp.is_some(), "it is not being deleted");
        Ok(())
    })
    .await?;
    let release: Patch<Value> = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let answer = Answer::of(pods(&people.platform).patch("held", &PatchParams::default(), &release).await)?;
    ensure!(answer == Answer::Admitted, "a controller takes its finalizer away: {answer}");
    let all = tenants(&people.platform);
    wait::until("the Tenant to go", GONE, || async {
        ensure!(all.get_opt(tenant).await?.is_none(), "the Tenant is still there");
        Ok(())
    })
    .await
}

/// The largest pod against the longest lists stays below the cost that the API server allows to policies.
#[tokio::test]
async fn the_largest_pod_is_judged_within_the_cost_limit() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let long = |number: usize, end: &str| format!("{}-{number}.example/{end}", "r".repeat(180));
    let lists = |count: usize, end: &str| (0..count).map(|number| long(number, end)).collect::<Vec<_>>();
    let mut registries = lists(31, "*");
    registries.push("freehold.dev/*".to_owned());
    let tags: Vec<_> = (0..16).map(|number| format!("{}-{number}*", "t".repeat(120))).collect();
    let rules: Vec<_> = (0..15)
        .map(|n| json!({"key": format!("key-{n}"), "operator": "Exists"}))
        .chain([json!({"key": "last", "operator": "Exists"})])
        .collect();
    let resources: Vec<_> =
        (0..15).map(|n| format!("vendor-{n}.example/{}", "x".repeat(40))).chain(["last.example/*".to_owned()]).collect();
    let spec = json!({
        "images": {"registries": registries, "pullPolicies": ["Always", "IfNotPresent", "Never"], "tags": {"forbidden": tags}}, "podSecurity": {"level": "Restricted"},
        "nodes": {"tolerations": rules}, "qosClasses": ["Guaranteed"], "devices": {"extendedResources": resources}, "api": {"tokenAudiences": lists(16, "a")},
    });
    prepared(&people).await?;
    let namespace = guarded(&people, "cases-full", &spec).await?;
    let container = |number: usize| {
        json!({
            "name": format!("c{number}"), "image": format!("freehold.dev/{}:1", "a".repeat(200)),
            "resources": {"limits": {"cpu": "1m", "memory": "1Mi", "last.example/device": "1"}, "requests": {"cpu": "1m", "memory": "1Mi"}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "livenessProbe": {"httpGet": {"port": 1}}, "ports": [{"containerPort": 80}],
        })
    };
    let tolerations: Vec<_> = (0..16).map(|_| json!({"key": "last", "operator": "Exists"})).collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "large"},
        "spec": {
            "runtimeClassName": "freehold-microvm", "tolerations": tolerations,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": (0..MANY_CONTAINERS).map(container).collect::<Vec<_>>(),
        },
    });
    let pods = api(&people.alice, ["v1", "Pod", "pods"], Some(&namespace));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let answer = Answer::of(pods.create(&dry, &serde_json::from_value(pod)?).await)?;
    ensure!(answer == Answer::Admitted, "a pod of {MANY_CONTAINERS} containers: {answer}");
    gone(&people, &["cases-full".to_owned()]).await
}

/// The API server compiles a policy's expressions when it is written and says where types can't be right.
#[tokio::test]
async fn no_policy_has_a_type_warning() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let kind = ["admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"];
    let policies = api(&people.platform, kind, None);
    let found = wait::until("the policies' types to be checked", GUARDED, || async {
        let found = policies.list(&ListParams::default()).await?.items;
        for policy in &found {
            ensure!(
                policy.data["status"]["observedGeneration"] == json!(policy.metadata.generation),
                "{:?} is not checked",
                policy.metadata.name
            );
        }
        Ok(found)
    })
    .await?;
    let warnings: Vec<_> = found
        .iter()
        .filter(|policy| {
            policy.data["status"]["typeChecking"]["expressionWarnings"].as_array().is_some_and(|list| !list.is_empty())
        })
        .map(|policy| format!("{:?}: {}", policy.metadata.name, policy.data["status"]["typeChecking"]))
        .collect();
    ensure!(warnings.is_empty(), "{}", warnings.join("\n"));
    Ok(())
}
