//! Pods: one table of cases against the rules.

use freehold_policy::view::{Boundary, Pod};
use freehold_policy::{Phase, pods};
use proptest::prelude::*;
use serde_json::{Value, json};

mod floor;

fn boundary(mode: &str) -> Value {
    json!({"spec": {"enforcementMode": mode, "pods": {"runtimeClassNames": {
        "default": "freehold-microvm", "allowed": ["freehold-microvm", "kata-*"]}}}})
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

/// One container in each list with this content: a rule that forgets a list fails in the table.
fn each_list(content: Value) -> Vec<(Value, String)> {
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .map(|list| {
            let mut container = json!({"name": "x"});
            json_patch::merge(&mut container, &content);
            (pod(json!({list: [{"name": "first"}, container]})), format!("spec.{list}[1]"))
        })
        .collect()
}

/// What rules and floor say about one pod that is created.
fn judge(mode: &str, pod: &Value) -> Vec<String> {
    let decision = pods::check(&decode::<Boundary>(&boundary(mode)), Phase::Judge, None, &decode::<Pod>(pod));
    let request = floor::Request { object: pod.clone(), params: Some(boundary(mode)), ..floor::Request::default() };
    let refused = floor::refusals(&["pods-host-access", "pods-runtime-class"], &request);
    assert_eq!(decision.admitted(), refused.is_empty(), "rules and floor differ on {pod}: {} / {refused:?}", decision.message());
    decision.denials.into_iter().map(|denial| denial.field).collect()
}

#[test]
fn pod_fields() {
    let none: &[&str] = &[];
    let cases: Vec<(&str, Value, &[&str])> = vec![
        ("compliant", json!({}), none),
        ("host network", json!({"hostNetwork": true}), &["spec.hostNetwork"]),
        ("host network off", json!({"hostNetwork": false, "hostPID": false, "hostIPC": false}), none),
        ("host PIDs", json!({"hostPID": true}), &["spec.hostPID"]),
        ("host IPC", json!({"hostIPC": true}), &["spec.hostIPC"]),
        ("all collected", json!({"hostPID": true, "hostIPC": true}), &["spec.hostPID", "spec.hostIPC"]),
        ("host path", json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), &["spec.volumes[0].hostPath.path"]),
        (
            "git repo",
            json!({"volumes": [{"name": "v", "gitRepo": {"repository": "x"}}]}),
            &["spec.volumes[0].gitRepo.repository"],
        ),
        ("empty dir", json!({"volumes": [{"name": "v", "emptyDir": {}}]}), none),
        (
            "unsafe sysctl",
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
            &["spec.securityContext.sysctls[0].name"],
        ),
        ("safe sysctl", json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}]}}), none),
        (
            "seccomp",
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            &["spec.securityContext.seccompProfile.type"],
        ),
        ("seccomp default", json!({"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}), none),
        (
            "AppArmor",
            json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
            &["spec.securityContext.appArmorProfile.type"],
        ),
        (
            "SELinux type",
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}),
            &["spec.securityContext.seLinuxOptions.type"],
        ),
        (
            "SELinux user",
            json!({"securityContext": {"seLinuxOptions": {"user": "u"}}}),
            &["spec.securityContext.seLinuxOptions.user"],
        ),
        ("SELinux level", json!({"securityContext": {"seLinuxOptions": {"level": "s0:c1"}}}), none),
        (
            "host process",
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            &["spec.securityContext.windowsOptions.hostProcess"],
        ),
        ("foreign runtime", json!({"runtimeClassName": "runc"}), &["spec.runtimeClassName"]),
        ("listed by prefix", json!({"runtimeClassName": "kata-qemu"}), none),
        ("prefix without its end", json!({"runtimeClassName": "kata"}), &["spec.runtimeClassName"]),
        ("no runtime", json!({"runtimeClassName": null}), &["spec.runtimeClassName"]),
    ];
    for (name, change, expect) in cases {
        assert_eq!(judge("Enforce", &pod(change)), expect, "{name}");
    }
}

