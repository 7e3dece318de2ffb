//! Boundary: what is in force in one namespace of a tenant, resolved. Written by the operator, read by floor and webhook.
//!
//! Everything is written out, also what is empty: a tenant reads here what is allowed. What an older Boundary does not have
//! means the same as a Tenant that does not say it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    BoundaryState, ClassNames, EnforcementMode, ImageRules, NodePortRange, NodeTenancy, PodSecurityLevel, QosClass,
    RestrictedControl, ServiceType, TemplateViolations, TolerationRule, UserNamespaces,
};

/// What is in force in this namespace. Made by the operator from the Tenant; the floor's policies and the webhook judge by it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "Boundary",
    plural = "boundaries",
    namespaced,
    shortname = "bnd",
    category = "freehold",
    derive = "PartialEq",
    doc = "What is in force in one namespace of a tenant, resolved. Written by the operator only.",
    validation = Rule::new("self.metadata.name == 'boundary'").message("the one Boundary of a namespace is named boundary"),
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenant.name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.enforcementMode"),
    printcolumn(name = "State", type_ = "string", json_path = ".spec.state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BoundarySpec {
    /// The Tenant this was resolved from.
    pub tenant: TenantReference,
    /// UID of the namespace this was made for.
    #[serde(rename = "namespaceUID")]
    #[schemars(length(max = 64))]
    pub namespace_uid: String,
    /// How violations are treated.
    pub enforcement_mode: EnforcementMode,
    /// What the namespace takes.
    pub state: BoundaryState,
    /// What pods may say.
    pub pods: PodBoundary,
    /// Who may reach the pods and whom they may reach; absent, the tenant itself and the cluster's DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<crate::Network>,
    /// What Services may say.
    #[serde(default)]
    pub services: ServiceBoundary,
    /// What Ingresses may say.
    #[serde(default)]
    pub ingress: IngressBoundary,
    /// What Gateways and routes may say; their hosts are those of `ingress`.
    #[serde(default)]
    pub gateway: GatewayBoundary,
    /// What claims of storage and snapshots of them may say.
    #[serde(default)]
    pub storage: StorageBoundary,
    /// Labels and annotations of objects of some kinds.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub objects: Vec<crate::ObjectRules>,
    /// What becomes of workloads whose pods could never run.
    #[serde(default)]
    pub template_violations: TemplateViolations,
    /// Groups of custom resources that the tenant's people and programs may write: a group, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub custom_groups: Vec<String>,
    /// The tenant's namespaces, oldest first, this one included: rights here may be given to their ServiceAccounts.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub siblings: Vec<String>,
}

/// A Tenant, exactly.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantReference {
    /// Name of the Tenant.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// UID of the Tenant; one of the same name made later is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Generation of the Tenant that was resolved.
    pub generation: i64,
}

/// What pods may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodBoundary {
    /// The RuntimeClasses pods get and may name.
    pub runtime_class_names: ClassNames,
    /// The level of the Pod Security Standards; Baseline is always enforced.
    #[serde(default)]
    pub security_level: PodSecurityLevel,
    /// Parts of Restricted that pods are spared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub security_exceptions: Vec<RestrictedControl>,
    /// Whether pods need user namespaces.
    #[serde(default)]
    pub user_namespaces: UserNamespaces,
    /// Images they may run.
    #[serde(default)]
    pub images: ImageRules,
    /// The PriorityClasses pods get and may name.
    #[serde(default)]
    pub priority_class_names: ClassNames,
    /// The PriorityClass that the API server itself gives to pods that name none; counts as none where a default is set above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster_priority_class_name: Option<String>,
    /// Classes of QoS that they may have; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub qos_classes: Option<Vec<QosClass>>,
    /// Schedulers beside `default-scheduler`.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub scheduler_names: Vec<String>,
    /// Whether pods run on nodes of the tenant's own; what that means stands in `nodeSelector` and `tolerations` too.
    #[serde(default)]
    pub tenancy: NodeTenancy,
    /// Node labels that every pod asks for.
    #[serde(default)]
    #[schemars(schema_with = "crate::choice::labels_schema")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods may tolerate, beside those by which Kubernetes marks a node's condition.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<TolerationRule>,
    /// Resources beside cpu, memory and ephemeral-storage that containers may ask for, such as `nvidia.com/gpu` or `hugepages-2Mi`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub extended_resources: Vec<String>,
    /// DeviceClasses that claims may name: an exact name, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub device_class_names: Vec<String>,
    /// Whom ServiceAccount tokens may be for, beside the API server.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub token_audiences: Vec<String>,
    /// CSI drivers of volumes that a pod says itself: an exact name, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub csi_drivers: Vec<String>,
    /// The name server that pods ask instead of the cluster's; as the cluster has it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_server: Option<NameServer>,
}

/// Whom pods ask for names.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NameServer {
    /// Its addresses, one a family.
    #[schemars(length(min = 1, max = 2), inner(length(min = 1, max = 45)))]
    pub addresses: Vec<String>,
    /// Domains in which short names are looked for, in order.
    #[schemars(length(max = 4), inner(length(min = 1, max = 253)))]
    pub searches: Vec<String>,
}

/// What Services may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBoundary {
    /// Types beside ClusterIP.
    #[serde(default)]
    #[schemars(length(max = 4))]
    pub types: Vec<ServiceType>,
    /// Classes of load balancers; where some are listed, a class must be named.
    #[serde(default)]
    pub load_balancer_class_names: ClassNames,
    /// Node ports that Services have, and then say themselves; those that the API server gives if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub node_ports: Option<Vec<NodePortRange>>,
    /// Hosts that an ExternalName may lead to: a name, or `*.` and a domain.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub external_names: Vec<String>,
    /// Annotations by which load balancers and name servers are configured: a key, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub annotations: Vec<String>,
}

/// What Ingresses may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IngressBoundary {
    /// The IngressClasses they get and may name.
    #[serde(default)]
    pub class_names: ClassNames,
    /// Hosts that they may serve: a name, or `*.` and a domain.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// Annotations by which controllers are configured, beside harmless ones: a key, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub annotations: Vec<String>,
}

/// What Gateways and routes of the Gateway API may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBoundary {
    /// GatewayClasses that Gateways may name: an exact name, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub class_names: Vec<String>,
    /// Gateways of other namespaces that routes may attach to, as `namespace/name`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 3, max = 317)))]
    pub parents: Vec<String>,
}

/// What claims of storage and snapshots of them may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageBoundary {
    /// The StorageClasses they get and may name.
    #[serde(default)]
    pub class_names: ClassNames,
    /// VolumeSnapshotClasses and VolumeGroupSnapshotClasses that snapshots name: an exact name, or a prefix followed by `*`; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub snapshot_class_names: Option<Vec<String>>,
}
