//! Tenant: who owns namespaces, how much they may use, in what sandbox.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClassNames, EnforcementMode, ImageRules, QosClass, Quantities, ReclaimPolicy, TemplateViolations, TenantApi, TenantDevices,
    TenantGateway, TenantIngress, TenantLimitRange, TenantNamespaces, TenantNodes, TenantPodSecurity, TenantRoleBinding,
    TenantServices, TenantState,
};

/// A tenant: owners, the namespaces they may make, and what they may use there. What is not said gets a default that is
/// resolved into each namespace's Boundary, never written back here.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "Tenant",
    shortname = "fht",
    category = "freehold",
    status = "TenantStatus",
    derive = "PartialEq",
    doc = "A tenant: owners, the namespaces they may make, and what they may use there.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("a Tenant's name is a DNS label of at most 40 characters"),
    printcolumn(name = "Class", type_ = "string", json_path = ".status.summary.class", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.summary.mode"),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".status.summary.namespaces"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".status.summary.cpu"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.summary.memory"),
    printcolumn(name = "Pods", type_ = "string", json_path = ".status.summary.pods"),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".status.summary.runtime"),
    printcolumn(name = "Would-Deny", type_ = "integer", json_path = ".status.wouldDeny.objects", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantSpec {
    /// Name of the TenantClass whose defaults and bounds apply; if absent the default class, if there is one. While one is named that does not
    /// exist, no new pods are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub tenant_class_name: Option<String>,
    /// UID of an earlier Tenant of this name whose namespaces this one takes over; none if absent. A Tenant that was deleted and is made
    /// anew has another UID, and until this says so, what was there stays as it was and nobody new gets it.
    #[serde(rename = "replacesUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub replaces_uid: Option<String>,
    /// Who may make namespaces of this tenant and what they may do in them.
    #[schemars(length(min = 1, max = 64))]
    pub owners: Vec<Owner>,
    /// Rights in the tenant's namespaces for others than owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub role_bindings: Option<Vec<TenantRoleBinding>>,
    /// How many namespaces the tenant may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<TenantNamespaces>,
    /// How much the tenant may use in all its namespaces together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<TenantQuota>,
    /// What containers get that say no resources, and what may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_range: Option<TenantLimitRange>,
    /// Which sandboxes the tenant's pods run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<TenantRuntimes>,
    /// How violations are treated; Enforce if absent. Belonging and host access are enforced in every mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement_mode: Option<EnforcementMode>,
    /// Whether the tenant takes new work; Active if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TenantState>,
    /// What becomes of workloads whose pods could never run; Warn if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_violations: Option<TemplateViolations>,
    /// How much rights pods may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<TenantPodSecurity>,
    /// Images that pods may run; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageRules>,
    /// PriorityClasses that pods get and may name; if absent only the cluster's default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_classes: Option<ClassNames>,
    /// Classes of QoS that pods may have; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub qos_classes: Option<Vec<QosClass>>,
    /// Which nodes pods may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<TenantNodes>,
    /// Devices and other extended resources that pods may use; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<TenantDevices>,
    /// What Services may say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<TenantServices>,
    /// What Ingresses may say; no host may be served if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<TenantIngress>,
    /// What Gateways and routes may say; their hosts are those of `ingress`. The group gateway.networking.k8s.io must be among
    /// `api.allowedGroups`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<TenantGateway>,
    /// StorageClasses that claims get and may name; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_classes: Option<ClassNames>,
    /// Reclaim policies of StorageClasses: of those that claims may name, and that exist, only the ones with such a policy count, and no more than 16. Any
    /// policy if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2))]
    pub reclaim_policies: Option<Vec<ReclaimPolicy>>,
    /// VolumeSnapshotClasses and VolumeGroupSnapshotClasses that snapshots name: an exact name, or a prefix followed by `*`. A snapshot that names none
    /// gets the cluster's default class, which only `*` covers. Any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub snapshot_classes: Option<Vec<String>>,
    /// CSI drivers of volumes that a pod says itself: an exact name, or a prefix followed by `*`; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub csi_drivers: Option<Vec<String>>,
    /// Labels and annotations of objects of some kinds in the namespaces; the webhook alone holds them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub objects: Option<Vec<crate::ObjectRules>>,
    /// What the tenant may do at the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<TenantApi>,
    /// Who may reach the tenant's pods and whom they may reach; absent, the tenant itself and the cluster's DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<crate::Network>,
    /// What becomes of the namespaces when the Tenant is deleted; Retain if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Someone who owns a tenant's namespaces.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.namespace)").message("a ServiceAccount has a namespace; a User or Group has none"))]
#[x_kube(validation = Rule::new("!self.name.startsWith('system:')").message("an owner is a person, a team or a ServiceAccount by kind, not a system: identity"))]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// What kind of subject this is.
    pub kind: OwnerKind,
    /// Name of the subject as the API server knows it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of a ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// What the owner may do in the tenant's namespaces; `[admin]` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub cluster_role_names: Option<Vec<OwnerClusterRole>>,
}

/// Kinds of subjects.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKind {
    /// A user name.
    User,
    /// A group name.
    Group,
    /// A ServiceAccount; `namespace` is needed.
    ServiceAccount,
}

