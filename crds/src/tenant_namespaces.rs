//! The namespaces of a tenant: how many, how they are named and labelled, which are there from the start.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The namespaces of a tenant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.declared) || self.declared.all(d, !d.name.startsWith('kube-') && !(d.name in ['default', 'freehold-system', 'freehold-node']))").message("a declared namespace is none of the system's: no name that begins with kube-, nor default, freehold-system, freehold-node"))]
#[serde(rename_all = "camelCase")]
pub struct TenantNamespaces {
    /// How many namespaces the tenant may make, each with a share of the quota; 5 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<i32>,
    /// How owners may name them; Prefixed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_policy: Option<NamePolicy>,
    /// Who may delete them; Owners if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<NamespaceDeletion>,
    /// Namespaces that are made if they are not there. One that leaves the list stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub declared: Option<Vec<DeclaredNamespace>>,
    /// Labels of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<NamespaceLabels>,
    /// Annotations of the namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<NamespaceAnnotations>,
}

/// How owners may name namespaces; Prefixed if absent. The platform team may name them as it likes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamePolicy {
    /// The tenant's name, or that with a dash and more: no name that something else of the cluster still refers to.
    #[default]
    Prefixed,
    /// Any name that is free.
    Any,
}

/// Who may delete a tenant's namespaces; Owners if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamespaceDeletion {
    /// Owners with the role `admin`, and the platform team.
    #[default]
    Owners,
    /// The platform team alone: what is in them goes only piece by piece.
    Platform,
}

/// A namespace that is made if it is not there.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.labels) || self.labels.all(k, !k.startsWith('freehold.dev/') && !k.startsWith('pod-security.kubernetes.io/enforce') && !k.endsWith('/admin-access'))").message("labels freehold.dev/..., pod-security.kubernetes.io/enforce... and .../admin-access are not given by a Tenant; podSecurity.level says how much pods may do"))]
#[serde(rename_all = "camelCase")]
pub struct DeclaredNamespace {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Labels that it gets when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::choice::labels_schema")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// Labels that are given, needed or kept away.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("!has(self.managed) || self.managed.all(k, !k.startsWith('freehold.dev/') && !k.startsWith('pod-security.kubernetes.io/enforce') && !k.endsWith('/admin-access'))").message("labels freehold.dev/..., pod-security.kubernetes.io/enforce... and .../admin-access are not given by a Tenant; podSecurity.level says how much pods may do"))]
#[serde(rename_all = "camelCase")]
pub struct NamespaceLabels {
    /// Labels that each has with this value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::choice::labels_schema")]
    pub managed: Option<BTreeMap<String, String>>,
    /// Labels that each must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub required: Option<Vec<RequiredLabel>>,
    /// Labels that owners may not set: a key, or a prefix followed by `*`; upper and lower case are the same here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub forbidden: Option<Vec<String>>,
}

/// A label that a namespace must have.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RequiredLabel {
    /// Its key.
    #[schemars(length(min = 1, max = 316))]
    pub key: String,
    /// Its values; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 63)))]
    pub values: Option<Vec<String>>,
}

/// Annotations that are kept away.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceAnnotations {
    /// Annotations that owners may not set: a key, or a prefix followed by `*`; upper and lower case are the same here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 316)))]
    pub forbidden: Option<Vec<String>>,
}
