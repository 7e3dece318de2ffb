//! What a Tenant says together with its class: defaults filled in, bounds kept.
//!
//! Input are the Tenant's spec and the TenantClasses; output is the spec that is in force and what of the Tenant's is beyond the class. The
//! operator resolves Boundaries from it and says the rest in the Tenant's status, the webhook judges namespaces by it; neither writes it
//! back. What can be refused when a Tenant that names its class is applied, the floor refuses (`tenant-class.yaml`); a bound that is tightened later
//! ends nothing that runs.

use std::collections::BTreeMap;

use freehold_crds::{
    ClassNames, DEFAULT_CLASS_ANNOTATION, PodSecurityLevel, TenantBounds, TenantClass, TenantClassSpec, TenantRuntimes,
    TenantSpec,
};
use serde_json::Value;

use crate::listed;
use crate::namespace_rules::DEFAULT_MAX;
use crate::quantity::Amount;

/// Fields that are one choice: half of a Tenant's and half of a class's would be neither's.
const WHOLE: &[&str] = &["runtimes", "storageClasses", "priorityClasses", "quota"];

/// One class.
#[derive(Clone, Copy, Debug)]
pub struct Class<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is marked as that of Tenants which name none.
    pub default: bool,
    /// When it was made, in seconds; of several that are marked the youngest is it.
    pub created: i64,
    /// What it says.
    pub spec: &'a TenantClassSpec,
}

impl<'a> From<&'a TenantClass> for Class<'a> {
    fn from(class: &'a TenantClass) -> Self {
        let metadata = &class.metadata;
        let mark = metadata.annotations.as_ref().and_then(|annotations| annotations.get(DEFAULT_CLASS_ANNOTATION));
        Self {
            name: metadata.name.as_deref().unwrap_or_default(),
            default: mark.is_some_and(|value| value == "true"),
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            spec: &class.spec,
        }
    }
}

/// The class of a Tenant.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'a> {
    /// None is named and none is the default.
    None,
    /// This one.
    Class(Class<'a>),
    /// One is named that does not exist: what the tenant may have is not known.
    Missing,
}

/// Finds the class of a Tenant.
pub fn choose<'a>(spec: &TenantSpec, classes: impl Iterator<Item = Class<'a>>) -> Choice<'a> {
    let mut found = Choice::None;
    let mut youngest = None;
    for class in classes {
        match &spec.tenant_class_name {
            Some(name) if name == class.name => return Choice::Class(class),
            None if class.default && youngest.is_none_or(|known| (class.created, class.name) > known) => {
                youngest = Some((class.created, class.name));
                found = Choice::Class(class);
            }
            _ => {}
        }
    }
    if spec.tenant_class_name.is_some() { Choice::Missing } else { found }
}

/// The spec in force, and the fields of the Tenant that are beyond the class.
pub fn resolve(spec: &TenantSpec, class: &TenantClassSpec) -> (TenantSpec, Vec<String>) {
    let mut spec = filled(spec, class);
    let mut beyond = Vec::new();
    if let Some(bounds) = &class.bounds {
        bound(&mut spec, bounds, &mut beyond);
    }
    (spec, beyond)
}

/// Defaults under what the Tenant says: choices and lists whole, groups field by field.
fn filled(spec: &TenantSpec, class: &TenantClassSpec) -> TenantSpec {
    let (Ok(Value::Object(mut said)), Ok(Value::Object(defaults))) =
        (serde_json::to_value(spec), serde_json::to_value(class.defaults.clone().unwrap_or_default()))
    else {
        return spec.clone();
    };
    for (key, default) in defaults {
        match (said.get_mut(&key), default) {
            (None, default) => {
                said.insert(key, default);
            }
            (Some(Value::Object(said)), Value::Object(default)) if !WHOLE.contains(&key.as_str()) => {
                for (key, default) in default {
                    said.entry(key).or_insert(default);
                }
            }
            _ => {}
        }
    }
    // Both are of forms that this form has.
    serde_json::from_value(Value::Object(said)).unwrap_or_else(|_| spec.clone())
}

/// Whether everything that an entry stands for is in the list.
fn covered(allowed: &[String], entry: &str) -> bool {
    match entry.strip_suffix('*') {
        Some(start) => allowed.iter().any(|one| one.strip_suffix('*').is_some_and(|known| start.starts_with(known))),
        None => listed(allowed, entry),
    }
}

