//! What the tests of this program share.

use freehold_crds::{Boundary, Tenant};
use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::desired::{Kind, Object};

/// A Tenant as the API server would give it.
pub fn tenant(name: &str, spec: Value) -> Tenant {
    serde_json::from_value(json!({
        "apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant",
        "metadata": {"name": name, "uid": format!("uid-of-{name}"), "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

/// Fails if the kind does not know a field of the object: the API server would drop it in silence.
pub fn is_typed(object: &Object) {
    fn keeps<K: DeserializeOwned + Serialize>(document: &Value) {
        let read: K = serde_json::from_value(document.clone()).unwrap();
        let written = serde_json::to_value(read).unwrap();
        for (key, value) in document.as_object().unwrap() {
            assert_eq!(&written[key], value, "{key} is not kept");
        }
    }
    let document = &object.document;
    match object.kind {
        Kind::Boundary => keeps::<Boundary>(document),
        Kind::ResourceQuota => keeps::<ResourceQuota>(document),
        Kind::LimitRange => keeps::<LimitRange>(document),
        Kind::NetworkPolicy => keeps::<NetworkPolicy>(document),
        Kind::RoleBinding => keeps::<RoleBinding>(document),
        Kind::ClusterRole => keeps::<ClusterRole>(document),
        Kind::ClusterRoleBinding => keeps::<ClusterRoleBinding>(document),
        Kind::RuntimeClass => keeps::<RuntimeClass>(document),
        // No type of ours; a live test has the API server read it by the schema.
        Kind::ClusterNetworkPolicyBeta | Kind::ClusterNetworkPolicyAlpha => {}
    }
}
