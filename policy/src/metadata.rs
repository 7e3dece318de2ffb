//! Labels and annotations that a Tenant manages, requires or forbids: of its namespaces, and of objects of chosen kinds in them.
//!
//! Input are the rules and an object's metadata before and after; the output goes into a [`crate::Decision`]. What is older than a rule may be
//! changed elsewhere. The webhook alone holds these.

use freehold_crds::{NamespaceAnnotations, NamespaceLabels, ObjectRules};
use json_patch::PatchOperation;

use crate::objects::Found;
use crate::view::Metadata;
use crate::{Denial, set, shown_list};

/// What the rules for a kind of objects find.
pub fn check(rules: &[ObjectRules], kind: &str, old: Option<&Metadata>, new: &Metadata) -> Found {
    let mut found = Found::default();
    for rule in rules.iter().filter(|rule| rule.kinds.iter().any(|one| one.name() == kind)) {
        let nothing = Metadata::default();
        let before = old.unwrap_or(&nothing);
        let labels = rule.labels.clone().unwrap_or_default();
        for (denial, operation) in managed(&labels, old, new, found.missing.is_empty()) {
            found.complete(operation, denial);
        }
        found.by_mode.extend(required(&labels, old, new));
        found.by_mode.extend(forbidden(&labels, rule.annotations.as_ref(), before, new));
    }
    found
}

/// Managed labels that an object lacks, with what fills each in, and those of another value; not where it was so before. `first` says whether no operation
/// before these made the map.
pub fn managed(
    labels: &NamespaceLabels,
    old: Option<&Metadata>,
    new: &Metadata,
    first: bool,
) -> Vec<(Denial, Option<PatchOperation>)> {
    let mut map_is_missing = first && new.labels.is_empty();
    let mut found = Vec::new();
    for (key, value) in labels.managed.iter().flatten() {
        let said = new.labels.get(key);
        if said == Some(value) || old.is_some_and(|old| old.labels.get(key) == said) {
            continue;
        }
        let denial =
            Denial::new(format!("metadata.labels[{key}]"), said.map_or("(unset)", String::as_str), "managed labels", value);
        let operation = said.is_none().then(|| {
            if std::mem::take(&mut map_is_missing) {
                set(&["metadata"], "labels", serde_json::json!({ key.as_str(): value }))
            } else {
                set(&["metadata", "labels"], key, value.as_str().into())
            }
        });
        found.push((denial, operation));
    }
    found
}

/// Required labels that an object lacks or takes away.
pub fn required(labels: &NamespaceLabels, old: Option<&Metadata>, new: &Metadata) -> Vec<Denial> {
    let mut denials = Vec::new();
    for label in labels.required.iter().flatten() {
        let said = new.labels.get(&label.key);
        let fits = said.is_some_and(|said| label.values.as_ref().is_none_or(|values| values.contains(said)));
        if !fits && old.is_none_or(|old| said != old.labels.get(&label.key)) {
            let allowed = label.values.as_ref().map_or("any value".to_owned(), |values| shown_list(values));
            let said = said.map_or("(unset)", String::as_str);
            denials.push(Denial::new(format!("metadata.labels[{}]", label.key), said, "required labels", allowed));
        }
    }
    denials
}

/// Forbidden labels and annotations that an object gets or changes.
pub fn forbidden(
    labels: &NamespaceLabels,
    annotations: Option<&NamespaceAnnotations>,
    old: &Metadata,
    new: &Metadata,
) -> Vec<Denial> {
    let annotations = annotations.and_then(|annotations| annotations.forbidden.as_deref());
    let maps = [
        ("labels", labels.forbidden.as_deref(), &old.labels, &new.labels),
        ("annotations", annotations, &old.annotations, &new.annotations),
    ];
    let mut denials = Vec::new();
    for (map, forbidden, before, after) in maps {
        let forbidden = forbidden.unwrap_or_default();
        for (key, value) in after.iter().filter(|(key, value)| is_forbidden(forbidden, key) && before.get(*key) != Some(*value)) {
            denials.push(Denial::new(format!("metadata.{map}[{key}]"), value, "forbidden metadata", "as it was"));
        }
    }
    denials
}

/// Compared without regard to case: nobody who reads a key takes care to tell `Exempt` from `exempt`.
fn is_forbidden(forbidden: &[String], key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    forbidden.iter().map(|entry| entry.to_ascii_lowercase()).any(|entry| match entry.strip_suffix('*') {
        Some(start) => key.starts_with(start),
        None => entry == key,
    })
}
