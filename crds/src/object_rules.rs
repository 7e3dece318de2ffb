//! Labels and annotations of what is in a tenant's namespaces.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NamespaceAnnotations, NamespaceLabels};

/// What objects of some kinds carry. The webhook alone holds it: while none answers, objects come without.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRules {
    /// The kinds.
    #[schemars(length(min = 1, max = 16))]
    pub kinds: Vec<ObjectKind>,
    /// Their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<NamespaceLabels>,
    /// Their annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<NamespaceAnnotations>,
}

/// Kinds whose labels and annotations a Tenant may rule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A pod, whoever makes it; labels of workloads' pods stand in their templates.
    Pod,
    /// A Service.
    Service,
    /// An Ingress.
    Ingress,
    /// A claim of storage.
    PersistentVolumeClaim,
    /// A Deployment.
    Deployment,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A Job that nobody's controller made.
    Job,
    /// A CronJob.
    CronJob,
}

impl ObjectKind {
    /// As objects say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::Ingress => "Ingress",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
        }
    }
}
