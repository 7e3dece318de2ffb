//! Takes away what former owners gave themselves in a Tenant's namespaces.
//!
//! Asks for RoleBindings only when an owner has left; [`crate::desired::leavers`] decides. What fails is told and not tried again: the grant, which goes in any
//! case, was all that remembered them.

use freehold_crds::Tenant;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use crate::apply::{Scribe, said};
use crate::cache::Cache;
use crate::conditions::News;
use crate::desired::leavers::{Fate, fate, leavers};
use crate::desired::{Kind, tenant};

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
        let api = Api::<DynamicObject>::namespaced_with(scribe.client.clone(), namespace, &Kind::RoleBinding.resource());
        match api.list(&ListParams::default()).await {
            Err(error) => kept.push(format!("those of {namespace} ({})", said(&error))),
            Ok(all) => {
                for found in all.items {
                    let goes = match fate(&found, &left) {
                        Fate::Stays => continue,
                        Fate::Goes => scribe.remove(Kind::RoleBinding, &found).await.is_ok(),
                        Fate::IsTold => false,
                    };
                    if !goes {
                        kept.push(format!("{namespace}/{}", found.name_any()));
                    }
                }
            }
        }
    }
    let names: Vec<&str> = left.iter().filter_map(|one| one["name"].as_str()).collect();
    let message = format!("owners no more: {}; RoleBindings that may still name them: {}", names.join(", "), kept.join(", "));
    (!kept.is_empty()).then(|| News { warning: true, reason: "FormerOwnersBound".to_owned(), message })
}
