//! The parts of a Tenant that say what its objects may say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{PodSecurityLevel, TolerationRule, UserNamespaces};

/// How much rights pods may have.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantPodSecurity {
    /// The level of the Pod Security Standards; Baseline if absent, and at least that always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<PodSecurityLevel>,
    /// Whether pods need user namespaces; Optional if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<UserNamespaces>,
}

/// Which nodes pods may run on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantNodes {
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
}

/// What the tenant may do at the Kubernetes API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TenantApi {
    /// Whom ServiceAccount tokens may be for, beside the API server: an exact audience, or a prefix followed by `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub token_audiences: Option<Vec<String>>,
}
