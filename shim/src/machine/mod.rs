//! The virtual machine: QEMU's command line, its process, its control socket and its console.
//!
//! Input: the handler's configuration. The task service and the canary act on a [`process::Machine`]; nothing above this
//! module knows QEMU. A machine boots its kernel, or goes on from where a template of its tenant was stopped ([`migration`],
//! and [`crate::template`] for which).

pub mod command;
pub mod console;
pub mod disks;
pub mod memory;
pub mod migration;
pub mod port;
pub mod process;
pub mod qmp;
