//! Pods: what rules read of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Figure, Metadata, PersistentVolumeClaim, Present, absent, views};

views! {
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
        /// The node, where the scheduler must not choose it.
        node_name: Option<String>,
        /// Node labels that are asked for.
        node_selector: BTreeMap<String, String>,
        /// Who chooses the node.
        scheduler_name: Option<String>,
        /// PriorityClass.
        priority_class_name: Option<String>,
        /// Its value, once the API server resolved it.
        priority: Option<i64>,
        /// Its preemption policy, once the API server resolved it.
        preemption_policy: Option<String>,
        /// Taints that are tolerated.
        tolerations: Vec<Toleration>,
        /// What else it wants near or far.
        affinity: Affinity,
        /// False asks for a user namespace.
        host_users: Option<bool>,
        /// Whose name servers it asks.
        dns_policy: Option<String>,
        /// What it says about name servers itself.
        #[serde(rename = "dnsConfig")] dns_config: DnsConfig,
        /// Resources of all containers together; where they are said, be it nothing, the containers' do not make its class of QoS.
        resources: Option<Resources>,
        /// Devices by claims.
        resource_claims: Vec<Present>,
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
    /// What a pod says about name servers itself.
    DnsConfig {
        /// Addresses.
        nameservers: Vec<String>,
        /// Domains in which short names are looked for.
        searches: Vec<String>,
        /// Options of the resolver.
        options: Vec<DnsOption>,
    }
    /// An option of the resolver.
    DnsOption {
        /// Its name.
        name: String,
        /// Its value.
        value: Option<String>,
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
        /// Whether root is refused.
        run_as_non_root: Option<bool>,
        /// User of all containers.
        run_as_user: Option<i64>,
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
    /// A volume; it has one source.
    Volume {
        /// Its name.
        name: String,
        /// A folder of the node.
        host_path: Option<HostPath>,
        /// A checkout by the kubelet, as root of the node.
        git_repo: Option<GitRepo>,
        /// An image's files.
        image: Option<ImageVolume>,
        /// Tokens and configuration in one folder.
        projected: Option<Projected>,
        /// Configuration.
        config_map: Option<Present>,
        /// Secrets.
        secret: Option<Present>,
        /// Scratch space.
        empty_dir: Option<Present>,
        /// The pod's own fields.
        #[serde(rename = "downwardAPI")] downward_api: Option<Present>,
        /// A claim.
        persistent_volume_claim: Option<Present>,
        /// A claim made with the pod.
        ephemeral: Option<EphemeralVolume>,
        /// A volume that a CSI driver makes with the pod.
        csi: Option<CsiVolume>,
    }
    /// A claim made with the pod.
    EphemeralVolume {
        /// What is claimed.
        volume_claim_template: PersistentVolumeClaim,
    }
    /// A volume that a CSI driver makes with the pod.
    CsiVolume {
        /// Who makes it.
        driver: String,
    }
    /// An image as a volume.
    ImageVolume {
        /// Its reference.
        reference: String,
        /// When it is pulled.
        pull_policy: Option<String>,
    }
    /// A projected volume.
    Projected {
        /// Its parts.
        sources: Vec<Projection>,
    }
    /// One part of a projected volume.
    Projection {
        /// A token of the pod's ServiceAccount.
        service_account_token: Option<TokenProjection>,
        /// A certificate for the pod.
        pod_certificate: Option<CertificateProjection>,
    }
    /// A token of the pod's ServiceAccount.
    TokenProjection {
        /// Whom it is for; the API server if absent.
        audience: Option<String>,
    }
    /// A certificate for the pod.
    CertificateProjection {
        /// Who signs it.
        signer_name: String,
    }
    /// A taint that is tolerated.
    Toleration {
        /// Its key; none with Exists is every taint.
        key: Option<String>,
        /// Exists or Equal.
        operator: Option<String>,
        /// Its value.
        value: Option<String>,
        /// Its effect; none is every one.
        effect: Option<String>,
    }
    /// What a pod wants near or far. Node affinity only narrows, so no rule reads it.
    Affinity {
        /// Near.
        pod_affinity: PodAffinity,
        /// Far.
        pod_anti_affinity: PodAffinity,
    }
    /// Terms of affinity.
    PodAffinity {
        /// Must hold.
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")] required: Vec<AffinityTerm>,
        /// Should hold.
        #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")] preferred: Vec<WeightedTerm>,
    }
    /// A term with a weight.
    WeightedTerm {
        /// The term.
        pod_affinity_term: AffinityTerm,
    }
    /// A term of affinity: which pods.
    AffinityTerm {
        /// Of these namespaces.
        namespaces: Vec<String>,
        /// And of these; an empty one is all, none is the pod's own.
        namespace_selector: Option<Selector>,
    }
    /// A selector of labels.
    Selector {
        /// Labels that must be.
        match_labels: BTreeMap<String, String>,
    }
    /// Resources by name; amounts are the quota's business, but for the class of QoS that they make.
    Resources {
        /// At most.
        limits: BTreeMap<String, Figure>,
        /// At least.
        requests: BTreeMap<String, Figure>,
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
        /// Its image.
        image: Option<String>,
        /// When it is pulled.
        image_pull_policy: Option<String>,
        /// Resources by name.
        resources: Resources,
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
        /// Whether a process may get more rights than its parent; absent is yes.
        allow_privilege_escalation: Option<bool>,
        /// Whether root is refused.
        run_as_non_root: Option<bool>,
        /// User.
        run_as_user: Option<i64>,
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
        /// Taken away from it.
        drop: Vec<String>,
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
}

impl PodSpec {
    /// The three lists of containers, by field. A rule that forgets one is no rule.
    pub fn lists(&self) -> [(&'static str, &[Container]); 3] {
        [
            ("containers", &self.containers),
            ("initContainers", &self.init_containers),
            ("ephemeralContainers", &self.ephemeral_containers),
        ]
    }
}

impl Volume {
    /// Whether its source is one that lies in the pod, in the API or behind a claim. A volume has one source; a kind that is not known
    /// here is none of these.
    pub fn is_own(&self) -> bool {
        self.image.is_some()
            || self.projected.is_some()
            || self.csi.is_some()
            || self.ephemeral.is_some()
            || [self.config_map, self.secret, self.empty_dir, self.downward_api, self.persistent_volume_claim]
                .iter()
                .any(Option::is_some)
    }
}
