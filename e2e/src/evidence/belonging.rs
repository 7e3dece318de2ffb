//! Whose is a namespace: labels that tell of a tenant, and the boundary's own objects.

use freehold_crds::Boundary;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use super::{STAGE_A, api, create};
use crate::{Answer, Counts, People, Row, objects};

/// Rows on namespaces, as alice, who owns team-a.
///
/// # Errors
/// If the API server gives no verdict.
pub async fn rows(people: &People, round: &str) -> anyhow::Result<Vec<Row>> {
    let namespaces: Api<Namespace> = Api::all(people.alice.clone());
    let own = format!("team-a-own-{round}");
    let control = create(&namespaces, &objects::namespace(&own, Some("team-a"))).await?;
    let mut rows = Vec::new();
    for (what, tenant) in [("team-b's label", "team-b"), ("the label of a tenant that does not exist", "nobody")] {
        let name = format!("team-a-taken-{round}");
        let answer = create(&namespaces, &objects::namespace(&name, Some(tenant))).await?;
        rows.push(Row::refused(
            &format!("alice creates a namespace with {what}"),
            &answer,
            Counts::Floor,
            "one with her own",
            &control,
        ));
    }
    let note = json!({"metadata": {"annotations": {"example.com/note": "mine"}}});
    let merge = PatchParams::default();
    let control = Answer::of(namespaces.patch(STAGE_A, &merge, &Patch::Merge(note)).await)?;
    for (what, label) in [("removes the tenant label of", json!(null)), ("gives away", json!("team-b"))] {
        let patch = json!({"metadata": {"labels": {"freehold.dev/tenant": label}}});
        let answer = Answer::of(namespaces.patch(STAGE_A, &merge, &Patch::Merge(patch)).await)?;
        rows.push(Row::refused(&format!("alice {what} her namespace"), &answer, Counts::Floor, "she annotates it", &control));
    }
    let boundaries: Api<Boundary> = api(&people.alice, STAGE_A);
    let quotas: Api<ResourceQuota> = api(&people.alice, STAGE_A);
    let control = Answer::of(boundaries.get("boundary").await)?;
    let answer = Answer::of(boundaries.delete("boundary", &DeleteParams::default()).await)?;
    rows.push(Row::refused("alice deletes her Boundary", &answer, Counts::Floor, "she reads it", &control));
    let quota = quotas.list(&Default::default()).await?.items.into_iter().find_map(|quota| quota.metadata.name);
    let quota = quota.ok_or_else(|| anyhow::anyhow!("there is no ResourceQuota in {STAGE_A}"))?;
    let answer = Answer::of(quotas.delete(&quota, &DeleteParams::default()).await)?;
    rows.push(Row::refused("alice deletes her quota", &answer, Counts::Floor, "she reads her Boundary", &control));
    Ok(rows)
}

/// Alice holds a right to patch team-b's namespace, given by mistake, and labels it as her own.
///
/// # Errors
/// If the API server gives no verdict, or the mistaken right can't be given.
pub async fn theft(people: &People) -> anyhow::Result<Row> {
    use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
    let namespace = super::STAGE_B;
    let (roles, bindings): (Api<Role>, Api<RoleBinding>) = (api(&people.platform, namespace), api(&people.platform, namespace));
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "mistake"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch", "update"]}]}))?;
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "mistake"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "mistake"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}]}))?;
    let apply = PatchParams::apply("freehold-e2e").force();
    roles.patch("mistake", &apply, &Patch::Apply(with_kind(&role)?)).await?;
    bindings.patch("mistake", &apply, &Patch::Apply(with_kind(&binding)?)).await?;

    let namespaces: Api<Namespace> = Api::all(people.alice.clone());
    let merge = PatchParams::default();
    let note = json!({"metadata": {"annotations": {"example.com/note": "by mistake"}}});
    let control = crate::wait::until("the mistaken right to work", std::time::Duration::from_secs(10), || async {
        match Answer::of(namespaces.patch(namespace, &merge, &Patch::Merge(&note)).await)? {
            Answer::Admitted => Ok(Answer::Admitted),
            refused => anyhow::bail!("{refused}"),
        }
    })
    .await?;
    let patch = json!({"metadata": {"labels": {"freehold.dev/tenant": "team-a"}}});
    let answer = Answer::of(namespaces.patch(namespace, &merge, &Patch::Merge(patch)).await)?;
    bindings.delete("mistake", &DeleteParams::default()).await?;
    roles.delete("mistake", &DeleteParams::default()).await?;
    Ok(Row::refused(
        "alice, by mistake allowed to patch team-b's namespace, labels it as hers",
        &answer,
        Counts::Floor,
        "the mistaken right lets her annotate it",
        &control,
    ))
}

fn with_kind<K: kube::Resource<DynamicType = ()> + serde::Serialize>(object: &K) -> anyhow::Result<serde_json::Value> {
    let mut value = serde_json::to_value(object)?;
    value["apiVersion"] = json!(K::api_version(&()));
    value["kind"] = json!(K::kind(&()));
    Ok(value)
}
