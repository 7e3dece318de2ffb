//! Figures for operators of a cluster: reconciles, writes, leadership. No tenant's name is in them.

use freehold_crds::ProbeResult;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::desired::Kind;

/// Labels of one reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: &'static str,
    result: &'static str,
}

/// Labels of one write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: String,
    verb: &'static str,
}

/// Labels of one probe of a node's network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probe {
    result: &'static str,
}

/// The counters; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    reconciles: Family<Reconcile, Counter>,
    writes: Family<Write, Counter>,
    probes: Family<Probe, Counter>,
    leading: Gauge,
    would_deny: Gauge,
}

impl Metrics {
    /// The counters, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::with_prefix("freehold_operator"));
        registry.register("reconciles", "Reconciles by controller and result", metrics.reconciles.clone());
        registry.register("writes", "Writes to the API server by kind and verb; none at rest", metrics.writes.clone());
        registry.register("network_probes", "Probes of nodes' networks by result", metrics.probes.clone());
        registry.register(
            "would_deny_objects",
            "Objects in all tenants' namespaces that would be refused if they were made anew, as when each was last looked through; a Tenant's status names its own",
            metrics.would_deny.clone(),
        );
        registry.register("leading", "1 while this process leads", metrics.leading.clone());
        (metrics, registry)
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, controller: &'static str, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&Reconcile { controller, result }).inc();
    }

    /// Counts a write of an object of ours.
    pub fn wrote(&self, kind: Kind, verb: &'static str) {
        self.wrote_to(&kind.resource().kind, verb);
    }

    /// Counts a write to something that is not ours alone: a status, a node, a namespace.
    pub fn wrote_to(&self, kind: &str, verb: &'static str) {
        self.writes.get_or_create(&Write { kind: kind.to_owned(), verb }).inc();
    }

    /// Counts a probe of a node's network.
    pub fn probed(&self, result: ProbeResult) {
        let result = match result {
            ProbeResult::Held => "held",
            ProbeResult::Ignored => "ignored",
            ProbeResult::NoAnswer => "no answer",
        };
        self.probes.get_or_create(&Probe { result }).inc();
    }

    /// A Tenant had so many objects that would be refused, and has so many now.
    pub fn would_deny(&self, before: usize, now: usize) {
        let number = |objects| i64::try_from(objects).unwrap_or(i64::MAX);
        self.would_deny.inc_by(number(now) - number(before));
    }

    /// Says whether this process leads.
    pub fn lead(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }
}