#[test]
fn container_fields_in_each_list() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("nothing", json!({}), ""),
        ("empty context", json!({"securityContext": {}}), ""),
        ("privileged", json!({"securityContext": {"privileged": true}}), "securityContext.privileged"),
        ("not privileged", json!({"securityContext": {"privileged": false}}), ""),
        (
            "capability",
            json!({"securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}}),
            "securityContext.capabilities.add[1]",
        ),
        (
            "all capabilities",
            json!({"securityContext": {"capabilities": {"add": ["ALL"]}}}),
            "securityContext.capabilities.add[0]",
        ),
        (
            "prefixed capability",
            json!({"securityContext": {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}}),
            "securityContext.capabilities.add[0]",
        ),
        ("baseline capability", json!({"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}}}), ""),
        ("proc mount", json!({"securityContext": {"procMount": "Unmasked"}}), "securityContext.procMount"),
        ("default proc mount", json!({"securityContext": {"procMount": "Default"}}), ""),
        (
            "seccomp",
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}),
            "securityContext.seccompProfile.type",
        ),
        ("local seccomp", json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}}), ""),
        (
            "AppArmor",
            json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
            "securityContext.appArmorProfile.type",
        ),
        ("SELinux role", json!({"securityContext": {"seLinuxOptions": {"role": "r"}}}), "securityContext.seLinuxOptions.role"),
        ("SELinux type", json!({"securityContext": {"seLinuxOptions": {"type": "container_t"}}}), ""),
        (
            "host process",
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "securityContext.windowsOptions.hostProcess",
        ),
        ("host port", json!({"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}), "ports[1].hostPort"),
        ("no host port", json!({"ports": [{"containerPort": 80, "hostPort": 0}]}), ""),
        ("probe", json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}}), "livenessProbe.httpGet.host"),
        ("tcp probe", json!({"readinessProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}), "readinessProbe.tcpSocket.host"),
        ("startup probe", json!({"startupProbe": {"httpGet": {"host": "10.0.0.1", "port": 1}}}), "startupProbe.httpGet.host"),
        ("own probe", json!({"startupProbe": {"httpGet": {"host": "", "port": 1}}}), ""),
        (
            "hook",
            json!({"lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1", "port": 1}}}}),
            "lifecycle.preStop.httpGet.host",
        ),
        (
            "tcp hook",
            json!({"lifecycle": {"postStart": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}}),
            "lifecycle.postStart.tcpSocket.host",
        ),
    ];
    for (name, content, expect) in cases {
        for (pod, at) in each_list(content) {
            let expect: Vec<String> = if expect.is_empty() { vec![] } else { vec![format!("{at}.{expect}")] };
            assert_eq!(judge("Enforce", &pod), expect, "{name} in {at}");
        }
    }
}

#[test]
fn annotations() {
    let cases = [
        ("container.apparmor.security.beta.kubernetes.io/c", "unconfined", true),
        ("container.apparmor.security.beta.kubernetes.io/c", "runtime/default", false),
        ("io.katacontainers.config.hypervisor.path", "/bin/sh", true),
        ("k8s.v1.cni.cncf.io/networks", "other", true),
        ("k8s.v1.cni.cncf.io/network-status", "[]", false),
        ("example.com/note", "io.katacontainers.", false),
    ];
    for (key, value, refused) in cases {
        let mut pod = pod(json!({}));
        pod["metadata"]["annotations"] = json!({ key: value });
        let expect: Vec<String> = if refused { vec![format!("metadata.annotations[{key}]")] } else { vec![] };
        assert_eq!(judge("Enforce", &pod), expect, "{key}");
    }
}

#[test]
fn enforcement_mode_frees_the_runtime_class_and_never_host_access() {
    for mode in ["Warn", "Audit"] {
        assert!(judge(mode, &pod(json!({"runtimeClassName": "runc"}))).is_empty());
        assert_eq!(judge(mode, &pod(json!({"runtimeClassName": "runc", "hostPID": true}))), ["spec.hostPID"]);
        let mode = decode::<Boundary>(&boundary(mode));
        let decision = pods::check(&mode, Phase::Complete, None, &decode::<Pod>(&pod(json!({"runtimeClassName": null}))));
        assert!(decision.patch.0.is_empty() && decision.observed.len() == 1);
    }
    assert_eq!(judge("Nonsense", &pod(json!({"runtimeClassName": "runc"}))), ["spec.runtimeClassName"]);
}

