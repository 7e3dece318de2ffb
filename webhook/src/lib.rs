//! The admission server: decode, look up, ask `policy`, answer.
//!
//! Input are AdmissionReviews for Namespaces, pods and what else has rules in a tenant's namespace; the API server acts on the answers, people read the messages. It
//! completes (a namespace's label, a pod's runtime class) and explains; it holds nothing alone: the floor's policies refuse
//! the same requests while no replica of this runs, which is why the API server is told to go on without us.
//!
//! [`review`], [`decide`], [`owners`] and [`generations`] are pure; [`look_up`], [`certificates`] and [`server`] act.
//!
//! Not here yet: namespaces' subresources, client certificates of the API server.

pub mod certificates;
pub mod decide;
pub mod generations;
pub mod look_up;
pub mod metrics;
pub mod owners;
pub mod review;
pub mod server;
