//! Our own ServiceAccounts by real tokens: what a stolen token of the operator's must not reach although RBAC would let it.
//!
//! Every attempt stands beside what the operator does at work, which must be admitted; all are dry runs but the Tenant they need.
//! That the operator itself works under the same policies is what every other test here sees.
#![cfg(feature = "live")]

use anyhow::{Context as _, ensure};
use freehold_e2e::live::{BINDING, BOUNDARY, CLASS, CLUSTER_BINDING, CLUSTER_ROLE, TENANT, api, namespace, sees, spec, tenant};
use freehold_e2e::{Answer, Layer, People, people};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

const NAMESPACE: [&str; 3] = ["v1", "Namespace", "namespaces"];
const NODE: [&str; 3] = ["v1", "Node", "nodes"];
const GROUP: &str = "rbac.authorization.k8s.io";

async fn create(client: &Client, kind: [&str; 3], namespace: Option<&str>, name: &str, body: Value) -> anyhow::Result<Answer> {
    let mut document = json!({"apiVersion": kind[0], "kind": kind[1], "metadata": {"name": name, "namespace": namespace}});
    json_patch::merge(&mut document, &body);
    let object: DynamicObject = serde_json::from_value(document)?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    Answer::of(api(client, kind, namespace).create(&dry, &object).await)
}

async fn change(api: &Api<DynamicObject>, name: &str, change: Value) -> anyhow::Result<Answer> {
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    Answer::of(api.patch(name, &dry, &Patch::Merge(change)).await)
}

