//! Network: what a Tenant's pods may reach and who may reach them. One shape for the wish (Tenant) and for what is in
//! force in a namespace (Boundary), where defaults are filled in and peers are only those to which both sides agreed.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traffic of a tenant. What is not let through here is closed, both ways.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// What pods of the tenant may say to each other; Allow if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_tenant: Option<WithinTenant>,
    /// Who may come in from outside of the tenant. Namespaces of other tenants are never meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ingress_from: Vec<NetworkPeer>,
    /// Where pods may go outside of the tenant. Namespaces of other tenants are never meant; the addresses of nodes, pods,
    /// the API server and link-local ones (metadata) are never part of a block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub egress_to: Vec<NetworkPeer>,
    /// Whether pods may reach the API server; Deny if absent. Opened by the network enforcer: a NetworkPolicy can't name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServerAccess>,
    /// Which DNS pods may ask; Shared if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsAccess>,
    /// Other tenants whose pods may come in. In force once the other Tenant names this one too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub peers: Vec<TenantPeer>,
}

/// What pods of one tenant may say to each other; Allow if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithinTenant {
    /// Everything, in all its namespaces; its own NetworkPolicies narrow that where the enforcer runs.
    #[default]
    Allow,
    /// Everything within one namespace, nothing between namespaces.
    NamespaceOnly,
    /// What the tenant's own NetworkPolicies open, within the tenant.
    Own,
}

/// Whether pods may reach the API server; Deny if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiServerAccess {
    /// They may.
    Allow,
    /// They may not.
    #[default]
    Deny,
}

/// Which DNS pods may ask; Shared if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsAccess {
    /// The cluster's: names of every Service can be looked up.
    #[default]
    Shared,
    /// Freehold's own name server, if the platform runs it (`dns.enabled` of the chart; else as Closed): names of the tenant's own
    /// Services and pods, of its peers', of namespaces of nobody's that `egressTo` opens, and of the API server where `apiServer` is
    /// Allow. Names of the world only where `egressTo` opens a cidr, since a question can carry data out. All others do not exist.
    Isolated,
    /// None.
    Closed,
}

/// Someone outside of the tenant.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.cidr) != has(self.namespaceSelector)").message("a peer is either a cidr or namespaces by labels"))]
#[x_kube(validation = Rule::new("!has(self.podSelector) || has(self.namespaceSelector)").message("a podSelector needs the namespaceSelector of the pods' namespaces"))]
#[x_kube(validation = Rule::new("!has(self.cidr) || (isCIDR(self.cidr) && cidr(self.cidr) == cidr(self.cidr).masked())").message("cidr is a block of addresses without host bits, such as 192.0.2.0/24"))]
#[x_kube(validation = Rule::new("!has(self.cidr) || !isCIDR(self.cidr) || !(cidr('169.254.0.0/16').containsCIDR(self.cidr) || cidr('fe80::/10').containsCIDR(self.cidr) || cidr('64:ff9b::/96').containsCIDR(self.cidr))").message("cidr is no link-local block (metadata services)"))]
#[serde(rename_all = "camelCase")]
pub struct NetworkPeer {
    /// A block of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 43))]
    pub cidr: Option<String>,
    /// Namespaces by labels, of those that are no tenant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelMatch>,
    /// Pods in them by labels; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelMatch>,
    /// The ports that may be reached; all if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ports: Vec<NetworkPort>,
}

/// Objects by labels.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LabelMatch {
    /// Labels with their values; all must be there.
    #[schemars(schema_with = "match_labels_schema")]
    pub match_labels: BTreeMap<String, String>,
}

/// A port.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPort {
    /// Its protocol; TCP if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<NetworkProtocol>,
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// The protocols of ports; TCP if absent.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum NetworkProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl NetworkProtocol {
    /// As a NetworkPolicy spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// Another tenant that may come in, once it names this one too.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TenantPeer {
    /// The other Tenant.
    #[schemars(length(min = 1, max = 40))]
    pub tenant_name: String,
    /// The namespaces of this tenant that take part; all if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// The ports at which the other tenant's pods may come in; all if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub ports: Vec<NetworkPort>,
}

/// Labels, at least one, each as the API server takes it.
fn match_labels_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}
