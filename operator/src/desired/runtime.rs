//! A SandboxRuntime's RuntimeClass, and the nodes that may run it.
//!
//! A node is proved by its NodeRuntime: the canary passed, and not by emulation unless the SandboxRuntime allows it. The
//! label for that lies under a prefix that a kubelet can't set on itself, so a node that was taken over can't pass for one.

use std::collections::{BTreeMap, BTreeSet};

use freehold_crds::{
    Acceleration, Emulation, GROUP, NODE_READY, NodeRuntime, RuntimeClassOwnership, SandboxRuntime, SandboxRuntimeNodes,
};
use kube::ResourceExt as _;
use serde_json::json;

use super::{Kind, Object};

/// Label with the SandboxRuntime's name on its RuntimeClass.
pub const RUNTIME_LABEL: &str = "freehold.dev/sandbox-runtime";
/// Prefix of node labels; what follows is the SandboxRuntime's name.
pub const NODE_LABEL_PREFIX: &str = "freehold.dev.node-restriction.kubernetes.io/";
/// Memory of a VM beside its containers': 128 MiB of guest kernel and agent, and the monitor. Not measured yet.
const OVERHEAD_MEMORY: &str = "192Mi";
/// CPU of a VM beside its containers'. Not measured yet.
const OVERHEAD_CPU: &str = "50m";

/// The label of nodes on which a SandboxRuntime is proved.
pub fn node_label(runtime: &str) -> String {
    format!("{NODE_LABEL_PREFIX}{runtime}")
}

/// The RuntimeClass; None if it is someone else's. It goes with the SandboxRuntime, by the garbage collector.
pub fn runtime_class(runtime: &SandboxRuntime) -> Option<Object> {
    let class = &runtime.spec.runtime_class;
    if class.ownership.unwrap_or_default() == RuntimeClassOwnership::Existing {
        return None;
    }
    let name = runtime.name_any();
    let body = json!({
        "handler": class.name,
        "overhead": {"podFixed": {"cpu": OVERHEAD_CPU, "memory": OVERHEAD_MEMORY}},
        "scheduling": {"nodeSelector": {node_label(&name): NODE_READY}},
    });
    let mut object = Object::new(Kind::RuntimeClass, None, &class.name, &[(RUNTIME_LABEL, &name)], body);
    let uid = runtime.uid().unwrap_or_default();
    let owner = json!([{"apiVersion": format!("{GROUP}/v1alpha1"), "kind": "SandboxRuntime", "name": name, "uid": uid}]);
    object.document["metadata"]["ownerReferences"] = owner;
    Some(object)
}

/// Whether the node of this report may run the SandboxRuntime.
fn is_proved(runtime: &SandboxRuntime, report: &NodeRuntime) -> bool {
    let Some(status) = &report.status else { return false };
    let emulated = status.acceleration == Some(Acceleration::Emulated);
    let allowed = runtime.spec.micro_vm.as_ref().and_then(|options| options.emulation).unwrap_or_default() == Emulation::Allow;
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && (!emulated || allowed)
}

/// Names of the nodes that may run the SandboxRuntime, and how many reported.
pub fn nodes(runtime: &SandboxRuntime, reports: &[NodeRuntime]) -> (BTreeSet<String>, SandboxRuntimeNodes) {
    let name = runtime.name_any();
    let ours: Vec<_> = reports.iter().filter(|report| report.spec.sandbox_runtime_name == name).collect();
    let proved: BTreeSet<_> =
        ours.iter().filter(|report| is_proved(runtime, report)).map(|report| report.spec.node_name.clone()).collect();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let (matched, ready) = (count(ours.len()), count(proved.len()));
    (proved, SandboxRuntimeNodes { matched, ready, failed: matched - ready })
}

/// Nodes whose label must change: to ready, or (None) away. `nodes` maps each node to its label's value.
pub fn relabel(proved: &BTreeSet<String>, nodes: &BTreeMap<String, Option<String>>) -> Vec<(String, Option<&'static str>)> {
    let wanted = |node: &String| proved.contains(node).then_some(NODE_READY);
    nodes.iter().filter(|(node, label)| label.as_deref() != wanted(node)).map(|(node, _)| (node.clone(), wanted(node))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_crds::MICROVM_NODE_LABEL;

    fn runtime(rest: &str) -> SandboxRuntime {
        serde_json::from_str(&format!(
            r#"{{"apiVersion": "freehold.dev/v1alpha1", "kind": "SandboxRuntime", "metadata": {{"name": "microvm", "uid": "1"}},
            "spec": {{"type": "MicroVM", "microVM": {{"emulation": "Never"}}, "runtimeClass": {{"name": "freehold-microvm"}} {rest}}}}}"#
        ))
        .unwrap()
    }

    fn report(runtime: &str, node: &str, ready: &str, acceleration: &str) -> NodeRuntime {
        serde_json::from_value(json!({
            "apiVersion": "freehold.dev/v1alpha1", "kind": "NodeRuntime", "metadata": {"name": format!("{runtime}.{node}")},
            "spec": {"nodeName": node, "sandboxRuntimeName": runtime},
            "status": {"acceleration": acceleration, "conditions": [{
                "type": "Ready", "status": ready, "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn the_runtime_class_selects_proved_nodes() {
        let object = runtime_class(&runtime("")).unwrap();
        assert_eq!(node_label("microvm"), MICROVM_NODE_LABEL);
        assert_eq!((object.name.as_str(), &object.document["handler"]), ("freehold-microvm", &json!("freehold-microvm")));
        assert_eq!(object.document["scheduling"], json!({"nodeSelector": {MICROVM_NODE_LABEL: "ready"}}));
        crate::fixtures::is_typed(&object);
        let mut existing = runtime("");
        existing.spec.runtime_class.ownership = Some(RuntimeClassOwnership::Existing);
        assert_eq!(runtime_class(&existing), None);
    }

    #[test]
    fn a_node_is_ready_by_proof_only() {
        let mut runtime = runtime("");
        let reports = [
            report("microvm", "kvm", "True", "KVM"),
            report("microvm", "failed", "False", "KVM"),
            report("microvm", "emulated", "True", "Emulated"),
            report("other", "elsewhere", "True", "KVM"),
        ];
        let (proved, counted) = nodes(&runtime, &reports);
        assert_eq!(proved, BTreeSet::from(["kvm".to_owned()]));
        assert_eq!((counted.matched, counted.ready, counted.failed), (3, 1, 2));
        runtime.spec.micro_vm.as_mut().unwrap().emulation = Some(Emulation::Allow);
        assert_eq!(nodes(&runtime, &reports).1.ready, 2, "emulation was allowed");
    }

    #[test]
    fn labels_follow_the_proof_both_ways() {
        let proved = BTreeSet::from(["new".to_owned(), "kept".to_owned(), "wrong".to_owned(), "gone".to_owned()]);
        let nodes = [("new", None), ("kept", Some("ready")), ("wrong", Some("yes")), ("lost", Some("ready")), ("never", None)];
        let nodes = nodes.map(|(node, label)| (node.to_owned(), label.map(str::to_owned))).into();
        let changes = relabel(&proved, &nodes);
        let expected = [("lost", None), ("new", Some("ready")), ("wrong", Some("ready"))];
        assert_eq!(changes, expected.map(|(node, label)| (node.to_owned(), label)));
    }
}
