//! Devices of a node, memory in huge pages and user namespaces: what a pod may ask the kubelet for beside cpu and memory.
//!
//! Input is a Boundary and a pod; the output goes into a pod's [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/pods-boundary.yaml`. An extended resource such as `devices.example/kvm` is a device file of the
//! host in the container, so none is allowed unless listed. Claims (DRA) are judged where they are made, by their class.

use std::collections::BTreeSet;

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

/// Resources that the tenant does not have, and of a pod that exists those that it did not have either.
pub fn check(prefix: &str, limits: &PodBoundary, old: Option<&Pod>, pod: &Pod) -> Vec<Denial> {
    let mut before = BTreeSet::new();
    for one in old.iter().flat_map(|old| all(old)) {
        before.extend(one.1.limits.keys().chain(one.1.requests.keys()));
    }
    let mut denials = Vec::new();
    for (at, one) in all(pod) {
        resources(&format!("{prefix}spec{at}.resources"), limits, &before, one, &mut denials);
    }
    denials
}

/// All places of a pod that ask for resources.
fn all(pod: &Pod) -> Vec<(String, &Resources)> {
    let of_lists = pod.spec.lists().into_iter().flat_map(|(list, containers)| {
        containers.iter().enumerate().map(move |(index, container)| (format!(".{list}[{index}]"), &container.resources))
    });
    pod.spec.resources.iter().map(|resources| (String::new(), resources)).chain(of_lists).collect()
}

fn resources(at: &str, limits: &PodBoundary, before: &BTreeSet<&String>, resources: &Resources, denials: &mut Vec<Denial>) {
    for (field, amounts) in [("limits", &resources.limits), ("requests", &resources.requests)] {
        let foreign = |name: &&String| {
            !RESOURCES.contains(&name.as_str()) && !listed(&limits.extended_resources, name) && !before.contains(name)
        };
        for name in amounts.keys().filter(foreign) {
            let known: Vec<String> =
                RESOURCES.iter().map(|name| (*name).to_owned()).chain(limits.extended_resources.clone()).collect();
            denials.push(Denial::new(format!("{at}.{field}[{name}]"), name, "resources of nodes", shown_list(&known)));
        }
    }
}
