//! The parts of Kubernetes objects that rules read, decoded by serde from the API server's JSON.
//!
//! Input is an object as an AdmissionReview carries it; the rules of this crate read the result. They are types of our own
//! and not k8s-openapi's because a rule needs a twentieth of a pod, and because a field that a rule reads should be seen
//! here. Names and nesting are exactly the API's. JSON `null` counts as absent, as for the API server.

mod objects;
mod pod;

pub use objects::*;
pub use pod::*;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Something that is there; what it says no rule reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self)
    }
}

/// A quantity as it is written: text, or a number. Whatever else stands there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figure(pub String);

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => String::new(),
        }))
    }
}

fn absent<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

macro_rules! views {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name { $($(#[$field_doc])* #[serde(deserialize_with = "absent")] pub $field: $kind,)* }
    )* };
}
use views;

views! {
    /// Metadata of any object.
    Metadata {
        /// Empty where generateName is used.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Annotations.
        annotations: BTreeMap<String, String>,
    }
    /// A Namespace.
    Namespace {
        /// Metadata: all that belonging hangs on.
        metadata: Metadata,
    }
}
