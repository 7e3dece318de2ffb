//! Figures of one node. No tenant's name is in them.

use freehold_crds::Judged;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transaction {
    kind: &'static str,
    result: &'static str,
}

/// The counters; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    transactions: Family<Transaction, Counter>,
    pods: Gauge,
    policies: Gauge,
    blind: Gauge,
    judged: Gauge,
}

impl Metrics {
    /// The counters, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::with_prefix("freehold_network_enforcer"));
        registry.register("transactions", "Transactions of nft by kind (whole, delta) and result", metrics.transactions.clone());
        registry.register("pods", "Pods of this node that are known", metrics.pods.clone());
        registry.register("policies", "NetworkPolicies that are looked at", metrics.policies.clone());
        registry.register("blind", "1 while bridged packets do not pass the table", metrics.blind.clone());
        let whose = "Whose traffic is judged: 2 everybody's, 1 tenants' only, 0 nobody's";
        registry.register("judged", whose, metrics.judged.clone());
        (metrics, registry)
    }

    /// Counts a transaction.
    pub fn applied(&self, kind: &'static str, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.transactions.get_or_create(&Transaction { kind, result }).inc();
    }

    /// Says what is known.
    pub fn know(&self, pods: usize, policies: usize) {
        self.pods.set(i64::try_from(pods).unwrap_or(i64::MAX));
        self.policies.set(i64::try_from(policies).unwrap_or(i64::MAX));
    }

    /// Says whose traffic is judged.
    pub fn judge(&self, judged: Judged) {
        self.judged.set(match judged {
            Judged::Everybodys => 2,
            Judged::Tenants => 1,
            Judged::Nobodys => 0,
        });
    }

    /// Says whether bridged packets pass the table.
    pub fn see(&self, blind: bool) {
        self.blind.set(blind.into());
    }
}
