//! Devices of a node, memory in huge pages and user namespaces: what a pod may ask the kubelet for beside cpu and memory.
//!
//! Input is a Boundary and a pod; the output goes into a pod's [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/pods-boundary.yaml`. An extended resource such as `devices.example/kvm` is a device file of the
//! host in the container, so none is allowed unless listed. Claims (DRA) are judged where they are made, by their class.

use freehold_crds::{PodBoundary, UserNamespaces};
use json_patch::PatchOperation;

use crate::view::{Pod, Resources};
use crate::{Denial, listed, set, shown_list};

/// Resources that every pod may ask for.
pub const RESOURCES: &[&str] = &["cpu", "memory", "ephemeral-storage"];

/// What completes a pod that says nothing about user namespaces.
pub fn complete(limits: &PodBoundary, pod: &Pod) -> Option<PatchOperation> {
    let wanted = limits.user_namespaces == UserNamespaces::Required && pod.spec.host_users.is_none();
    wanted.then(|| set(&["spec"], "hostUsers", false.into()))
}

/// User namespaces of a pod that is created: hostUsers can't change later. `template` may leave it to the pods.
pub fn host_users(prefix: &str, limits: &PodBoundary, template: bool, pod: &Pod) -> Option<Denial> {
    let fine = match pod.spec.host_users {
        Some(host) => !host,
        None => template,
    };
    let value = pod.spec.host_users.map_or("(unset)".to_owned(), |host| host.to_string());
    let refused = limits.user_namespaces == UserNamespaces::Required && !fine;
    refused.then(|| Denial::new(format!("{prefix}spec.hostUsers"), value, "user namespaces", "false"))
}

/// Resources that the tenant does not have.
pub fn check(prefix: &str, limits: &PodBoundary, pod: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    resources(&format!("{prefix}spec.resources"), limits, &pod.spec.resources, &mut denials);
    for (list, containers) in pod.spec.lists() {
        for (index, container) in containers.iter().enumerate() {
            resources(&format!("{prefix}spec.{list}[{index}].resources"), limits, &container.resources, &mut denials);
        }
    }
    denials
}

fn resources(at: &str, limits: &PodBoundary, resources: &Resources, denials: &mut Vec<Denial>) {
    for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        let foreign = |name: &&String| !RESOURCES.contains(&name.as_str()) && !listed(&limits.extended_resources, name);
        for name in amounts.keys().filter(foreign) {
            let known: Vec<String> =
                RESOURCES.iter().map(|name| (*name).to_owned()).chain(limits.extended_resources.clone()).collect();
            denials.push(Denial::new(format!("{at}.{field}[{name}]"), name, "resources of nodes", shown_list(&known)));
        }
    }
}
