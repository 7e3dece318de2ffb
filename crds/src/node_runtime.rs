//! NodeRuntime: what one node's installer says about one SandboxRuntime, with the canary as its proof.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one node's installer says about one SandboxRuntime. Written by the installer, owned by the Node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "NodeRuntime",
    shortname = "ndr",
    category = "freehold",
    status = "NodeRuntimeStatus",
    derive = "PartialEq",
    doc = "What one node's installer says about one SandboxRuntime, with the canary as its proof.",
    validation = Rule::new("self.metadata.name == self.spec.sandboxRuntimeName + '.' + self.spec.nodeName").message("a NodeRuntime is named <sandboxRuntimeName>.<nodeName>"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".spec.sandboxRuntimeName"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Accel", type_ = "string", json_path = ".status.acceleration"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.versions[?(@.state=='Current')].version"),
    printcolumn(name = "Start", type_ = "integer", json_path = ".status.canary.startMilliseconds"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("node and runtime of a NodeRuntime never change; make another one"))]
#[serde(rename_all = "camelCase")]
pub struct NodeRuntimeSpec {
    /// The node that reports.
    #[schemars(length(min = 1, max = 200))]
    pub node_name: String,
    /// The SandboxRuntime it reports about.
    #[schemars(length(min = 1, max = 40))]
    pub sandbox_runtime_name: String,
}

/// What the installer found and proved.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeRuntimeStatus {
    /// The container runtime of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<ContainerRuntime>,
    /// Versions of the bundle on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub versions: Vec<BundleVersion>,
    /// How VMs run on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<Acceleration>,
    /// The last VM that was started as a proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Ready and, where it is False, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The container runtime of a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRuntime {
    /// containerd.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// The file our handler is configured in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub config_path: Option<String>,
}

/// A version of the bundle on a node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct BundleVersion {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// What it is used for.
    pub state: BundleState,
    /// Pods that run with it, where counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<i32>,
}

/// What a version of the bundle is used for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleState {
    /// New pods start with it.
    Current,
    /// Only running pods use it.
    InUse,
}

/// How VMs run.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// By the processor.
    KVM,
    /// By emulation in software.
    Emulated,
    /// Not at all.
    None,
}

/// A VM that was started as a proof.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// The guest kernel it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub kernel_release: Option<String>,
    /// How long its start took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_milliseconds: Option<i64>,
}
