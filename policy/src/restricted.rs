//! The Pod Security Standards' level Restricted, for tenants that have it: no root, no rights to gain, a seccomp profile.
//!
//! Input is a pod or a pod template, the output goes into a pod's [`crate::Decision`]. It comes on top of [`crate::host_access`], which
//! is always enforced. The floor has the same rules in `charts/freehold/templates/floor/pods-boundary.yaml`.
//! Source: Kubernetes, "Pod Security Standards", Restricted. Windows pods are not excepted: no runtime here runs them.

use freehold_crds::RestrictedControl::{self, Capabilities, PrivilegeEscalation, SeccompProfile, User};

use crate::Denial;
use crate::view::{Container, Pod, PodSecurityContext};

/// The one capability that containers may add.
pub const CAPABILITY: &str = "NET_BIND_SERVICE";

const USER: &str = "restricted: user";
const CAPABILITIES: &str = "restricted: capabilities";

/// All that Restricted refuses, but for the parts that the tenant is spared.
pub fn check(prefix: &str, spared: &[RestrictedControl], pod: &Pod) -> Vec<Denial> {
    let mut found = Vec::new();
    let context = &pod.spec.security_context;
    if context.run_as_user == Some(0) {
        found.push((User, Denial::new(format!("{prefix}spec.securityContext.runAsUser"), 0, USER, "not 0, or unset")));
    }
    for (list, containers) in pod.spec.lists() {
        for (index, container) in containers.iter().enumerate() {
            container_level(&format!("{prefix}spec.{list}[{index}].securityContext"), context, container, &mut found);
        }
    }
    found.into_iter().filter(|(control, _)| !spared.contains(control)).map(|(_, denial)| denial).collect()
}

fn container_level(at: &str, pod: &PodSecurityContext, container: &Container, found: &mut Vec<(RestrictedControl, Denial)>) {
    let context = &container.security_context;
    let said = |value: Option<bool>| value.map_or("(unset)".to_owned(), |value| value.to_string());
    if context.allow_privilege_escalation != Some(false) {
        let value = said(context.allow_privilege_escalation);
        let denial = Denial::new(format!("{at}.allowPrivilegeEscalation"), value, "restricted: privilege escalation", "false");
        found.push((PrivilegeEscalation, denial));
    }
    let non_root = context.run_as_non_root.or(pod.run_as_non_root);
    if non_root != Some(true) {
        let allowed = "true, here or in spec.securityContext";
        found.push((User, Denial::new(format!("{at}.runAsNonRoot"), said(non_root), USER, allowed)));
    }
    if context.run_as_user == Some(0) {
        found.push((User, Denial::new(format!("{at}.runAsUser"), 0, USER, "not 0, or unset")));
    }
    let seccomp = context.seccomp_profile.kind.as_ref().or(pod.seccomp_profile.kind.as_ref());
    if !seccomp.is_some_and(|kind| kind == "RuntimeDefault" || kind == "Localhost") {
        let value = seccomp.map_or("(unset)", String::as_str);
        let allowed = "RuntimeDefault or Localhost, here or in spec.securityContext";
        let denial = Denial::new(format!("{at}.seccompProfile.type"), value, "restricted: seccomp profile", allowed);
        found.push((SeccompProfile, denial));
    }
    let capabilities = &context.capabilities;
    if !capabilities.drop.iter().any(|name| name == "ALL") {
        let value = if capabilities.drop.is_empty() { "(unset)".to_owned() } else { capabilities.drop.join(", ") };
        found.push((Capabilities, Denial::new(format!("{at}.capabilities.drop"), value, CAPABILITIES, "ALL")));
    }
    for (index, name) in capabilities.add.iter().enumerate().filter(|(_, name)| *name != CAPABILITY) {
        found.push((Capabilities, Denial::new(format!("{at}.capabilities.add[{index}]"), name, CAPABILITIES, CAPABILITY)));
    }
}
