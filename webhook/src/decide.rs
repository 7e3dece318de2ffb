//! From a review and what was looked up to an answer. Pure: [`need`] says what to look up, [`decide`] judges with it.
//!
//! [`crate::look_up`] fetches, the server answers. What could not be looked up is never taken for a yes that counts: the
//! floor judges the same request in the API server itself, so here it is let through with a warning, or refused with a
//! reason where the floor would refuse without one.

use std::collections::BTreeSet;

use freehold_crds::{BOUNDARY_NAME, BoundarySpec};
use freehold_policy::namespace_rules::Rules;
use freehold_policy::namespaces::{self, OWN, Question, Requester};
use freehold_policy::objects::Writer;
use freehold_policy::{Decision, Denial, Phase, TENANT_LABEL, objects, pods, view};

use crate::review::{Answer, MAX_MESSAGE_CHARACTERS, Review, Subject, Told};

/// Characters of all warnings of an answer. The API server hands on 4096 of all webhooks together: beyond, it cuts each to 256 and drops the rest
/// (apiserver, endpoints/filters/warning.go).
pub const MAX_WARNED_CHARACTERS: usize = 3584;
/// Characters that stand around one denial in a message or warning, at most.
const AROUND: usize = 64;
/// How warnings begin.
const WOULD: &str = "freehold would refuse this";

/// The rule by which nothing runs where no Boundary is, as figures and the audit log name it.
const UNBOUNDED: &str = "no boundary yet";

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
            let tenant = whose(&requester, old.as_ref(), new);
            let mut answer = answer("namespace", tenant, namespaces::check(phase, &requester, old.as_ref(), new));
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
            answer("pod", &boundary.tenant.name, pods::check(&boundary, namespace, phase, old.as_deref(), new))
        }
        (Subject::Object { kind, namespace, old, new }, Found::Bounds(Bounds::Found(boundary))) => {
            let writer = Writer::of(&review.user.username, &boundary.siblings);
            answer(kind, &boundary.tenant.name, objects::check(&boundary, namespace, phase, writer, old.as_deref(), new))
        }
        // Of a workload there is only something to tell, and in a namespace that goes the Boundary may go before a finalizer does.
        (Subject::Object { new, old, .. }, Found::Bounds(Bounds::Missing { .. }))
            if old.is_some() || matches!(new.said, objects::Said::Workload(_)) =>
        {
            Answer::pass("unbounded")
        }
        (Subject::Pod { old: Some(_), .. }, Found::Bounds(Bounds::Missing { .. })) => Answer::pass("unbounded"),
        (Subject::Pod { namespace, .. } | Subject::Object { namespace, .. }, Found::Bounds(Bounds::Missing { tenant })) => {
            let refused = Answer::refuse(
                "unbounded",
                403,
                format!(
                    "namespace {namespace} of tenant {tenant} has no Boundary named {BOUNDARY_NAME} that fits it yet, so nothing may run in \
                 it or lead to it: a new namespace is ready within seconds; if this stays, ask the platform team to look at `kubectl describe tenant {tenant}`"
                ),
            );
            Answer { told: Some(Told { tenant: tenant.clone(), outcome: "denied", rules: [UNBOUNDED].into() }), ..refused }
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

/// The tenant that a namespace is of, as far as somebody else than the requester says so: by its label before, or by that they may own. Empty if nobody does.
fn whose<'a>(requester: &Requester, old: Option<&'a view::Namespace>, new: &'a view::Namespace) -> &'a str {
    let tenant = |namespace: &'a view::Namespace| namespace.metadata.labels.get(TENANT_LABEL);
    let may_own = |name: &&String| requester.allowed.contains(&Question { verb: OWN, tenant: Some((*name).clone()) });
    old.and_then(tenant).or_else(|| tenant(new).filter(may_own)).map_or("", String::as_str)
}

fn answer(what: &str, tenant: &str, decision: Decision) -> Answer {
    let told = told(tenant, &decision);
    if !decision.admitted() {
        return Answer { told, ..Answer::refuse("refused", 403, message(what, &decision.denials)) };
    }
    let outcome = match (decision.patch.0.is_empty(), told.as_ref()) {
        (false, _) => "completed",
        (true, Some(told)) if told.outcome == "audited" => "audited",
        (true, Some(_)) => "observed",
        (true, None) => "admitted",
    };
    let (whole, rest) = within(&decision.observed, MAX_WARNED_CHARACTERS);
    let mut warnings: Vec<String> = whole.iter().map(|denial| format!("{WOULD} {what}: {denial}")).collect();
    warnings.extend(rest.map(|rest| format!("{WOULD} {what} for these too: {rest}")));
    Answer { warnings, patch: decision.patch, told, ..Answer::pass(outcome) }
}

/// What stood against an object, by the hardest that came of it.
fn told(tenant: &str, decision: &Decision) -> Option<Told> {
    let each = [("denied", &decision.denials), ("warned", &decision.observed), ("audited", &decision.audited)];
    let (outcome, denials) = each.into_iter().find(|(_, denials)| !denials.is_empty())?;
    Some(Told { tenant: tenant.to_owned(), outcome, rules: denials.iter().map(|denial| denial.rule).collect() })
}

/// All that stands against an object, for the person at kubectl: one on the line, several as a list.
fn message(what: &str, denials: &[Denial]) -> String {
    if let [only] = denials {
        return only.to_string();
    }
    let (whole, rest) = within(denials, MAX_MESSAGE_CHARACTERS);
    let mut text = format!("{} things stand against this {what}:", denials.len());
    for denial in whole {
        text.push_str(&format!("\n  - {denial}"));
    }
    if let Some(rest) = rest {
        text.push_str(&format!("\n  - and these fields: {rest}"));
    }
    text
}

/// What fits into so many characters with all that stands around it: denials with value, rule and what is allowed, as many as fit into half, and of the others
/// the fields, so that a person mends one manifest once; beyond that, their number.
fn within(denials: &[Denial], most: usize) -> (&[Denial], Option<String>) {
    let length = |text: &str| text.chars().count() + AROUND;
    let mut left = most;
    let fits = |denial: &&Denial| {
        let length = length(&denial.to_string());
        let fits = left >= most / 2 + length;
        left = left.saturating_sub(if fits { length } else { 0 });
        fits
    };
    let (whole, others) = denials.split_at(denials.iter().take_while(fits).count().max(1).min(denials.len()));
    let mut left = (most / 2).saturating_sub(2 * AROUND);
    let named = |denial: &&Denial| {
        let length = denial.field.chars().count() + 2;
        let fits = left >= length;
        left = left.saturating_sub(length);
        fits
    };
    let fields: Vec<&str> = others.iter().take_while(named).map(|denial| denial.field.as_str()).collect();
    let more = others.len() - fields.len();
    let rest = (!others.is_empty()).then(|| match more {
        0 => fields.join(", "),
        more => format!("{} and {more} more", fields.join(", ")),
    });
    (whole, rest)
}
