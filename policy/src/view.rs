//! The parts of Kubernetes objects that rules read, decoded by serde from the API server's JSON.
//!
//! Input is an object as an AdmissionReview carries it; the rules of this crate read the result. They are types of our own
//! and not k8s-openapi's because a rule needs a twentieth of a pod, and because a field that a rule reads should be seen
//! here. Names and nesting are exactly the API's. JSON `null` counts as absent, as for the API server.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

fn absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

macro_rules! views {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$field_doc])* #[serde(deserialize_with = "absent")] pub $field: $kind,)* }
    )* };
}

views! {
    /// Metadata of any object.
    Metadata {
        /// Empty where generateName is used.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    }
    /// A Namespace.
    Namespace {
        /// Metadata: all that belonging hangs on.
        metadata: Metadata,
    }
    /// A pod, or a pod template.
    Pod {
        /// Metadata.
        metadata: Metadata,
        /// What is to run.
        spec: PodSpec,
    }
    /// What is to run.
    PodSpec {
        /// RuntimeClass, and with it the kernel.
        runtime_class_name: Option<String>,
        /// The node's network.
        host_network: bool,
        /// The node's processes.
        #[serde(rename = "hostPID")] host_pid: bool,
        /// The node's System V IPC.
        #[serde(rename = "hostIPC")] host_ipc: bool,
        /// Settings for all containers.
        security_context: PodSecurityContext,
        /// Volumes.
        volumes: Vec<Volume>,
        /// Containers that run together.
        containers: Vec<Container>,
        /// Containers that run first, sidecars included.
        init_containers: Vec<Container>,
        /// Containers added for debugging.
        ephemeral_containers: Vec<Container>,
    }
    /// A pod's securityContext.
    PodSecurityContext {
        /// Seccomp for all containers.
        seccomp_profile: Profile,
        /// AppArmor for all containers.
        app_armor_profile: Profile,
        /// SELinux for all containers.
        se_linux_options: SeLinuxOptions,
        /// Windows settings for all containers.
        windows_options: WindowsOptions,
        /// Kernel settings.
        sysctls: Vec<Sysctl>,
    }
    /// A seccomp or AppArmor profile.
    Profile {
        /// RuntimeDefault, Localhost or Unconfined.
        #[serde(rename = "type")] kind: Option<String>,
    }
    /// SELinux options.
    SeLinuxOptions {
        /// SELinux type.
        #[serde(rename = "type")] kind: Option<String>,
        /// SELinux user.
        user: Option<String>,
        /// SELinux role.
        role: Option<String>,
    }
    /// Windows options.
    WindowsOptions {
        /// Runs as a process of the host.
        host_process: bool,
    }
    /// One kernel setting.
    Sysctl {
        /// Its name.
        name: String,
    }
    /// A volume; the sources that rules read.
    Volume {
        /// Its name.
        name: String,
        /// A folder of the node.
        host_path: Option<HostPath>,
        /// A checkout by the kubelet, as root of the node.
        git_repo: Option<GitRepo>,
    }
    /// A hostPath volume.
    HostPath {
        /// Where on the node.
        path: String,
    }
    /// A gitRepo volume.
    GitRepo {
        /// From where.
        repository: String,
    }
    /// A container of any of the three lists.
    Container {
        /// Ports.
        ports: Vec<Port>,
        /// Its own settings.
        security_context: SecurityContext,
        /// Probes.
        liveness_probe: Action,
        /// Probes.
        readiness_probe: Action,
        /// Probes.
        startup_probe: Action,
        /// Hooks.
        lifecycle: Lifecycle,
    }
    /// A container's port.
    Port {
        /// Port of the node; 0 is none.
        host_port: i64,
    }
    /// A container's securityContext.
    SecurityContext {
        /// All rights of the node.
        privileged: bool,
        /// Capabilities.
        capabilities: Capabilities,
        /// How /proc is masked.
        proc_mount: Option<String>,
        /// Seccomp.
        seccomp_profile: Profile,
        /// AppArmor.
        app_armor_profile: Profile,
        /// SELinux.
        se_linux_options: SeLinuxOptions,
        /// Windows.
        windows_options: WindowsOptions,
    }
    /// Capabilities.
    Capabilities {
        /// Added to the runtime's default set.
        add: Vec<String>,
    }
    /// Hooks.
    Lifecycle {
        /// After start.
        post_start: Action,
        /// Before stop.
        pre_stop: Action,
    }
    /// A probe or hook: what the kubelet does from the node.
    Action {
        /// An HTTP request.
        http_get: Target,
        /// A TCP connection.
        tcp_socket: Target,
    }
    /// Where a probe or hook connects to.
    Target {
        /// Empty is the pod itself.
        host: Option<String>,
    }
    /// A Boundary: the Tenant resolved for one namespace.
    Boundary {
        /// What was resolved.
        spec: BoundarySpec,
    }
    /// What was resolved.
    BoundarySpec {
        /// How strictly everything but belonging and host access binds.
        enforcement_mode: EnforcementMode,
        /// Limits on pods.
        pods: PodLimits,
    }
    /// Limits on pods.
    PodLimits {
        /// RuntimeClasses.
        runtime_class_names: Choice,
    }
    /// What an object that says nothing gets, and what it may say.
    Choice {
        /// For those that say nothing.
        default: Option<String>,
        /// Exact names, or with a trailing `*`.
        allowed: Vec<String>,
    }
}

/// How strictly a Boundary binds. What is not known here counts as Enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum EnforcementMode {
    /// Refuse.
    #[default]
    Enforce,
    /// Admit and warn.
    Warn,
    /// Admit and count.
    Audit,
}

impl From<String> for EnforcementMode {
    fn from(name: String) -> Self {
        match name.as_str() {
            "Warn" => Self::Warn,
            "Audit" => Self::Audit,
            _ => Self::Enforce,
        }
    }
}
