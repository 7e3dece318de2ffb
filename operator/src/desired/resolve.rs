//! Which RuntimeClasses a Tenant's pods may name: names of SandboxRuntimes become names of RuntimeClasses.
//!
//! A runtime that does not exist is no error of apply: the Tenant is accepted, says what is missing, and takes it up once it
//! comes. Until then nothing runs in its place.

use std::collections::BTreeMap;

use freehold_crds::{
    ClassNames, DnsAccess, GatewayBoundary, IngressBoundary, NameServer, Network, NodeTenancy, PodBoundary, PodSecurityLevel,
    ServiceBoundary, StorageBoundary, TENANT_LABEL, TenantSpec, TolerationRule,
};
use freehold_policy::listed;

/// The SandboxRuntime of a Tenant that names none.
pub const DEFAULT_RUNTIME: &str = "microvm";

/// The label of nodes that are one tenant's own, with its name; under this prefix no kubelet labels its own node.
pub const NODE_LABEL: &str = "freehold.dev.node-restriction.kubernetes.io/tenant";

/// The answer for one Tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtimes {
    /// What its Boundaries say.
    pub classes: ClassNames,
    /// SandboxRuntimes that it names and that do not exist, each once, in its order.
    pub missing: Vec<String>,
}

/// Resolves the names; `known` maps each existing SandboxRuntime to its RuntimeClass.
pub fn runtimes(spec: &TenantSpec, known: &BTreeMap<String, String>) -> Runtimes {
    let fallback = [DEFAULT_RUNTIME.to_owned()];
    let allowed: &[String] = spec.runtimes.as_ref().map_or(&fallback, |runtimes| &runtimes.allowed);
    let default = spec.runtimes.as_ref().and_then(|runtimes| runtimes.default.as_ref()).or(allowed.first());
    let (mut classes, mut missing) = (Vec::<String>::new(), Vec::<String>::new());
    for name in allowed {
        match known.get(name) {
            Some(class) if !classes.contains(class) => classes.push(class.clone()),
            None if !missing.contains(name) => missing.push(name.clone()),
            _ => {}
        }
    }
    let default = default.and_then(|name| known.get(name)).cloned();
    Runtimes { classes: ClassNames { default, allowed: classes }, missing }
}

/// What the Boundaries of a Tenant say about pods; `usual` is the PriorityClass that the cluster gives to pods that name none.
pub fn pods(spec: &TenantSpec, classes: &ClassNames, usual: Option<&str>) -> PodBoundary {
    let security = spec.pod_security.clone().unwrap_or_default();
    let nodes = spec.nodes.clone().unwrap_or_default();
    let priorities = spec.priority_classes.clone();
    let level = security.level.unwrap_or_default();
    PodBoundary {
        runtime_class_names: classes.clone(),
        security_level: level,
        // A class's exceptions mean nothing to a Tenant of another level.
        security_exceptions: security.exceptions.filter(|_| level == PodSecurityLevel::Restricted).unwrap_or_default(),
        user_namespaces: security.user_namespaces.unwrap_or_default(),
        images: spec.images.clone().unwrap_or_default(),
        // A Tenant that says nothing may carry what the API server gives to everyone.
        priority_class_names: priorities
            .unwrap_or_else(|| ClassNames { default: None, allowed: usual.iter().map(ToString::to_string).collect() }),
        cluster_priority_class_name: usual.map(str::to_owned),
        qos_classes: spec.qos_classes.clone(),
        scheduler_names: nodes.scheduler_names.unwrap_or_default(),
        tenancy: NodeTenancy::default(),
        node_selector: nodes.selector.unwrap_or_default(),
        tolerations: nodes.tolerations.unwrap_or_default(),
        extended_resources: spec.devices.clone().and_then(|devices| devices.extended_resources).unwrap_or_default(),
        device_class_names: spec.devices.clone().and_then(|devices| devices.device_classes).unwrap_or_default(),
        token_audiences: spec.api.clone().and_then(|api| api.token_audiences).unwrap_or_default(),
        csi_drivers: spec.csi_drivers.clone().unwrap_or_default(),
        name_server: None,
    }
}

/// The name server of tenants whose `dns` is Isolated, as the platform runs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServers {
    /// Its addresses; none if it is not run.
    pub addresses: Vec<String>,
    /// The cluster's domain.
    pub domain: String,
}

