//! The shim's side of the contract with the guest's agent: requests by number, events, byte streams with credit.
//!
//! Input: the agent's port. The task service acts on answers and events. What comes in is hostile: any breach of the
//! contract ends the connection, and with it the sandbox.

pub mod client;
pub mod streams;

pub use client::Agent;
