//! Evidence on a real cluster: what was tried, as whom, what answered, and the control that must succeed beside it.
//!
//! Input are kubeconfigs in the environment (`FREEHOLD_KUBECONFIG` for the platform team, `FREEHOLD_KUBECONFIG_ALICE` and
//! `_BOB` for the owners of the two example tenants); output are verdicts that tests assert. The crate exists apart so that
//! the product never needs it, and so that the same rows run against somebody's own cluster.

pub mod answer;
pub mod evidence;
pub mod figures;
pub mod kstatus;
pub mod live;
pub mod node;
pub mod objects;
pub mod people;
pub mod raw;
pub mod row;
pub mod storm;
pub mod suite;
pub mod tried;
pub mod wait;

pub use answer::{Answer, Layer};
pub use people::People;
pub use row::{Counts, Row, Verdict};
pub use tried::Tried;
