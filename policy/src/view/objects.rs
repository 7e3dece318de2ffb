//! Everything beside pods and namespaces: what rules read of it.

use serde::Deserialize;

use super::{Metadata, Pod, Present, absent, views};

views! {
    /// A Service.
    Service {
        /// Metadata.
        metadata: Metadata,
        /// What it offers.
        spec: ServiceSpec,
    }
    /// What a Service offers.
    ServiceSpec {
        /// ClusterIP, NodePort, LoadBalancer or ExternalName.
        #[serde(rename = "type")] kind: Option<String>,
        /// Its address in the cluster; `None` for none.
        #[serde(rename = "clusterIP")] cluster_ip: Option<String>,
        /// Its addresses of both families; the first is the same.
        #[serde(rename = "clusterIPs")] cluster_ips: Vec<String>,
        /// Addresses that every node takes traffic for.
        #[serde(rename = "externalIPs")] external_ips: Vec<String>,
        /// An address of the load balancer.
        #[serde(rename = "loadBalancerIP")] load_balancer_ip: Option<String>,
        /// Who makes the load balancer.
        load_balancer_class: Option<String>,
        /// False: the load balancer needs no ports of nodes.
        allocate_load_balancer_node_ports: Option<bool>,
        /// Local: load balancers ask each node whether it has a pod.
        external_traffic_policy: Option<String>,
        /// Where an ExternalName leads.
        external_name: Option<String>,
        /// Ports.
        ports: Vec<ServicePort>,
        /// A port of every node for health checks.
        health_check_node_port: i64,
    }
    /// A port of a Service.
    ServicePort {
        /// Its name; may be empty where there is one port.
        name: String,
        /// A port of every node; 0 is chosen by the API server.
        node_port: i64,
    }
    /// An Ingress.
    Ingress {
        /// Metadata.
        metadata: Metadata,
        /// What it serves.
        spec: IngressSpec,
    }
    /// What an Ingress serves.
    IngressSpec {
        /// Its class.
        ingress_class_name: Option<String>,
        /// What serves whatever no rule matches, of any host.
        default_backend: Option<Present>,
        /// Hosts and paths.
        rules: Vec<IngressRule>,
        /// Certificates.
        tls: Vec<IngressTls>,
    }
    /// One host of an Ingress.
    IngressRule {
        /// The host; none is every one.
        host: Option<String>,
    }
    /// One certificate of an Ingress.
    IngressTls {
        /// Hosts it is for.
        hosts: Vec<String>,
    }
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim {
        /// Metadata.
        metadata: Metadata,
        /// What is claimed.
        spec: ClaimSpec,
    }
    /// What is claimed.
    ClaimSpec {
        /// Its class; an empty one takes volumes that are there.
        storage_class_name: Option<String>,
        /// A certain volume.
        volume_name: Option<String>,
        /// One of certain volumes.
        selector: Option<Present>,
        /// What it is filled from.
        data_source_ref: DataSource,
    }
    /// What a claim is filled from.
    DataSource {
        /// Of which namespace.
        namespace: Option<String>,
    }
    /// A RoleBinding.
    RoleBinding {
        /// Metadata.
        metadata: Metadata,
        /// Who gets the role.
        subjects: Vec<Subject>,
    }
    /// Who gets a role.
    Subject {
        /// User, Group or ServiceAccount.
        kind: String,
        /// The name.
        name: String,
        /// Namespace of a ServiceAccount.
        namespace: Option<String>,
    }
    /// A ResourceClaim, or the template of one.
    DeviceClaim {
        /// Metadata.
        metadata: Metadata,
        /// What is claimed.
        spec: DeviceClaimSpec,
    }
    /// What is claimed; in a template one level deeper.
    DeviceClaimSpec {
        /// Devices of a claim.
        devices: Devices,
        /// The claim of a template.
        spec: InnerClaimSpec,
    }
    /// The claim in a template.
    InnerClaimSpec {
        /// Devices.
        devices: Devices,
    }
    /// Devices that are claimed.
    Devices {
        /// Each.
        requests: Vec<DeviceRequest>,
    }
    /// One device.
    DeviceRequest {
        /// Its class, up to v1beta1.
        device_class_name: Option<String>,
        /// Whether it may be in use by others, up to v1beta1.
        admin_access: bool,
        /// Both, since v1beta2.
        exactly: DeviceChoice,
        /// One of these.
        first_available: Vec<DeviceChoice>,
    }
    /// Which device.
    DeviceChoice {
        /// Its class.
        device_class_name: Option<String>,
        /// Whether it may be in use by others.
        admin_access: bool,
    }
    /// A workload that makes pods.
    Workload {
        /// Metadata.
        metadata: Metadata,
        /// Where the template is.
        spec: WorkloadSpec,
    }
    /// Where the template of a workload is.
    WorkloadSpec {
        /// In all but CronJobs.
        template: Option<Pod>,
        /// In CronJobs.
        job_template: JobTemplate,
        /// Claims that a StatefulSet makes for each pod.
        volume_claim_templates: Vec<PersistentVolumeClaim>,
    }
    /// The Job of a CronJob.
    JobTemplate {
        /// Its spec.
        spec: JobSpec,
    }
    /// The spec of a CronJob's Job.
    JobSpec {
        /// Its template.
        template: Option<Pod>,
    }
}
