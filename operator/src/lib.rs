//! Controllers that resolve Tenants into Boundaries and keep what they own in place.
//!
//! Input: Tenants, Namespaces that say whose they are, SandboxRuntimes and the NodeRuntimes of the nodes. The API server,
//! the floor's policies and the webhook act on what is written. [`desired`] decides as pure functions.
//!
//! Not here yet: the edge that watches and applies; the program does nothing.

pub mod desired;
#[cfg(test)]
mod fixtures;
pub mod quantity;
