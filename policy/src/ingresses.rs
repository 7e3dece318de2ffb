//! A tenant's Ingresses serve its own hosts, and don't reconfigure the controller that serves everyone's.
//!
//! Input is a Boundary and an Ingress; the output goes into a [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/ingresses.yaml`. Controllers take annotations as configuration (CVE-2021-25742 and its kin): of
//! those of known controllers only harmless ones pass unless the Tenant lists them.

use freehold_crds::IngressBoundary;

use crate::objects::Found;
use crate::view::Ingress;
use crate::{Denial, host_listed, listed, set, shown_list};

/// The annotation by which the class was chosen before the field; controllers still read it.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Annotations by which controllers and name servers are configured; each begins with one of these.
pub const ANNOTATIONS: &[&str] = &[
    "nginx.ingress.kubernetes.io/",
    "nginx.org/",
    "nginx.com/",
    "ingress.kubernetes.io/",
    "traefik.ingress.kubernetes.io/",
    "haproxy-ingress.github.io/",
    "haproxy.org/",
    "alb.ingress.kubernetes.io/",
    "konghq.com/",
    "projectcontour.io/",
    "external-dns.alpha.kubernetes.io/",
];

/// Of those, what touches the Ingress's own hosts and traffic only.
pub const HARMLESS: &[&str] = &[
    "nginx.ingress.kubernetes.io/affinity",
    "nginx.ingress.kubernetes.io/backend-protocol",
    "nginx.ingress.kubernetes.io/enable-cors",
    "nginx.ingress.kubernetes.io/force-ssl-redirect",
    "nginx.ingress.kubernetes.io/limit-rps",
    "nginx.ingress.kubernetes.io/proxy-body-size",
    "nginx.ingress.kubernetes.io/proxy-connect-timeout",
    "nginx.ingress.kubernetes.io/proxy-read-timeout",
    "nginx.ingress.kubernetes.io/proxy-send-timeout",
    "nginx.ingress.kubernetes.io/ssl-redirect",
    "nginx.ingress.kubernetes.io/use-regex",
    "nginx.ingress.kubernetes.io/whitelist-source-range",
    "traefik.ingress.kubernetes.io/router.entrypoints",
    "traefik.ingress.kubernetes.io/router.tls",
];

/// All that stands against an Ingress, and what completes it.
pub fn check(limits: &IngressBoundary, old: Option<&Ingress>, new: &Ingress) -> Found {
    let mut found = Found::default();
    let (spec, classes) = (&new.spec, &limits.class_names);
    let legacy = new.metadata.annotations.get(CLASS_ANNOTATION);
    match spec.ingress_class_name.as_deref().filter(|class| !class.is_empty()) {
        Some(class) if !listed(&classes.allowed, class) => {
            found.by_mode.push(Denial::new("spec.ingressClassName", class, "ingress classes", shown_list(&classes.allowed)));
        }
        None if legacy.is_none() && !listed(&classes.allowed, "") => {
            let denial = Denial::new("spec.ingressClassName", "(unset)", "ingress classes", shown_list(&classes.allowed));
            found.complete(
                classes.default.as_ref().map(|default| set(&["spec"], "ingressClassName", default.as_str().into())),
                denial,
            );
        }
        _ => {}
    }
    let denials = &mut found.by_mode;
    if let Some(class) = legacy.filter(|class| !listed(&classes.allowed, class)) {
        let field = format!("metadata.annotations[{CLASS_ANNOTATION}]");
        denials.push(Denial::new(field, class, "ingress classes", shown_list(&classes.allowed)));
    }
    if spec.default_backend.is_some() {
        let allowed = "rules with hosts: a default backend serves every host that nobody else serves";
        denials.push(Denial::new("spec.defaultBackend", "set", "ingress hosts", allowed));
    }
    let hosts = spec
        .rules
        .iter()
        .enumerate()
        .map(|(index, rule)| (format!("spec.rules[{index}].host"), rule.host.as_deref().unwrap_or_default()));
    let certificates = spec.tls.iter().enumerate().flat_map(|(index, tls)| {
        tls.hosts.iter().enumerate().map(move |(host, name)| (format!("spec.tls[{index}].hosts[{host}]"), name.as_str()))
    });
    for (field, host) in hosts.chain(certificates).filter(|(_, host)| !host_listed(&limits.hosts, host)) {
        let value = if host.is_empty() { "(every host)" } else { host };
        denials.push(Denial::new(field, value, "ingress hosts", shown_list(&limits.hosts)));
    }
    denials.extend(crate::objects::annotations(
        ANNOTATIONS,
        HARMLESS,
        &limits.annotations,
        old.map(|old| &old.metadata),
        &new.metadata,
    ));
    found
}
