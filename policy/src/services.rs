//! A tenant's Services lead to its own pods, by the ways and addresses that it has.
//!
//! Input is a Boundary and a Service; the output goes into a [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/services.yaml`. External addresses take traffic of the whole cluster (CVE-2020-8554), so they
//! are refused in every enforcementMode.

use freehold_crds::{ServiceBoundary, ServiceType};

use crate::objects::Found;
use crate::view::Service;
use crate::{Denial, host_listed, listed, set, shown_list};

/// Annotations by which load balancers and name servers are configured; each begins with one of these.
pub const ANNOTATIONS: &[&str] = &[
    "service.beta.kubernetes.io/",
    "service.alpha.kubernetes.io/",
    "external-dns.alpha.kubernetes.io/",
    "metallb.io/",
    "metallb.universe.tf/",
    "lbipam.cilium.io/",
    "io.cilium/",
    "service.cilium.io/",
    "kube-vip.io/",
    "purelb.io/",
    "networking.gke.io/",
    "cloud.google.com/",
    "loadbalancer.openstack.org/",
    "load-balancer.hetzner.cloud/",
    "oci.oraclecloud.com/",
    "kubernetes.digitalocean.com/",
];

/// All that stands against a Service, and what completes it.
pub fn check(limits: &ServiceBoundary, old: Option<&Service>, new: &Service) -> Found {
    let mut found = Found::default();
    let spec = &new.spec;
    for (index, address) in spec.external_ips.iter().enumerate() {
        let field = format!("spec.externalIPs[{index}]");
        found.always.push(Denial::new(
            field,
            address,
            "external addresses",
            "none; use type LoadBalancer where the tenant has it",
        ));
    }
    let denials = &mut found.by_mode;
    let kind = spec.kind.as_deref().unwrap_or("ClusterIP");
    let types: Vec<String> = limits.types.iter().map(|kind| kind.name().to_owned()).chain(["ClusterIP".to_owned()]).collect();
    if !types.iter().any(|name| name == kind) {
        denials.push(Denial::new("spec.type", kind, "service types", shown_list(&types)));
    }
    if let Some(address) = spec.load_balancer_ip.as_deref().filter(|address| !address.is_empty()) {
        denials.push(Denial::new("spec.loadBalancerIP", address, "load balancer addresses", "unset"));
    }
    let (classes, class) = (&limits.load_balancer_class_names, spec.load_balancer_class.as_deref());
    match class.filter(|class| !class.is_empty()) {
        Some(class) if !listed(&classes.allowed, class) => {
            let allowed = if classes.allowed.is_empty() { "unset".to_owned() } else { shown_list(&classes.allowed) };
            denials.push(Denial::new("spec.loadBalancerClass", class, "load balancer classes", allowed));
        }
        None if kind == "LoadBalancer" && !classes.allowed.is_empty() && old.is_none_or(|old| old.spec.kind != spec.kind) => {
            let denial = Denial::new("spec.loadBalancerClass", "(unset)", "load balancer classes", shown_list(&classes.allowed));
            found.complete(
                classes.default.as_ref().map(|default| set(&["spec"], "loadBalancerClass", default.as_str().into())),
                denial,
            );
        }
        _ => {}
    }
    let denials = &mut found.by_mode;
    if !limits.types.contains(&ServiceType::NodePort) {
        let known: Vec<i64> = old.iter().flat_map(|old| old.spec.ports.iter().map(|port| port.node_port)).collect();
        for (index, port) in
            spec.ports.iter().enumerate().filter(|(_, port)| port.node_port != 0 && !known.contains(&port.node_port))
        {
            denials.push(Denial::new(format!("spec.ports[{index}].nodePort"), port.node_port, "node ports", "unset"));
        }
        let health = spec.health_check_node_port;
        if health != 0 && old.is_none_or(|old| old.spec.health_check_node_port != health) {
            denials.push(Denial::new("spec.healthCheckNodePort", health, "node ports", "unset"));
        }
    }
    if let Some(host) =
        spec.external_name.as_deref().filter(|host| !host.is_empty() && !host_listed(&limits.external_names, host))
    {
        denials.push(Denial::new("spec.externalName", host, "external names", shown_list(&limits.external_names)));
    }
    denials.extend(crate::objects::annotations(
        ANNOTATIONS,
        &[],
        &limits.annotations,
        old.map(|old| &old.metadata),
        &new.metadata,
    ));
    found
}
