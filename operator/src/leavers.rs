//! Takes away what former owners gave themselves in a Tenant's namespaces.
//!
//! Asks for RoleBindings only when an owner has left; [`crate::desired::leavers`] decides. What fails is told and not tried again: the grant, which goes in any
//! case, was all that remembered them.

use freehold_crds::Tenant;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::Value;

use crate::apply::{Scribe, said};
use crate::cache::Cache;
use crate::conditions::{News, listed};
use crate::desired::leavers::{Fate, fate, leavers};
use crate::desired::{Kind, tenant};
use crate::pages::Pages;

/// Removes RoleBindings for nobody but former owners; gives what is to be told of those that stay.
pub async fn part(of: &Tenant, namespaces: &[String], scribe: &Scribe, cache: &Cache) -> Option<News> {
    let owners: Vec<Value> = of.spec.owners.iter().map(tenant::subject).collect();
    let granted = cache.cluster_object(Kind::ClusterRoleBinding, &tenant::own_name(&of.name_any()))?;
    let left = leavers(&granted.data["subjects"], &owners);
    if left.is_empty() {
        return None;
    }
    let mut kept = Vec::new();
    for namespace in namespaces {
        if let Err(error) = take(namespace, &left, scribe, &mut kept).await {
            kept.push(format!("those of {namespace} ({})", said(&error)));
        }
    }
    let names: Vec<String> = left.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    let message = format!("owners no more: {}; RoleBindings that may still name them: {}", listed(&names), listed(&kept));
    (!kept.is_empty()).then(|| News { warning: true, reason: "FormerOwnersBound".to_owned(), message })
}

/// Removes them from one namespace, and names those that stay.
async fn take(namespace: &str, left: &[Value], scribe: &Scribe, kept: &mut Vec<String>) -> Result<(), kube::Error> {
    let mut pages = Pages::of(Api::namespaced_with(scribe.client.clone(), namespace, &Kind::RoleBinding.resource()));
    while let Some(page) = pages.next().await? {
        for found in page {
            let goes = match fate(&found, left) {
                Fate::Stays => continue,
                Fate::Goes => scribe.remove(Kind::RoleBinding, &found).await.is_ok(),
                Fate::IsTold => false,
            };
            if !goes {
                kept.push(format!("{namespace}/{}", found.name_any()));
            }
        }
    }
    Ok(())
}
