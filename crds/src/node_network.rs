//! NodeNetwork: whether NetworkPolicies are enforced on one node, as a probe found it, and what the network enforcer does there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether NetworkPolicies are enforced on one node. Written by the operator, owned by the Node and named as it. One that is
/// deleted is asked for anew at once.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "freehold.dev",
    version = "v1alpha1",
    kind = "NodeNetwork",
    shortname = "ndn",
    category = "freehold",
    status = "NodeNetworkStatus",
    derive = "PartialEq",
    doc = "Whether NetworkPolicies are enforced on one node, by a live probe, and what the network enforcer does there.",
    validation = Rule::new("self.metadata.name == self.spec.nodeName").message("a NodeNetwork is named as its node"),
    printcolumn(name = "Policies", type_ = "string", json_path = ".status.probe.result"),
    printcolumn(name = "Enforcer", type_ = "string", json_path = ".status.enforcer"),
    printcolumn(name = "Enforced", type_ = "string", json_path = ".status.conditions[?(@.type=='Enforced')].status"),
    printcolumn(name = "Probed", type_ = "date", json_path = ".status.probe.time"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("the node of a NodeNetwork never changes; make another one"))]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkSpec {
    /// The node it is about.
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
}

/// What the probe found, and what follows.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStatus {
    /// The last probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<NetworkProbe>,
    /// What counts: Ignored at once, Held once it was found twice in a row, and NoAnswer never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<ProbeResult>,
    /// Whose traffic the network enforcer judges on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcer: Option<Judged>,
    /// Enforced: whether somebody enforces NetworkPolicies here, and who.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One probe: a pod asks another one at a port that a NetworkPolicy opens, and at one that it leaves closed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkProbe {
    /// When it ended.
    pub time: Time,
    /// What it found.
    pub result: ProbeResult,
    /// Whether a port that only the network enforcer closes was closed.
    #[serde(default)]
    pub enforcer_seen: bool,
    /// Probes in a row that found this.
    #[schemars(range(min = 1, max = 1000))]
    pub streak: i32,
    /// What was asked and what answered.
    #[schemars(length(max = 400))]
    pub evidence: String,
}

/// What a probe found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The open port answered, the closed one did not.
    Held,
    /// The closed port answered.
    Ignored,
    /// Nothing can be said: a pod did not run, or the open port did not answer either.
    NoAnswer,
}

/// Whose traffic the network enforcer judges.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// All pods'.
    Everybodys,
    /// That of pods in tenants' namespaces: until a probe says more, and where it can't.
    Tenants,
    /// Nobody's.
    Nobodys,
}

/// What the operator and the two pods of a probe agree on.
pub mod probing {
    /// The namespace of the pods and of the policies that are tried.
    pub const NAMESPACE: &str = "freehold-probe";
    /// The label that the policies select the pods by; [`ANSWER`] or [`ASK`].
    pub const ROLE_LABEL: &str = "freehold.dev/probe";
    /// The pod that is asked.
    pub const ANSWER: &str = "answer";
    /// The pod that asks.
    pub const ASK: &str = "ask";
    /// The port that the policies of both pods open.
    pub const OPEN: u16 = 8080;
    /// The port that the policy of the asked pod closes, and that of the asking one opens.
    pub const CLOSED_IN: u16 = 8081;
    /// The port that the policy of the asking pod closes, and that of the asked one opens.
    pub const CLOSED_OUT: u16 = 8082;
    /// The port that both policies open, and that the network enforcer alone closes, in mode Auto: does it reach what it judges?
    pub const OURS: u16 = 8083;
    /// How the asking pod's program ends if the policies held.
    pub const EXIT_HELD: u8 = 0;
    /// How it ends if a closed port answered.
    pub const EXIT_IGNORED: u8 = 3;
    /// How it ends if a closed port answered, and the one that the network enforcer closes did not.
    pub const EXIT_IGNORED_BUT_OURS: u8 = 5;
    /// How it ends if nothing can be said.
    pub const EXIT_NO_ANSWER: u8 = 4;
}
