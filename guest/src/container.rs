//! A container and its processes.

use crate::cgroup::Cgroup;
use crate::process::Process;
use crate::rootfs::Root;
use freehold_guest_api::message::CreateContainer;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;

/// A container.
pub struct Container {
    /// What was asked for.
    pub spec: CreateContainer,
    /// Its mounted root.
    pub root: Root,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Polls as POLLPRI when a process was killed for memory.
    pub memory_events: Option<File>,
    /// Its init's pidfd and pid namespace, once started.
    pub init: Option<(OwnedFd, OwnedFd)>,
    /// Its processes by exec id; the init's is empty.
    pub processes: BTreeMap<String, Process>,
}
