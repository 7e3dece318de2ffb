//! Whose is a namespace: labels that tell of a tenant, and the boundary's own objects.

use freehold_crds::Boundary;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{STAGE_A, api, create};
use crate::{Answer, Counts, People, Row, objects};

/// Rows on namespaces, as alice, who owns team-a; `round` keeps the names of two calls apart.
///
/// # Errors
/// If the API server gives no verdict.
pub async fn rows(people: &People, counts: Counts, round: &str) -> anyhow::Result<Vec<Row>> {
    let namespaces: Api<Namespace> = Api::all(people.alice.clone());
    let own = format!("team-a-own-{round}");
    let control = create(&namespaces, &objects::namespace(&own, Some("team-a"))).await?;
    let mut rows = Vec::new();
    for (what, tenant) in [("team-b's label", "team-b"), ("the label of a tenant that does not exist", "nobody")] {
        let name = format!("team-a-taken-{round}");
        let answer = create(&namespaces, &objects::namespace(&name, Some(tenant))).await?;
        rows.push(Row::refused(&format!("alice creates a namespace with {what}"), &answer, counts, "one with her own", &control));
    }
    rows.push(unlabelled(&namespaces, counts, &format!("team-a-loose-{round}"), &control).await?);
    let note = json!({"metadata": {"annotations": {"example.com/note": "mine"}}});
    let merge = PatchParams::default();
    let control = Answer::of(namespaces.patch(STAGE_A, &merge, &Patch::Merge(note)).await)?;
    for (what, label) in [("removes the tenant label of", json!(null)), ("gives away", json!("team-b"))] {
        let patch = json!({"metadata": {"labels": {"freehold.dev/tenant": label}}});
        let answer = Answer::of(namespaces.patch(STAGE_A, &merge, &Patch::Merge(patch)).await)?;
        rows.push(Row::refused(&format!("alice {what} her namespace"), &answer, counts, "she annotates it", &control));
    }
    let boundaries: Api<Boundary> = api(&people.alice, STAGE_A);
    let quotas: Api<ResourceQuota> = api(&people.alice, STAGE_A);
    let control = Answer::of(boundaries.get("boundary").await)?;
    let answer = Answer::of(boundaries.delete("boundary", &DeleteParams::default()).await)?;
    rows.push(Row::refused("alice deletes her Boundary", &answer, counts, "she reads it", &control));
    let quota = quotas.list(&Default::default()).await?.items.into_iter().find_map(|quota| quota.metadata.name);
    let quota = quota.ok_or_else(|| anyhow::anyhow!("there is no ResourceQuota in {STAGE_A}"))?;
    let answer = Answer::of(quotas.delete(&quota, &DeleteParams::default()).await)?;
    rows.push(Row::refused("alice deletes her quota", &answer, counts, "she reads her Boundary", &control));
    clear(people, round).await?;
    Ok(rows)
}

/// Takes away what the rows made, so that the tenant has room for its own.
async fn clear(people: &People, round: &str) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(people.platform.clone());
    for name in [format!("team-a-own-{round}"), format!("team-a-loose-{round}")] {
        if namespaces.get_opt(&name).await?.is_some() {
            namespaces.delete(&name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// A namespace that says nothing: the webhook gives it its owner's tenant; without the webhook it is refused.
async fn unlabelled(namespaces: &Api<Namespace>, counts: Counts, name: &str, control: &Answer) -> anyhow::Result<Row> {
    let tried = "alice creates a namespace that names no tenant";
    let created = namespaces.create(&PostParams::default(), &objects::namespace(name, None)).await;
    let label =
        created.as_ref().ok().and_then(|created| created.metadata.labels.as_ref()?.get(freehold_crds::TENANT_LABEL).cloned());
    let answer = Answer::of(created)?;
    if counts == Counts::Floor {
        return Ok(Row::refused(tried, &answer, counts, "one with her own", control));
    }
    let holds = answer == Answer::Admitted && label.as_deref() == Some("team-a");
    let shown = format!("{answer}; its tenant: {}", label.as_deref().unwrap_or("none"));
    Ok(Row::fact(tried, shown, format!("one with her own: {control}"), "webhook", holds))
}

/// Alice holds a right to patch team-b's namespace, given by mistake, and labels it as her own.
///
/// # Errors
/// If the API server gives no verdict, or the mistaken right can't be given.
pub async fn theft(people: &People, counts: Counts) -> anyhow::Result<Row> {
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
        counts,
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