/// Takes from a list what is not covered, and says it.
fn narrow(field: &str, list: &mut Vec<String>, allowed: &[String], beyond: &mut Vec<String>) {
    list.retain(|entry| {
        let is_covered = covered(allowed, entry);
        if !is_covered {
            beyond.push(format!("{field}: {entry}"));
        }
        is_covered
    });
}

fn narrow_choice(field: &str, choice: &mut Option<ClassNames>, allowed: &[String], beyond: &mut Vec<String>) {
    match choice {
        // One that says nothing may choose from what the class allows.
        None => *choice = Some(ClassNames { default: None, allowed: allowed.to_vec() }),
        Some(choice) => {
            narrow(field, &mut choice.allowed, allowed, beyond);
            choice.default = choice.default.take().filter(|default| listed(&choice.allowed, default));
        }
    }
}

fn bound(spec: &mut TenantSpec, bounds: &TenantBounds, beyond: &mut Vec<String>) {
    if let Some(most) = &bounds.quota {
        let hard = spec.quota.as_ref().map(|quota| quota.hard.clone()).unwrap_or_default();
        let mut bounded: BTreeMap<_, _> = hard.clone();
        for (name, max) in &most.max {
            let (said, limit) = (hard.get(name).and_then(Amount::parse), Amount::parse(max));
            if said.is_some() && said.map(|said| said.milli) > limit.map(|limit| limit.milli) {
                beyond.push(format!("quota.hard[{name}]: {}", hard[name].0));
            }
            if said.is_none_or(|said| limit.is_some_and(|limit| said.milli > limit.milli)) {
                bounded.insert(name.clone(), max.clone());
            }
        }
        spec.quota = Some(freehold_crds::TenantQuota { hard: bounded });
    }
    if let Some(most) = &bounds.namespaces {
        let namespaces = spec.namespaces.get_or_insert_default();
        if namespaces.max.is_some_and(|max| max > most.max) {
            beyond.push(format!("namespaces.max: {}", namespaces.max.unwrap_or_default()));
        }
        namespaces.max = Some(namespaces.max.unwrap_or(DEFAULT_MAX).min(most.max));
    }
    if let Some(choice) = &bounds.runtimes {
        // A Tenant that says nothing has the runtime of all: it counts like one that was said.
        let exact = || choice.allowed.iter().filter(|name| !name.ends_with('*')).cloned().collect();
        let runtimes = spec.runtimes.get_or_insert_with(|| TenantRuntimes { default: None, allowed: exact() });
        narrow("runtimes.allowed", &mut runtimes.allowed, &choice.allowed, beyond);
        runtimes.default = runtimes.default.take().filter(|default| runtimes.allowed.contains(default));
    }
    if let Some(choice) = &bounds.storage_classes {
        narrow_choice("storageClasses.allowed", &mut spec.storage_classes, &choice.allowed, beyond);
    }
    if let Some(choice) = &bounds.snapshot_classes {
        let classes = spec.snapshot_classes.get_or_insert_with(|| choice.allowed.clone());
        narrow("snapshotClasses", classes, &choice.allowed, beyond);
    }
    if let Some(choice) = &bounds.priority_classes
        && spec.priority_classes.is_some()
    {
        narrow_choice("priorityClasses.allowed", &mut spec.priority_classes, &choice.allowed, beyond);
    }
    if let Some(roles) = &bounds.owner_cluster_role_names {
        for (index, owner) in spec.owners.iter_mut().enumerate() {
            let said = owner.cluster_role_names.clone().unwrap_or_else(|| vec![freehold_crds::OwnerClusterRole::Admin]);
            let (kept, lost): (Vec<_>, Vec<_>) = said.into_iter().partition(|role| roles.contains(role));
            beyond.extend(lost.iter().map(|role| format!("owners[{index}].clusterRoleNames: {}", role.name())));
            owner.cluster_role_names = Some(kept);
        }
        for binding in spec.role_bindings.iter_mut().flatten().filter(|binding| !roles.contains(&binding.cluster_role_name)) {
            beyond.push(format!("roleBindings[{}].clusterRoleName: {}", binding.name, binding.cluster_role_name.name()));
        }
        if let Some(bindings) = &mut spec.role_bindings {
            bindings.retain(|binding| roles.contains(&binding.cluster_role_name));
        }
    }
    if bounds.pod_security.as_ref().is_some_and(|least| least.level == PodSecurityLevel::Restricted) {
        let security = spec.pod_security.get_or_insert_default();
        if security.level == Some(PodSecurityLevel::Baseline) {
            beyond.push("podSecurity.level: Baseline".to_owned());
        }
        security.level = Some(PodSecurityLevel::Restricted);
        let spared = bounds.pod_security.as_ref().and_then(|least| least.exceptions.clone()).unwrap_or_default();
        if let Some(exceptions) = &mut security.exceptions {
            let lost = exceptions.iter().filter(|one| !spared.contains(one));
            beyond.extend(lost.map(|one| format!("podSecurity.exceptions: {}", one.name())));
            exceptions.retain(|one| spared.contains(one));
        }
    }
    if let (Some(most), Some(services)) = (&bounds.services, &mut spec.services) {
        let types = services.types.iter().flatten().filter(|one| !most.types.contains(one));
        beyond.extend(types.map(|one| format!("services.types: {one:?}")));
        if let Some(types) = &mut services.types {
            types.retain(|one| most.types.contains(one));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(rest: Value) -> TenantSpec {
        let mut spec = json!({"owners": [{"kind": "User", "name": "alice"}]});
        json_patch::merge(&mut spec, &rest);
        serde_json::from_value(spec).unwrap()
    }

    fn class(text: Value) -> TenantClassSpec {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn what_a_tenant_does_not_say_comes_from_its_class() {
        let class = class(json!({"defaults": {
            "namespaces": {"max": 3, "labels": {"managed": {"class": "small"}}}, "runtimes": {"default": "microvm", "allowed": ["microvm", "kata"]},
            "quota": {"hard": {"pods": "10", "requests.cpu": "2"}}, "podSecurity": {"level": "Restricted"}, "enforcementMode": "Warn",
        }}));
        let (found, beyond) = resolve(
            &spec(json!({
                "namespaces": {"max": 7}, "runtimes": {"allowed": ["kata"]}, "quota": {"hard": {"pods": "20"}}, "enforcementMode": "Enforce",
            })),
            &class,
        );
        let expected = spec(json!({
            "namespaces": {"max": 7, "labels": {"managed": {"class": "small"}}}, "runtimes": {"allowed": ["kata"]},
            "quota": {"hard": {"pods": "20"}}, "podSecurity": {"level": "Restricted"}, "enforcementMode": "Enforce",
        }));
        assert_eq!((found, beyond), (expected, Vec::<String>::new()));
    }

    #[test]
    fn no_tenant_has_more_than_its_class() {
        let class = class(json!({"bounds": {
            "quota": {"max": {"pods": "100", "requests.memory": "8Gi"}}, "namespaces": {"max": 4}, "runtimes": {"allowed": ["microvm"]},
            "storageClasses": {"allowed": ["fast", "bulk-*"]}, "priorityClasses": {"allowed": ["tenant-*"]}, "snapshotClasses": {"allowed": ["hourly", "bulk-*"]},
            "ownerClusterRoleNames": ["edit", "view"], "podSecurity": {"level": "Restricted", "exceptions": ["User"]},
            "services": {"types": ["LoadBalancer"]},
        }}));
        for (what, said, in_force, expected) in [
            (
                "one that says nothing",
                json!({"owners": [{"kind": "User", "name": "alice", "clusterRoleNames": ["edit"]}]}),
                json!({
                    "owners": [{"kind": "User", "name": "alice", "clusterRoleNames": ["edit"]}],
                    "quota": {"hard": {"pods": "100", "requests.memory": "8Gi"}}, "namespaces": {"max": 4}, "runtimes": {"allowed": ["microvm"]},
                    "storageClasses": {"allowed": ["fast", "bulk-*"]}, "podSecurity": {"level": "Restricted"}, "snapshotClasses": ["hourly", "bulk-*"],
                }),
                vec![],
            ),
            (
                "one that says less",
                json!({
                    "owners": [{"kind": "User", "name": "alice", "clusterRoleNames": ["view"]}], "quota": {"hard": {"pods": "9", "requests.memory": "1Gi", "secrets": "5"}},
                    "namespaces": {"max": 1}, "storageClasses": {"default": "bulk-a", "allowed": ["bulk-a"]}, "priorityClasses": {"allowed": ["tenant-low"]},
                    "services": {"types": ["LoadBalancer"]}, "snapshotClasses": ["bulk-a*"], "podSecurity": {"level": "Restricted", "exceptions": ["User"]},
                }),
                json!({
                    "owners": [{"kind": "User", "name": "alice", "clusterRoleNames": ["view"]}], "quota": {"hard": {"pods": "9", "requests.memory": "1Gi", "secrets": "5"}},
                    "namespaces": {"max": 1}, "runtimes": {"allowed": ["microvm"]}, "storageClasses": {"default": "bulk-a", "allowed": ["bulk-a"]},
                    "priorityClasses": {"allowed": ["tenant-low"]}, "podSecurity": {"level": "Restricted", "exceptions": ["User"]}, "services": {"types": ["LoadBalancer"]},
                    "snapshotClasses": ["bulk-a*"],
                }),
                vec![],
            ),
            (
                "one that says more",
                json!({
                    "quota": {"hard": {"pods": "1k", "requests.memory": "9Gi"}}, "namespaces": {"max": 5}, "runtimes": {"default": "runc", "allowed": ["runc", "microvm"]},
                    "storageClasses": {"default": "slow", "allowed": ["*", "slow", "fast"]}, "priorityClasses": {"allowed": ["system-*", "tenant-*"]},
                    "podSecurity": {"level": "Baseline", "exceptions": ["User", "Capabilities"]}, "services": {"types": ["NodePort", "LoadBalancer"]},
                    "roleBindings": [{"name": "all", "clusterRoleName": "admin", "subjects": []}], "snapshotClasses": ["*", "hourly"],
                }),
                json!({
                    "owners": [{"kind": "User", "name": "alice", "clusterRoleNames": []}], "quota": {"hard": {"pods": "100", "requests.memory": "8Gi"}},
                    "namespaces": {"max": 4}, "runtimes": {"allowed": ["microvm"]}, "storageClasses": {"allowed": ["fast"]},
                    "priorityClasses": {"allowed": ["tenant-*"]}, "podSecurity": {"level": "Restricted", "exceptions": ["User"]}, "services": {"types": ["LoadBalancer"]}, "roleBindings": [],
                    "snapshotClasses": ["hourly"],
                }),
                vec![
                    "quota.hard[pods]: 1k",
                    "quota.hard[requests.memory]: 9Gi",
                    "namespaces.max: 5",
                    "runtimes.allowed: runc",
                    "storageClasses.allowed: *",
                    "storageClasses.allowed: slow",
                    "snapshotClasses: *",
                    "priorityClasses.allowed: system-*",
                    "owners[0].clusterRoleNames: admin",
                    "roleBindings[all].clusterRoleName: admin",
                    "podSecurity.level: Baseline",
                    "podSecurity.exceptions: Capabilities",
                    "services.types: NodePort",
                ],
            ),
        ] {
            let (found, beyond) = resolve(&spec(said), &class);
            assert_eq!(found, spec(in_force), "{what}");
            assert_eq!(beyond, expected, "{what}");
            assert_eq!(resolve(&found, &class), (found.clone(), Vec::new()), "{what}: what is in force is within");
        }
    }

    #[test]
    fn the_class_of_a_tenant_is_the_named_one_or_the_youngest_default() {
        let empty = TenantClassSpec::default();
        let class = |name, default, created| Class { name, default, created, spec: &empty };
        let classes = [class("old", true, 1), class("small", false, 2), class("new", true, 3)];
        for (said, classes, expected) in [
            (json!({"tenantClassName": "small"}), &classes[..], Some("small")),
            (json!({}), &classes[..], Some("new")),
            (json!({}), &classes[1..2], None),
            (json!({"tenantClassName": "gone"}), &classes[..], Some("(missing)")),
            (json!({}), &[][..], None),
        ] {
            let found = match choose(&spec(said.clone()), classes.iter().copied()) {
                Choice::None => None,
                Choice::Class(class) => Some(class.name),
                Choice::Missing => Some("(missing)"),
            };
            assert_eq!(found, expected, "{said}");
        }
    }
}