#[test]
fn updates() {
    let old_runc = pod(json!({"runtimeClassName": "runc", "hostPID": true}));
    let mut labelled = old_runc.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut other_image = old_runc.clone();
    other_image["spec"]["containers"][0]["image"] = json!("x");
    let debug = pod(json!({"ephemeralContainers": [{"name": "d", "securityContext": {"privileged": true}}]}));
    let debug_fields = ["spec.ephemeralContainers[0].securityContext.privileged"];
    let plain = pod(json!({}));
    let cases: Vec<(&str, &Value, Value, &[&str])> = vec![
        ("label of a pod older than the boundary", &old_runc, labelled, &[]),
        ("nothing that rules read", &old_runc, other_image, &[]),
        ("runtime class changed", &old_runc, pod(json!({})), &["spec.runtimeClassName"]),
        ("debug container", &plain, debug, &debug_fields),
    ];
    let limits: Boundary = decode(&boundary("Enforce"));
    for (name, old, new, expect) in cases {
        let decision = pods::check(&limits, Phase::Judge, Some(&decode(old)), &decode(&new));
        let fields: Vec<_> = decision.denials.iter().map(|denial| denial.field.as_str()).collect();
        assert_eq!(fields, expect, "{name}");
        let request =
            floor::Request { old: Some(old.clone()), object: new, params: Some(boundary("Enforce")), ..Default::default() };
        let refused = floor::refusals(&["pods-host-access", "pods-runtime-class"], &request);
        // The floor compares whole specs: stricter for an image changed in a pod older than the boundary, never laxer.
        assert!(expect.is_empty() || !refused.is_empty(), "{name}: floor admits");
        if name.starts_with("label") {
            assert!(refused.is_empty(), "{name}: {refused:?}");
        }
    }
}

#[test]
fn patch_completes_and_message_is_for_people() {
    let limits: Boundary = decode(&boundary("Enforce"));
    let mut object = pod(json!({"runtimeClassName": null}));
    let decision = pods::check(&limits, Phase::Complete, None, &decode(&object));
    assert!(decision.admitted());
    json_patch::patch(&mut object, &decision.patch).expect("the patch applies");
    assert_eq!(object, pod(json!({})));
    let decision = pods::check(&limits, Phase::Complete, None, &decode(&pod(json!({"runtimeClassName": "runc"}))));
    let expect = r#"spec.runtimeClassName is "runc", refused by rule "runtime classes"; allowed: freehold-microvm, kata-*"#;
    assert_eq!(decision.message(), expect);
    let closed = pods::check(&Boundary::default(), Phase::Complete, None, &decode(&pod(json!({}))));
    assert!(!closed.admitted(), "a Boundary that lists nothing is closed");
    let template =
        pods::check_template(&limits, "spec.template.", &decode(&pod(json!({"runtimeClassName": "runc", "hostIPC": true}))));
    let fields: Vec<_> = template.denials.iter().map(|denial| denial.field.as_str()).collect();
    assert_eq!(fields, ["spec.template.spec.hostIPC", "spec.template.spec.runtimeClassName"]);
}

proptest! {
    /// What the mutating call admits, with its patch, is what the validating call admits, and nothing is left to patch.
    #[test]
    fn completed_pods_are_admitted(name in proptest::option::of("(freehold-microvm|runc|kata-[a-z]{1,4}|)"), pid: bool) {
        let limits: Boundary = decode(&boundary("Enforce"));
        let mut object = pod(json!({"runtimeClassName": name, "hostPID": pid}));
        let first = pods::check(&limits, Phase::Complete, None, &decode(&object));
        if first.admitted() {
            json_patch::patch(&mut object, &first.patch).expect("the patch applies");
        }
        let second = pods::check(&limits, Phase::Judge, None, &decode(&object));
        prop_assert_eq!(first.admitted(), second.admitted());
        prop_assert!(second.patch.0.is_empty());
    }
}
