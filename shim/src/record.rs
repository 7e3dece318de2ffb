//! What `delete` needs to clean up after a shim that died: written beside the sandbox's bundle once there is a machine.
//!
//! A pid alone is reused; with its start time it names one process for ever.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::confine::uid;

/// Name in the bundle.
pub const NAME: &str = "freehold.json";
/// Time for a killed process to go. containerd allows `delete` five seconds in all: for its server's grace, this twice, and the cgroups.
const GONE_TIME: Duration = Duration::from_millis(1500);
/// Time for cgroups to become empty.
const EMPTY_TIME: Duration = Duration::from_secs(1);

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Pid of QEMU's supervisor, whose end ends QEMU.
    pub pid: u32,
    /// Its start time in clock ticks since boot (proc(5), stat, field 22).
    pub started: u64,
    /// The machine's user.
    pub uid: u32,
    /// Its cgroups, made by the shim.
    pub cgroups: Vec<PathBuf>,
    /// Where a layer may have been under conversion.
    pub layers: PathBuf,
}

impl Record {
    /// Writes it whole.
    ///
    /// # Errors
    /// If the bundle can't be written.
    pub fn write(&self, bundle: &Path) -> std::io::Result<()> {
        write(&bundle.join(NAME), self)
    }

    /// Reads it; `None` if there is none, which is so for every container but the sandbox.
    pub fn read(bundle: &Path) -> Option<Record> {
        read(&bundle.join(NAME))
    }

    /// Kills the machine if it still is the same one, and removes what was made for it. Safe to call again.
    pub fn clean(&self) {
        end(self.pid, self.started, Duration::ZERO);
        remove_cgroups(&self.cgroups);
        crate::rootfs::layers::sweep(&self.layers);
        uid::tidy(Path::new(uid::FOLDER), self.uid);
    }
}

/// Writes a note, whole or not at all.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, note: &impl Serialize) -> std::io::Result<()> {
    let temporary = format!("{}.tmp", path.display());
    std::fs::write(&temporary, serde_json::to_vec(note)?)?;
    std::fs::rename(temporary, path)
}

/// Reads a note; `None` if there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Kills a process if it still is the same one and does not end by itself within the grace, and waits for its end.
pub fn end(pid: u32, since: u64, grace: Duration) {
    if let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        && let Ok(pidfd) = rustix::process::pidfd_open(number, PidfdFlags::empty())
        && started(pid) == Some(since)
    {
        let is_gone = |within: Duration| {
            let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
            let time = rustix::event::Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
            rustix::event::poll(&mut fds, Some(&time)).is_ok_and(|ready| ready > 0)
        };
        if !is_gone(grace) {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL); // ESRCH: it has just ended
            is_gone(GONE_TIME); // or as dead as it can be made
        }
    }
}

/// Removes cgroups that are empty, or become so at once: a killed process leaves its own a moment after its end.
pub fn remove_cgroups(cgroups: &[PathBuf]) {
    let end = Instant::now() + EMPTY_TIME;
    for cgroup in cgroups {
        while let Err(error) = std::fs::remove_dir(cgroup) {
            if error.kind() == std::io::ErrorKind::NotFound || Instant::now() > end {
                break; // the kubelet removes the pod's folder with all below it
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// When the process with this pid was started, in clock ticks since boot.
pub fn started(pid: u32) -> Option<u64> {
    start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22; the name in field 2 may hold anything, so what counts is behind its last bracket.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time("7 a S"), None);
    }

    #[test]
    fn only_the_same_process_is_killed_and_twice_is_no_error() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let record = |started| Record { pid, started, uid: 0, cgroups: Vec::new(), layers: "/nonexistent".into() };
        let now = started(pid).unwrap();
        record(now + 1).clean();
        assert!(child.try_wait().unwrap().is_none());
        record(now).clean();
        assert!(!child.wait().unwrap().success());
        record(now).clean();
    }
}
