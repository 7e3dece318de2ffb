//! Namespaces that were seen to be made as a tenant's: nothing can have been in them before.
//!
//! The watch of Namespaces puts them in, and the Tenant's round takes them out once they are guarded, so that it does not look through what is
//! known to be empty: fourteen lists a namespace, which would be most of what many new tenants cost.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// UIDs that are kept. A namespace that is forgotten here is looked through, which is only slower.
const MAX_BIRTHS: usize = 10_000;

/// The UIDs of such namespaces.
#[derive(Debug, Default)]
pub struct Births(Mutex<HashSet<String>>);

impl Births {
    /// Puts one in.
    pub fn note(&self, uid: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_BIRTHS {
            known.clear();
        }
        known.insert(uid.to_owned());
    }

    /// Whether it is in there.
    pub fn knows(&self, uid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(uid)
    }

    /// Takes one out; whether it was there.
    pub fn take(&self, uid: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_memory_is_bounded() {
        let births = Births::default();
        births.note("a");
        assert!(births.knows("a") && births.take("a") && !births.knows("a") && !births.take("a"));
        for n in 0..=MAX_BIRTHS {
            births.note(&n.to_string());
        }
        assert!(births.take(&MAX_BIRTHS.to_string()) && !births.take("0"));
    }
}
