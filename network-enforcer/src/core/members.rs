//! Who has which address: the one place where a pod becomes a source or a destination.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::view::{Key, Namespaces, Peer, Pod, View};

/// Whom an address belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'a> {
    /// One pod.
    Pod(&'a Key, &'a Pod),
    /// Several pods say so: one of them is wrong or on its way out. Nobody is let through by it until that ends.
    Contested {
        /// Whether one of them runs here.
        local: bool,
    },
}

/// All addresses that pods have.
pub fn holders(view: &View) -> BTreeMap<IpAddr, Holder<'_>> {
    let mut holders: BTreeMap<IpAddr, Holder<'_>> = BTreeMap::new();
    for (key, pod) in &view.pods {
        for address in &pod.addresses {
            let holder = match holders.get(address) {
                None => Holder::Pod(key, pod),
                Some(Holder::Pod(_, other)) => Holder::Contested { local: other.local || pod.local },
                Some(Holder::Contested { local }) => Holder::Contested { local: *local || pod.local },
            };
            holders.insert(*address, holder);
        }
    }
    holders
}

/// Whether a peer of a rule means this pod. Blocks mean addresses, never pods.
pub fn means(view: &View, peer: &Peer, key: &Key, pod: &Pod) -> bool {
    let Peer::Pods { namespaces, pods } = peer else { return false };
    let namespace = match namespaces {
        Namespaces::Named(name) => *name == key.namespace,
        // A namespace that is not known yet has no labels that could be trusted.
        Namespaces::Selected(selector) => {
            view.namespaces.get(&key.namespace).is_some_and(|namespace| selector.selects(&namespace.labels))
        }
    };
    namespace && pods.selects(&pod.labels)
}
