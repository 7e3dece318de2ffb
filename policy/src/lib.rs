//! Pure decisions: may this object be in this tenant's namespace, and what does it lack.
//!
//! Input is plain data: a Boundary, the parts of an object that rules read ([`view`]), and answers that the
//! edge fetched before (what the requester may do). Output is a [`Decision`]: every denial at once, and a JSON patch that
//! completes the object. The webhook asks, explains and answers; the operator asks the same for what exists already. It is
//! a room of its own so that a rule is tested in microseconds, and so that the floor's ValidatingAdmissionPolicies can be
//! held against the very same tables (`tests/`).

#[cfg(feature = "cases")]
pub mod cases;
pub mod classes;
pub mod device_claims;
pub mod devices;
pub mod dns;
pub mod host_access;
pub mod images;
pub mod ingresses;
pub mod metadata;
pub mod namespace_rules;
pub mod namespaces;
pub mod network;
pub mod objects;
pub mod placement;
pub mod pods;
pub mod priority;
pub mod qos;
pub mod quantity;
pub mod restricted;
pub mod role_bindings;
pub mod runtime_class;
pub mod services;
pub mod storage;
pub mod tokens;
pub mod view;

use std::fmt;

use freehold_crds::EnforcementMode;

/// The label by which a Namespace says whose it is.
pub const TENANT_LABEL: &str = "freehold.dev/tenant";

/// How many characters of an object's own value a message repeats; a hostile value can be as long as the object.
pub const SHOWN_VALUE_CHARACTERS: usize = 128;

/// One thing that stands against an object: said to the person at kubectl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Path of the field in the object, as `kubectl explain` would have it: `spec.containers[0].securityContext.privileged`.
    pub field: String,
    /// What stands there, shortened to [`SHOWN_VALUE_CHARACTERS`]; `(unset)` where something is missing.
    pub value: String,
    /// The rule in a few words, stable enough for a metric's label.
    pub rule: &'static str,
    /// What may stand there instead. Names only what the requester may see.
    pub allowed: String,
}

impl Denial {
    /// A denial whose value is cut to a length that can be shown.
    pub fn new(field: impl Into<String>, value: impl fmt::Display, rule: &'static str, allowed: impl Into<String>) -> Self {
        let mut value = value.to_string();
        if let Some((end, _)) = value.char_indices().nth(SHOWN_VALUE_CHARACTERS) {
            value.truncate(end);
            value.push('…');
        }
        Self { field: field.into(), value, rule, allowed: allowed.into() }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} is {:?}, refused by rule {:?}; allowed: {}", self.field, self.value, self.rule, self.allowed)
    }
}

/// The answer about one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// What refuses the object. Empty means admitted.
    pub denials: Vec<Denial>,
    /// What would refuse it if the tenant's enforcementMode were Enforce and is Warn: said as a warning, counted, never refusing.
    pub observed: Vec<Denial>,
    /// The same where it is Audit: counted and never said.
    pub audited: Vec<Denial>,
    /// What completes the object. Empty unless the object is admitted with it.
    pub patch: json_patch::Patch,
}

impl Decision {
    /// Where that goes of which the tenant's mode decides.
    pub(crate) fn by_mode(&mut self, mode: EnforcementMode) -> &mut Vec<Denial> {
        match mode {
            EnforcementMode::Enforce => &mut self.denials,
            EnforcementMode::Warn => &mut self.observed,
            EnforcementMode::Audit => &mut self.audited,
        }
    }

    /// Whether nothing stands against the object.
    pub fn admitted(&self) -> bool {
        self.denials.is_empty()
    }

    /// All denials as one text for the person who asked.
    pub fn message(&self) -> String {
        self.denials.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

/// Which of the two admission calls asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The mutating call: what is missing can be filled in.
    Complete,
    /// The validating call, or a look at what exists: the object is final, what is missing is a denial.
    Judge,
}

/// What an update makes worse: of what stands against an object now, all that did not stand against it before, wherever in its lists. So a rule
/// that came later, or a namespace that was taken in, is in nobody's way who changes something else.
///
/// Values are compared as far as they are shown; rules whose values are longer and can change compare them whole, by themselves.
pub(crate) fn worse(before: Option<Vec<Denial>>, now: Vec<Denial>) -> Vec<Denial> {
    let place = |denial: &Denial| {
        denial.field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect::<String>()
    };
    let mut before: Vec<_> = before.unwrap_or_default().into_iter().map(|denial| (place(&denial), denial)).collect();
    now.into_iter()
        .filter(|denial| {
            let at = place(denial);
            let same =
                before.iter().position(|(place, old)| *place == at && old.value == denial.value && old.rule == denial.rule);
            same.map(|index| before.swap_remove(index)).is_none()
        })
        .collect()
}

/// Whether `name` is in a list of exact names and names with a trailing `*`.
pub fn listed(allowed: &[String], name: &str) -> bool {
    allowed.iter().any(|entry| match entry.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => entry == name,
    })
}

/// Whether a host is in a list of hosts and of `*.` with a domain, which has every host below it.
pub fn host_listed(allowed: &[String], host: &str) -> bool {
    allowed.iter().any(|entry| match entry.strip_prefix('*') {
        Some(domain) => domain.starts_with('.') && host.ends_with(domain),
        None => entry == host,
    })
}

/// How many entries of a list a message names.
const MAX_SHOWN: usize = 12;

/// A list for people.
fn shown_list(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_SHOWN {
        text.push_str(&format!(" and {} more", names.len() - MAX_SHOWN));
    }
    if names.is_empty() { "none; ask the platform team".to_owned() } else { text }
}

/// A JSON pointer to a key of a map, escaped by RFC 6901.
fn pointer(map: &[&str], key: &str) -> json_patch::jsonptr::PointerBuf {
    json_patch::jsonptr::PointerBuf::from_tokens(map.iter().copied().chain([key]))
}

/// The operation that sets a member, replacing what stands there (RFC 6902, section 4.1).
fn set(map: &[&str], key: &str, value: serde_json::Value) -> json_patch::PatchOperation {
    json_patch::PatchOperation::Add(json_patch::AddOperation { path: pointer(map, key), value })
}

/// The operation that takes a member away; it must be there.
fn remove(map: &[&str], key: &str) -> json_patch::PatchOperation {
    json_patch::PatchOperation::Remove(json_patch::RemoveOperation { path: pointer(map, key) })
}
