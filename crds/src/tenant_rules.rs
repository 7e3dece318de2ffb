//! The parts of a Tenant that say what its objects may say.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClassNames, NodePortRange, NodeTenancy, OwnerClusterRole, OwnerKind, PodSecurityLevel, Quantities, RestrictedControl,
    ServiceType, TolerationRule, UserNamespaces,
};

/// How much rights pods may have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.exceptions) || (has(self.level) && self.level == 'Restricted')").message("exceptions are made to level Restricted, which must be said beside them"))]
#[serde(rename_all = "camelCase")]
pub struct TenantPodSecurity {
    /// The level of the Pod Security Standards; Baseline if absent, and at least that always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<PodSecurityLevel>,
    /// Parts of Restricted that its pods are spared; none if absent. Baseline has no exceptions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub exceptions: Option<Vec<RestrictedControl>>,
    /// Whether pods need user namespaces; Optional if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<UserNamespaces>,
}

/// Which nodes pods may run on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantNodes {
    /// Whether the tenant has nodes of its own; Shared if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenancy: Option<NodeTenancy>,
    /// Node labels that every pod asks for; filled in where a pod does not say them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::choice::labels_schema")]
    pub selector: Option<BTreeMap<String, String>>,
    /// Taints that pods may tolerate, beside those by which Kubernetes marks a node's condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub tolerations: Option<Vec<TolerationRule>>,
    /// Schedulers beside `default-scheduler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253)))]
    pub scheduler_names: Option<Vec<String>>,
}

/// Devices and other extended resources.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantDevices {
    /// Resources that containers may ask for beside cpu, memory and ephemeral-storage: an exact name, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub extended_resources: Option<Vec<String>>,
    /// DeviceClasses that claims may name: an exact name, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub device_classes: Option<Vec<String>>,
}

/// What the tenant may do at the Kubernetes API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantApi {
    /// Whom ServiceAccount tokens may be for, beside the API server: an exact audience, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub token_audiences: Option<Vec<String>>,
    /// Groups of custom resources that the tenant's people and programs may write: a group, or a prefix followed by `*`. The
    /// controllers behind them act for whoever writes there, so each is a decision of the platform team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub allowed_groups: Option<Vec<String>>,
}

/// What Services may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantServices {
    /// Types beside ClusterIP; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    pub types: Option<Vec<ServiceType>>,
    /// Classes of load balancers; if absent, only that of the cluster, which a Service does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_classes: Option<ClassNames>,
    /// Node ports that Services of type NodePort and LoadBalancer have, and then say themselves, since the API server gives any; if absent, those that
    /// it gives, and with NodePort among the types any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub node_ports: Option<Vec<NodePortRange>>,
    /// Hosts that an ExternalName may lead to: a name, or `*.` and a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub external_names: Option<Vec<String>>,
    /// Annotations by which load balancers and name servers are configured: a key, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub annotations: Option<Vec<String>>,
}

/// What containers, pods and claims get that say no resources, and what they may ask for: the LimitRange of each namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantLimitRange {
    /// One entry a kind. Where none is for containers and there is a quota, containers that say nothing request 50m of CPU and 64Mi of memory,
    /// and are limited to 500m and 256Mi where the quota counts limits.
    #[schemars(length(min = 1, max = 3))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub limits: Vec<TenantLimit>,
}

/// What one kind gets and may ask for, as in a LimitRange.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'Container' || (!has(self.default) && !has(self.defaultRequest))").message("only containers get what they do not say: default and defaultRequest are theirs"))]
#[serde(rename_all = "camelCase")]
pub struct TenantLimit {
    /// The kind.
    #[serde(rename = "type")]
    pub kind: LimitKind,
    /// Limits of those that say none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::optional_quantities_schema")]
    pub default: Option<Quantities>,
    /// Requests of those that say none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::optional_quantities_schema")]
    pub default_request: Option<Quantities>,
    /// Least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::optional_quantities_schema")]
    pub min: Option<Quantities>,
    /// Most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::optional_quantities_schema")]
    pub max: Option<Quantities>,
    /// How many times its request a limit may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::optional_quantities_schema")]
    pub max_limit_request_ratio: Option<Quantities>,
}

/// Kinds that a LimitRange knows.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Each container.
    Container,
    /// All containers of a pod together.
    Pod,
    /// Each claim of storage.
    PersistentVolumeClaim,
}

/// What Gateways and routes of the Gateway API may say, beside the hosts, which are those of Ingresses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantGateway {
    /// GatewayClasses that Gateways may name: an exact name, or a prefix followed by `*`; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub classes: Option<Vec<String>>,
    /// Gateways of other namespaces that routes may attach to, as `namespace/name`; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 3, max = 317), regex(pattern = "^[^/]+/[^/]+$")))]
    pub parents: Option<Vec<String>>,
}

/// What Ingresses may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantIngress {
    /// IngressClasses that Ingresses get and may name; if absent, only that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<ClassNames>,
    /// Hosts that they may serve: a name, or `*.` and a domain. Of Tenants whose hosts meet the oldest has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = r"^([*]\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub hosts: Option<Vec<String>>,
    /// Annotations by which controllers are configured, beside harmless ones: a key, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub annotations: Option<Vec<String>>,
}

/// Rights in all of the tenant's namespaces for somebody who is no owner, such as those on call or a program of the platform.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantRoleBinding {
    /// Its name; the binding is named `freehold-role-` and this.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The role.
    pub cluster_role_name: OwnerClusterRole,
    /// Who gets it.
    #[schemars(length(min = 1, max = 64))]
    pub subjects: Vec<RoleSubject>,
}

/// Who gets a role.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.namespace)").message("a ServiceAccount has a namespace; a User or Group has none"))]
#[x_kube(validation = Rule::new("!self.name.startsWith('system:')").message("a subject is a person, a team or a ServiceAccount by kind, not a system: identity"))]
#[serde(rename_all = "camelCase")]
pub struct RoleSubject {
    /// What kind of subject this is.
    pub kind: OwnerKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of a ServiceAccount; any namespace, since the platform team says it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}
