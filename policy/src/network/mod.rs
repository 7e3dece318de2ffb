//! May a tenant have this NetworkPolicy of its own: NetworkPolicies add up, so one that opens more than the Boundary says
//! would open it wherever a CNI enforces policies.
//!
//! Input is the policy and what the Boundary says about the network. It is judged by **implication**: a peer is admitted if
//! its selectors can only ever mean what the Boundary lets through, whatever namespaces come later; today's namespaces
//! are not looked at. `policy/tests/network.rs` holds it against the reference evaluator of the network enforcer. The
//! enforcer needs none of this: there the Boundary is a conjunction. This is for clusters with a CNI, and for people, who
//! learn at once that a rule can have no effect.
//!
//! The floor has nothing of this: what follows from a list of selectors is more than a policy may cost. So the webhook's
//! call about these objects fails closed.

mod blocks;
mod implied;

use freehold_crds::{BoundarySpec, Network};
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};

use crate::Denial;
use crate::objects::Found;
use implied::{Opening, openings};

/// The rule's name.
pub const RULE: &str = "network boundary";

/// Which way a rule opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the pods.
    Ingress,
    /// Out of the pods.
    Egress,
}

/// All that stands against a policy in a tenant's namespace.
pub fn check(boundary: &BoundarySpec, namespace: &str, spec: &NetworkPolicySpec) -> Found {
    let network = boundary.network.clone().unwrap_or_default();
    Found { by_mode: judge(spec, &boundary.tenant.name, namespace, &network), ..Found::default() }
}

/// Judges a policy; every part that reaches too far is named.
pub fn judge(spec: &NetworkPolicySpec, tenant: &str, namespace: &str, network: &Network) -> Vec<Denial> {
    let mut denials = Vec::new();
    let open = openings(tenant, namespace, network, Direction::Ingress);
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let at = format!("spec.ingress[{index}]");
        rule_denials(&at, "from", rule.from.as_deref(), rule.ports.as_deref(), &open, &mut denials);
    }
    let open = openings(tenant, namespace, network, Direction::Egress);
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let at = format!("spec.egress[{index}]");
        rule_denials(&at, "to", rule.to.as_deref(), rule.ports.as_deref(), &open, &mut denials);
    }
    denials
}

fn rule_denials(
    at: &str,
    key: &str,
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
    open: &[Opening],
    denials: &mut Vec<Denial>,
) {
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        denials.push(Denial::new(format!("{at}.{key}"), "(everyone)", RULE, allowed(open)));
        return;
    }
    for (index, peer) in peers.iter().enumerate() {
        let whom: Vec<_> = open.iter().filter(|opening| opening.means(peer)).collect();
        if whom.is_empty() {
            let shown = serde_json::to_string(peer).unwrap_or_default();
            denials.push(Denial::new(format!("{at}.{key}[{index}]"), shown, RULE, allowed(open)));
        } else if !whom.iter().any(|opening| opening.holds(ports.unwrap_or_default())) {
            let shown = serde_json::to_string(&ports.unwrap_or_default()).unwrap_or_default();
            let at_ports = whom.iter().map(|opening| opening.words()).collect::<Vec<_>>().join("; ");
            denials.push(Denial::new(format!("{at}.ports"), shown, RULE, format!("for {key}[{index}]: {at_ports}")));
        }
    }
}

fn allowed(open: &[Opening]) -> String {
    open.iter().map(Opening::words).collect::<Vec<_>>().join("; ")
}
