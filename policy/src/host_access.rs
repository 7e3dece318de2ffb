//! No pod of a tenant reaches its node: the rules of Pod Security's Baseline, and what Baseline forgets.
//!
//! Input is a pod or a pod template, the output goes into a pod's [`crate::Decision`]. Always enforced, whatever a
//! tenant's enforcementMode, and on every runtime: a virtual machine around a pod does not contain a hostPath. The floor has the same
//! rules in `charts/freehold/templates/floor/pods-host-access.yaml`.
//! Baseline forgets the volumes that the node mounts from an address in the pod (nfs, iscsi, disks of clouds): a foreign disk.
//! Source of the lists: Kubernetes, "Pod Security Standards", Baseline.

use crate::view::{Action, Container, Pod, PodSpec, Profile, SeLinuxOptions, WindowsOptions};
use crate::{Denial, worse};

/// Capabilities that containers may add: the default set of container runtimes.
pub const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Sysctls that touch only the pod's own namespaces.
pub const SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
];

/// SELinux types for containers.
pub const SELINUX_TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Profile types that confine.
pub const PROFILE_TYPES: &[&str] = &["RuntimeDefault", "Localhost"];

/// The annotation by which AppArmor was chosen before the field; runtimes still read it.
pub const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Beginnings of annotations by which a pod would configure its runtime or join foreign networks.
pub const RUNTIME_ANNOTATIONS: &[&str] = &[
    "io.katacontainers.",
    "io.kubernetes.cri-o.",
    "io.kubernetes.cri.",
    "io.containerd.",
    "run.oci.",
    "dev.gvisor.",
    "k8s.v1.cni.cncf.io/networks",
];

/// Domains, with all below them, of annotations that do the same: devices of the node (CDI, plug-ins of containerd's NRI), and networks,
/// pools and addresses of one's choice (Multus, Calico, Cilium, OVN-Kubernetes).
pub const RUNTIME_DOMAINS: &[&str] =
    &["cdi.k8s.io", "nri.io", "noderesource.dev", "multus-cni.io", "projectcalico.org", "cilium.io", "k8s.ovn.org"];

/// Whether an annotation configures a runtime or a network.
fn configures_runtime(key: &str) -> bool {
    let below = |domain: &str, known: &str| domain.strip_suffix(known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    RUNTIME_ANNOTATIONS.iter().any(|start| key.starts_with(start))
        || key.split_once('/').is_some_and(|(domain, _)| RUNTIME_DOMAINS.iter().any(|known| below(domain, known)))
}

/// All that gives a pod access to its node, `prefix` being where the pod stands in the object (empty, or `spec.template.`).
/// Of a pod that exists only what is worse than before: what stood there was set by plug-ins, or is older than the rule.
pub fn check(prefix: &str, old: Option<&Pod>, pod: &Pod) -> Vec<Denial> {
    let mut denials = Vec::new();
    annotations(&format!("{prefix}metadata.annotations"), old, pod, &mut denials);
    denials.extend(worse(old.map(|old| of_spec(prefix, &old.spec)), of_spec(prefix, &pod.spec)));
    denials
}

fn of_spec(prefix: &str, spec: &PodSpec) -> Vec<Denial> {
    let mut denials = Vec::new();
    pod_level(&format!("{prefix}spec"), spec, &mut denials);
    for (list, containers) in spec.lists() {
        for (index, container) in containers.iter().enumerate() {
            container_level(&format!("{prefix}spec.{list}[{index}]"), container, &mut denials);
        }
    }
    denials
}

fn annotations(at: &str, old: Option<&Pod>, pod: &Pod, denials: &mut Vec<Denial>) {
    let stood = |(key, value): &(&String, &String)| old.and_then(|old| old.metadata.annotations.get(*key)) == Some(*value);
    for (key, value) in pod.metadata.annotations.iter().filter(|one| !stood(one)) {
        let confined = value == "runtime/default" || value.starts_with("localhost/") || value.is_empty();
        if key.starts_with(APPARMOR_ANNOTATION) && !confined {
            denials.push(Denial::new(format!("{at}[{key}]"), value, "AppArmor profile", "runtime/default, localhost/…"));
        }
        if configures_runtime(key) {
            denials.push(Denial::new(format!("{at}[{key}]"), value, "runtime annotations", "leave it out"));
        }
    }
}

fn pod_level(at: &str, spec: &PodSpec, denials: &mut Vec<Denial>) {
    let namespaces = [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)];
    for (field, _) in namespaces.into_iter().filter(|(_, used)| *used) {
        denials.push(Denial::new(format!("{at}.{field}"), true, "host namespaces", "false or unset"));
    }
    for (index, volume) in spec.volumes.iter().enumerate() {
        let at = format!("{at}.volumes[{index}]");
        if let Some(source) = &volume.host_path {
            let allowed = "other volumes, such as emptyDir, configMap, persistentVolumeClaim";
            denials.push(Denial::new(format!("{at}.hostPath.path"), &source.path, "hostPath volumes", allowed));
        }
        if let Some(source) = &volume.git_repo {
            let allowed = "an init container that clones into an emptyDir";
            denials.push(Denial::new(format!("{at}.gitRepo.repository"), &source.repository, "gitRepo volumes", allowed));
        }
        if volume.host_path.is_none() && volume.git_repo.is_none() && !volume.is_own() {
            let allowed = "other volumes; a persistentVolumeClaim for storage outside the pod";
            denials.push(Denial::new(at, &volume.name, "volumes that the node mounts by address", allowed));
        }
    }
    let at = format!("{at}.securityContext");
    for (index, sysctl) in spec.security_context.sysctls.iter().enumerate() {
        if !SYSCTLS.contains(&sysctl.name.as_str()) {
            denials.push(Denial::new(format!("{at}.sysctls[{index}].name"), &sysctl.name, "sysctls", SYSCTLS.join(", ")));
        }
    }
    let context = &spec.security_context;
    profiles(&at, &context.seccomp_profile, &context.app_armor_profile, denials);
    options(&at, &context.se_linux_options, &context.windows_options, denials);
}

