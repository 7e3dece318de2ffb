//! TenantClasses on a real cluster: defaults and bounds reach the namespaces, and what is beyond is refused or said.
#![cfg(feature = "live")]

use anyhow::ensure;
use freehold_e2e::live::{BOUNDARY, QUOTA, SOON, TENANT, api, home, namespace, sees, tenant};
use freehold_e2e::{Answer, People, wait};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const TENANT_CLASS: [&str; 3] = ["freehold.dev/v1alpha1", "TenantClass", "tenantclasses"];

async fn class(platform: &Client, name: &str, default: bool, spec: Value) -> anyhow::Result<Api<DynamicObject>> {
    let annotations = if default { json!({"freehold.dev/is-default-class": "true"}) } else { json!({}) };
    let document = json!({
        "apiVersion": TENANT_CLASS[0], "kind": TENANT_CLASS[1], "metadata": {"name": name, "annotations": annotations}, "spec": spec,
    });
    let classes = api(platform, TENANT_CLASS, None);
    classes.patch(name, &PatchParams::apply("freehold-e2e").force(), &Patch::Apply(document)).await?;
    Ok(classes)
}

fn of(class: &str, rest: Value) -> Value {
    let mut spec = json!({"owners": [{"kind": "User", "name": "carol"}], "tenantClassName": class, "deletionPolicy": "Delete"});
    json_patch::merge(&mut spec, &rest);
    spec
}

