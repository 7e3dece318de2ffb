//! Volumes with files (hostPath, file system PVCs, images): the guest's kernel asks by FUSE, a server on the node answers.
//!
//! ```text
//!   container ─► guest's kernel ─/dev/fuse─► relay (two processes of the agent) ─virtio port─► QEMU ─socket─► server ─► volume
//! ```
//! One server, one port and one relay a volume. The shim passes no byte of it: it opens the volume as a mount that is attached
//! nowhere, starts the server confined with that and the socket, and plugs the port. The server is the shim's own program, as
//! user 0 with the four capabilities that owners and modes of new files need, and with a root in which there is nothing but
//! itself and its own /proc.

mod attributes;
mod contents;
mod handles;
mod locks;
mod names;
mod nodes;
pub mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::fs::FileType;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::{self, Place};
use crate::config::Bundle;
use crate::confine::Plan;
use crate::confine::launch::{self, Confined};
use crate::confine::privileges::Limits;
use crate::confine::view::{Item, With};

/// The action by which this program becomes a server.
pub const ACTION: &str = "files";
/// Where it finds itself.
const PROGRAM: &str = "server";
/// Capabilities of capabilities(7), as bits: CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4;
/// Descriptors of a server: what the guest has open, and as many of what it knows.
const DESCRIPTORS: u64 = 16 * 1024;
/// Address space of a server: a quarter of a million known files of some 300 bytes, stacks, replies.
const ADDRESS_BYTES: u64 = 1024 * 1024 * 1024;
/// How a program ends that has done its work.
const CLEAN: &str = "exit status: 0";
/// Bytes of a server's last words that are kept.
const MAX_WORDS: u64 = 4096;

/// A volume as the node has it.
#[derive(Debug)]
pub struct Opened {
    tree: OwnedFd,
    /// It is one file, no folder.
    pub is_file: bool,
}

/// Opens a volume as a mount of its own, attached nowhere, with what is mounted below it.
///
/// # Errors
/// If it is not there, or neither a folder nor a file.
pub fn open(path: &Path, writable: bool) -> anyhow::Result<Opened> {
    let kind = std::fs::metadata(path).with_context(|| format!("can't look at {}", path.display()))?.file_type();
    if let Some(what) = foreign(kind) {
        bail!("{} is {what} of the node, which a virtual machine can't share: only folders and files", path.display());
    }
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if kind.is_dir() {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = rustix::mount::open_tree(CWD, path, flags).with_context(|| format!("can't open {}", path.display()))?;
    seal(&tree, writable).with_context(|| format!("can't restrict {}", path.display()))?;
    Ok(Opened { tree, is_file: !kind.is_dir() })
}

fn foreign(kind: FileType) -> Option<&'static str> {
    match () {
        () if kind.is_dir() || kind.is_file() => None,
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_fifo() => Some("a pipe"),
        () => Some("a device"),
    }
}

/// No device and no program of the volume is one to the server, and what the pod mounts read-only is so on the node.
fn seal(tree: &OwnedFd, writable: bool) -> std::io::Result<()> {
    let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    let set = if writable { set } else { set | libc::MOUNT_ATTR_RDONLY };
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a static string, the attributes live until after the call, and their size is the one told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            std::mem::size_of_val(&attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Starts a server in the pod's cgroups; gives the end of the socket that is the machine's.
///
/// # Errors
/// If it can't be started.
pub async fn start(bundle: &Bundle, places: &[Place], volume: Opened) -> anyhow::Result<(Confined, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let plan = plan(bundle, volume.tree.as_raw_fd(), ours.as_raw_fd());
    let places = places.to_vec();
    let place = Box::new(move |pid| Ok(cgroup::join(&places, pid)?));
    let server = launch::launch(plan, vec![volume.tree, ours], place, ()).await.context("can't start a file server")?;
    Ok((server, theirs))
}

/// Waits for a server's end; says how it ended, and its last words, unless it ended because the machine did.
pub async fn end(server: Confined) -> Option<String> {
    let mut ended = server.ended.clone();
    let how = match ended.wait_for(Option::is_some).await {
        Ok(how) => how.clone().unwrap_or_default(),
        Err(_) => "its watcher ended".into(),
    };
    if how == CLEAN {
        return None;
    }
    let mut words = String::new();
    // All that it says is on the way to its end, and fits in a pipe.
    let _ = std::fs::File::from(server.messages).take(MAX_WORDS).read_to_string(&mut words);
    Some(format!("{how}: {}", crate::printable(words.trim())))
}

fn plan(bundle: &Bundle, tree: i32, socket: i32) -> Plan {
    Plan {
        uid: 0,
        over: bundle.0.clone(),
        view: vec![
            Item::Bind { from: bundle.shim(), to: PROGRAM.into(), with: With::Run },
            Item::Processes { to: "proc".into() },
        ],
        command: vec![format!("/{PROGRAM}"), ACTION.into(), tree.to_string(), socket.to_string()],
        environment: Vec::new(),
        keep: vec![tree, socket],
        hold: Vec::new(),
        network: None,
        capabilities: CAPABILITIES,
        limits: Limits {
            descriptors: DESCRIPTORS,
            threads: 64,
            file_bytes: None,
            address_bytes: Some(ADDRESS_BYTES),
            cpu_seconds: None,
        },
    }
}