impl NameServers {
    /// What the Boundary of a namespace says about it: short names are looked for as the kubelet has it.
    pub fn for_namespace(&self, namespace: &str, network: &Network) -> Option<NameServer> {
        let asked = network.dns == Some(DnsAccess::Isolated) && !self.addresses.is_empty();
        let domain = &self.domain;
        asked.then(|| NameServer {
            addresses: self.addresses.clone(),
            searches: vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()],
        })
    }
}

/// The same of a Tenant with nodes of its own: every pod asks for their label, and may tolerate their taint.
pub fn at_home(mut pods: PodBoundary, tenant: &str, spec: &TenantSpec) -> PodBoundary {
    pods.tenancy = spec.nodes.as_ref().and_then(|nodes| nodes.tenancy).unwrap_or_default();
    if pods.tenancy == NodeTenancy::Dedicated {
        pods.node_selector.insert(NODE_LABEL.to_owned(), tenant.to_owned());
        pods.tolerations.retain(|rule| rule.key != TENANT_LABEL);
        let value = Some(tenant.to_owned());
        pods.tolerations.push(TolerationRule { key: TENANT_LABEL.to_owned(), operator: None, value, effect: None });
    }
    pods
}

/// Any class: of kinds where the cluster's own choice harms nobody.
fn any() -> ClassNames {
    ClassNames { default: None, allowed: vec!["*".to_owned()] }
}

/// What its Boundaries say about Services.
pub fn services(spec: &TenantSpec) -> ServiceBoundary {
    let services = spec.services.clone().unwrap_or_default();
    ServiceBoundary {
        types: services.types.unwrap_or_default(),
        load_balancer_class_names: services.load_balancer_classes.unwrap_or_default(),
        node_ports: services.node_ports,
        external_names: services.external_names.unwrap_or_default(),
        annotations: services.annotations.unwrap_or_default(),
    }
}

/// What its Boundaries say about Ingresses: any class, since the hosts are what counts, and no host.
pub fn ingress(spec: &TenantSpec) -> IngressBoundary {
    let ingress = spec.ingress.clone().unwrap_or_default();
    IngressBoundary {
        class_names: ingress.classes.unwrap_or_else(any),
        hosts: ingress.hosts.unwrap_or_default(),
        annotations: ingress.annotations.unwrap_or_default(),
    }
}

/// What its Boundaries say about Gateways and routes.
pub fn gateway(spec: &TenantSpec) -> GatewayBoundary {
    let gateway = spec.gateway.clone().unwrap_or_default();
    GatewayBoundary { class_names: gateway.classes.unwrap_or_default(), parents: gateway.parents.unwrap_or_default() }
}

/// StorageClasses at most in a Boundary, as its schema has it.
const MAX_STORAGE_CLASSES: usize = 16;

/// The StorageClasses of a Tenant: where it says reclaim policies those that exist and have one of them, by name, since no claim shows its class's policy.
/// `known` are the names of the StorageClasses with their policies. A class that comes later is allowed once the operator has seen it.
pub fn storage_classes(spec: &TenantSpec, known: impl Iterator<Item = (String, String)>) -> Option<ClassNames> {
    let Some(policies) = &spec.reclaim_policies else { return spec.storage_classes.clone() };
    let said = spec.storage_classes.clone().unwrap_or_else(any);
    let fits = |(name, policy): &(String, String)| listed(&said.allowed, name) && policies.iter().any(|one| one.name() == policy);
    let mut allowed: Vec<String> = known.filter(fits).map(|(name, _)| name).collect();
    allowed.sort_by_key(|name| (said.default.as_ref() != Some(name), name.clone()));
    allowed.truncate(MAX_STORAGE_CLASSES);
    let default = said.default.filter(|default| allowed.contains(default));
    Some(ClassNames { default, allowed })
}