fn binds(role: &str, subject: Value) -> Value {
    json!({"roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}, "subjects": [subject]})
}

/// Every answer is as expected, and a refusal is the floor's policies': RBAC alone would have let it through.
fn judge(answers: Vec<(&str, bool, Answer)>) -> anyhow::Result<()> {
    let fits = |admitted: bool, answer: &Answer| match answer {
        Answer::Admitted => admitted,
        Answer::Refused { layer, .. } => !admitted && *layer == Layer::AdmissionPolicy,
    };
    let wrong: Vec<_> = answers
        .iter()
        .filter(|(_, admitted, answer)| !fits(*admitted, answer))
        .map(|(what, admitted, answer)| format!("{what}, expected admitted: {admitted}, is {answer}"))
        .collect();
    println!("{} requests", answers.len());
    ensure!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn a_stolen_token_of_the_operator_reaches_tenants_only() -> anyhow::Result<()> {
    let (platform, operator) =
        (People::from_environment().await?.platform, people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?);
    tenant(&platform, "robbed", spec("")).await?;
    namespace(&platform, "robbed-dev", "robbed").await?;
    sees(&api(&platform, BOUNDARY, Some("robbed-dev")), "boundary", "/spec/state", json!("Active")).await?;

    let carol = || json!({"kind": "User", "apiGroup": GROUP, "name": "carol"});
    let itself = || json!({"kind": "ServiceAccount", "name": "freehold-operator", "namespace": "freehold-system"});
    let everybody = json!({"kind": "Group", "apiGroup": GROUP, "name": "system:authenticated"});
    let grant = |name: &str, verbs: Value| json!({"rules": [{"apiGroups": ["freehold.dev"], "resources": ["tenants"], "resourceNames": [name], "verbs": verbs}]});
    let (across, roles, classes) = (Some(CLUSTER_BINDING), Some(CLUSTER_ROLE), Some(CLASS));
    let class = |handler: &str| json!({"metadata": {"labels": {"freehold.dev/sandbox-runtime": "x"}}, "handler": handler});
    let mut answers = Vec::new();
    for (what, admitted, kind, namespace, name, body) in [
        ("owners of a Tenant", true, across, None, "freehold-owners-x", binds("freehold-owner", carol())),
        ("admin of the cluster under our name", false, across, None, "freehold-owners-x", binds("admin", carol())),
        ("admin of the cluster", false, across, None, "more", binds("admin", itself())),
        ("itself as owner", false, across, None, "freehold-owners-x", binds("freehold-owner", itself())),
        ("everybody as owner", false, across, None, "freehold-owners-x", binds("freehold-owner", everybody)),
        ("the grant of a Tenant", true, roles, None, "freehold-tenant-x", grant("x", json!(["get", "own"]))),
        ("a grant on another Tenant", false, roles, None, "freehold-tenant-x", grant("robbed", json!(["get", "own"]))),
        ("a role of another name", false, roles, None, "freehold-owner-x", grant("x", json!(["get", "own"]))),
        (
            "a role on nodes",
            false,
            roles,
            None,
            "freehold-tenant-x",
            json!({"rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]}]}),
        ),
        ("a class of a SandboxRuntime", true, classes, None, "freehold-x", class("freehold-x")),
        ("a class with another handler", false, classes, None, "freehold-x", class("runc")),
        ("an owner's role", true, None, Some("robbed-dev"), "freehold-role-x", binds("edit", carol())),
        ("an owner's role for itself", false, None, Some("robbed-dev"), "freehold-role-x", binds("edit", itself())),
        ("a role under a free name", false, None, Some("robbed-dev"), "x", binds("edit", carol())),
        ("a role where the node agents live", false, None, Some("freehold-node"), "freehold-role-x", binds("admin", carol())),
        ("a role in our own namespace", false, None, Some("freehold-system"), "freehold-role-x", binds("admin", carol())),
        (
            "who owns a Tenant",
            true,
            None,
            Some("freehold-system"),
            "freehold-tenant-robbed",
            binds("freehold-tenant-robbed", carol()),
        ),
        (
            "who owns another Tenant",
            false,
            None,
            Some("freehold-system"),
            "freehold-tenant-x",
            binds("freehold-tenant-robbed", carol()),
        ),
        ("admin as who owns a Tenant", false, None, Some("freehold-system"), "freehold-tenant-x", binds("admin", carol())),
        (
            "itself as who owns a Tenant",
            false,
            None,
            Some("freehold-system"),
            "freehold-tenant-robbed",
            binds("freehold-tenant-robbed", itself()),
        ),
        ("a role in kube-system", false, None, Some("kube-system"), "freehold-role-x", binds("admin", carol())),
        ("a role in a namespace of no tenant", false, None, Some("default"), "freehold-role-x", binds("admin", carol())),
    ] {
        let kind = kind.unwrap_or(BINDING);
        answers.push((what, admitted, create(&operator, kind, namespace, name, body).await.context(what)?));
    }
    let labelled = json!({"metadata": {"labels": {"freehold.dev/tenant": "robbed"}}});
    answers.push(("a declared namespace", true, create(&operator, NAMESPACE, None, "robbed-more", labelled).await?));
    answers.push(("a namespace of no tenant", false, create(&operator, NAMESPACE, None, "loose", json!({})).await?));
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let namespaces = api(&operator, NAMESPACE, None);
    answers.push(("a tenant's namespace goes", true, Answer::of(namespaces.delete("robbed-dev", &dry).await)?));
    answers.push(("the node agents' namespace goes", false, Answer::of(namespaces.delete("freehold-node", &dry).await)?));
    let bindings = api(&operator, BINDING, Some("freehold-system"));
    answers.push(("its own rights go", false, Answer::of(bindings.delete("freehold-operator", &dry).await)?));

    let nodes = api(&operator, NODE, None);
    let node = nodes.list(&ListParams::default()).await?.items.first().context("there is no node")?.name_any();
    let proved = json!({"metadata": {"labels": {"freehold.dev.node-restriction.kubernetes.io/x": "ready"}}});
    for (what, admitted, patch) in [
        ("a node's proof", true, proved),
        ("a label of the scheduler's", false, json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})),
        ("a taint", false, json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})),
        ("an annotation of a node", false, json!({"metadata": {"annotations": {"x": "y"}}})),
    ] {
        answers.push((what, admitted, change(&nodes, &node, patch).await?));
    }
    let tenants = api(&operator, TENANT, None);
    let kept = json!({"metadata": {"finalizers": ["freehold.dev/tenant"]}});
    answers.push(("a Tenant's finalizer", true, change(&tenants, "robbed", kept).await?));
    let owned = json!({"spec": {"owners": [{"kind": "User", "name": "eve"}]}});
    answers.push(("another owner of a Tenant", false, change(&tenants, "robbed", owned).await?));
    judge(answers)
}
