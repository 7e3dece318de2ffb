//! Figures. No tenant's name is in them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Label of one question.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    outcome: &'static str,
}

/// The counters; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    questions: Family<Question, Counter>,
}

impl Metrics {
    /// The counters, and the registry that shows them.
    pub fn new() -> (Self, Registry) {
        let (metrics, mut registry) = (Self::default(), Registry::with_prefix("freehold_dns"));
        registry.register(
            "questions",
            "Questions by outcome: forwarded, absent, refused (no question for here), stranger (no tenant's pod), busy (too many at once), failed",
            metrics.questions.clone(),
        );
        (metrics, registry)
    }

    /// Counts a question.
    pub fn count(&self, outcome: &'static str) {
        self.questions.get_or_create(&Question { outcome }).inc();
    }
}
