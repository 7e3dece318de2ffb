//! A tenant's Ingresses serve its own hosts, and don't reconfigure the controller that serves everyone's.
//!
//! Input is a Boundary and an Ingress; the output goes into a [`crate::Decision`]. The floor has the same rules in
//! `charts/freehold/templates/floor/ingresses.yaml`. Controllers take annotations as configuration (CVE-2021-25742 and its kin): of
//! those of known controllers only harmless ones pass unless the Tenant lists them.

use freehold_crds::IngressBoundary;

use crate::objects::{Found, Writer};
use crate::view::{Ingress, IngressRule};
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

/// The classes that an Ingress names, by the field and by the annotation.
fn classes(ingress: &Ingress) -> (Option<&str>, Option<&String>) {
    let class = ingress.spec.ingress_class_name.as_deref().filter(|class| !class.is_empty());
    (class, ingress.metadata.annotations.get(CLASS_ANNOTATION))
}

/// All that stands against an Ingress, and what completes it. What one says that exists may stay as it is, under the same class: another controller
/// would serve its hosts anew.
pub fn check(limits: &IngressBoundary, writer: Writer, old: Option<&Ingress>, new: &Ingress) -> Found {
    let mut found = Found::default();
    let stood = old.filter(|old| self::classes(old) == self::classes(new)).map(|old| &old.spec);
    let (spec, classes) = (&new.spec, &limits.class_names);
    let legacy = new.metadata.annotations.get(CLASS_ANNOTATION);
    match spec.ingress_class_name.as_deref().filter(|class| !class.is_empty()) {
        _ if stood.is_some() => {}
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
    if let Some(class) = legacy.filter(|class| stood.is_none() && !listed(&classes.allowed, class)) {
        let field = format!("metadata.annotations[{CLASS_ANNOTATION}]");
        denials.push(Denial::new(field, class, "ingress classes", shown_list(&classes.allowed)));
    }
    if spec.default_backend.is_some() && stood.is_none_or(|old| old.default_backend.is_none()) {
        let allowed = "rules with hosts: a default backend serves every host that nobody else serves";
        denials.push(Denial::new("spec.defaultBackend", "set", "ingress hosts", allowed));
    }
    let said = |rule: &IngressRule| rule.host.clone().unwrap_or_default();
    let served: Vec<String> = stood.iter().flat_map(|old| &old.rules).map(said).collect();
    let certified: Vec<&String> = stood.iter().flat_map(|old| &old.tls).flat_map(|tls| &tls.hosts).collect();
    let rules = spec.rules.iter().map(said).enumerate().filter(|(_, host)| !served.contains(host));
    let hosts = rules.map(|(index, host)| (format!("spec.rules[{index}].host"), host));
    let certificates = spec.tls.iter().enumerate().flat_map(|(index, tls)| {
        let hosts = tls.hosts.iter().enumerate().filter(|(_, host)| !certified.contains(host));
        hosts.map(move |(host, name)| (format!("spec.tls[{index}].hosts[{host}]"), name.clone()))
    });
    for (field, host) in hosts.chain(certificates).filter(|(_, host)| !host_listed(&limits.hosts, host)) {
        let value = if host.is_empty() { "(every host)" } else { host.as_str() };
        denials.push(Denial::new(field, value, "ingress hosts", shown_list(&limits.hosts)));
    }
    denials.extend(crate::objects::annotations(
        ANNOTATIONS,
        HARMLESS,
        &limits.annotations,
        writer,
        old.map(|old| &old.metadata),
        &new.metadata,
    ));
    found
}
