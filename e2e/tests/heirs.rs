//! Who counts: a Tenant that is made anew under its name, programs whose namespace nobody can vouch for, and a guard that is refused.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{
    BINDING, BOUNDARY, CLUSTER_BINDING, POLICY, SOON, TENANT, api, event, marked, namespace, sees, spec, tenant,
};
use freehold_e2e::{Answer, People, objects, people, wait};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

/// Waits until the Tenant's condition of this type has this status and reason.
async fn says(platform: &Client, name: &str, type_: &str, expected: (&str, &str)) -> anyhow::Result<()> {
    let tenants = api(platform, TENANT, None);
    wait::until(&format!("{name} to say {type_} {expected:?}"), SOON, || async {
        let found = tenants.get(name).await?;
        let conditions = found.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = conditions.iter().find(|one| one["type"] == *type_).cloned().unwrap_or_default();
        ensure!((one["status"].as_str(), one["reason"].as_str()) == (Some(expected.0), Some(expected.1)), "{conditions:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_tenant_made_anew_gets_what_was_there_only_when_told() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let (tenants, of) = (api(&platform, TENANT, None), |kind| api(&platform, kind, Some("heir-dev")));
    tenant(&platform, "heir", spec("")).await?;
    namespace(&platform, "heir-dev", "heir").await?;
    sees(&of(BOUNDARY), "boundary", "/spec/state", json!("Active")).await?;
    let first = tenants.get("heir").await?.uid().unwrap_or_default();
    tenants.delete("heir", &DeleteParams::default()).await?;
    sees(&tenants, "heir", "/metadata/name", Value::Null).await?;

    let of_eve = |rest: Value| {
        let mut spec = json!({"owners": [{"kind": "User", "name": "eve"}]});
        json_patch::merge(&mut spec, &rest);
        spec
    };
    tenant(&platform, "heir", of_eve(json!({}))).await?;
    says(&platform, "heir", "Stalled", ("True", "UIDChanged")).await?;
    says(&platform, "heir", "Ready", ("False", "UIDChanged")).await?;
    event(&platform, "heir", "UIDChanged").await?;
    let second = tenants.get("heir").await?.uid().unwrap_or_default();
    // What was there is as it was, and nobody new has rights in it.
    let bindings = of(BINDING).list(&ListParams::default()).await?.items;
    ensure!(!bindings.is_empty(), "the first Tenant's bindings are gone");
    ensure!(bindings.iter().all(|one| one.data["subjects"][0]["name"] == "carol"), "{:?}", bindings);
    sees(&of(BOUNDARY), "boundary", "/spec/tenant/uid", json!(first)).await?;
    // A namespace of its own the new one gets at once.
    namespace(&platform, "heir-new", "heir").await?;
    sees(&api(&platform, BINDING, Some("heir-new")), "freehold-owner-admin", "/subjects/0/name", json!("eve")).await?;

    tenant(&platform, "heir", of_eve(json!({"replacesUID": first}))).await?;
    sees(&of(BINDING), "freehold-owner-admin", "/subjects/0/name", json!("eve")).await?;
    sees(&of(BOUNDARY), "boundary", "/spec/tenant/uid", json!(second)).await?;
    says(&platform, "heir", "Ready", ("True", "Enforced")).await?;
    says(&platform, "heir", "Stalled", ("False", "Free")).await
}

#[tokio::test]
async fn programs_count_where_their_namespace_is_the_platforms_or_ones_own() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let namespaces: Api<Namespace> = Api::all(platform.clone());
    let owners = api(&platform, CLUSTER_BINDING, None);
    let program = json!({"kind": "ServiceAccount", "name": "vouched-builder", "namespace": "vouched-ci"});
    let is_marked = |expected| marked(&platform, "freehold-owners-", "vouched-builder", expected);
    tenant(&platform, "vouched", json!({"owners": [{"kind": "User", "name": "carol"}, program]})).await?;
    says(&platform, "vouched", "Ready", ("False", "ServiceAccountsWithheld")).await?;
    sees(&owners, "freehold-tenant-vouched", "/subjects/1", Value::Null).await?;
    is_marked(false).await?;
    // As the platform's it is heeded, as another tenant's no more.
    namespaces.create(&PostParams::default(), &objects::namespace("vouched-ci", None)).await?;
    sees(&owners, "freehold-tenant-vouched", "/subjects/1/namespace", json!("vouched-ci")).await?;
    is_marked(true).await?;
    says(&platform, "vouched", "Ready", ("True", "Enforced")).await?;
    tenant(&platform, "voucher", spec("")).await?;
    let taken = json!({"metadata": {"labels": {"freehold.dev/tenant": "voucher"}}});
    namespaces.patch("vouched-ci", &Default::default(), &kube::api::Patch::Merge(taken)).await?;
    sees(&owners, "freehold-tenant-vouched", "/subjects/1", Value::Null).await?;
    is_marked(false).await?;
    says(&platform, "vouched", "Ready", ("False", "ServiceAccountsWithheld")).await
}

#[tokio::test]
async fn a_host_is_that_of_the_older_tenant() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let hosts = |hosts: Value| json!({"owners": [{"kind": "User", "name": "carol"}], "ingress": {"hosts": hosts}, "deletionPolicy": "Delete"});
    let of = |namespace: &'static str| api(&platform, BOUNDARY, Some(namespace));
    // The names decide where both were made within one second.
    tenant(&platform, "served-a", hosts(json!(["*.served.example"]))).await?;
    tenant(&platform, "served-b", hosts(json!(["api.served.example", "own.example"]))).await?;
    namespace(&platform, "served-b-dev", "served-b").await?;
    sees(&of("served-b-dev"), "boundary", "/spec/ingress/hosts", json!(["own.example"])).await?;
    says(&platform, "served-b", "Ready", ("False", "HostsTaken")).await?;
    let said = api(&platform, TENANT, None).get("served-b").await?.data.to_string();
    ensure!(!said.contains("served-a"), "the status names another tenant: {said}");
    // Once the older one has it no more, it is free.
    tenant(&platform, "served-a", hosts(json!([]))).await?;
    sees(&of("served-b-dev"), "boundary", "/spec/ingress/hosts", json!(["api.served.example", "own.example"])).await?;
    says(&platform, "served-b", "Ready", ("True", "Enforced")).await?;
    for name in ["served-a", "served-b"] {
        api(&platform, TENANT, None).delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_a_guard_is_refused_nothing_new_comes() -> anyhow::Result<()> {
    let (people, operator) = (People::from_environment().await?, people::client("FREEHOLD_KUBECONFIG_OPERATOR").await?);
    let platform = people.platform;
    let of = |kind, namespace: &'static str| api(&platform, kind, Some(namespace));
    tenant(&platform, "hindered", json!({"owners": [{"kind": "User", "name": "alice"}]})).await?;
    namespace(&platform, "hindered-old", "hindered").await?;
    sees(&of(BOUNDARY, "hindered-old"), "boundary", "/spec/state", json!("Active")).await?;
    says(&platform, "hindered", "Ready", ("True", "Enforced")).await?;

    // Somebody's policy refuses NetworkPolicies.
    let (policies, bindings) = (
        api(&platform, ["admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"], None),
        api(
            &platform,
            ["admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"],
            None,
        ),
    );
    let create = async |api: &Api<kube::api::DynamicObject>, document: Value| {
        anyhow::Ok(api.create(&PostParams::default(), &serde_json::from_value(document)?).await?)
    };
    let refuses = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "e2e-refuses"},
        "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["networkpolicies"]}]},
            "validations": [{"expression": "!request.namespace.startsWith('hindered-')", "message": "none here"}],
        },
    });
    create(&policies, refuses).await?;
    let bound = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "e2e-refuses"},
        "spec": {"policyName": "e2e-refuses", "validationActions": ["Deny"]},
    });
    create(&bindings, bound).await?;
    let probe = json!({
        "apiVersion": POLICY[0], "kind": POLICY[1], "metadata": {"name": "probe"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    wait::until("the refusing policy to be in force", SOON, || async {
        let answer = Answer::of(of(POLICY, "hindered-old").create(&dry, &serde_json::from_value(probe.clone())?).await)?;
        ensure!(answer != Answer::Admitted, "{answer}");
        Ok(())
    })
    .await?;

    // A fresh namespace stays closed; one that was guarded takes nothing new.
    namespace(&platform, "hindered-new", "hindered").await?;
    says(&platform, "hindered", "Ready", ("False", "ApplyFailed")).await?;
    sees(&of(BINDING, "hindered-new"), "freehold-owner-admin", "/subjects/0/name", json!("alice")).await?;
    ensure!(of(BOUNDARY, "hindered-new").get_opt("boundary").await?.is_none(), "a namespace without its guards has a Boundary");
    api(&operator, POLICY, Some("hindered-old")).delete("freehold-default-deny", &DeleteParams::default()).await?;
    sees(&of(BOUNDARY, "hindered-old"), "boundary", "/spec/state", json!("Closed")).await?;
    for namespace in ["hindered-new", "hindered-old"] {
        let pods: Api<Pod> = Api::namespaced(people.alice.clone(), namespace);
        let answer = Answer::of(pods.create(&dry, &objects::pod("new", "true", &[])).await)?;
        ensure!(answer.refused_by_floor(), "a pod in {namespace}, whose guards are not all there: {answer}");
    }

    bindings.delete("e2e-refuses", &DeleteParams::default()).await?;
    policies.delete("e2e-refuses", &DeleteParams::default()).await?;
    for namespace in ["hindered-new", "hindered-old"] {
        sees(&of(BOUNDARY, namespace), "boundary", "/spec/state", json!("Active")).await?;
        sees(&of(POLICY, namespace), "freehold-default-deny", "/metadata/name", json!("freehold-default-deny")).await?;
        let pods: Api<Pod> = Api::namespaced(people.alice.clone(), namespace);
        let answer = Answer::of(pods.create(&dry, &objects::pod("new", "true", &[])).await)?;
        ensure!(answer == Answer::Admitted, "a pod in {namespace}, whose guards are there again: {answer}");
    }
    says(&platform, "hindered", "Ready", ("True", "Enforced")).await
}
