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
pub fn check(boundary: &BoundarySpec, namespace: &str, old: Option<&NetworkPolicySpec>, spec: &NetworkPolicySpec) -> Found {
    let network = boundary.network.clone().unwrap_or_default();
    Found { by_mode: judge(old, spec, &boundary.tenant.name, namespace, &network), ..Found::default() }
}

/// A rule of either direction: whom, and at which ports.
type Rule<'a> = (&'a [NetworkPolicyPeer], &'a [NetworkPolicyPort]);

fn ingress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    let rules = spec.ingress.iter().flatten();
    rules.map(|rule| (rule.from.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default())).collect()
}

fn egress(spec: &NetworkPolicySpec) -> Vec<Rule<'_>> {
    let rules = spec.egress.iter().flatten();
    rules.map(|rule| (rule.to.as_deref().unwrap_or_default(), rule.ports.as_deref().unwrap_or_default())).collect()
}

/// Judges a policy; every part that reaches too far is named. Whom one that exists (`old`) opened the same pods to at the same ports it may open them to.
pub fn judge(
    old: Option<&NetworkPolicySpec>,
    spec: &NetworkPolicySpec,
    tenant: &str,
    namespace: &str,
    network: &Network,
) -> Vec<Denial> {
    let stood = old.filter(|old| old.pod_selector == spec.pod_selector && old.policy_types == spec.policy_types);
    let mut denials = Vec::new();
    let open = openings(tenant, namespace, network, Direction::Ingress);
    let before = stood.map(ingress).unwrap_or_default();
    for (index, rule) in ingress(spec).into_iter().enumerate() {
        rule_denials(&format!("spec.ingress[{index}]"), "from", rule, &before, &open, &mut denials);
    }
    let open = openings(tenant, namespace, network, Direction::Egress);
    let before = stood.map(egress).unwrap_or_default();
    for (index, rule) in egress(spec).into_iter().enumerate() {
        rule_denials(&format!("spec.egress[{index}]"), "to", rule, &before, &open, &mut denials);
    }
    denials
}

fn rule_denials(at: &str, key: &str, (peers, ports): Rule, before: &[Rule], open: &[Opening], denials: &mut Vec<Denial>) {
    let mut before = before.iter().filter(|(_, at)| *at == ports).map(|(whom, _)| whom);
    if peers.is_empty() {
        if !before.any(|whom| whom.is_empty()) {
            denials.push(Denial::new(format!("{at}.{key}"), "(everyone)", RULE, allowed(open)));
        }
        return;
    }
    let stood: Vec<&NetworkPolicyPeer> = before.flat_map(|whom| whom.iter()).collect();
    for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| !stood.contains(peer)) {
        let whom: Vec<_> = open.iter().filter(|opening| opening.means(peer)).collect();
        if whom.is_empty() {
            let shown = serde_json::to_string(peer).unwrap_or_default();
            denials.push(Denial::new(format!("{at}.{key}[{index}]"), shown, RULE, allowed(open)));
        } else if !whom.iter().any(|opening| opening.holds(ports)) {
            let shown = serde_json::to_string(ports).unwrap_or_default();
            let at_ports = whom.iter().map(|opening| opening.words()).collect::<Vec<_>>().join("; ");
            denials.push(Denial::new(format!("{at}.ports"), shown, RULE, format!("for {key}[{index}]: {at_ports}")));
        }
    }
}

fn allowed(open: &[Opening]) -> String {
    open.iter().map(Opening::words).collect::<Vec<_>>().join("; ")
}
