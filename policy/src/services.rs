//! A tenant's Services lead to its own pods, by the ways and addresses that it has.
//!
//! Input is a Boundary and a Service; the output goes into a [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/services.yaml`. External addresses take traffic of the whole cluster (CVE-2020-8554), so they
//! are refused in every enforcementMode.

use freehold_crds::{ServiceBoundary, ServiceType};

use crate::objects::{Found, Writer};
use crate::view::{Service, ServicePort, ServiceSpec};
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

fn kind(service: &Service) -> &str {
    service.spec.kind.as_deref().unwrap_or("ClusterIP")
}

/// An address in the cluster of one's choice: that of a Service that was deleted a moment ago, and that others' programs and resolvers still ask, would
/// give whoever takes it their traffic. Only the mutating call can tell it from one that the API server gave, so the webhook alone holds this.
fn addresses(old: Option<&ServiceSpec>, new: &ServiceSpec) -> Vec<Denial> {
    let known: Vec<&String> = old.iter().flat_map(|old| old.cluster_ip.iter().chain(&old.cluster_ips)).collect();
    let others = new.cluster_ips.iter().enumerate().filter(|(_, address)| new.cluster_ip.as_ref() != Some(*address));
    let all = others.map(|(index, address)| (format!("spec.clusterIPs[{index}]"), address));
    let all = new.cluster_ip.iter().map(|address| ("spec.clusterIP".to_owned(), address)).chain(all);
    let chosen = all.filter(|(_, address)| !matches!(address.as_str(), "" | "None") && !known.contains(address));
    chosen
        .map(|(field, address)| Denial::new(field, address, "cluster addresses", "unset: one is given; None; as it was"))
        .collect()
}

/// Ports of nodes. The API server gives them before it asks any policy: without ranges the webhook alone refuses those that are chosen for a load balancer,
/// with ranges they must be said, and the floor refuses what was given outside of them. What a Service has stays, by its port's name too where an
/// update leaves it out, as the API server has it (`patchAllocatedValues` of its Service storage).
fn node_ports(limits: &ServiceBoundary, kind: &str, old: Option<&ServiceSpec>, new: &ServiceSpec) -> Vec<Denial> {
    let before = old.map(|old| old.ports.as_slice()).unwrap_or_default();
    let is_kept = |port: &ServicePort| match port.node_port {
        0 => before.iter().any(|old| old.name == port.name && old.node_port != 0),
        number => before.iter().any(|old| old.node_port == number),
    };
    // Whether the API server gives what is not said.
    let balances = kind == "LoadBalancer";
    let gives = kind == "NodePort" || balances && new.allocate_load_balancer_node_ports != Some(false);
    let gives_health = balances && new.external_traffic_policy.as_deref() == Some("Local");
    let ports = new.ports.iter().enumerate().filter(|(_, port)| !is_kept(port));
    let ports = ports.map(|(index, port)| (format!("spec.ports[{index}].nodePort"), port.node_port, gives));
    let (health, stood) = (new.health_check_node_port, old.map_or(0, |old| old.health_check_node_port));
    let is_kept = stood != 0 && (health == 0 || health == stood);
    let health = (!is_kept).then(|| ("spec.healthCheckNodePort".to_owned(), health, gives_health));
    let is_refused = |port: i64, gives: bool| match (&limits.node_ports, port) {
        (None, port) => port != 0 && !limits.types.contains(&ServiceType::NodePort),
        (Some(_), 0) => gives,
        (Some(ranges), port) => !ranges.iter().any(|range| (i64::from(range.from)..=i64::from(range.to)).contains(&port)),
    };
    let allowed = limits.node_ports.as_ref().map_or("unset".to_owned(), |ranges| {
        let ranges = ranges.iter().map(|range| format!("{}-{}", range.from, range.to));
        format!("said, and in {}", ranges.collect::<Vec<_>>().join(", "))
    });
    let refused = ports.chain(health).filter(|(_, port, gives)| is_refused(*port, *gives));
    let value = |port: i64| if port == 0 { "(unset)".to_owned() } else { port.to_string() };
    refused.map(|(field, port, _)| Denial::new(field, value(port), "node ports", allowed.as_str())).collect()
}

/// All that stands against a Service, and what completes it. What one says that exists may stay as it is, under the same type: an address or a name
/// means something else under another.
pub fn check(limits: &ServiceBoundary, writer: Writer, old: Option<&Service>, new: &Service) -> Found {
    let mut found = Found::default();
    let (spec, kind) = (&new.spec, kind(new));
    let stood = old.filter(|old| self::kind(old) == kind).map(|old| &old.spec);
    let foreign = |address: &String| !stood.is_some_and(|old| old.external_ips.contains(address));
    for (index, address) in spec.external_ips.iter().enumerate().filter(|(_, address)| foreign(address)) {
        let field = format!("spec.externalIPs[{index}]");
        found.always.push(Denial::new(
            field,
            address,
            "external addresses",
            "none; use type LoadBalancer where the tenant has it",
        ));
    }
    let denials = &mut found.by_mode;
    let types: Vec<String> = limits.types.iter().map(|kind| kind.name().to_owned()).chain(["ClusterIP".to_owned()]).collect();
    if stood.is_none() && !types.iter().any(|name| name == kind) {
        denials.push(Denial::new("spec.type", kind, "service types", shown_list(&types)));
    }
    let address = spec.load_balancer_ip.as_ref().filter(|address| !address.is_empty());
    if let Some(address) = address.filter(|_| stood.is_none_or(|old| old.load_balancer_ip != spec.load_balancer_ip)) {
        denials.push(Denial::new("spec.loadBalancerIP", address, "load balancer addresses", "unset"));
    }
    let (classes, class) = (&limits.load_balancer_class_names, spec.load_balancer_class.as_deref());
    match class.filter(|class| !class.is_empty()) {
        Some(_) if stood.is_some_and(|old| old.load_balancer_class == spec.load_balancer_class) => {}
        Some(class) if !listed(&classes.allowed, class) => {
            let allowed = if classes.allowed.is_empty() { "unset".to_owned() } else { shown_list(&classes.allowed) };
            denials.push(Denial::new("spec.loadBalancerClass", class, "load balancer classes", allowed));
        }
        None if kind == "LoadBalancer" && !classes.allowed.is_empty() && stood.is_none() => {
            let denial = Denial::new("spec.loadBalancerClass", "(unset)", "load balancer classes", shown_list(&classes.allowed));
            found.complete(
                classes.default.as_ref().map(|default| set(&["spec"], "loadBalancerClass", default.as_str().into())),
                denial,
            );
        }
        _ => {}
    }
    let denials = &mut found.by_mode;
    denials.extend(node_ports(limits, kind, old.map(|old| &old.spec), spec));
    let host = spec.external_name.as_deref().filter(|host| !host.is_empty() && !host_listed(&limits.external_names, host));
    denials.extend(addresses(old.map(|old| &old.spec), spec));
    if let Some(host) = host.filter(|_| stood.is_none_or(|old| old.external_name != spec.external_name)) {
        denials.push(Denial::new("spec.externalName", host, "external names", shown_list(&limits.external_names)));
    }
    denials.extend(crate::objects::annotations(
        ANNOTATIONS,
        &[],
        &limits.annotations,
        writer,
        old.map(|old| &old.metadata),
        &new.metadata,
    ));
    found
}
