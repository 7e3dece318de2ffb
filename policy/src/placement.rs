//! A tenant's pods go where the scheduler puts them, on nodes that are meant for them, and keep nobody else away.
//!
//! Input is a Boundary and a pod; the output goes into a pod's [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/pods-boundary.yaml`. Choosing the node oneself (nodeName) passes by taints and
//! resources; tolerating everything leads onto the control plane; anti-affinity to all namespaces empties a node of others.

use freehold_crds::{PodBoundary, TolerationOperator, TolerationRule};
use json_patch::PatchOperation;
use serde_json::json;

use crate::view::{AffinityTerm, Pod, PodSpec, Toleration};
use crate::{Denial, TENANT_LABEL, listed, set, shown_list, worse};

/// The scheduler of those who name none.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// Taints by which Kubernetes itself marks a node's condition; its admission and DaemonSets tolerate them for pods.
pub const CONDITION_TAINTS: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];

/// Whose pod it is.
#[derive(Clone, Copy)]
pub struct Home<'a> {
    /// Name of the tenant.
    pub tenant: &'a str,
    /// The namespace.
    pub namespace: &'a str,
}

/// The toleration of the tenant's own nodes, for a pod that has none of their taint.
pub fn complete(tenant: &str, new: &Pod) -> Option<PatchOperation> {
    let tolerations = &new.spec.tolerations;
    let has = tolerations.iter().any(|one| one.key.as_deref() == Some(TENANT_LABEL));
    let own = json!({"key": TENANT_LABEL, "operator": "Equal", "value": tenant});
    (!has).then(|| {
        if tolerations.is_empty() { set(&["spec"], "tolerations", json!([own])) } else { set(&["spec", "tolerations"], "-", own) }
    })
}

/// All that places a pod where it must not be. Of a pod that exists only what is worse than before.
pub fn check(prefix: &str, limits: &PodBoundary, home: Home, old: Option<&Pod>, new: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    let stood = |toleration: &Toleration| old.is_some_and(|old| old.spec.tolerations.contains(toleration));
    for (index, toleration) in new.spec.tolerations.iter().enumerate().filter(|(_, one)| !stood(one)) {
        if !tolerable(&limits.tolerations, toleration) {
            let keys: Vec<String> = limits.tolerations.iter().map(said).collect();
            let allowed = if keys.is_empty() { "no taint but node conditions".to_owned() } else { shown_list(&keys) };
            denials.push(Denial::new(format!("{prefix}spec.tolerations[{index}]"), shown(toleration), "tolerations", allowed));
        }
    }
    let placed = |pod: &Pod| placed(prefix, limits, home, &pod.spec);
    denials.extend(worse(old.map(placed), placed(new)));
    denials
}

/// Node, scheduler and affinity.
fn placed(prefix: &str, limits: &PodBoundary, home: Home, spec: &PodSpec) -> Vec<Denial> {
    let mut denials = Vec::new();
    if let Some(node) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        let allowed = "unset: the scheduler chooses; narrow it with nodeSelector";
        denials.push(Denial::new(format!("{prefix}spec.nodeName"), node, "node names", allowed));
    }
    let scheduler = spec.scheduler_name.as_deref().filter(|name| !matches!(*name, "" | DEFAULT_SCHEDULER));
    if let Some(name) = scheduler.filter(|name| !listed(&limits.scheduler_names, name)) {
        let allowed = [&[DEFAULT_SCHEDULER.to_owned()], limits.scheduler_names.as_slice()].concat();
        denials.push(Denial::new(format!("{prefix}spec.schedulerName"), name, "schedulers", shown_list(&allowed)));
    }
    let far = &spec.affinity;
    for (kind, affinity) in [("podAffinity", &far.pod_affinity), ("podAntiAffinity", &far.pod_anti_affinity)] {
        let at = format!("{prefix}spec.affinity.{kind}");
        for (index, term) in affinity.required.iter().enumerate() {
            reach(format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}]"), home, term, &mut denials);
        }
        for (index, term) in affinity.preferred.iter().enumerate() {
            let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}].podAffinityTerm");
            reach(at, home, &term.pod_affinity_term, &mut denials);
        }
    }
    denials
}

/// Node labels that the Boundary asks for and the pod says otherwise: those can't be filled in.
pub fn node_selector(prefix: &str, limits: &PodBoundary, new: &Pod) -> Vec<Denial> {
    let wrong = |(key, value): &(&String, &String)| new.spec.node_selector.get(*key) != Some(*value);
    let wanted = limits.node_selector.iter().filter(wrong);
    wanted
        .map(|(key, value)| {
            let said = new.spec.node_selector.get(key).map_or("(unset)", String::as_str);
            Denial::new(format!("{prefix}spec.nodeSelector[{key}]"), said, "node selector", value)
        })
        .collect()
}

fn reach(at: String, home: Home, term: &AffinityTerm, denials: &mut Vec<Denial>) {
    for (index, name) in term.namespaces.iter().enumerate().filter(|(_, name)| *name != home.namespace) {
        let allowed = format!("{}, or a namespaceSelector with matchLabels {TENANT_LABEL}: {}", home.namespace, home.tenant);
        denials.push(Denial::new(format!("{at}.namespaces[{index}]"), name, "affinity within the tenant", allowed));
    }
    let forced =
        |selector: &crate::view::Selector| selector.match_labels.get(TENANT_LABEL).is_some_and(|name| name == home.tenant);
    if term.namespace_selector.as_ref().is_some_and(|selector| !forced(selector)) {
        let allowed = format!("unset, or with matchLabels {TENANT_LABEL}: {}", home.tenant);
        denials.push(Denial::new(format!("{at}.namespaceSelector"), "wider", "affinity within the tenant", allowed));
    }
}

fn tolerable(rules: &[TolerationRule], toleration: &Toleration) -> bool {
    let key = toleration.key.as_deref().unwrap_or_default();
    let equal = matches!(toleration.operator.as_deref(), None | Some("" | "Equal"));
    CONDITION_TAINTS.contains(&key)
        || rules.iter().any(|rule| {
            let value = match rule.operator.unwrap_or_default() {
                TolerationOperator::Exists => true,
                TolerationOperator::Equal => {
                    equal && toleration.value.as_deref().unwrap_or_default() == rule.value.as_deref().unwrap_or_default()
                }
            };
            let effect = rule.effect.is_none_or(|effect| toleration.effect.as_deref() == Some(effect.name()));
            rule.key == key && value && effect
        })
}

fn said(rule: &TolerationRule) -> String {
    let value = rule.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
    format!("{}{value}{}", rule.key, rule.effect.map(|effect| format!(":{}", effect.name())).unwrap_or_default())
}

fn shown(toleration: &Toleration) -> String {
    let key = toleration.key.as_deref().filter(|key| !key.is_empty()).unwrap_or("every taint");
    let value = toleration.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
    format!("{key}{value}{}", toleration.effect.as_ref().map(|effect| format!(":{effect}")).unwrap_or_default())
}
