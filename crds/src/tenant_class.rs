//! TenantClass: what Tenants get that do not say, and what none of them can have more of.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClassNames, DeletionPolicy, EnforcementMode, ImageRules, OwnerClusterRole, PodSecurityLevel, QosClass, Quantities,
    ReclaimPolicy, RestrictedControl, ServiceType, TemplateViolations, TenantApi, TenantDevices, TenantGateway, TenantIngress,
    TenantLimitRange, TenantNamespaces, TenantNodes, TenantPodSecurity, TenantQuota, TenantRuntimes, TenantServices,
};

/// The annotation that makes a class that of Tenants which name none; of several the youngest is it, as with StorageClasses.
pub const DEFAULT_CLASS_ANNOTATION: &str = "freehold.dev/is-default-class";

/// A kind of tenants.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "TenantClass",
    plural = "tenantclasses",
    shortname = "fhc",
    category = "freehold",
    derive = "PartialEq",
    doc = "A kind of tenants: what Tenants of it get that do not say, and what none of them can have more of.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("a TenantClass's name is a DNS label of at most 40 characters"),
    printcolumn(name = "Default", type_ = "string", json_path = r".metadata.annotations.freehold\.dev/is-default-class"),
    printcolumn(name = "Max-Namespaces", type_ = "integer", json_path = ".spec.bounds.namespaces.max"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantClassSpec {
    /// What a Tenant gets that does not say it. Choices (runtimes, classes of storage and priority) and lists are taken whole, the other
    /// groups field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<TenantDefaults>,
    /// What no Tenant of this class has more of, whatever it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<TenantBounds>,
}

/// Fields of a Tenant. What belongs to one tenant alone has no default: owners, rights, declared namespaces, hosts, peers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = Rule::new("!has(self.namespaces) || !has(self.namespaces.declared)").message("a declared namespace belongs to one Tenant"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || !has(self.ingress.hosts)").message("a host belongs to one Tenant"))]
#[x_kube(validation = Rule::new("!has(self.network) || !has(self.network.peers) || size(self.network.peers) == 0").message("peers are agreed to by two Tenants"))]
#[serde(rename_all = "camelCase")]
pub struct TenantDefaults {
    /// Number, names, labels and annotations of namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<TenantNamespaces>,
    /// How much a tenant may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<TenantQuota>,
    /// What containers get that say no resources, and what may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_range: Option<TenantLimitRange>,
    /// Which sandboxes pods run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<TenantRuntimes>,
    /// How violations are treated; Enforce if absent. Belonging and host access are enforced in every mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement_mode: Option<EnforcementMode>,
    /// What becomes of workloads whose pods could never run; Warn if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_violations: Option<TemplateViolations>,
    /// How much rights pods may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<TenantPodSecurity>,
    /// Images that pods may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageRules>,
    /// PriorityClasses that pods get and may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_classes: Option<ClassNames>,
    /// Classes of QoS that pods may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub qos_classes: Option<Vec<QosClass>>,
    /// Which nodes pods may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<TenantNodes>,
    /// Devices and other extended resources that pods may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<TenantDevices>,
    /// What Services may say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<TenantServices>,
    /// What Ingresses may say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<TenantIngress>,
    /// What Gateways and routes may say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<TenantGateway>,
    /// StorageClasses that claims get and may name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<ClassNames>,
    /// Reclaim policies of StorageClasses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    pub reclaim_policies: Option<Vec<ReclaimPolicy>>,
    /// VolumeSnapshotClasses and VolumeGroupSnapshotClasses that snapshots name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub snapshot_classes: Option<Vec<String>>,
    /// CSI drivers of volumes that a pod says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub csi_drivers: Option<Vec<String>>,
    /// Labels and annotations of objects of some kinds in the namespaces; the webhook alone holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub objects: Option<Vec<crate::ObjectRules>>,
    /// What a tenant may do at the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<TenantApi>,
    /// Who may reach the tenant's pods and whom they may reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<crate::Network>,
    /// What becomes of the namespaces when a Tenant is deleted; Retain if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What no Tenant of a class has more of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantBounds {
    /// Most of a tenant's quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaBound>,
    /// Most of its namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespacesBound>,
    /// SandboxRuntimes that a Tenant may choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<ChoiceBound>,
    /// StorageClasses that a Tenant may choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<ChoiceBound>,
    /// VolumeSnapshotClasses and VolumeGroupSnapshotClasses that a Tenant may choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_classes: Option<ChoiceBound>,
    /// PriorityClasses that a Tenant may choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_classes: Option<ChoiceBound>,
    /// Roles that owners, and others by `roleBindings`, may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub owner_cluster_role_names: Option<Vec<OwnerClusterRole>>,
    /// Least level of Pod Security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<SecurityBound>,
    /// Types of Services beside ClusterIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServicesBound>,
}

/// Most of a tenant's quota.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct QuotaBound {
    /// By the names of a ResourceQuota. A Tenant that does not say one of them gets what stands here.
    #[schemars(schema_with = "crate::quantities_schema")]
    pub max: Quantities,
}

/// Most of a tenant's namespaces.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NamespacesBound {
    /// How many.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
}

/// What a Tenant may choose from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ChoiceBound {
    /// Exact names, or prefixes followed by `*`.
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
}

/// Least level of Pod Security.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecurityBound {
    /// A Tenant that asks for less gets this.
    pub level: PodSecurityLevel,
    /// Where that is Restricted, the exceptions that a Tenant may make; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub exceptions: Option<Vec<RestrictedControl>>,
}

/// Types of Services beside ClusterIP.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServicesBound {
    /// The types that a Tenant may allow.
    #[schemars(length(max = 3))]
    pub types: Vec<ServiceType>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads a default reads the Tenant's field.
    #[test]
    fn defaults_are_fields_of_a_tenant() {
        use kube::CustomResourceExt as _;
        let properties = |crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            serde_json::to_value(&crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema).unwrap()["properties"]["spec"]
                ["properties"]
                .clone()
        };
        let (mut class, mut tenant) =
            (properties(TenantClass::crd())["defaults"]["properties"].clone(), properties(crate::Tenant::crd()));
        for (field, schema) in class.as_object_mut().unwrap() {
            let known = &mut tenant[field];
            // The words differ, the form does not.
            schema["description"] = serde_json::Value::Null;
            known["description"] = serde_json::Value::Null;
            assert_eq!(schema, known, "{field}");
        }
    }
}
