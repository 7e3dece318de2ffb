//! The budget: each namespace's equal share of the Tenant's quota, and what is used of it together.
//!
//! A share is the hard limit divided by the namespaces a Tenant may have, not by those it has: making one never shrinks
//! another. Namespaces beyond that number get nothing, oldest first served. There is no ledger yet that moves unused shares.

use std::collections::BTreeMap;

use freehold_crds::{LimitKind, Quantities, TenantLimit, TenantQuotaStatus, TenantSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::{Kind, Object};
use freehold_policy::quantity::Amount;

pub use freehold_policy::namespace_rules::DEFAULT_MAX as DEFAULT_NAMESPACES;

/// Name of the quota and of the defaults for containers.
pub const QUOTA_NAME: &str = "freehold";
/// What a container requests that says nothing; without it a quota on requests refuses the pod.
const REQUEST_CPU: &str = "50m";
/// See [`REQUEST_CPU`].
const REQUEST_MEMORY: &str = "64Mi";
/// Its limits, written only where the quota counts limits.
const LIMIT_CPU: &str = "500m";
/// See [`LIMIT_CPU`].
const LIMIT_MEMORY: &str = "256Mi";

/// How many namespaces get a share.
pub fn max_namespaces(spec: &TenantSpec) -> i32 {
    spec.namespaces.as_ref().and_then(|namespaces| namespaces.max).unwrap_or(DEFAULT_NAMESPACES).max(1)
}

/// One namespace's limits; None without a quota. A namespace beyond the number gets a quota of nothing in any case.
pub fn share(spec: &TenantSpec, has_share: bool) -> Option<Quantities> {
    let hard = spec.quota.as_ref().map(|quota| &quota.hard);
    if !has_share {
        let mut nothing: Quantities =
            hard.into_iter().flatten().map(|(name, _)| (name.clone(), Quantity("0".to_owned()))).collect();
        nothing.insert("pods".to_owned(), Quantity("0".to_owned()));
        return Some(nothing);
    }
    let parts = max_namespaces(spec);
    let divided = |(name, hard): (&String, &Quantity)| {
        let share = Amount::parse(hard).map_or_else(|| Quantity("0".to_owned()), |amount| amount.share(name, parts).quantity());
        (name.clone(), share)
    };
    hard.filter(|hard| !hard.is_empty()).map(|hard| hard.iter().map(divided).collect())
}

/// A quantity in the form in which the API server would store it; one that is none stays, and is refused there.
fn stored(quantity: &Quantity) -> Quantity {
    Amount::parse(quantity).map_or_else(|| quantity.clone(), Amount::quantity)
}

/// One entry as the API server would store it: for containers it fills in limits by the most, and requests by the limits or the least
/// (SetDefaults_LimitRangeItem in pkg/apis/core/v1/defaults.go). Else what is stored would never be what is said here.
fn limit(said: &TenantLimit) -> Value {
    let amounts = |said: &Option<Quantities>| -> Quantities {
        said.iter().flatten().map(|(name, quantity)| (name.clone(), stored(quantity))).collect()
    };
    let (mut limits, mut requests) = (amounts(&said.default), amounts(&said.default_request));
    let (min, max) = (amounts(&said.min), amounts(&said.max));
    let fill = |into: &mut Quantities, from: &Quantities| {
        from.iter().for_each(|(name, quantity)| {
            into.entry(name.clone()).or_insert_with(|| quantity.clone());
        });
    };
    if said.kind == LimitKind::Container {
        fill(&mut limits, &max);
        fill(&mut requests, &limits);
        fill(&mut requests, &min);
    }
    let mut entry = json!({"type": said.kind});
    for (name, amounts) in [
        ("default", limits),
        ("defaultRequest", requests),
        ("min", min),
        ("max", max),
        ("maxLimitRequestRatio", amounts(&said.max_limit_request_ratio)),
    ] {
        if !amounts.is_empty() {
            entry[name] = json!(amounts);
        }
    }
    entry
}

/// The ResourceQuota of one namespace, and its LimitRange where the Tenant says one or requests or limits are counted.
pub fn objects(tenant: &str, namespace: &str, spec: &TenantSpec, has_share: bool) -> Vec<Object> {
    let object = |kind, body: Value| Object::of_tenant(kind, tenant, Some(namespace), QUOTA_NAME, body);
    let said: Vec<&TenantLimit> = spec.limit_range.iter().flat_map(|range| &range.limits).collect();
    let mut entries: Vec<Value> = said.iter().map(|said| limit(said)).collect();
    let share = share(spec, has_share);
    if let Some(hard) = &share
        && !said.iter().any(|said| said.kind == LimitKind::Container)
    {
        entries.push(usual(hard));
    }
    let mut objects = Vec::new();
    if !entries.is_empty() {
        objects.push(object(Kind::LimitRange, json!({"spec": {"limits": entries}})));
    }
    if let Some(hard) = &share {
        let bare: BTreeMap<&String, &Quantity> = hard.iter().collect();
        objects.push(object(Kind::ResourceQuota, json!({"spec": {"hard": bare}})));
    }
    objects
}

/// What containers get of a Tenant that does not say.
fn usual(hard: &Quantities) -> Value {
    let counts = |resource: &str| hard.contains_key(resource);
    let mut item = json!({"type": "Container", "defaultRequest": {"cpu": REQUEST_CPU, "memory": REQUEST_MEMORY}});
    for (counted, name, limit) in [("limits.cpu", "cpu", LIMIT_CPU), ("limits.memory", "memory", LIMIT_MEMORY)] {
        if counts(counted) {
            item["default"][name] = limit.into();
        }
    }
    item
}

/// Whether the quota controller has filled the status: before that the API server does not count and lets everything in.
pub fn is_counted(quota: &Value) -> bool {
    let hard = &quota["status"]["hard"];
    !hard.is_null() && *hard == quota["spec"]["hard"]
}

/// The Tenant's limits and what its namespaces use together; None without a quota.
pub fn status<'a>(spec: &TenantSpec, quotas: impl Iterator<Item = &'a Value>) -> Option<TenantQuotaStatus> {
    let hard = &spec.quota.as_ref()?.hard;
    let nothing = |name: &String| (name.clone(), Amount { milli: 0, binary: false });
    let mut used: BTreeMap<String, Amount> = hard.keys().map(nothing).collect();
    for quota in quotas {
        for (name, sum) in &mut used {
            let found = quota["status"]["used"][name.as_str()].as_str().map(|text| Quantity(text.to_owned()));
            *sum = found.and_then(|quantity| Amount::parse(&quantity)).map_or(*sum, |amount| *sum + amount);
        }
    }
    Some(TenantQuotaStatus { hard: hard.clone(), used: used.into_iter().map(|(name, sum)| (name, sum.quantity())).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{is_typed, tenant};

    fn spec(rest: &str) -> TenantSpec {
        let text = format!(r#"{{"owners": [{{"kind": "User", "name": "alice"}}]{rest}}}"#);
        tenant("a", serde_json::from_str(&text).unwrap()).spec
    }

    #[test]
    fn shares() {
        let hard = r#", "quota": {"hard": {"requests.cpu": "4", "pods": "22"}}"#;
        for (what, rest, has_share, expected) in [
            ("no quota", String::new(), true, None),
            ("an empty quota", r#", "quota": {"hard": {}}"#.to_owned(), true, None),
            ("five by default", hard.to_owned(), true, Some(json!({"requests.cpu": "800m", "pods": "4"}))),
            (
                "as many as may be",
                format!(r#"{hard}, "namespaces": {{"max": 4}}"#),
                true,
                Some(json!({"requests.cpu": "1", "pods": "5"})),
            ),
            ("one too many", hard.to_owned(), false, Some(json!({"requests.cpu": "0", "pods": "0"}))),
            ("one too many without a quota", String::new(), false, Some(json!({"pods": "0"}))),
        ] {
            assert_eq!(share(&spec(&rest), has_share).map(|share| json!(share)), expected, "{what}");
        }
    }

    #[test]
    fn limits_are_defaulted_only_where_they_are_counted() {
        assert!(objects("a", "a-dev", &spec(""), true).is_empty());
        for (hard, default) in [("requests.cpu", Value::Null), ("limits.memory", json!({"memory": "256Mi"}))] {
            let objects = objects("a", "a-dev", &spec(&format!(r#", "quota": {{"hard": {{"{hard}": "4Gi"}}}}"#)), true);
            assert_eq!(objects[0].document["spec"]["limits"][0]["default"], default, "{hard}");
            objects.iter().for_each(is_typed);
        }
    }

    #[test]
    fn limits_are_as_the_api_server_stores_them() {
        let range = r#", "limitRange": {"limits": [
            {"type": "Container", "default": {"memory": "1024Mi"}, "max": {"cpu": "2000m", "memory": "2Gi"}, "min": {"ephemeral-storage": "1Mi"}},
            {"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}}]}"#;
        let container = json!({
            "type": "Container", "default": {"cpu": "2", "memory": "1Gi"},
            "defaultRequest": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Mi"},
            "min": {"ephemeral-storage": "1Mi"}, "max": {"cpu": "2", "memory": "2Gi"},
        });
        let claim = json!({"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}});
        let found = objects("a", "a-dev", &spec(range), true);
        assert_eq!(found.len(), 1, "no quota");
        assert_eq!(found[0].document["spec"]["limits"], json!([container, claim]));
        found.iter().for_each(is_typed);
        // Beside a quota containers still get something, whatever is said of claims.
        let range = r#", "quota": {"hard": {"requests.cpu": "4"}}, "limitRange": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "10Gi"}}]}"#;
        let found = objects("a", "a-dev", &spec(range), true);
        assert_eq!(found[0].document["spec"]["limits"][0], claim);
        assert_eq!(found[0].document["spec"]["limits"][1]["defaultRequest"]["cpu"], "50m");
    }

    #[test]
    fn used_is_added_up_over_namespaces() {
        let spec = spec(r#", "quota": {"hard": {"requests.cpu": "4", "pods": "22"}}"#);
        let quotas = [
            json!({"status": {"used": {"requests.cpu": "300m", "pods": "2", "secrets": "9"}}}),
            json!({"status": {"used": {"requests.cpu": "700m", "pods": "1"}}}),
            json!({}),
        ];
        let status = status(&spec, quotas.iter()).unwrap();
        assert_eq!(json!(status.used), json!({"requests.cpu": "1", "pods": "3"}));
        assert_eq!(json!(status.hard), json!({"requests.cpu": "4", "pods": "22"}));
    }

    #[test]
    fn counted_only_once_the_status_says_the_same() {
        for (quota, counted) in [
            (json!({"spec": {"hard": {"pods": "4"}}}), false),
            (json!({"spec": {"hard": {"pods": "4"}}, "status": {}}), false),
            (json!({"spec": {"hard": {"pods": "4"}}, "status": {"hard": {"pods": "5"}}}), false),
            (json!({"spec": {"hard": {"pods": "4"}}, "status": {"hard": {"pods": "4"}, "used": {"pods": "0"}}}), true),
        ] {
            assert_eq!(is_counted(&quota), counted, "{quota}");
        }
    }
}
