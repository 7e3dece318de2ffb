//! Figures: reviews, their time, and when our certificate ends. Labels are from fixed sets; no tenant's name is in them.

use std::time::Duration;

use freehold_policy::Phase;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds of the latency histogram in seconds: from a cached answer to the longest wait for a Boundary.
const BUCKETS: [f64; 12] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reviewed {
    phase: &'static str,
    kind: &'static str,
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
    expiry: Gauge,
    rotations: Counter,
}

impl Metrics {
    /// The figures, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            reviews: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            expiry: Gauge::default(),
            rotations: Counter::default(),
        };
        let mut registry = Registry::with_prefix("freehold_webhook");
        registry.register("reviews", "Reviews answered, by call, kind and outcome", metrics.reviews.clone());
        registry.register_with_unit("review", "Time from a whole review to its answer", Unit::Seconds, metrics.seconds.clone());
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

    /// Notes that another certificate is served.
    pub fn serves_until(&self, unix_seconds: i64) {
        self.expiry.set(unix_seconds);
        self.rotations.inc();
    }
}
