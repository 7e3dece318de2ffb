//! Forms that Tenant and Boundary share: what may be said, and what the one who says nothing gets.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries of one list. The floor compares each of a hundred containers with each entry inside the API server's cost limit.
pub const MAX_LISTED: usize = 32;

/// What an object that says nothing gets, and what it may say.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.default) || !has(self.allowed) || self.allowed.exists(a, a == self.default || (a.endsWith('*') && self.default.startsWith(a.substring(0, size(a) - 1))))").message("the default must be among the allowed ones"))]
#[serde(rename_all = "camelCase")]
pub struct ClassNames {
    /// What an object that says nothing gets; absent: it must say, or gets what the cluster gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub default: Option<String>,
    /// What may be said: an exact name, or a prefix followed by `*`.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
}

/// How violations are treated; Enforce if absent. Belonging and host access are enforced in every mode.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnforcementMode {
    /// Violations are denied.
    #[default]
    Enforce,
    /// Violations are admitted with a warning.
    Warn,
    /// Violations are admitted and recorded.
    Audit,
}

/// Whether a tenant takes new work; Active if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TenantState {
    /// New work is taken.
    #[default]
    Active,
    /// Nothing changes: owners make no namespaces, and people and programs of the tenant write nothing. What runs stays, and may end.
    Cordoned,
}

/// What a namespace of a tenant takes. It is never more than the Tenant's state says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BoundaryState {
    /// New work.
    #[default]
    Active,
    /// No new pods: the namespace has no share of the quota, or something that guards it is refused.
    Closed,
    /// No change by people and programs of the tenant, and no new pods; what runs may end.
    Cordoned,
}

impl From<TenantState> for BoundaryState {
    fn from(state: TenantState) -> Self {
        match state {
            TenantState::Active => Self::Active,
            TenantState::Cordoned => Self::Cordoned,
        }
    }
}

/// What becomes of a workload whose pods could never run; Warn if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TemplateViolations {
    /// It is admitted with a warning; its pods are refused.
    #[default]
    Warn,
    /// It is refused.
    Deny,
}

/// A level of the Pod Security Standards; Baseline if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodSecurityLevel {
    /// Nothing of the node, and no more rights than container runtimes give by default.
    #[default]
    Baseline,
    /// No root, no capabilities, a seccomp profile.
    Restricted,
}

/// What Restricted asks for beyond Baseline, in parts that a tenant can be spared.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestrictedControl {
    /// No root: `runAsNonRoot: true`, and no `runAsUser` of 0.
    User,
    /// `allowPrivilegeEscalation: false`.
    PrivilegeEscalation,
    /// A seccomp profile of the runtime or of the node.
    SeccompProfile,
    /// All capabilities dropped, and none added but NET_BIND_SERVICE. Spared, those of Baseline may be added.
    Capabilities,
}

impl RestrictedControl {
    /// As a Tenant says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::PrivilegeEscalation => "PrivilegeEscalation",
            Self::SeccompProfile => "SeccompProfile",
            Self::Capabilities => "Capabilities",
        }
    }
}

/// Whose a tenant's nodes are; Shared if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeTenancy {
    /// Others' pods may run beside its own.
    #[default]
    Shared,
    /// Its pods run on nodes of its own and nowhere else: those with the label `freehold.dev.node-restriction.kubernetes.io/tenant` and the taint
    /// `freehold.dev/tenant`, both with the tenant's name as value.
    Dedicated,
}

/// Whether pods must run in a user namespace of their own (`spec.hostUsers: false`); Optional if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserNamespaces {
    /// As the pod says.
    #[default]
    Optional,
    /// A pod that says nothing gets one; `hostUsers: true` is refused.
    Required,
}

/// Whether an image must be named by its content; Optional if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageDigest {
    /// A tag is enough.
    #[default]
    Optional,
    /// Every image says `@sha256:…`.
    Required,
}

/// When a node pulls an image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// On every start: the registry sees the pod's credentials each time.
    Always,
    /// If it is not there; whoever pulled it before.
    IfNotPresent,
    /// Never; it must be there.
    Never,
}

impl PullPolicy {
    /// As pods say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Classes of QoS, by which the kubelet chooses whom it ends first where a node lacks memory.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container limits CPU and memory, and requests as much.
    Guaranteed,
    /// Neither of the others.
    Burstable,
    /// No container requests or limits CPU or memory.
    BestEffort,
}

impl QosClass {
    /// As Kubernetes has it in a pod's status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// Images that pods may run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageRules {
    /// Repositories: an exact one, or a prefix followed by `*`, with the registry's name (`docker.io/library/nginx`); any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    pub registries: Option<Vec<String>>,
    /// Pull policies; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub pull_policies: Option<Vec<PullPolicy>>,
    /// Whether a digest is needed; Optional if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ImageDigest>,
    /// Tags; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<ImageTags>,
}

/// Tags that images may not have.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ImageTags {
    /// A tag, or a prefix followed by `*`. An image without tag and digest has the tag `latest`, as for the kubelet; one by its digest alone has none.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 129)))]
    pub forbidden: Vec<String>,
}

/// What becomes of a volume whose claim is deleted, as its StorageClass says.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimPolicy {
    /// It goes, with what is in it.
    Delete,
    /// It stays, until the platform team deletes it.
    Retain,
}

impl ReclaimPolicy {
    /// As StorageClasses say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }
}

/// A taint that pods may tolerate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("has(self.value) == (!has(self.operator) || self.operator == 'Equal')").message("operator Equal needs a value, Exists has none"))]
#[serde(rename_all = "camelCase")]
pub struct TolerationRule {
    /// The taint's key.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Exists allows every value; Equal, which is what absent means, only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// The taint's effect; every one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// How a toleration compares; Equal if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The value must be equal.
    #[default]
    Equal,
    /// Every value.
    Exists,
}

/// What a taint does; any effect if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// Keeps pods away.
    NoSchedule,
    /// Keeps pods away if there is room elsewhere.
    PreferNoSchedule,
    /// Drives pods away.
    NoExecute,
}

impl TaintEffect {
    /// As pods say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// Labels by key, bounded as Kubernetes bounds them.
pub(crate) fn labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

/// Ports of nodes, from one to another.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("self.from <= self.to").message("a range goes from the lower port to the higher"))]
#[serde(rename_all = "camelCase")]
pub struct NodePortRange {
    /// The first.
    #[schemars(range(min = 1, max = 65535))]
    pub from: i32,
    /// The last, which is among them.
    #[schemars(range(min = 1, max = 65535))]
    pub to: i32,
}

/// Kinds of Services.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// An address within the cluster; always allowed.
    ClusterIP,
    /// A port on every node.
    NodePort,
    /// An address from outside.
    LoadBalancer,
    /// A name that leads elsewhere.
    ExternalName,
}

impl ServiceType {
    /// As Services say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        }
    }
}
