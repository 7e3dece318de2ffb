//! Figures: reviews, their time, what stood against objects, and when our certificate ends. Labels are from fixed sets, but for tenants, of which the first
//! [`MAX_TENANTS`] have their own: who may read them stands in the chart's values (`metrics.fromNamespaces`).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_policy::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::review::Told;

/// Bounds of the latency histogram in seconds: from a cached answer to the longest wait for a Boundary.
const BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reviewed {
    phase: &'static str,
    kind: &'static str,
    outcome: &'static str,
}

/// Tenants that have figures of their own, by when something first stood against an object of theirs since this process began; later ones count
/// as [`OTHER`]. Each has at most three series.
pub const MAX_TENANTS: usize = 256;
/// The label of tenants beyond [`MAX_TENANTS`].
pub const OTHER: &str = "(other)";
/// The label where nobody says whose an object is: no tenant has such a name.
pub const NOBODY: &str = "(none)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ruled {
    rule: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTenant {
    tenant: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    phase: &'static str,
    kind: &'static str,
}

/// The figures; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<Reviewed, Counter>,
    seconds: Family<Timed, Histogram, fn() -> Histogram>,
    rules: Family<Ruled, Counter>,
    tenants: Family<OfTenant, Counter>,
    named: Arc<Mutex<BTreeSet<String>>>,
    expiry: Gauge,
    rotations: Counter,
}

impl Metrics {
    /// The figures, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            reviews: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            rules: Family::default(),
            tenants: Family::default(),
            named: Arc::default(),
            expiry: Gauge::default(),
            rotations: Counter::default(),
        };
        let mut registry = Registry::with_prefix("freehold_webhook");
        registry.register("reviews", "Reviews answered, by call, kind and outcome", metrics.reviews.clone());
        registry.register_with_unit("review", "Time from a whole review to its answer", Unit::Seconds, metrics.seconds.clone());
        let about = "Objects that a rule stood against, by rule and what came of it: denied, warned, audited";
        registry.register("rules", about, metrics.rules.clone());
        let about =
            "Objects that something stood against, by tenant and what came of it; of tenants the first 256, the others together";
        registry.register("tenants", about, metrics.tenants.clone());
        registry.register_with_unit(
            "certificate_expiry",
            "When the certificate that is served ends, in seconds since 1970",
            Unit::Seconds,
            metrics.expiry.clone(),
        );
        registry.register("certificate_loads", "How often another certificate was taken into service", metrics.rotations.clone());
        (metrics, registry)
    }

    /// Counts a review.
    pub fn reviewed(&self, phase: Phase, kind: &'static str, outcome: &'static str, took: Duration) {
        let phase = match phase {
            Phase::Complete => "mutate",
            Phase::Judge => "validate",
        };
        self.reviews.get_or_create(&Reviewed { phase, kind, outcome }).inc();
        self.seconds.get_or_create(&Timed { phase, kind }).observe(took.as_secs_f64());
    }

    /// Counts what stood against an object.
    pub fn told(&self, told: &Told) {
        for &rule in &told.rules {
            self.rules.get_or_create(&Ruled { rule, outcome: told.outcome }).inc();
        }
        let tenant = self.label(&told.tenant).to_owned();
        self.tenants.get_or_create(&OfTenant { tenant, outcome: told.outcome }).inc();
    }

    fn label<'a>(&self, tenant: &'a str) -> &'a str {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if tenant.is_empty() {
            NOBODY
        } else if named.contains(tenant) || (named.len() < MAX_TENANTS && named.insert(tenant.to_owned())) {
            tenant
        } else {
            OTHER
        }
    }

    /// Notes that another certificate is served.
    pub fn serves_until(&self, unix_seconds: i64) {
        self.expiry.set(unix_seconds);
        self.rotations.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_figures_of_their_own_up_to_a_number() {
        let (metrics, registry) = Metrics::new();
        let told = |tenant: &str| Told {
            tenant: tenant.to_owned(),
            outcome: "denied",
            rules: ["runtime classes", "image registries"].into(),
        };
        for tenant in (0..2 * MAX_TENANTS).map(|n| format!("t{n}")).chain(["t0".to_owned(), String::new()]) {
            metrics.told(&told(&tenant));
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|line| line.starts_with("freehold_webhook_tenants_total{"));
        assert_eq!(series.count(), MAX_TENANTS + 2);
        for line in [
            "freehold_webhook_tenants_total{tenant=\"t0\",outcome=\"denied\"} 2".to_owned(),
            format!("freehold_webhook_tenants_total{{tenant=\"{OTHER}\",outcome=\"denied\"}} {MAX_TENANTS}"),
            format!("freehold_webhook_tenants_total{{tenant=\"{NOBODY}\",outcome=\"denied\"}} 1"),
            format!("freehold_webhook_rules_total{{rule=\"runtime classes\",outcome=\"denied\"}} {}", 2 * MAX_TENANTS + 2),
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in: {text}");
        }
    }
}
