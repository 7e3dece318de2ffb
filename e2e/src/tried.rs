//! What was tried of rows of the table of attacks, and what is wrong with the answers.
//!
//! A row has attacks, which must be refused in words that name nobody else, and controls, the nearest compliant requests, which must be admitted.
//! Without the webhook a refusal counts only if the floor answered.

use std::collections::BTreeMap;

use anyhow::ensure;

use crate::{Answer, Layer};

/// Names that must not stand in an answer to alice.
const OTHERS: [&str; 2] = ["team-b", "bob"];

/// The attempts of one test.
#[derive(Debug, Default)]
pub struct Tried {
    webhook: bool,
    counts: BTreeMap<&'static str, [usize; 2]>,
    faults: Vec<String>,
}

impl Tried {
    /// Nothing yet; `FREEHOLD_WEBHOOK=1` says that the webhook answers.
    pub fn from_environment() -> Self {
        Self { webhook: webhook_answers(), ..Self::default() }
    }

    /// An attack: the floor refuses it, or the webhook before it.
    pub fn attack(&mut self, row: &'static str, what: &str, answer: &Answer) {
        self.attack_held_by(row, what, answer, &[Layer::Rbac, Layer::AdmissionPolicy, Layer::Quota]);
    }

    /// An attack that one of these layers refuses, or the webhook before it, while it answers.
    pub fn attack_held_by(&mut self, row: &'static str, what: &str, answer: &Answer, layers: &[Layer]) {
        self.counts.entry(row).or_default()[0] += 1;
        let fault = match answer {
            Answer::Admitted => Some("is admitted".to_owned()),
            Answer::Refused { message, .. } if OTHERS.iter().any(|name| message.contains(name)) => {
                Some(format!("names others: {message}"))
            }
            Answer::Refused { message, .. } if is_uncalled(message) => Some(format!("is judged by nobody: {message}")),
            Answer::Refused { layer: Layer::Webhook, message } if self.webhook => {
                (!is_explained(message)).then(|| format!("is refused without field, rule and what is allowed: {message}"))
            }
            Answer::Refused { layer, .. } if layers.contains(layer) => None,
            Answer::Refused { .. } => Some(format!("is refused by none of {layers:?}: {answer}")),
        };
        self.faults.extend(fault.map(|fault| format!("{row}, {what}: {fault}")));
    }

    /// The nearest compliant request.
    pub fn control(&mut self, row: &'static str, what: &str, answer: &Answer) {
        self.expect(row, what, *answer == Answer::Admitted, &answer.to_string());
    }

    /// Something else that must be so beside the attacks.
    pub fn expect(&mut self, row: &'static str, what: &str, holds: bool, seen: &str) {
        self.counts.entry(row).or_default()[1] += 1;
        if !holds {
            self.faults.push(format!("{row}, {what}: {seen}"));
        }
    }

    /// # Errors
    /// If anything was not as it must be, or a row has no attack or no control.
    pub fn judge(self) -> anyhow::Result<()> {
        for (row, [attacks, controls]) in &self.counts {
            println!("{row}: {attacks} attacks, {controls} controls, webhook: {}", self.webhook);
            ensure!(*attacks > 0 && *controls > 0, "{row} has {attacks} attacks and {controls} controls");
        }
        ensure!(self.faults.is_empty(), "{} faults:\n{}", self.faults.len(), self.faults.join("\n"));
        Ok(())
    }
}

/// Whether a refusal is nobody's verdict: the API server could not call the webhook.
pub fn is_uncalled(message: &str) -> bool {
    message.contains("failed calling webhook")
}

/// Whether a message of the webhook says field, value, rule and what is allowed.
pub fn is_explained(message: &str) -> bool {
    message
        .split_once(" is \"")
        .is_some_and(|(field, rest)| !field.is_empty() && rest.contains("refused by rule \"") && rest.contains("allowed: "))
}

/// Whether the test runs with the webhook up.
pub fn webhook_answers() -> bool {
    std::env::var("FREEHOLD_WEBHOOK").is_ok_and(|value| value == "1")
}

/// A name that differs between runs with the webhook in different states (`FREEHOLD_STATE`), so that none need wait until the objects of an earlier one are gone.
pub fn named(stem: &str) -> String {
    let state = if webhook_answers() { "up" } else { "away" };
    format!("{stem}-{}", std::env::var("FREEHOLD_STATE").unwrap_or_else(|_| state.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(layer: Layer, message: &str) -> Answer {
        Answer::Refused { layer, message: message.to_owned() }
    }

    #[test]
    fn faults_are_found() {
        let explained = r#"admission webhook "w" denied the request: spec.x is "1", refused by rule "r"; allowed: none"#;
        for (what, attack, control, webhook, expected) in [
            ("as it must be", refused(Layer::AdmissionPolicy, "no"), Answer::Admitted, false, true),
            ("admitted", Answer::Admitted, Answer::Admitted, false, false),
            ("a webhook that is said to be away", refused(Layer::Webhook, "no"), Answer::Admitted, false, false),
            ("a webhook that is there", refused(Layer::Webhook, explained), Answer::Admitted, true, true),
            ("a webhook that explains nothing", refused(Layer::Webhook, "no"), Answer::Admitted, true, false),
            (
                "a webhook that can't be called",
                refused(Layer::Other, r#"failed calling webhook "w""#),
                Answer::Admitted,
                true,
                false,
            ),
            ("the server's own validation", refused(Layer::Other, "no"), Answer::Admitted, true, false),
            ("another tenant's name", refused(Layer::AdmissionPolicy, "it is team-b's"), Answer::Admitted, false, false),
            ("a control that is refused", refused(Layer::Rbac, "no"), refused(Layer::Rbac, "no"), false, false),
        ] {
            let mut tried = Tried { webhook, ..Tried::default() };
            tried.attack("A1", "attack", &attack);
            tried.control("A1", "control", &control);
            assert_eq!(tried.judge().is_ok(), expected, "{what}");
        }
        let mut lonely = Tried::default();
        lonely.control("A1", "control", &Answer::Admitted);
        assert!(lonely.judge().is_err(), "a row without an attack");
    }
}
