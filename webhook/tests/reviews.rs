//! From the JSON of an AdmissionReview to the JSON of the answer: a table, and input that is hostile.

use std::collections::BTreeSet;

use freehold_crds::{BoundarySpec, ClassNames, EnforcementMode, PodBoundary, TenantReference};
use freehold_policy::Phase;
use freehold_policy::namespaces::{ADOPT, BELONG, OWN, Question, ROAM};
use freehold_webhook::decide::{Bounds, Found, MAX_WARNED_CHARACTERS, Need, RequesterAnswers, decide, need};
use freehold_webhook::review::{MAX_MESSAGE_CHARACTERS, MAX_REVIEW_BYTES, read};
use serde_json::{Value, json};

fn review(resource: &str, operation: &str, object: Value, old: Value) -> Vec<u8> {
    let (name, sub) = resource.split_once('/').map_or((resource, None), |(name, sub)| (name, Some(sub)));
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": name}, "subResource": sub,
            "name": "x", "namespace": "team-a-dev", "operation": operation,
            "userInfo": {"username": "alice", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["a"]}},
            "object": object, "oldObject": old, "dryRun": false, "options": {"kind": "CreateOptions"},
        }
    });
    serde_json::to_vec(&review).unwrap()
}

fn answered(phase: Phase, bytes: &[u8], found: Found) -> Value {
    let review = read(bytes).unwrap();
    let encoded = decide(phase, &review, found).encode(&review.uid).unwrap();
    let answer: Value = serde_json::from_slice(&encoded).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], "705ab4f5");
    answer["response"].clone()
}

/// The patch of an answer, decoded from base64 by the type that the API server's own form is made with.
fn patch(response: &Value) -> Value {
    let bytes: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    assert_eq!(response["patchType"], "JSONPatch");
    serde_json::from_slice(&bytes.0).unwrap()
}

fn boundary(enforcement_mode: EnforcementMode) -> Found {
    let runtime_class_names = ClassNames { default: Some("freehold-microvm".into()), allowed: vec!["freehold-microvm".into()] };
    let pods = PodBoundary { runtime_class_names, ..PodBoundary::default() };
    let tenant = TenantReference { name: "team-a".into(), ..TenantReference::default() };
    Found::Bounds(Bounds::Found(Box::new(BoundarySpec { tenant, enforcement_mode, pods, ..BoundarySpec::default() })))
}

fn enforced() -> Found {
    boundary(EnforcementMode::Enforce)
}

fn pod(changes: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "main", "image": "x"}]});
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
}

fn namespace(labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a-dev", "labels": labels}})
}

