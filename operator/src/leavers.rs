//! Takes away what former owners gave themselves in a Tenant's namespaces, and what owners and programs have in one that went to another Tenant. In one that is
//! nobody's now the operator deletes nothing that is not its own, as the floor has it for a stolen token's sake: there it is told.
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
use crate::desired::leavers::{Fate, fate, home, leavers};
use crate::desired::trust::Home;
use crate::desired::{Kind, tenant};
use crate::pages::Pages;

/// Removes RoleBindings for nobody but former owners; gives what is to be told of those that stay.
pub async fn part(of: &Tenant, namespaces: &[String], scribe: &Scribe, cache: &Cache) -> Option<News> {
    let owners = tenant::owners(of);
    let granted = tenant::grant_keys(&of.name_any()).iter().find_map(|key| cache.owned.get(key))?;
    let left = leavers(&granted["subjects"], &owners);
    if left.is_empty() {
        return None;
    }
    let mut kept = Vec::new();
    for namespace in namespaces {
        if let Err(error) = take(namespace, |one| left.contains(one), true, scribe, &mut kept).await {
            kept.push(format!("those of {namespace} ({})", said(&error)));
        }
    }
    let names: Vec<String> = left.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
    let message = format!("owners no more: {}; RoleBindings that may still name them: {}", listed(&names), listed(&kept));
    (!kept.is_empty()).then(|| News { warning: true, reason: "FormerOwnersBound".to_owned(), message })
}

/// Removes RoleBindings for nobody but owners and programs of the Tenant that a namespace was of; gives what is to be told of those that stay.
/// `to` is whose it is now, if anybody's; if nobody's, all stay.
pub async fn moved(namespace: &str, from: &Tenant, to: Option<&Tenant>, scribe: &Scribe, cache: &Cache) -> Option<News> {
    let (theirs, stay, was) = (tenant::owners(from), to.map(tenant::owners).unwrap_or_default(), Home::Tenants(from.name_any()));
    let leaves = |one: &Value| {
        !stay.contains(one)
            && (theirs.contains(one) || home(one).is_some_and(|home| home != namespace && cache.home(home) == was))
    };
    let mut kept = Vec::new();
    if let Err(error) = take(namespace, leaves, to.is_some(), scribe, &mut kept).await {
        kept.push(format!("those of {namespace} ({})", said(&error)));
    }
    let went = if to.is_some() { "went to others" } else { "is nobody's" };
    let message = format!("{namespace} {went}; RoleBindings in it that may still name owners or programs: {}", listed(&kept));
    (!kept.is_empty()).then(|| News { warning: true, reason: "FormerOwnersBound".to_owned(), message })
}

/// Removes them from one namespace if it `removes`, and names those that stay.
async fn take(
    namespace: &str,
    leaves: impl Fn(&Value) -> bool,
    removes: bool,
    scribe: &Scribe,
    kept: &mut Vec<String>,
) -> Result<(), kube::Error> {
    let mut pages = Pages::of(Api::namespaced_with(scribe.client.clone(), namespace, &Kind::RoleBinding.resource()));
    while let Some(page) = pages.next().await? {
        for found in page {
            let goes = match fate(&found, &leaves) {
                Fate::Stays => continue,
                Fate::Goes => removes && scribe.remove(Kind::RoleBinding, &found).await.is_ok(),
                Fate::IsTold => false,
            };
            if !goes {
                kept.push(format!("{namespace}/{}", found.name_any()));
            }
        }
    }
    Ok(())
}
