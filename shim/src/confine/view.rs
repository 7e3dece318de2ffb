//! The root of a confined program: an empty file system in memory with a few of the node's files and folders in it,
//! read-only. The node's own root is not below, beside or behind it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

/// Size of the file system in memory: folders, and files of a few bytes.
const OPTIONS: &std::ffi::CStr = c"mode=0755,size=256k,nr_inodes=128";

/// One thing in the root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Item {
    /// A file or folder of the node.
    Bind {
        /// Where it is on the node.
        from: PathBuf,
        /// Where it is in the root, relative.
        to: PathBuf,
        /// What may be done with it besides reading.
        with: With,
    },
    /// A small file with this text.
    Text {
        /// Where it is in the root, relative.
        to: PathBuf,
        /// What it holds.
        text: String,
    },
    /// /proc of the pid namespace that this is called in, and of it only the processes.
    Processes {
        /// Where it is in the root, relative.
        to: PathBuf,
    },
}

/// What may be done with a thing besides reading it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum With {
    /// Nothing.
    Nothing,
    /// Programs in it may be run.
    Run,
    /// It may be written.
    Write,
    /// It is a device that may be opened.
    Device,
}

impl With {
    fn flags(self) -> MountFlags {
        let all = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        match self {
            With::Nothing => all,
            With::Run => all - MountFlags::NOEXEC,
            With::Write => all - MountFlags::RDONLY,
            With::Device => all - MountFlags::NODEV,
        }
    }
}

/// A step that failed, and at what.
#[derive(Debug, thiserror::Error)]
#[error("can't {step} {at}: {cause}")]
pub struct ViewError {
    step: &'static str,
    at: PathBuf,
    cause: io::Error,
}

fn failed<E: Into<io::Error>>(step: &'static str, at: &Path) -> impl FnOnce(E) -> ViewError {
    let at = at.to_owned();
    move |cause| ViewError { step, at, cause: cause.into() }
}

/// Makes the root and goes there. The mount namespace must be the caller's own.
///
/// # Errors
/// If a thing is not there, or the kernel refuses a step.
pub fn enter(over: &Path, items: &[Item]) -> Result<(), ViewError> {
    let root = Path::new("/");
    // Nothing done here may reach the node, and nothing mounted there later may come here.
    rustix::mount::mount_change(root, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("part from the mounts of", root))?;
    let mut trees = Vec::new();
    for item in items {
        if let Item::Bind { from, .. } = item {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            trees.push(rustix::mount::open_tree(CWD, from, flags).map_err(failed("open", from))?);
        }
    }
    let hard = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("freehold", over, "tmpfs", hard, OPTIONS).map_err(failed("mount a root over", over))?;
    let mut trees = trees.into_iter();
    for item in items {
        match item {
            Item::Text { to, text } => {
                let path = prepare(over, to)?;
                std::fs::write(&path, text).map_err(failed("write", &path))?;
            }
            Item::Processes { to } => {
                let path = prepare(over, to)?;
                std::fs::create_dir(&path).map_err(failed("make", &path))?;
                rustix::mount::mount("proc", &path, "proc", hard, c"subset=pid").map_err(failed("mount processes at", &path))?;
            }
            Item::Bind { to, with, .. } => {
                let path = prepare(over, to)?;
                let Some(tree) = trees.next() else { continue };
                attach(&tree, &path, *with)?;
            }
        }
    }
    rustix::process::chdir(over).map_err(failed("go to", over))?;
    rustix::process::pivot_root(".", ".").map_err(failed("make a root of", over))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(failed("let go of", root))?;
    rustix::process::chdir(root).map_err(failed("go to", root))?;
    rustix::mount::mount_remount(root, hard | MountFlags::RDONLY, c"").map_err(failed("seal", root))
}

/// Makes the folders above a thing.
fn prepare(over: &Path, to: &Path) -> Result<PathBuf, ViewError> {
    let path = over.join(to);
    let above = path.parent().unwrap_or(over);
    std::fs::create_dir_all(above).map_err(failed("make", above))?;
    Ok(path)
}

fn attach(tree: &rustix::fd::OwnedFd, path: &Path, with: With) -> Result<(), ViewError> {
    let stat = rustix::fs::statat(tree, "", AtFlags::EMPTY_PATH).map_err(failed("look at what becomes", path))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        std::fs::create_dir(path).map_err(failed("make", path))?;
    } else {
        std::fs::write(path, []).map_err(failed("make", path))?;
    }
    rustix::mount::move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed("attach", path))?;
    rustix::mount::mount_remount(path, MountFlags::BIND | with.flags(), c"").map_err(failed("seal", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_writable_or_a_device_unless_said() {
        for (with, absent) in [
            (With::Nothing, MountFlags::empty()),
            (With::Run, MountFlags::NOEXEC),
            (With::Write, MountFlags::RDONLY),
            (With::Device, MountFlags::NODEV),
        ] {
            assert_eq!(With::Nothing.flags() - with.flags(), absent, "{with:?}");
        }
    }
}
