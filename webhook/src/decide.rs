//! From a review and what was looked up to an answer. Pure: [`need`] says what to look up, [`decide`] judges with it.
//!
//! [`crate::look_up`] fetches, the server answers. What could not be looked up is never taken for a yes that counts: the
//! floor judges the same request in the API server itself, so here it is let through with a warning, or refused with a
//! reason where the floor would refuse without one.

use std::collections::BTreeSet;

use freehold_crds::{BOUNDARY_NAME, BoundarySpec};
use freehold_policy::namespace_rules::Rules;
use freehold_policy::namespaces::{self, Question, Requester};
use freehold_policy::{Decision, Denial, Phase, TENANT_LABEL, objects, pods, view};

use crate::review::{Answer, Review, Subject};

/// Denials that a message lists; the rest is counted.
pub const MAX_LISTED_DENIALS: usize = 20;
/// Warnings in one answer; kubectl shows each on a line.
pub const MAX_WARNINGS: usize = 8;

/// What must be known before the decision.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// The Boundary of this namespace.
    Boundary(String),
    /// Answers of the authorizer about the requester.
    Requester {
        /// What to ask.
        questions: BTreeSet<Question>,
        /// Whether the requester's own Tenants are of use: for the label, or for the message that names them.
        owned: bool,
        /// The tenant in question, if the object says it.
        tenant: Option<String>,
        /// The namespace's name.
        namespace: String,
    },
}

/// What was found about a pod's namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Bounds {
    /// It is no tenant's.
    Free,
    /// It is a tenant's, and its Boundary is not there yet.
    Missing {
        /// The tenant, as the label says.
        tenant: String,
    },
    /// It is a tenant's, with this Boundary.
    Found(Box<BoundarySpec>),
}

/// What was looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// For [`Need::Nothing`].
    Nothing,
    /// For [`Need::Boundary`].
    Bounds(Bounds),
    /// For [`Need::Requester`]; an error says why the authorizer did not answer.
    Requester(Result<RequesterAnswers, String>),
}

/// The authorizer's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequesterAnswers {
    /// Questions answered with yes.
    pub allowed: BTreeSet<Question>,
    /// Tenants that the requester may `own`, as far as they were asked for.
    pub owned: Vec<String>,
    /// What the tenant in question says of its namespaces.
    pub rules: Option<Rules>,
}

/// What to look up for a review.
pub fn need(review: &Review) -> Need {
    match &review.subject {
        Subject::Ending | Subject::Foreign => Need::Nothing,
        Subject::Pod { namespace, .. } | Subject::Object { namespace, .. } => Need::Boundary(namespace.clone()),
        Subject::Namespace { old, new } => {
            let tenant = |namespace: &view::Namespace| namespace.metadata.labels.get(TENANT_LABEL).cloned();
            let before = old.as_ref().and_then(tenant);
            if old.is_some() && before.is_none() && tenant(new).is_none() {
                return Need::Nothing;
            }
            let of = before.or_else(|| tenant(new)).filter(|name| !name.is_empty());
            Need::Requester {
                questions: namespaces::questions(old.as_ref(), new),
                owned: old.is_none(),
                tenant: of,
                namespace: new.metadata.name.clone(),
            }
        }
    }
}

/// The answer.
pub fn decide(phase: Phase, review: &Review, found: Found) -> Answer {
    match (&review.subject, found) {
        (Subject::Ending, _) => Answer::pass("ending"),
        (Subject::Namespace { old, new }, Found::Requester(Ok(answers))) => {
            let RequesterAnswers { allowed, owned, rules } = answers;
            let requester = Requester { username: review.user.username.clone(), allowed, owned, rules };
            let mut answer = answer("namespace", namespaces::check(phase, &requester, old.as_ref(), new));
            // Told, because what comes of it (a budget, rules) is more than a label.
            if let (true, [only]) =
                (answer.allowed && phase == Phase::Complete && is_unlabelled(old.as_ref(), new), requester.owned.as_slice())
                && !answer.patch.0.is_empty()
            {
                answer.warnings.push(format!(
                    "freehold: namespace {} now belongs to your tenant {only} ({TENANT_LABEL}: {only} was filled in)",
                    new.metadata.name
                ));
            }
            answer
        }
        (Subject::Namespace { .. }, Found::Requester(Err(why))) => Answer {
            warnings: vec![format!("freehold: your rights could not be looked up ({why}); the cluster's policies judge alone")],
            ..Answer::pass("unanswered")
        },
        (Subject::Pod { namespace, old, new }, Found::Bounds(Bounds::Found(boundary))) => {
            answer("pod", pods::check(&boundary, namespace, phase, old.as_deref(), new))
        }
        (Subject::Object { kind, namespace, old, new }, Found::Bounds(Bounds::Found(boundary))) => {
            answer(kind, objects::check(&boundary, namespace, phase, old.as_deref(), new))
        }
        // Of a workload there is only something to tell, and in a namespace that goes the Boundary may go before a finalizer does.
        (Subject::Object { new, old, .. }, Found::Bounds(Bounds::Missing { .. }))
            if old.is_some() || matches!(new.said, objects::Said::Workload(_)) =>
        {
            Answer::pass("unbounded")
        }
        (Subject::Pod { old: Some(_), .. }, Found::Bounds(Bounds::Missing { .. })) => Answer::pass("unbounded"),
        (Subject::Pod { namespace, .. } | Subject::Object { namespace, .. }, Found::Bounds(Bounds::Missing { tenant })) => {
            Answer::refuse(
                "unbounded",
                403,
                format!(
                    "namespace {namespace} of tenant {tenant} has no Boundary named {BOUNDARY_NAME} that fits it yet, so nothing may run in \
                 it or lead to it: a new namespace is ready within seconds; if this stays, ask the platform team to look at `kubectl describe tenant {tenant}`"
                ),
            )
        }
        (Subject::Pod { .. } | Subject::Object { .. } | Subject::Namespace { .. } | Subject::Foreign, _) => {
            Answer::pass("foreign")
        }
    }
}

/// Whether a new namespace says no tenant.
fn is_unlabelled(old: Option<&view::Namespace>, new: &view::Namespace) -> bool {
    old.is_none() && !new.metadata.labels.contains_key(TENANT_LABEL)
}

fn answer(what: &str, decision: Decision) -> Answer {
    if !decision.admitted() {
        return Answer::refuse("refused", 403, message(what, &decision.denials));
    }
    let outcome = match (decision.patch.0.is_empty(), decision.observed.is_empty()) {
        (false, _) => "completed",
        (true, false) => "observed",
        (true, true) => "admitted",
    };
    let mut warnings: Vec<String> = decision
        .observed
        .iter()
        .take(MAX_WARNINGS)
        .map(|denial| format!("freehold would refuse this {what}: {denial}"))
        .collect();
    if decision.observed.len() > MAX_WARNINGS {
        warnings.push(format!("freehold: and {} more", decision.observed.len() - MAX_WARNINGS));
    }
    Answer { warnings, patch: decision.patch, ..Answer::pass(outcome) }
}

/// All that stands against an object, for the person at kubectl: one on the line, several as a list.
fn message(what: &str, denials: &[Denial]) -> String {
    if let [only] = denials {
        return only.to_string();
    }
    let mut text = format!("{} things stand against this {what}:", denials.len());
    for denial in denials.iter().take(MAX_LISTED_DENIALS) {
        text.push_str(&format!("\n  - {denial}"));
    }
    if denials.len() > MAX_LISTED_DENIALS {
        text.push_str(&format!("\n  and {} more", denials.len() - MAX_LISTED_DENIALS));
    }
    text
}