fn says(allowed: &[(&'static str, Option<&str>)], owned: &[&str]) -> Found {
    let allowed =
        allowed.iter().map(|(verb, tenant)| Question { verb, tenant: tenant.map(str::to_owned) }).collect::<BTreeSet<_>>();
    Found::Requester(Ok(RequesterAnswers { allowed, owned: owned.iter().map(|name| (*name).to_owned()).collect(), rules: None }))
}

#[test]
fn a_pod_without_a_runtime_class_gets_the_default_and_the_final_one_is_judged() {
    let bytes = review("pods", "CREATE", pod(json!({})), Value::Null);
    assert_eq!(need(&read(&bytes).unwrap()), Need::Boundary("team-a-dev".into()));
    let response = answered(Phase::Complete, &bytes, enforced());
    assert_eq!(response["allowed"], true);
    assert_eq!(patch(&response), json!([{"op": "add", "path": "/spec/runtimeClassName", "value": "freehold-microvm"}]));
    let response = answered(Phase::Judge, &bytes, enforced());
    assert_eq!(response["allowed"], false, "another webhook took it out again");
}

#[test]
fn all_that_stands_against_a_pod_is_said_at_once() {
    let hostile = pod(json!({
        "hostNetwork": true, "hostPID": true, "runtimeClassName": "runc",
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
        "containers": [{"name": "main", "securityContext": {"privileged": true}}],
    }));
    let response = answered(Phase::Complete, &review("pods", "CREATE", hostile, Value::Null), enforced());
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(403)));
    assert!(response.get("patch").is_none());
    let message = response["status"]["message"].as_str().unwrap();
    for part in [
        "5 things stand against this pod",
        "spec.hostNetwork",
        "spec.hostPID",
        "spec.volumes[0]",
        "privileged",
        "spec.runtimeClassName is \"runc\"",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn a_boundary_that_only_looks_warns() {
    let bytes = review("pods", "CREATE", pod(json!({"runtimeClassName": "runc"})), Value::Null);
    let response = answered(Phase::Judge, &bytes, boundary(EnforcementMode::Warn));
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("freehold would refuse this pod"), "{response}");
}

/// Audit is silent to who asks, and told to the audit log like the others.
#[test]
fn what_stands_against_an_object_is_told_by_mode() {
    let runc = || pod(json!({"runtimeClassName": "runc"}));
    let bytes = review("pods", "CREATE", runc(), Value::Null);
    for (mode, allowed, warned, outcome) in [
        (EnforcementMode::Enforce, false, false, "denied"),
        (EnforcementMode::Warn, true, true, "warned"),
        (EnforcementMode::Audit, true, false, "audited"),
    ] {
        let response = answered(Phase::Complete, &bytes, boundary(mode));
        assert_eq!(response["allowed"], allowed, "{mode:?}");
        assert_eq!(response.get("warnings").is_some(), warned, "{mode:?}: {response}");
        let told = json!({"tenant": "team-a", "outcome": outcome, "rules": "runtime classes"});
        assert_eq!(response["auditAnnotations"], told, "{mode:?}");
    }
    let hidden =
        review("pods", "CREATE", pod(json!({"runtimeClassName": "runc", "hostPID": true, "nodeName": "x"})), Value::Null);
    let response = answered(Phase::Complete, &hidden, enforced());
    assert_eq!(response["auditAnnotations"]["rules"], "host namespaces, node names, runtime classes");
    let response = answered(Phase::Complete, &review("pods", "CREATE", pod(json!({})), Value::Null), enforced());
    assert!(response.get("auditAnnotations").is_none(), "{response}");
}

/// A label that anybody can write is nobody's word for whose a namespace is.
#[test]
fn a_namespace_is_told_as_that_of_whom_it_is() {
    let label = |tenant: &str| namespace(json!({"freehold.dev/tenant": tenant}));
    let foreign =
        answered(Phase::Complete, &review("namespaces", "CREATE", label("team-b"), Value::Null), says(&[], &["team-a"]));
    assert_eq!((&foreign["allowed"], &foreign["auditAnnotations"]["tenant"]), (&json!(false), &Value::Null), "{foreign}");
    let leaves =
        answered(Phase::Complete, &review("namespaces", "UPDATE", namespace(json!({})), label("team-a")), says(&[], &[]));
    assert_eq!(leaves["auditAnnotations"]["tenant"], "team-a", "{leaves}");
}

#[test]
fn pods_where_no_boundary_is() {
    let bytes = review("pods", "CREATE", pod(json!({})), Value::Null);
    let missing = Found::Bounds(Bounds::Missing { tenant: "team-a".into() });
    let response = answered(Phase::Complete, &bytes, missing);
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("has no Boundary"), "{response}");
    let response = answered(Phase::Complete, &bytes, Found::Bounds(Bounds::Free));
    assert_eq!(response, json!({"uid": "705ab4f5", "allowed": true}), "a namespace of no tenant is none of our business");
}

