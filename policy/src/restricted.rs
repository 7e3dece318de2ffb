//! The Pod Security Standards' level Restricted, for tenants that have it: no root, no rights to gain, a seccomp profile.
//!
//! Input is a pod or a pod template, the output goes into a pod's [`crate::Decision`]. It comes on top of [`crate::host_access`], which
//! is always enforced. The floor has the same rules in `charts/freehold/templates/floor/pods-boundary.yaml`.
//! Source: Kubernetes, "Pod Security Standards", Restricted. Windows pods are not excepted: no runtime here runs them.

use crate::Denial;
use crate::view::{Container, Pod, PodSecurityContext};

/// The one capability that containers may add.
pub const CAPABILITY: &str = "NET_BIND_SERVICE";

/// All that Restricted refuses.
pub fn check(prefix: &str, pod: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    let context = &pod.spec.security_context;
    if context.run_as_user == Some(0) {
        denials.push(Denial::new(format!("{prefix}spec.securityContext.runAsUser"), 0, "restricted: user", "not 0, or unset"));
    }
    for (list, containers) in pod.spec.lists() {
        for (index, container) in containers.iter().enumerate() {
            container_level(&format!("{prefix}spec.{list}[{index}].securityContext"), context, container, &mut denials);
        }
    }
    denials
}

fn container_level(at: &str, pod: &PodSecurityContext, container: &Container, denials: &mut Vec<Denial>) {
    let context = &container.security_context;
    let said = |value: Option<bool>| value.map_or("(unset)".to_owned(), |value| value.to_string());
    if context.allow_privilege_escalation != Some(false) {
        let value = said(context.allow_privilege_escalation);
        denials.push(Denial::new(format!("{at}.allowPrivilegeEscalation"), value, "restricted: privilege escalation", "false"));
    }
    let non_root = context.run_as_non_root.or(pod.run_as_non_root);
    if non_root != Some(true) {
        let allowed = "true, here or in spec.securityContext";
        denials.push(Denial::new(format!("{at}.runAsNonRoot"), said(non_root), "restricted: user", allowed));
    }
    if context.run_as_user == Some(0) {
        denials.push(Denial::new(format!("{at}.runAsUser"), 0, "restricted: user", "not 0, or unset"));
    }
    let seccomp = context.seccomp_profile.kind.as_ref().or(pod.seccomp_profile.kind.as_ref());
    if !seccomp.is_some_and(|kind| kind == "RuntimeDefault" || kind == "Localhost") {
        let value = seccomp.map_or("(unset)", String::as_str);
        let allowed = "RuntimeDefault or Localhost, here or in spec.securityContext";
        denials.push(Denial::new(format!("{at}.seccompProfile.type"), value, "restricted: seccomp profile", allowed));
    }
    let capabilities = &context.capabilities;
    if !capabilities.drop.iter().any(|name| name == "ALL") {
        let value = if capabilities.drop.is_empty() { "(unset)".to_owned() } else { capabilities.drop.join(", ") };
        denials.push(Denial::new(format!("{at}.capabilities.drop"), value, "restricted: capabilities", "ALL"));
    }
    for (index, name) in capabilities.add.iter().enumerate().filter(|(_, name)| *name != CAPABILITY) {
        denials.push(Denial::new(format!("{at}.capabilities.add[{index}]"), name, "restricted: capabilities", CAPABILITY));
    }
}
