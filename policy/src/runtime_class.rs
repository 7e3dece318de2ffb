//! Every pod of a tenant runs under a RuntimeClass that its Boundary lists, and so on a kernel of its own.
//!
//! Input is a Boundary's choice and a pod's runtimeClassName; the output goes into a pod's [`crate::Decision`]. The floor has
//! the same rule in `charts/freehold/templates/floor/pods-boundary.yaml`.

use freehold_crds::ClassNames;

use crate::{Denial, listed};

/// The rule's name.
pub const RULE: &str = "runtime classes";
const FIELD: &str = "spec.runtimeClassName";

/// What is to happen with a new pod's runtimeClassName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stands and is listed.
    Keep,
    /// It is missing, and this is the default.
    Set(String),
    /// It can't stay as it is.
    Deny(Denial),
}

/// A new pod, or a pod template.
pub fn on_create(choice: &ClassNames, name: Option<&str>) -> Outcome {
    let name = name.filter(|name| !name.is_empty());
    match (name, choice.default.as_deref().filter(|name| !name.is_empty())) {
        (Some(name), _) if listed(&choice.allowed, name) => Outcome::Keep,
        (Some(name), _) => Outcome::Deny(Denial::new(FIELD, name, RULE, shown(choice))),
        (None, Some(default)) if listed(&choice.allowed, default) => Outcome::Set(default.to_owned()),
        (None, _) => Outcome::Deny(missing(choice)),
    }
}

/// A missing name that nobody can fill in any more.
pub fn missing(choice: &ClassNames) -> Denial {
    Denial::new(FIELD, "(unset)", RULE, shown(choice))
}

/// An existing pod: the name stays as it is, even where the list was tightened since.
pub fn on_update(old: Option<&str>, new: Option<&str>) -> Option<Denial> {
    let shown = || format!("{:?}: it can't change; create the pod anew", old.unwrap_or("(unset)"));
    (old != new).then(|| Denial::new(FIELD, new.unwrap_or("(unset)"), "runtime class is immutable", shown()))
}

fn shown(choice: &ClassNames) -> String {
    match choice.allowed.as_slice() {
        [] => "none: the namespace's Boundary lists no runtime class; ask the platform team".to_owned(),
        names => names.join(", "),
    }
}
