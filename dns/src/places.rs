//! How much is in hand at once: of each tenant, and in all, so that one that floods waits for nobody but itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Places, each taken by one thing in hand and given back when it is dropped.
#[derive(Clone, Debug)]
pub struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    each: usize,
    all: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place {
    of: Arc<Inner>,
    who: String,
}

impl Places {
    /// At most `each` of one, at most `all` together.
    pub fn new(each: usize, all: usize) -> Self {
        Self(Arc::new(Inner { each, all, taken: Mutex::default() }))
    }

    /// A place for `who`, if there is one.
    pub fn take(&self, who: &str) -> Option<Place> {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(who).copied().unwrap_or_default();
        if own >= self.0.each || taken.values().sum::<usize>() >= self.0.all {
            return None;
        }
        taken.insert(who.to_owned(), own + 1);
        Some(Place { of: self.0.clone(), who: who.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_floods_leaves_room_for_others() {
        let places = Places::new(2, 3);
        let held: Vec<_> = [places.take("a"), places.take("a")].into_iter().flatten().collect();
        assert_eq!(held.len(), 2);
        assert!(places.take("a").is_none(), "its own are taken");
        let other = places.take("b");
        assert!(other.is_some(), "another still finds one");
        assert!(places.take("c").is_none(), "all are taken");
        drop(held);
        assert!(places.take("a").is_some(), "given back");
        drop(other);
        assert_eq!(places.0.taken.lock().unwrap().len(), 0, "nothing is kept of who is gone");
    }
}
