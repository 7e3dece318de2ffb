//! The manifests that people of the tests send, each the nearest compliant one; attacks change one thing in them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};

/// The image of every test pod: busybox and nothing else.
pub fn image() -> String {
    std::env::var("FREEHOLD_TEST_IMAGE").unwrap_or_else(|_| "freehold.dev/test:dev".to_owned())
}

/// A namespace, with the tenant's label if one is named.
pub fn namespace(name: &str, tenant: Option<&str>) -> Namespace {
    let labels = tenant.map(|tenant| json!({"freehold.dev/tenant": tenant}));
    from(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}))
}

fn pod_spec(script: &str) -> Value {
    json!({
        "terminationGracePeriodSeconds": 2,
        "containers": [{
            "name": "main", "image": image(), "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", script],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
        }],
    })
}

/// A pod that runs `script` and names its runtime class; `changes` are JSON pointers into its spec and new values.
pub fn pod(name: &str, script: &str, changes: &[(&str, Value)]) -> Pod {
    let mut spec = pod_spec(script);
    spec["runtimeClassName"] = json!("freehold-microvm");
    spec["restartPolicy"] = json!("Never");
    for (path, value) in changes {
        if let Some((parent, key)) = path.rsplit_once('/')
            && let Some(Value::Object(object)) = spec.pointer_mut(parent)
        {
            object.insert(key.to_owned(), value.clone());
        }
    }
    from(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
}

/// A Deployment of one such pod, without a runtime class where `runtime_class` is none.
pub fn deployment(name: &str, script: &str, runtime_class: Option<&str>) -> Deployment {
    let mut spec = pod_spec(script);
    spec["runtimeClassName"] = json!(runtime_class);
    from(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": spec}},
    }))
}

/// Pods that nobody may have here: what is wrong with each, and the change to the compliant pod.
pub fn hostile_pods() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("privileged", "/containers/0/securityContext", json!({"privileged": true})),
        ("hostPath", "/volumes", json!([{"name": "host", "hostPath": {"path": "/"}}])),
        ("hostNetwork", "/hostNetwork", json!(true)),
        ("hostPID", "/hostPID", json!(true)),
        ("hostPort", "/containers/0/ports", json!([{"containerPort": 80, "hostPort": 80}])),
        ("capability SYS_ADMIN", "/containers/0/securityContext", json!({"capabilities": {"add": ["SYS_ADMIN"]}})),
    ]
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the test's own manifests fit their types")
}