/// What its Boundaries say about storage.
pub fn storage(spec: &TenantSpec) -> StorageBoundary {
    StorageBoundary {
        class_names: spec.storage_classes.clone().unwrap_or_else(any),
        snapshot_class_names: spec.snapshot_classes.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_classes_and_what_is_missing_is_said() {
        let known: BTreeMap<_, _> =
            [("microvm", "freehold-microvm"), ("slow", "freehold-slow")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        for (runtimes, default, allowed, missing) in [
            (None, Some("freehold-microvm"), vec!["freehold-microvm"], vec![]),
            (
                Some(r#"{"allowed": ["slow", "microvm"]}"#),
                Some("freehold-slow"),
                vec!["freehold-slow", "freehold-microvm"],
                vec![],
            ),
            (
                Some(r#"{"default": "microvm", "allowed": ["microvm", "gone"]}"#),
                Some("freehold-microvm"),
                vec!["freehold-microvm"],
                vec!["gone"],
            ),
            (Some(r#"{"default": "gone", "allowed": ["gone", "gone", "slow"]}"#), None, vec!["freehold-slow"], vec!["gone"]),
            (Some(r#"{"allowed": ["gone"]}"#), None, vec![], vec!["gone"]),
        ] {
            let runtimes = runtimes.map_or("null", |text| text);
            let text = format!(r#"{{"owners": [{{"kind": "User", "name": "alice"}}], "runtimes": {runtimes}}}"#);
            let spec: TenantSpec = serde_json::from_str(&text).unwrap();
            let found = super::runtimes(&spec, &known);
            assert_eq!(found.classes.default.as_deref(), default, "{text}");
            assert_eq!(found.classes.allowed, allowed, "{text}");
            assert_eq!(found.missing, missing, "{text}");
        }
    }

    #[test]
    fn storage_classes_are_those_of_an_allowed_policy() {
        let known = [("fast", "Delete"), ("bulk-b", "Retain"), ("bulk-a", "Retain"), ("gold", "Retain")];
        for (said, default, allowed) in [
            (r#"{"reclaimPolicies": ["Retain"]}"#, None, &["bulk-a", "bulk-b", "gold"][..]),
            (r#"{"reclaimPolicies": ["Retain", "Delete"], "storageClasses": {"allowed": ["fast", "gone"]}}"#, None, &["fast"]),
            (
                r#"{"reclaimPolicies": ["Retain"], "storageClasses": {"default": "bulk-b", "allowed": ["fast", "bulk-*"]}}"#,
                Some("bulk-b"),
                &["bulk-b", "bulk-a"],
            ),
            (r#"{"reclaimPolicies": ["Retain"], "storageClasses": {"default": "fast", "allowed": ["fast"]}}"#, None, &[]),
            (r#"{"storageClasses": {"default": "fast", "allowed": ["fast", "gone-*"]}}"#, Some("fast"), &["fast", "gone-*"]),
        ] {
            let mut spec: serde_json::Value = serde_json::from_str(said).unwrap();
            spec["owners"] = serde_json::json!([{"kind": "User", "name": "alice"}]);
            let spec: TenantSpec = serde_json::from_value(spec).unwrap();
            let found = storage_classes(&spec, known.iter().map(|(name, policy)| ((*name).to_owned(), (*policy).to_owned())));
            let found = found.unwrap();
            assert_eq!(
                (found.default.as_deref(), &found.allowed[..]),
                (default, &allowed.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{said}"
            );
        }
        let many = (0..20).map(|number| (format!("c{number:02}"), "Delete".to_owned()));
        let spec: TenantSpec = serde_json::from_str(r#"{"owners": [], "reclaimPolicies": ["Delete"]}"#).unwrap();
        assert_eq!(storage_classes(&spec, many).unwrap().allowed.len(), MAX_STORAGE_CLASSES);
    }

    /// What the table of cases takes for a Tenant's Boundary is what the operator makes of it.
    #[test]
    fn tenants_of_the_table_of_cases_become_its_boundaries() {
        let known: BTreeMap<_, _> = [("microvm".to_owned(), "freehold-microvm".to_owned())].into();
        for preset in freehold_policy::cases::presets().into_iter().filter(|preset| !preset.tenant.is_null()) {
            let mut spec = preset.tenant.clone();
            spec["owners"] = serde_json::json!([{"kind": "User", "name": "alice"}]);
            let mut tenant = crate::fixtures::tenant("team-a", spec);
            (tenant.metadata.uid, tenant.metadata.generation) = (Some("1".to_owned()), Some(1));
            let runtimes = super::runtimes(&tenant.spec, &known);
            let namespace = crate::desired::namespace::Namespace {
                created: 0,
                name: "team-a-dev".to_owned(),
                uid: "2".to_owned(),
                terminating: false,
            };
            let made = crate::desired::namespace::boundary(
                &tenant,
                &namespace,
                &pods(&tenant.spec, &runtimes.classes, None),
                &freehold_crds::Network::default(),
                vec!["team-a-dev".to_owned(), "team-a-ci".to_owned()],
                true,
            );
            assert_eq!(made.document["spec"], preset.boundary, "{}", preset.name);
        }
    }
}
