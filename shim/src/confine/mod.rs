//! Programs that a tenant may take over run here: with a user, a root, and namespaces of their own, and no capabilities.
//!
//! Input: a [`Plan`], made by the machine (QEMU) and by the layer converter. The shim starts this program again as the
//! *supervisor*, the first process of a new pid namespace; it builds the root, starts the program with what it may have,
//! lays down its own rights and waits. So the supervisor's death, which the shim's own brings about, ends everything in the
//! namespace, whatever the program does.
//!
//! ```text
//!   shim ──fork──► supervisor (pid 1; user 0 without rights) ──fork──► program (user of the pod, no capabilities)
//!    │  «ready» ◄──┤
//!    │  joins it to the pod's cgroup, notes it for `delete`
//!    ├─── plan ───►│ namespaces, root, program
//!    │◄── pidfd ───┤
//!    │             └─ waits for the program, and ends as it did
//! ```

pub mod filter;
pub mod launch;
pub mod privileges;
pub mod supervisor;
pub mod uid;
pub mod view;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Exit status of a supervisor that could not start its program; QEMU itself ends with 0 or 1.
pub const NOT_CONFINED: i32 = 125;
/// Longest plan in bytes; a real one has about 4 KiB.
pub const MAX_PLAN: usize = 64 * 1024;

/// What is run, and all that it may see and use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// User and group of the program.
    pub uid: u32,
    /// A folder of the node over which the new root is mounted, in the supervisor's mount namespace alone.
    pub over: PathBuf,
    /// What is in the new root.
    pub view: Vec<view::Item>,
    /// The program and its arguments, by paths of the new root.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Descriptors that the program inherits.
    pub keep: Vec<i32>,
    /// Descriptors that the supervisor alone holds until all has ended.
    pub hold: Vec<i32>,
    /// A network namespace that the supervisor itself enters once the program runs, in an empty one: descriptor of those
    /// that are held. Whoever asks for the counters of the supervisor's network then finds the pod's.
    #[serde(default)]
    pub network: Option<i32>,
    /// Capabilities that the program keeps, as a bit set; 0 for all that need none.
    pub capabilities: u64,
    /// Its limits.
    pub limits: privileges::Limits,
}
