//! The virtual machine: QEMU's command line, its process, its control socket and its console.
//!
//! Input: the handler's configuration. The task service and the canary act on a [`process::Machine`]; nothing above this
//! module knows QEMU. Machines boot cold; there are no templates and clones.

pub mod command;
pub mod console;
pub mod disks;
pub mod memory;
pub mod port;
pub mod process;
pub mod qmp;