fn container_level(at: &str, container: &Container, denials: &mut Vec<Denial>) {
    for (index, port) in container.ports.iter().enumerate().filter(|(_, port)| port.host_port != 0) {
        denials.push(Denial::new(format!("{at}.ports[{index}].hostPort"), port.host_port, "host ports", "unset; use a Service"));
    }
    let actions = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
        ("lifecycle.postStart", &container.lifecycle.post_start),
        ("lifecycle.preStop", &container.lifecycle.pre_stop),
    ];
    for (field, action) in actions {
        action_hosts(&format!("{at}.{field}"), action, denials);
    }
    let context = &container.security_context;
    let at = format!("{at}.securityContext");
    if context.privileged {
        denials.push(Denial::new(format!("{at}.privileged"), true, "privileged containers", "false or unset"));
    }
    for (index, capability) in context.capabilities.add.iter().enumerate() {
        if !CAPABILITIES.contains(&capability.as_str()) {
            let field = format!("{at}.capabilities.add[{index}]");
            denials.push(Denial::new(field, capability, "added capabilities", CAPABILITIES.join(", ")));
        }
    }
    if let Some(mount) = context.proc_mount.as_deref().filter(|mount| *mount != "Default") {
        denials.push(Denial::new(format!("{at}.procMount"), mount, "/proc mount type", "Default or unset"));
    }
    profiles(&at, &context.seccomp_profile, &context.app_armor_profile, denials);
    options(&at, &context.se_linux_options, &context.windows_options, denials);
}

fn action_hosts(at: &str, action: &Action, denials: &mut Vec<Denial>) {
    for (field, target) in [("httpGet", &action.http_get), ("tcpSocket", &action.tcp_socket)] {
        if let Some(host) = target.host.as_deref().filter(|host| !host.is_empty()) {
            let allowed = "unset: the pod itself";
            denials.push(Denial::new(format!("{at}.{field}.host"), host, "hosts of probes and hooks", allowed));
        }
    }
}

fn profiles(at: &str, seccomp: &Profile, apparmor: &Profile, denials: &mut Vec<Denial>) {
    let both = [("seccompProfile", seccomp, "seccomp profile"), ("appArmorProfile", apparmor, "AppArmor profile")];
    for (field, profile, rule) in both {
        if let Some(kind) = profile.kind.as_deref().filter(|kind| !PROFILE_TYPES.contains(kind)) {
            denials.push(Denial::new(format!("{at}.{field}.type"), kind, rule, "RuntimeDefault, Localhost or unset"));
        }
    }
}

fn options(at: &str, selinux: &SeLinuxOptions, windows: &WindowsOptions, denials: &mut Vec<Denial>) {
    if let Some(kind) = selinux.kind.as_deref().filter(|kind| !SELINUX_TYPES.contains(kind)) {
        let allowed = SELINUX_TYPES[1..].join(", ") + " or unset";
        denials.push(Denial::new(format!("{at}.seLinuxOptions.type"), kind, "SELinux options", allowed));
    }
    for (field, value) in [("user", &selinux.user), ("role", &selinux.role)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            denials.push(Denial::new(format!("{at}.seLinuxOptions.{field}"), value, "SELinux options", "unset"));
        }
    }
    if windows.host_process {
        denials.push(Denial::new(format!("{at}.windowsOptions.hostProcess"), true, "Windows host processes", "false or unset"));
    }
}
