//! Node agent that enforces NetworkPolicies and each tenant's fence by one nftables table.
//!
//! Input: pods, namespaces, NetworkPolicies and Boundaries as the API server has them, and this node's pod ranges. The
//! kernel acts on the output, the table `inet freehold`; no other table is touched. [`core`] decides and is pure, and so are
//! [`convert`], [`fence`], [`judged`] and [`links`]; [`probe`] is the program of two
//! pods that find out whether somebody else enforces NetworkPolicies, and the rest watches and runs `nft`. It is apart from the other node agent because it
//! needs one capability and nothing of the node's files.

pub mod bridges;
pub mod convert;
pub mod core;
pub mod fence;
pub mod judged;
pub mod links;
pub mod metrics;
pub mod nft;
pub mod probe;
pub mod watch;
