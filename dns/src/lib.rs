//! The name server of tenants whose `network.dns` is Isolated.
//!
//! A pod of such a tenant asks here instead of at the cluster's DNS. Who asks is known by the address that the question
//! comes from; what it may be told is decided by [`decide`] over a [`view::View`] of pods, namespaces and Boundaries; what
//! may be told is asked of the cluster's DNS and handed on. It holds no names itself, caches nothing and writes nothing.
//! It is a program of its own because tenants' packets reach it: nothing else that runs for the cluster should hear them.

pub mod decide;
pub mod forward;
pub mod metrics;
pub mod names;
pub mod places;
pub mod server;
pub mod view;
pub mod watch;
