//! First steps of PID 1: its own root, the kernel's file systems, limits.
//!
//! The initramfs's root can't be left by pivot_root(2), so the agent moves to a tmpfs first; a container's init pivots
//! from there.

use crate::fail::{Result, Step};
use crate::sys;
use std::fs;
use std::path::Path;

const NO: u64 = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
/// Open files of the agent and, inherited, of containers without an own limit: fs.nr_open's default.
const OPEN_FILES: u64 = 1_048_576;
const RLIMIT_NOFILE: u32 = 7;
/// Processes and threads of the machine, and of a user: kernel.pid_max's default, which no machine gets past. The kernel reckons
/// these, and how many files may be open, from the memory it boots with, which grows later: it allows a user 421.
const PROCESSES: u64 = 32_768;
const RLIMIT_NPROC: u32 = 6;
const RLIMIT_SIGPENDING: u32 = 11;

/// Mounts everything the agent needs. Afterwards `/` is a tmpfs.
pub fn prepare() -> Result<()> {
    fs::create_dir_all("/newroot").step("make /newroot")?;
    sys::mount("root", "/newroot", "tmpfs", libc::MS_NOSUID, "mode=0755").step("mount the agent's root")?;
    for (fs_type, target, flags, data) in [
        ("proc", "proc", NO, ""),
        ("sysfs", "sys", NO, ""),
        ("devtmpfs", "dev", libc::MS_NOSUID, "mode=0755"),
        ("devpts", "dev/pts", libc::MS_NOSUID | libc::MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("tmpfs", "run", libc::MS_NOSUID, "mode=0755"),
        ("cgroup2", "sys/fs/cgroup", NO, ""),
    ] {
        let target = Path::new("/newroot").join(target);
        fs::create_dir_all(&target).step(format!("make {}", target.display()))?;
        sys::mount(fs_type, &target, fs_type, flags, data).step(format!("mount {fs_type}"))?;
    }
    std::env::set_current_dir("/newroot").step("enter the agent's root")?;
    sys::mount(".", "/", "", libc::MS_MOVE, "").step("move the agent's root")?;
    sys::chroot(".").step("change root")?;
    std::env::set_current_dir("/").step("enter /")?;
    sys::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "").step("make mounts private")?;
    for dir in ["/run/containers", "/run/volumes", "/run/shm"] {
        fs::create_dir_all(dir).step(format!("make {dir}"))?;
    }
    for (limit, most) in [(RLIMIT_NOFILE, OPEN_FILES), (RLIMIT_NPROC, PROCESSES), (RLIMIT_SIGPENDING, PROCESSES)] {
        sys::set_limit(limit, most, most).step(format!("raise resource limit {limit}"))?;
    }
    for (path, most) in [("/proc/sys/kernel/threads-max", PROCESSES), ("/proc/sys/fs/file-max", OPEN_FILES)] {
        fs::write(path, most.to_string()).step(format!("raise {path}"))?;
    }
    harden()
}

/// What each image of the agent does for itself: exec(2) undoes it.
pub fn harden() -> Result<()> {
    // A child that has not yet called exec holds a copy of the agent; no process of the container may trace it.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).step("forbid tracing the agent")
}
