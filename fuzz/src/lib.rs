//! Targets: what hostile bytes must never do to us, each a function that panics if they did.
//!
//! Input are bytes that a tenant's manifest, whoever reaches the webhook's port, or a hostile guest may choose; output is
//! nothing, or a panic that names the broken promise. [`TARGETS`] is the list; `src/bin/search.rs` searches by coverage, and
//! `tests/corpus.rs` replays the committed inputs. Apart from the rooms it tests because it needs all of them.

mod guest;
mod network;
mod review;

/// A target: its name, which is also the folder of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("review", review::review),
    ("guest-frames", guest::frames),
    ("guest-messages", guest::messages),
    ("network", network::network),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

/// Inputs to begin with that need not be kept in files, because they follow from tables that are there anyway.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "review" => review::seeds(),
        "network" => network::seeds(),
        "guest-frames" => guest::frame_seeds(),
        "guest-messages" => guest::message_seeds(),
        _ => Vec::new(),
    }
}
