//! A row of evidence: what was tried, the answer, its control, the layer that answered, and the verdict.

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Modify, Style, Width};

use crate::answer::{Answer, Layer};

/// What a row shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// As promised, and the control holds.
    Green,
    /// Not as promised, or the control fails.
    Red,
    /// Known not to hold yet; never counted as evidence.
    NotEnforced,
}

/// Whether our admission webhook answered while a row was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Webhook {
    /// It did.
    Up,
    /// It was scaled to zero.
    Away,
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Whether the webhook was there.
    pub webhook: Webhook,
    /// The attempt, as a sentence.
    pub tried: String,
    /// What came of it.
    pub answer: String,
    /// What must succeed beside it, and whether it did.
    pub control: String,
    /// Who answered.
    pub layer: String,
    /// What that means.
    pub verdict: Verdict,
}

/// Which layers count as an answer to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Whoever refuses.
    Anyone,
    /// Only what holds while no webhook of ours answers: RBAC, quota, an admission policy.
    Floor,
}

impl Counts {
    /// Whoever refuses while the webhook is up; the floor alone while it is away.
    pub fn with(webhook: Webhook) -> Counts {
        match webhook {
            Webhook::Up => Counts::Anyone,
            Webhook::Away => Counts::Floor,
        }
    }
}

impl Row {
    /// An attempt that must be refused, beside a control that must be admitted in the same state.
    pub fn refused(tried: &str, answer: &Answer, counts: Counts, control: &str, beside: &Answer) -> Row {
        let refused = match counts {
            Counts::Anyone => matches!(answer, Answer::Refused { .. }),
            Counts::Floor => answer.refused_by_floor(),
        };
        let layer = match answer {
            Answer::Refused { layer: Layer::Rbac, .. } => "RBAC",
            Answer::Refused { layer: Layer::AdmissionPolicy, .. } => "admission policy",
            Answer::Refused { layer: Layer::Quota, .. } => "quota",
            Answer::Refused { layer: Layer::Webhook, .. } => "webhook",
            Answer::Refused { layer: Layer::Other, .. } => "API server",
            Answer::Admitted => "nobody",
        };
        let verdict = if refused && *beside == Answer::Admitted { Verdict::Green } else { Verdict::Red };
        Row {
            webhook: if counts == Counts::Floor { Webhook::Away } else { Webhook::Up },
            tried: tried.to_owned(),
            answer: answer.to_string(),
            control: format!("{control}: {beside}"),
            layer: layer.to_owned(),
            verdict,
        }
    }

    /// A measured or compared fact.
    pub fn fact(tried: &str, answer: String, control: String, layer: &str, holds: bool) -> Row {
        let verdict = if holds { Verdict::Green } else { Verdict::Red };
        Row { webhook: Webhook::Up, tried: tried.to_owned(), answer, control, layer: layer.to_owned(), verdict }
    }
}

/// The rows as a table that fits a terminal of 160 columns.
pub fn table(rows: &[Row]) -> String {
    let mut builder = Builder::new();
    builder.push_record(["", "WEBHOOK", "TRIED", "ANSWER", "CONTROL", "LAYER"]);
    for row in rows {
        let mark = match row.verdict {
            Verdict::Green => "ok",
            Verdict::Red => "RED",
            Verdict::NotEnforced => "NOT ENFORCED",
        };
        let webhook = match row.webhook {
            Webhook::Up => "up",
            Webhook::Away => "away",
        };
        builder.push_record([mark, webhook, &row.tried, &row.answer, &row.control, &row.layer]);
    }
    let mut table = builder.build();
    table.with(Style::rounded());
    for (column, width) in [(0, 8), (1, 7), (2, 32), (3, 54), (4, 28), (5, 10)] {
        table.with(Modify::new(Columns::one(column)).with(Width::wrap(width).keep_words(true)));
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(layer: Layer) -> Answer {
        Answer::Refused { layer, message: "no".to_owned() }
    }

    #[test]
    fn a_refusal_counts_only_with_its_control_and_from_the_right_layer() {
        for (answer, counts, beside, verdict) in [
            (refused(Layer::Rbac), Counts::Floor, Answer::Admitted, Verdict::Green),
            (refused(Layer::Webhook), Counts::Anyone, Answer::Admitted, Verdict::Green),
            (refused(Layer::Webhook), Counts::Floor, Answer::Admitted, Verdict::Red),
            (refused(Layer::Rbac), Counts::Floor, refused(Layer::Rbac), Verdict::Red),
            (Answer::Admitted, Counts::Anyone, Answer::Admitted, Verdict::Red),
        ] {
            let row = Row::refused("t", &answer, counts, "c", &beside);
            assert_eq!(row.verdict, verdict, "{answer} {counts:?} {beside}");
        }
    }
}
