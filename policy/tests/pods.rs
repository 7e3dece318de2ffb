//! Pods: what the table of cases can't say.

use freehold_crds::BoundarySpec;
use freehold_policy::{Phase, pods};
use proptest::prelude::*;
use serde_json::{Value, json};

fn boundary() -> BoundarySpec {
    let pods = json!({"runtimeClassNames": {"default": "freehold-microvm", "allowed": ["freehold-microvm", "kata-*"]}});
    BoundarySpec { pods: decode(&pods), ..BoundarySpec::default() }
}

fn decode<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the case is no such object")
}

/// A compliant pod with `change` merged over its spec.
fn pod(change: Value) -> Value {
    let mut pod =
        json!({"metadata": {"name": "p"}, "spec": {"runtimeClassName": "freehold-microvm", "containers": [{"name": "c"}]}});
    json_patch::merge(&mut pod["spec"], &change);
    pod
}

#[test]
fn patch_completes_and_message_is_for_people() {
    let limits = boundary();
    let mut object = pod(json!({"runtimeClassName": null}));
    let decision = pods::check(&limits, "a", Phase::Complete, None, &decode(&object));
    assert!(decision.admitted());
    json_patch::patch(&mut object, &decision.patch).expect("the patch applies");
    assert_eq!(object, pod(json!({})));
    let decision = pods::check(&limits, "a", Phase::Complete, None, &decode(&pod(json!({"runtimeClassName": "runc"}))));
    let expect = r#"spec.runtimeClassName is "runc", refused by rule "runtime classes"; allowed: freehold-microvm, kata-*"#;
    assert_eq!(decision.message(), expect);
    let closed = pods::check(&BoundarySpec::default(), "a", Phase::Complete, None, &decode(&pod(json!({}))));
    assert!(!closed.admitted(), "a Boundary that lists nothing is closed");
    let template = pods::check_template(
        &limits,
        "a",
        "spec.template.",
        None,
        &decode(&pod(json!({"runtimeClassName": "runc", "hostIPC": true}))),
    );
    let fields: Vec<_> = template.denials.iter().map(|denial| denial.field.as_str()).collect();
    assert_eq!(fields, ["spec.template.spec.hostIPC", "spec.template.spec.runtimeClassName"]);
}

/// Row G6: what a list says is a name, or the beginning of one; no text in it is an expression that somebody evaluates.
#[test]
fn patterns_are_no_expressions() {
    let admits = |pattern: &str, image: &str| {
        let mut limits = boundary();
        limits.pods.images.registries = Some(vec![pattern.to_owned()]);
        let pod = pod(json!({"containers": [{"name": "c", "image": image}]}));
        pods::check(&limits, "a", Phase::Judge, None, &decode(&pod)).admitted()
    };
    let long = "a".repeat(4000);
    for (pattern, image, expect) in [
        ("registry.example/pay/*", "registry.example/pay/x:1", true),
        ("registry.example/(pay|.*)", "registry.example/pay", false),
        ("registry.example/.*", "registry.example/pay/x:1", false),
        ("registry.example/(a+)+$", &format!("registry.example/{long}!"), false),
        ("registry.example/**", "registry.example/pay", false),
        ("*/x", "registry.example/x", false),
        ("object.spec.x == 'y' || true", "registry.example/x", false),
    ] {
        assert_eq!(admits(pattern, image), expect, "{pattern}: {image}");
    }
}

proptest! {
    /// What the mutating call admits, with its patch, is what the validating call admits, and nothing is left to patch.
    #[test]
    fn completed_pods_are_admitted(name in proptest::option::of("(freehold-microvm|runc|kata-[a-z]{1,4}|)"), pid: bool) {
        let limits = boundary();
        let mut object = pod(json!({"runtimeClassName": name, "hostPID": pid}));
        let first = pods::check(&limits, "a", Phase::Complete, None, &decode(&object));
        if first.admitted() {
            json_patch::patch(&mut object, &first.patch).expect("the patch applies");
        }
        let second = pods::check(&limits, "a", Phase::Judge, None, &decode(&object));
        prop_assert_eq!(first.admitted(), second.admitted());
        prop_assert!(second.patch.0.is_empty());
    }
}
