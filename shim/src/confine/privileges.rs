//! Lays rights down for good: user, groups, capabilities, limits, calls of the kernel, and that no program run later can
//! gain any.

use std::io;

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

/// Capabilities that a kernel may know: they are the bits of a 64-bit set.
const CAPABILITIES: u32 = 64;

/// Limits of a program, each for the hard and the soft value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads of its user.
    pub threads: u64,
    /// Bytes of the largest file that it may write.
    pub file_bytes: Option<u64>,
    /// Bytes of its address space.
    pub address_bytes: Option<u64>,
    /// Seconds of processor time.
    pub cpu_seconds: Option<u64>,
}

/// Applies the limits; never above what is allowed already.
///
/// # Errors
/// If the kernel refuses.
pub fn limit(limits: &Limits) -> io::Result<()> {
    let all = [
        (Resource::Core, Some(0)),
        (Resource::Nofile, Some(limits.descriptors)),
        (Resource::Nproc, Some(limits.threads)),
        (Resource::Fsize, limits.file_bytes),
        (Resource::As, limits.address_bytes),
        (Resource::Cpu, limits.cpu_seconds),
    ];
    for (resource, value) in all {
        if let Some(value) = value {
            let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let value = Some(value.min(allowed));
            rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })?;
        }
    }
    Ok(())
}

/// Becomes user and group `uid` with no capabilities but `keep`, and can never have more. The process must have one thread.
///
/// # Errors
/// If the kernel refuses a step: then it must not go on.
pub fn lay_down(uid: u32, keep: u64) -> io::Result<()> {
    let keep = CapabilitySet::from_bits_retain(keep);
    for number in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break, // the kernel knows no more
            Err(error) => return Err(error.into()),
        }
    }
    if keep.is_empty() {
        // A program run by user 0 would have capabilities again.
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        rustix::thread::set_capabilities_secure_bits(bits)?;
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    super::filter::set()
}
