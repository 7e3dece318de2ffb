//! What must exist, as a function of Tenants, their namespaces and SandboxRuntimes.
//!
//! Input is plain data, output are [`Object`]s; the edge applies them with server-side apply and deletes what carries our
//! label and is not among them. It stands apart so that each decision is one row of a table in the tests.

pub mod budget;
pub mod cluster_network;
pub mod declared;
pub mod heir;
pub mod hosts;
pub mod leavers;
pub mod namespace;
pub mod network;
pub mod probe;
pub mod resolve;
pub mod runtime;
pub mod siblings;
pub mod tenant;
pub mod trust;

use freehold_crds::{GROUP, TENANT_LABEL};
use kube::api::ApiResource;
use serde_json::{Value, json};

/// The label that everything of ours carries; the floor lets nobody else write what has it in a tenant's namespace.
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_LABEL`].
pub const MANAGED: &str = "freehold";

/// The group of ClusterNetworkPolicies, which are no part of Kubernetes itself.
const CLUSTER_POLICIES: &str = "policy.networking.k8s.io";

/// The kinds of objects that are written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Last in a namespace: with it the floor lets pods in.
    Boundary,
    /// A namespace's share of the tenant's quota.
    ResourceQuota,
    /// Requests of containers that state none.
    LimitRange,
    /// Traffic in and out of a namespace.
    NetworkPolicy,
    /// Rights inside a namespace.
    RoleBinding,
    /// The right to own one Tenant.
    ClusterRole,
    /// Who has it.
    ClusterRoleBinding,
    /// What pods name to get a sandbox.
    RuntimeClass,
    /// Traffic before NetworkPolicies, in the version that the API's project calls stable enough to keep.
    ClusterNetworkPolicyBeta,
    /// The same in the version before.
    ClusterNetworkPolicyAlpha,
}

impl Kind {
    /// The kinds of which a cluster may serve one, or none; the first that it serves is written.
    pub const OPTIONAL: [Self; 2] = [Self::ClusterNetworkPolicyBeta, Self::ClusterNetworkPolicyAlpha];

    /// Every kind that is always there.
    pub const ALL: [Self; 8] = [
        Self::Boundary,
        Self::ResourceQuota,
        Self::LimitRange,
        Self::NetworkPolicy,
        Self::RoleBinding,
        Self::ClusterRole,
        Self::ClusterRoleBinding,
        Self::RuntimeClass,
    ];

    /// Whether what it refers to can't be changed: it must be made anew.
    pub fn has_fixed_fields(self) -> bool {
        matches!(self, Self::RoleBinding | Self::ClusterRoleBinding)
    }

    /// Group, version, kind and plural.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Boundary => (GROUP, "v1alpha1", "Boundary", "boundaries"),
            Self::ResourceQuota => ("", "v1", "ResourceQuota", "resourcequotas"),
            Self::LimitRange => ("", "v1", "LimitRange", "limitranges"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
            Self::ClusterRole => ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
            Self::ClusterRoleBinding => ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
            Self::RuntimeClass => ("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses"),
            Self::ClusterNetworkPolicyBeta => (CLUSTER_POLICIES, "v1beta1", "ClusterNetworkPolicy", "clusternetworkpolicies"),
            Self::ClusterNetworkPolicyAlpha => (CLUSTER_POLICIES, "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
        };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// One object as it must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; None for kinds of the cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it, as it is applied.
    pub document: Value,
}

impl Object {
    /// An object with our labels; `labels` come on top, `body` is everything beside kind and metadata.
    fn new(kind: Kind, namespace: Option<&str>, name: &str, labels: &[(&str, &str)], body: Value) -> Self {
        let resource = kind.resource();
        let mut document = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name, "labels": {MANAGED_LABEL: MANAGED}},
        });
        for (key, value) in labels {
            document["metadata"]["labels"][key] = (*value).into();
        }
        if let Some(namespace) = namespace {
            document["metadata"]["namespace"] = namespace.into();
        }
        if let (Value::Object(document), Value::Object(body)) = (&mut document, body) {
            document.extend(body);
        }
        Self { kind, namespace: namespace.map(str::to_owned), name: name.to_owned(), document }
    }

    /// An object of a tenant.
    fn of_tenant(kind: Kind, tenant: &str, namespace: Option<&str>, name: &str, body: Value) -> Self {
        Self::new(kind, namespace, name, &[(TENANT_LABEL, tenant)], body)
    }

    /// Whether what is stored is already what must be: every field that is written here has its value, and no field beside
    /// them was added to its top level or its spec's maps. Labels of others are left alone.
    pub fn is_settled(&self, live: &Value) -> bool {
        let Value::Object(fields) = &self.document else { return false };
        fields.iter().filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind")).all(|(key, wanted)| {
            if key != "metadata" {
                return same(wanted, &live[key]);
            }
            let has = |key: &str, value: &Value| same(value, &live["metadata"][key]);
            let labels = wanted["labels"].as_object().into_iter().flatten();
            labels.into_iter().all(|(key, value)| live["metadata"]["labels"][key] == *value)
                // Of foreign owners an object of ours would go with them, and foreign finalizers would keep it.
                && has("ownerReferences", &wanted["ownerReferences"])
                && (live["metadata"].get("deletionTimestamp").is_some() || has("finalizers", &Value::Null))
        })
    }
}

/// Equal, where an empty object and none are the same: servers differ in writing them.
fn same(one: &Value, other: &Value) -> bool {
    let nothing = |value: &Value| value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    match (one, other) {
        (Value::Object(first), Value::Object(second)) => {
            first.iter().all(|(key, value)| same(value, &other[key]))
                && second.iter().all(|(key, value)| first.contains_key(key) || nothing(value))
        }
        (Value::Array(first), Value::Array(second)) => {
            // Inside lists nothing is forgiven: there `{}` selects everything and its absence nothing.
            first == second
        }
        _ => one == other || (nothing(one) && nothing(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_is_told_from_drift() {
        let object = Object::of_tenant(
            Kind::NetworkPolicy,
            "a",
            Some("a-dev"),
            "x",
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}], "policyTypes": ["Ingress"]}}),
        );
        let live = |change: fn(&mut Value)| {
            let mut live = object.document.clone();
            live["metadata"]["resourceVersion"] = "7".into();
            change(&mut live);
            object.is_settled(&live)
        };
        assert!(live(|_| {}));
        assert!(live(|live| live["metadata"]["labels"]["else"] = "x".into()), "labels of others stay");
        assert!(live(|live| live["spec"]["podSelector"] = Value::Null), "an empty selector may not be written");
        assert!(!live(|live| live["metadata"]["labels"][MANAGED_LABEL] = "helm".into()), "our label");
        let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}]);
        let mut owned = object.document.clone();
        owned["metadata"]["ownerReferences"] = owner;
        assert!(!object.is_settled(&owned), "a foreign owner");
        assert!(!live(|live| live["metadata"]["finalizers"] = json!(["example.com/never"])), "a foreign finalizer");
        assert!(!live(|live| live["spec"]["policyTypes"] = json!([])), "a changed field");
        assert!(!live(|live| live["spec"]["egress"] = json!([{}])), "an added field");
        assert!(!live(|live| live["spec"]["ingress"] = json!([{"from": [{}]}])), "a changed peer");
    }
}
