//! What one review of a pod costs in process: read, decide, encode. Prints microseconds; `make bench` says them beside the rest.
//!
//! No harness: a median and a high quantile of many reviews is all that is asked.

use std::time::Instant;

use freehold_crds::{BoundarySpec, ClassNames, PodBoundary};
use freehold_policy::Phase;
use freehold_webhook::decide::{Bounds, Found, decide};
use freehold_webhook::review::read;
use serde_json::json;

const WARM: usize = 2_000;
const REVIEWS: usize = 20_000;

fn review() -> Vec<u8> {
    let volume = json!([{"name": "kube-api-access", "projected": {"sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}]);
    let container = json!({
        "name": "web", "image": "registry.example/pay/web:1.2.3", "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true}],
    });
    let spec = json!({
        "serviceAccountName": "default", "schedulerName": "default-scheduler", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [container, container], "volumes": volume,
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        ],
    });
    let labels = json!({"app.kubernetes.io/name": "web", "pod-template-hash": "5d9c7b8f6d"});
    let request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "team-a-dev", "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:serviceaccounts", "system:authenticated"]},
        "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "namespace": "team-a-dev", "labels": labels}, "spec": spec},
        "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    });
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}).to_string().into_bytes()
}

fn main() {
    let bytes = review();
    let runtime_class_names = ClassNames { default: Some("freehold-microvm".into()), allowed: vec!["freehold-microvm".into()] };
    let mut pods = PodBoundary { runtime_class_names, ..PodBoundary::default() };
    pods.images.registries = Some(vec!["registry.example/pay/*".to_owned(), "docker.io/library/*".to_owned()]);
    let boundary = BoundarySpec { pods, ..BoundarySpec::default() };
    let mut times = Vec::with_capacity(REVIEWS);
    for n in 0..WARM + REVIEWS {
        let found = Found::Bounds(Bounds::Found(Box::new(boundary.clone())));
        let began = Instant::now();
        let review = read(&bytes).expect("it is a review");
        let answer = decide(Phase::Complete, &review, found);
        let encoded = answer.encode(&review.uid).expect("an answer has a form");
        let took = began.elapsed();
        assert!(answer.allowed && encoded.len() > 100, "{}", answer.message);
        if n >= WARM {
            times.push(took);
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
    println!("{:.1} {:.1}", at(0.5), at(0.99));
}