#[test]
fn what_is_not_ours_to_judge_passes_without_a_look_up() {
    let mut ending = pod(json!({"hostNetwork": true}));
    ending["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    let mut ending_namespace = namespace(json!({}));
    ending_namespace["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    for (what, bytes) in [
        ("a pod that ends", review("pods", "UPDATE", ending, pod(json!({})))),
        (
            "a namespace that ends",
            review("namespaces", "UPDATE", ending_namespace, namespace(json!({"freehold.dev/tenant": "a"}))),
        ),
        ("another kind", review("secrets", "CREATE", json!({"data": {}}), Value::Null)),
        ("a pod's status", review("pods/status", "UPDATE", pod(json!({})), pod(json!({})))),
        ("a deletion", review("pods", "DELETE", Value::Null, pod(json!({"hostPID": true})))),
        (
            "a namespace that was and is nobody's",
            review("namespaces", "UPDATE", namespace(json!({"a": "b"})), namespace(json!({}))),
        ),
    ] {
        assert_eq!(need(&read(&bytes).unwrap()), Need::Nothing, "{what}");
        assert_eq!(answered(Phase::Judge, &bytes, Found::Nothing)["allowed"], true, "{what}");
    }
}

#[test]
fn an_added_debug_container_is_judged() {
    let debugged = pod(json!({"ephemeralContainers": [{"name": "d", "securityContext": {"privileged": true}}]}));
    let bytes = review("pods/ephemeralcontainers", "UPDATE", debugged, pod(json!({})));
    let response = answered(Phase::Judge, &bytes, enforced());
    assert!(response["status"]["message"].as_str().unwrap().contains("ephemeralContainers[0]"), "{response}");
}

#[test]
fn namespaces() {
    let owns = says(&[(OWN, Some("team-a"))], &[]);
    let belongs = |owned: &[&str]| says(&[(BELONG, None)], owned);
    let label = |tenant: &str| namespace(json!({"freehold.dev/tenant": tenant}));
    let none = || namespace(Value::Null);
    let cases = [
        ("her own label", "CREATE", label("team-a"), Value::Null, owns.clone(), Ok(())),
        ("another's label", "CREATE", label("team-b"), Value::Null, says(&[], &["team-a"]), Err("allowed: team-a")),
        ("no label, no owner", "CREATE", none(), Value::Null, says(&[], &[]), Ok(())),
        ("no label, wide administrator", "CREATE", none(), Value::Null, says(&[(BELONG, None), (ROAM, None)], &[]), Ok(())),
        ("no label, two tenants", "CREATE", none(), Value::Null, belongs(&["a", "b"]), Err("say which: a, b")),
        ("no label, none yet", "CREATE", none(), Value::Null, belongs(&[]), Err("ask the platform team")),
        ("takes the label off", "UPDATE", none(), label("team-a"), owns.clone(), Err("unchanged")),
        ("takes it off as platform", "UPDATE", none(), label("team-a"), says(&[(ADOPT, Some("team-a"))], &[]), Ok(())),
        ("unanswered", "CREATE", label("team-b"), Value::Null, Found::Requester(Err("no answer".into())), Ok(())),
    ];
    for (what, operation, object, old, found, expected) in cases {
        let bytes = review("namespaces", operation, object, old);
        assert!(matches!(need(&read(&bytes).unwrap()), Need::Requester { .. }), "{what}");
        let response = answered(Phase::Complete, &bytes, found);
        match expected {
            Ok(()) => assert_eq!(response["allowed"], true, "{what}: {response}"),
            Err(part) => assert!(response["status"]["message"].as_str().unwrap().contains(part), "{what}: {response}"),
        }
    }
}

#[test]
fn an_owner_of_one_tenant_need_not_say_which() {
    for (labels, expected) in [
        (Value::Null, json!([{"op": "add", "path": "/metadata/labels", "value": {"freehold.dev/tenant": "team-a"}}])),
        (json!({"x": "y"}), json!([{"op": "add", "path": "/metadata/labels/freehold.dev~1tenant", "value": "team-a"}])),
    ] {
        let bytes = review("namespaces", "CREATE", namespace(labels), Value::Null);
        let belongs = says(&[(BELONG, None)], &["team-a"]);
        assert_eq!(patch(&answered(Phase::Complete, &bytes, belongs.clone())), expected);
        assert_eq!(answered(Phase::Judge, &bytes, belongs)["allowed"], false);
    }
    let bytes = review("namespaces", "CREATE", namespace(Value::Null), Value::Null);
    let Need::Requester { questions, owned: true, .. } = need(&read(&bytes).unwrap()) else { panic!("nothing was asked") };
    assert_eq!(questions.iter().map(|question| question.verb).collect::<Vec<_>>(), [BELONG, ROAM]);
}

#[test]
fn what_is_no_review_is_refused_with_its_uid_where_that_can_be_read() {
    let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let mut deep_object = review("pods", "CREATE", json!("HERE"), Value::Null);
    let text = String::from_utf8(deep_object).unwrap().replace("\"HERE\"", &format!("{{\"spec\":{{\"volumes\":{deep}}}}}"));
    deep_object = text.into_bytes();
    for (what, bytes, uid) in [
        ("nothing", Vec::new(), ""),
        ("text", b"hello".to_vec(), ""),
        ("no UTF-8", vec![0xff; 100], ""),
        ("an empty object", b"{}".to_vec(), ""),
        ("brackets without end", "[".repeat(1_000_000).into_bytes(), ""),
        ("another version", br#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#.to_vec(), ""),
        ("no request", br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#.to_vec(), ""),
        ("a pod that is a list", review("pods", "CREATE", json!([1, 2]), Value::Null), "705ab4f5"),
        ("a spec of another form", review("pods", "CREATE", json!({"spec": {"containers": 7}}), Value::Null), "705ab4f5"),
        ("a nesting of half a million", deep_object, "705ab4f5"),
    ] {
        let unreadable = read(&bytes).expect_err(what);
        assert_eq!(unreadable.uid, uid, "{what}");
    }
}

#[test]
fn a_message_stays_short_whatever_the_object() {
    let long = "é".repeat(5000);
    let containers: Vec<Value> = (0..2000)
        .map(|n| json!({"name": n.to_string(), "securityContext": {"privileged": true, "capabilities": {"add": [long]}}}))
        .collect();
    let mut many = containers;
    many.truncate(usize::try_from(MAX_REVIEW_BYTES).unwrap() / 11_000);
    let bytes = review("pods", "CREATE", pod(json!({"containers": many, "runtimeClassName": long})), Value::Null);
    let response = answered(Phase::Complete, &bytes, enforced());
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.chars().count() <= MAX_MESSAGE_CHARACTERS + 1);
    assert!(message.contains("things stand against this pod"), "{message}");
}

/// A manifest is mended once: every field is named, and all of it is handed on by the API server, which takes 4096 characters of warnings.
#[test]
fn every_field_is_named_at_once() {
    let containers: Vec<Value> = (0..40).map(|n| json!({"name": n.to_string(), "ports": [{"hostPort": 80 + n}]})).collect();
    let bytes = review("pods", "CREATE", pod(json!({"containers": containers, "runtimeClassName": "runc"})), Value::Null);
    let response = answered(Phase::Complete, &bytes, enforced());
    let message = response["status"]["message"].as_str().unwrap();
    for n in 0..40 {
        assert!(message.contains(&format!("spec.containers[{n}].ports[0].hostPort")), "{n} is not in: {message}");
    }

    let devices: Vec<Value> =
        (0..40).map(|n| json!({"name": n.to_string(), "resources": {"limits": {"example.com/d": "1"}}})).collect();
    for (containers, named) in [(&devices[..25], 25), (&devices[..], 30)] {
        let bytes =
            review("pods", "CREATE", pod(json!({"containers": containers, "runtimeClassName": "freehold-microvm"})), Value::Null);
        let response = answered(Phase::Complete, &bytes, boundary(EnforcementMode::Warn));
        let warnings: Vec<&str> = response["warnings"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        let all = warnings.join("\n");
        assert!(all.chars().count() <= MAX_WARNED_CHARACTERS, "{}: {all}", all.chars().count());
        for n in 0..named {
            assert!(all.contains(&format!("spec.containers[{n}].resources")), "{n} is not in: {all}");
        }
        assert_eq!(all.contains(" more"), named < containers.len(), "{all}");
    }
}
