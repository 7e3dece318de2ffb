//! The task service: what containerd asks of a pod's shim, over ttrpc.
//!
//! Input: containerd's requests, the guest's events and the machine's end. The decisions are in [`lifecycle`]; `api`, `create`,
//! `requests` and `ends` load, call and answer; `pod` holds what there is. State is answered from memory, never by asking the guest.

pub mod api;
pub mod begin;
mod cause;
mod clock;
mod create;
mod ends;
pub mod events;
pub mod lifecycle;
pub mod pod;
pub mod process;
mod queue;
mod requests;
pub mod sandbox;
pub mod stats;
pub mod stdio;
