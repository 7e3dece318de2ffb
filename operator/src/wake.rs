//! Names that await a look, and the stream that a controller takes them from.
//!
//! Watches put names in, one controller takes them out. It is a set, so that it never holds more than there are objects,
//! however many events a burst brings, and however long nobody takes any.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

/// The names of one kind that await a look.
#[derive(Debug, Default)]
pub struct Wakes {
    names: Mutex<BTreeSet<String>>,
    came: Notify,
}

impl Wakes {
    /// Puts a name in.
    pub fn wake(&self, name: impl Into<String>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into());
        self.came.notify_one();
    }

    /// Takes one out; waits for it.
    pub async fn next(&self) -> String {
        loop {
            let next = self.names.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match next {
                Some(name) => return name,
                None => self.came.notified().await,
            }
        }
    }

    /// The names as references, without an end.
    pub fn stream<K>(self: &Arc<Self>) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> + use<K>
    where
        K: Resource,
        K::DynamicType: Default + Hash + Eq + Clone,
    {
        futures::stream::unfold(Arc::clone(self), |wakes| async move {
            let name = wakes.next().await;
            Some((Ok(ObjectRef::new(&name)), wakes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_name_comes_once_and_a_wake_is_never_lost() {
        let wakes = Arc::new(Wakes::default());
        for name in ["b", "a", "b"] {
            wakes.wake(name);
        }
        assert_eq!((wakes.next().await, wakes.next().await), ("a".to_owned(), "b".to_owned()));
        let waiting = tokio::spawn({
            let wakes = Arc::clone(&wakes);
            async move { wakes.next().await }
        });
        tokio::task::yield_now().await;
        wakes.wake("c");
        assert_eq!(waiting.await.unwrap(), "c");
    }
}