/// The ClusterRoles that the operator may bind in a tenant's namespaces.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum OwnerClusterRole {
    /// Everything in the namespace, including its roles.
    Admin,
    /// Workloads and their configuration.
    Edit,
    /// Reading, without Secrets.
    View,
}

impl OwnerClusterRole {
    /// The ClusterRole's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Edit => "edit",
            Self::View => "view",
        }
    }
}

/// What a tenant may use. The names are those that a ResourceQuota counts: one that it does not know would limit nothing.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.hard.all(k, k in ['cpu', 'memory', 'ephemeral-storage', 'pods', 'services', 'services.nodeports', 'services.loadbalancers', 'replicationcontrollers', 'resourcequotas', 'secrets', 'configmaps', 'persistentvolumeclaims', 'requests.cpu', 'requests.memory', 'requests.storage', 'requests.ephemeral-storage', 'limits.cpu', 'limits.memory', 'limits.ephemeral-storage'] || k.startsWith('count/') || k.startsWith('hugepages-') || k.startsWith('requests.hugepages-') || (k.startsWith('requests.') && k.contains('/')) || k.endsWith('.storageclass.storage.k8s.io/requests.storage') || k.endsWith('.storageclass.storage.k8s.io/persistentvolumeclaims') || k.endsWith('.deviceclass.resource.k8s.io/devices'))").message("quota.hard has a name that no ResourceQuota counts; allowed: such as requests.cpu, limits.memory, pods, count/deployments.apps, requests.nvidia.com/gpu, fast.storageclass.storage.k8s.io/requests.storage"))]
#[serde(rename_all = "camelCase")]
pub struct TenantQuota {
    /// Hard limits over all namespaces, in the names of a ResourceQuota. Each namespace gets an equal share.
    #[schemars(schema_with = "crate::quantities_schema")]
    pub hard: Quantities,
}

/// Sandboxes, by names of SandboxRuntimes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("!has(self.default) || self.default in self.allowed").message("the default runtime must be among the allowed ones"))]
#[serde(rename_all = "camelCase")]
pub struct TenantRuntimes {
    /// What a pod that says nothing runs in; the first allowed one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40))]
    pub default: Option<String>,
    /// What a pod may run in.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 40)))]
    pub allowed: Vec<String>,
}

/// What becomes of a deleted Tenant's namespaces; Retain if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The namespaces stay, guarded by their Boundaries as they were.
    #[default]
    Retain,
    /// The namespaces are deleted with everything in them.
    Delete,
}

/// What the operator observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Generation of the spec this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and, where it is False, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The namespaces that belong to the tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<TenantNamespaceStatus>,
    /// The quota and what is used of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<TenantQuotaStatus>,
    /// What exists and would be refused if it were made anew under the rules in force, or under Enforce where the Tenant only looks; nothing if
    /// absent. Looked at when a namespace joins, when the Tenant changes, and then once a minute while there is something to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub would_deny: Option<TenantWouldDeny>,
    /// The same in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<TenantSummary>,
}

/// Objects that exist and would be refused.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantWouldDeny {
    /// How many; of each kind in a namespace a thousand are looked at.
    pub objects: i32,
    /// Some of them, each with the field and the rule that stands first against it.
    #[serde(default)]
    #[schemars(length(max = 5), inner(length(max = 512)))]
    pub sample: Vec<String>,
}

/// What `kubectl get tenants` shows: figures as used/hard.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantSummary {
    /// The TenantClass in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The enforcementMode in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<EnforcementMode>,
    /// Namespaces, of those that may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<String>,
    /// CPU, if the quota has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory, if the quota has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Pods, if the quota has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<String>,
    /// The SandboxRuntime of pods that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

/// A namespace of the tenant.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantNamespaceStatus {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The quota and what is used of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantQuotaStatus {
    /// Hard limits over all namespaces.
    #[serde(default)]
    #[schemars(schema_with = "crate::quantities_schema")]
    pub hard: Quantities,
    /// What is used in all namespaces together.
    #[serde(default)]
    #[schemars(schema_with = "crate::quantities_schema")]
    pub used: Quantities,
}
