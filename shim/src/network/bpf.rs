//! eBPF: programs of a few instructions are given to the kernel as descriptors.
//!
//! `plug` drops frames by one, `forward` takes connections by another. Both are written out as instructions there; here are
//! the four uses of bpf(2) that they need, with its arguments as the kernel lays them out, and the only unsafe code of both.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;
const SOCKMAP: u32 = 15;
const ATTACH_SK_LOOKUP: u32 = 36;

/// One instruction: operation, registers, offset, immediate.
pub type Instruction = [u8; 8];

/// What calls a program.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A filter of frames (BPF_PROG_TYPE_SCHED_CLS).
    Filter = 3,
    /// The lookup of who listens for a connection (BPF_PROG_TYPE_SK_LOOKUP).
    SocketLookup = 30,
}

fn call<T>(command: u32, attribute: &T) -> io::Result<i32> {
    // SAFETY: the attribute is as long as is said, of the kernel's layout, and what it points to outlives the call: each
    // caller in this file holds it in a local.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: a new descriptor that nobody else has.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has the kernel check a program.
///
/// # Errors
/// If it refuses, or knows no such programs.
pub fn load(kind: Kind, code: &[Instruction]) -> io::Result<OwnedFd> {
    /// The beginning of union bpf_attr; what is not named counts as zero.
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
        log: [u64; 2],
        version: u32,
        flags: u32,
        name: [u8; 16],
        ifindex: u32,
        attach: u32,
    }
    let license = c"Apache-2.0";
    let load = Load {
        kind: kind as u32,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach: match kind {
            Kind::Filter => 0,
            Kind::SocketLookup => ATTACH_SK_LOOKUP,
        },
        ..Load::default()
    };
    call(PROG_LOAD, &load).map(owned)
}

/// A map that holds one socket, at key 0.
///
/// # Errors
/// If the kernel refuses.
pub fn map_of(socket: i32) -> io::Result<OwnedFd> {
    // map_type, key_size, value_size, max_entries
    let map = owned(call(MAP_CREATE, &[SOCKMAP, 4, 8, 1])?);
    let (key, value) = (0u32, u64::from(socket.unsigned_abs()));
    // map_fd, key, value, flags
    let update = [u64::from(map.as_raw_fd().unsigned_abs()), (&raw const key) as u64, (&raw const value) as u64, 0];
    call(MAP_UPDATE, &update).map(|_| map)
}

/// Attaches a program of the socket lookup to the network namespace of the calling thread, for as long as the link lives.
///
/// # Errors
/// If the kernel refuses.
pub fn attach_here(program: &OwnedFd) -> io::Result<OwnedFd> {
    let netns = File::open("/proc/thread-self/ns/net")?;
    // prog_fd, target_fd, attach_type, flags
    let link = [program.as_raw_fd().unsigned_abs(), netns.as_raw_fd().unsigned_abs(), ATTACH_SK_LOOKUP, 0];
    call(LINK_CREATE, &link).map(owned)
}
