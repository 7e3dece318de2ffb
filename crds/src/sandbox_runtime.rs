//! SandboxRuntime: one way of running pods apart from the node's kernel, and the RuntimeClass it is offered by.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One way of running pods apart from the node's kernel.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "SandboxRuntime",
    shortname = "sbr",
    category = "freehold",
    status = "SandboxRuntimeStatus",
    derive = "PartialEq",
    doc = "One way of running pods apart from the node's kernel.",
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("a SandboxRuntime's name is a DNS label of at most 40 characters"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "RuntimeClass", type_ = "string", json_path = ".status.runtimeClassName"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("(self.type == 'MicroVM') == has(self.microVM)").message("exactly the member that matches the type must be set: microVM for MicroVM"))]
#[serde(rename_all = "camelCase")]
pub struct SandboxRuntimeSpec {
    /// What kind of sandbox this is.
    #[serde(rename = "type")]
    pub type_: SandboxRuntimeType,
    /// Options of type MicroVM.
    #[serde(rename = "microVM", default, skip_serializing_if = "Option::is_none")]
    pub micro_vm: Option<MicroVm>,
    /// The RuntimeClass pods name.
    pub runtime_class: SandboxRuntimeClass,
}

/// Kinds of sandboxes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxRuntimeType {
    /// A virtual machine per pod with a kernel of its own.
    MicroVM,
}

/// Options of a microVM.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MicroVm {
    /// Whether a node without hardware virtualization may run VMs by emulation; Never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulation: Option<Emulation>,
    /// Memory of a VM whose containers have no limit; 256Mi if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::quantity_schema")]
    pub default_memory: Option<Quantity>,
    /// Whether VMs begin as clones of one that has booted already; Off if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
}

/// Whether VMs begin as clones; Off if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Templates {
    /// Every VM boots.
    #[default]
    Off,
    /// Each node keeps one booted VM's memory for each tenant that runs pods there, and clones it. A tenant's VMs on a node then
    /// have the same kernel addresses.
    PerTenant,
}

/// Whether VMs may run without hardware virtualization; Never if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emulation {
    /// A node without hardware virtualization is not ready.
    #[default]
    Never,
    /// Such a node runs VMs by emulation: the boundary is weaker and everything is many times slower.
    Allow,
}

/// The RuntimeClass of a sandbox.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRuntimeClass {
    /// Its name, which is also the name of the handler on nodes.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who writes it; Managed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<RuntimeClassOwnership>,
}

/// Who writes a RuntimeClass; Managed if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeClassOwnership {
    /// The operator.
    #[default]
    Managed,
    /// Someone else; the operator only reads it.
    Existing,
}

/// What the operator observed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRuntimeStatus {
    /// Generation of the spec this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The RuntimeClass that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Nodes by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<SandboxRuntimeNodes>,
    /// Ready and, where it is False, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Nodes by state.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SandboxRuntimeNodes {
    /// Nodes that report about the runtime.
    pub matched: i32,
    /// Nodes whose canary passed.
    pub ready: i32,
    /// Nodes that say they are not ready.
    pub failed: i32,
}
