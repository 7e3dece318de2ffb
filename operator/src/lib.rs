//! Controllers that resolve Tenants into Boundaries and keep what they own in place.
//!
//! Input: Tenants, Namespaces that say whose they are, SandboxRuntimes and the NodeRuntimes of the nodes. The API server,
//! the floor's policies and the webhook act on what is written. [`desired`], and [`conditions`] decide as pure
//! functions; [`survey`] looks through what exists; [`cache`] watches, [`owned`] keeps what is ours, [`apply`] writes, [`guard`] closes one namespace, [`shards`] writes what Tenants share, [`tenants`] and [`sandboxes`] bring them together, [`probes`] asks nodes whether NetworkPolicies hold, [`leader`] sees to it
//! that one process does so at a time.
//!
//! Not here yet: a ledger that moves unused shares of a quota.

pub mod apply;
pub mod births;
pub mod cache;
pub mod conditions;
pub mod desired;
#[cfg(test)]
mod fixtures;
pub mod guard;
pub mod leader;
pub mod leavers;
pub mod metrics;
pub mod owned;
pub mod pages;
pub mod probes;
pub mod sandboxes;
pub mod shards;
pub mod survey;
pub mod tenants;
pub mod wake;