#[tokio::test]
async fn a_tenant_has_what_its_class_gives_and_no_more() -> anyhow::Result<()> {
    let platform = People::from_environment().await?.platform;
    let (tenants, boundary) = (api(&platform, TENANT, None), api(&platform, BOUNDARY, Some("classy-dev")));
    let reason = "/status/conditions/0/reason";
    let quota = |pods: &str| json!({"quota": {"hard": {"pods": pods}}});

    // A class that is not there: nothing new is taken.
    tenant(&platform, "classy", of("e2e-small", quota("10"))).await?;
    namespace(&platform, "classy-dev", "classy").await?;
    sees(&tenants, "classy", reason, json!("ClassMissing")).await?;
    sees(&boundary, "boundary", "/spec/state", json!("Closed")).await?;

    let small = |pods: &str| {
        json!({
            "defaults": {"podSecurity": {"level": "Restricted"}, "namespaces": {"labels": {"managed": {"tenancy": "small"}}}},
            "bounds": {"quota": {"max": {"pods": pods, "secrets": "40"}}, "namespaces": {"max": 2}, "runtimes": {"allowed": ["microvm"]}},
        })
    };
    let classes = class(&platform, "e2e-small", false, small("10")).await?;
    sees(&boundary, "boundary", "/spec/state", json!("Active")).await?;
    sees(&boundary, "boundary", "/spec/pods/securityLevel", json!("Restricted")).await?;
    sees(&api(&platform, QUOTA, Some("classy-dev")), "freehold", "/spec/hard", json!({"pods": "5", "secrets": "20"})).await?;
    sees(&tenants, "classy", "/status/summary/class", json!("e2e-small")).await?;
    sees(&tenants, "classy", reason, json!("Enforced")).await?;
    let namespaces = api(&platform, ["v1", "Namespace", "namespaces"], None);
    sees(&namespaces, "classy-dev", "/metadata/labels/tenancy", json!("small")).await?;

    // What is beyond the class is refused where it is applied.
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    for (what, change) in [
        ("more pods", quota("11")),
        ("more namespaces", json!({"namespaces": {"max": 3}})),
        ("another runtime", json!({"runtimes": {"allowed": ["runc"]}})),
    ] {
        wait::until(&format!("{what} to be refused"), SOON, || async {
            let answer = Answer::of(tenants.patch("classy", &dry, &Patch::Merge(json!({"spec": change}))).await)?;
            ensure!(answer.says("bounds of the class"), "{answer}");
            Ok(())
        })
        .await?;
    }
    // A bound that is tightened: said and held, and the Tenant may still be changed elsewhere.
    class(&platform, "e2e-small", false, small("4")).await?;
    sees(&tenants, "classy", reason, json!("BeyondClass")).await?;
    sees(&api(&platform, QUOTA, Some("classy-dev")), "freehold", "/spec/hard/pods", json!("2")).await?;
    let elsewhere = Patch::Merge(json!({"spec": {"templateViolations": "Deny"}}));
    let answer = Answer::of(tenants.patch("classy", &dry, &elsewhere).await)?;
    ensure!(answer == Answer::Admitted, "a change elsewhere, of a Tenant that is beyond its class: {answer}");

    // The default class is that of Tenants which name none.
    let usual = json!({"defaults": {"csiDrivers": ["csi.usual.example"]}});
    class(&platform, "e2e-usual", true, usual).await?;
    let plain: Value = serde_json::from_str(r#"{"owners": [{"kind": "User", "name": "carol"}], "deletionPolicy": "Delete"}"#)?;
    tenant(&platform, "classless", plain).await?;
    namespace(&platform, "classless-dev", "classless").await?;
    let its = api(&platform, BOUNDARY, Some("classless-dev"));
    sees(&its, "boundary", "/spec/pods/csiDrivers", json!(["csi.usual.example"])).await?;
    classes.delete("e2e-usual", &DeleteParams::default()).await?;
    sees(&its, "boundary", "/spec/pods/csiDrivers", json!([])).await?;

    // Nobody's hosts are everybody's.
    let hosts = json!({
        "apiVersion": TENANT_CLASS[0], "kind": TENANT_CLASS[1], "metadata": {"name": "e2e-wrong"},
        "spec": {"defaults": {"ingress": {"hosts": ["pay.example"]}}},
    });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let answer = Answer::of(classes.create(&dry, &serde_json::from_value(hosts)?).await)?;
    ensure!(answer.says("a host belongs to one Tenant"), "hosts for a whole class: {answer}");

    for name in ["classy", "classless"] {
        tenants.delete(name, &DeleteParams::default()).await?;
    }
    classes.delete("e2e-small", &DeleteParams::default()).await?;
    Ok(())
}

/// A claim does not show what becomes of its volume: the operator resolves that into the StorageClasses of the Boundary, by which the floor refuses.
#[tokio::test]
async fn claims_are_of_classes_whose_volumes_stay() -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let classes = api(&people.platform, ["storage.k8s.io/v1", "StorageClass", "storageclasses"], None);
    let make = async |name: &str, policy: &str| {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "e2e.example", "reclaimPolicy": policy,
        });
        classes.patch(name, &PatchParams::apply("freehold-e2e").force(), &Patch::Apply(class)).await
    };
    make("e2e-stays", "Retain").await?;
    make("e2e-goes", "Delete").await?;
    let rest = json!({"reclaimPolicies": ["Retain"], "storageClasses": {"default": "e2e-goes", "allowed": ["e2e-*"]}});
    let own = home(&people, "retaining", rest).await?;
    let (boundary, at) = (api(&people.platform, BOUNDARY, Some(&own)), "/spec/storage/classNames");
    sees(&boundary, "boundary", at, json!({"allowed": ["e2e-stays"]})).await?;
    make("e2e-later", "Retain").await?;
    sees(&boundary, "boundary", at, json!({"allowed": ["e2e-later", "e2e-stays"]})).await?;

    let claims = api(&people.alice, ["v1", "PersistentVolumeClaim", "persistentvolumeclaims"], Some(&own));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (class, is_admitted) in [("e2e-stays", true), ("e2e-later", true), ("e2e-goes", false)] {
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let answer = Answer::of(claims.create(&dry, &serde_json::from_value(claim)?).await)?;
        ensure!(
            (answer == Answer::Admitted) == is_admitted && (is_admitted || answer.says("storage classes")),
            "{class}: {answer}"
        );
    }
    for name in ["e2e-stays", "e2e-goes", "e2e-later"] {
        classes.delete(name, &DeleteParams::default()).await?;
    }
    api(&people.platform, TENANT, None).delete("retaining", &DeleteParams::default()).await?;
    Ok(())
}
