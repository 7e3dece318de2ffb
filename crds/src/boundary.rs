//! Boundary: what is in force in one namespace of a tenant, resolved. Written by the operator, read by floor and webhook.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is in force in this namespace. Made by the operator from the Tenant; the floor's policies and the webhook judge by it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
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
    /// Whether the namespace takes new work.
    pub state: TenantState,
    /// What pods may say.
    pub pods: PodBoundary,
}

/// A Tenant, exactly.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
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

/// How violations are treated. Belonging and host access are enforced in every mode.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnforcementMode {
    /// Violations are denied.
    Enforce,
    /// Violations are admitted with a warning.
    Warn,
    /// Violations are admitted and recorded.
    Audit,
}

/// Whether a tenant takes new work.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantState {
    /// New work is taken.
    Active,
    /// Nothing new is admitted; what runs stays.
    Cordoned,
}

/// What pods may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodBoundary {
    /// The RuntimeClasses pods get and may name.
    pub runtime_class_names: ClassNames,
}

/// What an object that says nothing gets, and what it may say.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClassNames {
    /// What an object that says nothing gets; absent: it must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub default: Option<String>,
    /// What may be said: an exact name, or a prefix followed by `*`.
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub allowed: Vec<String>,
}
