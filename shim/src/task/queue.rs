//! How many machines of one owner boot at once: its others wait, so that a crowd is not late altogether, and takes fewer of the processors that
//! other owners' machines boot on too.
//!
//! A machine that boots wants a processor of its own (and with cgroups of version 1 is not under its pod's CPU limit yet, see
//! [`crate::cgroup`]). So each owner has some seats on a node, and nobody waits for a seat of another's. An owner is a namespace, or a tenant
//! where the node agent tells whose a namespace is, which it does for templates.
//!
//! A seat is one byte of a file that stays empty, locked for as long as its holder lives (open file description locks, fcntl(2)): a shim that is
//! killed leaves nothing.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::config::Acceleration;

/// The file whose bytes are seats.
pub const FILE: &str = "/run/freehold/seats";
/// Longest wait. With a clone that does not wake (20 s) and two boots (60 s each) after it, it stays below the 240 s that the kubelet waits
/// for a sandbox: twice its runtimeRequestTimeout.
const PATIENCE: Duration = Duration::from_secs(90);
/// Time between looks.
const STEP: Duration = Duration::from_millis(50);
/// Bytes of the file that belong to one tenant, and so its most seats.
const MOST: i64 = 64;

/// A seat, free again when it is dropped.
#[derive(Debug)]
pub struct Seat(#[expect(dead_code, reason = "holds the lock")] File);

/// Whose seats a pod takes: its tenant's, or its namespace's. A namespace can't be named like another tenant's seats.
#[derive(Debug, Clone, PartialEq)]
pub enum Whose {
    /// The tenant of this UID.
    Tenant(String),
    /// A namespace that is not known to be a tenant's.
    Namespace(String),
}

impl Whose {
    /// Where its seats begin in the file.
    fn first(&self) -> i64 {
        let (kind, name) = match self {
            Whose::Tenant(uid) => ("tenant", uid),
            Whose::Namespace(name) => ("namespace", name),
        };
        let digest = Sha256::digest(format!("{kind}\0{name}"));
        place(i64::from_be_bytes(std::array::from_fn(|n| digest[n])))
    }
}

/// Where the seats of this number begin: never below the file's first byte, and never beyond the last that a file can have.
fn place(number: i64) -> i64 {
    (number & (i64::MAX >> 1)) / MOST * MOST
}

/// How many seats each has. By emulation a boot fills a processor for seconds; with KVM it also waits for disks and for QEMU's own start.
pub fn seats(acceleration: Acceleration) -> i64 {
    let processors = std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(MOST));
    let seats = match acceleration {
        Acceleration::Kvm => processors * 2,
        Acceleration::Tcg => processors,
    };
    seats.min(MOST)
}

/// Waits for a seat.
///
/// # Errors
/// If there was none for 90 s, or the file can't be used.
pub async fn take(path: &Path, whose: &Whose, seats: i64) -> anyhow::Result<Seat> {
    take_within(path, whose, seats, PATIENCE).await
}

async fn take_within(path: &Path, whose: &Whose, seats: i64, patience: Duration) -> anyhow::Result<Seat> {
    let open = || {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        File::options().write(true).create(true).truncate(false).mode(0o600).open(path)
    };
    let file = open().with_context(|| format!("can't open {}", path.display()))?;
    let first = whose.first();
    let free = async {
        loop {
            for seat in first..first + seats {
                if lock(&file, seat)? {
                    return Ok::<_, std::io::Error>(());
                }
            }
            tokio::time::sleep(STEP).await;
        }
    };
    match tokio::time::timeout(patience, free).await {
        Ok(found) => found.map(|()| Seat(file)).with_context(|| format!("can't lock {}", path.display())),
        Err(_) => anyhow::bail!(
            "{seats} virtual machines of this namespace or tenant boot on a node at a time, and this one was not among them for {} s: the \
             kubelet tries again",
            patience.as_secs()
        ),
    }
}

/// Locks one byte; false if somebody has it.
fn lock(file: &File, byte: i64) -> std::io::Result<bool> {
    // The pid must be 0, and the type is a constant of another width.
    let wanted = libc::flock { l_type: libc::F_WRLCK as _, l_whence: libc::SEEK_SET as _, l_start: byte, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open, and the kernel only reads the structure.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const wanted) } == 0 {
        return Ok(true);
    }
    let error = std::io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_never_sits_on_a_tenants_seats() {
        let (tenant, namespace) = (Whose::Tenant("a".into()), Whose::Namespace("a".into()));
        assert_ne!(tenant.first(), namespace.first());
        for number in [0, 1, MOST, -1, i64::MAX, i64::MIN, tenant.first(), namespace.first()] {
            let first = place(number);
            assert!(first >= 0 && first % MOST == 0 && first.checked_add(MOST).is_some(), "{number}: {first}");
        }
    }

    #[tokio::test]
    async fn each_has_its_own_seats_and_an_end_frees_one() {
        let path = std::env::temp_dir().join(format!("freehold-seats-{}", std::process::id()));
        let (one, other) = (Whose::Tenant("uid-1".into()), Whose::Tenant("uid-2".into()));
        let soon = Duration::from_millis(120);
        let take = async |whose: &Whose| take_within(&path, whose, 2, soon).await;
        let first = take(&one).await.unwrap();
        let _second = take(&one).await.unwrap();
        let refused = take(&one).await.unwrap_err().to_string();
        assert!(refused.contains("2 virtual machines") && !refused.contains("uid"), "{refused}");
        let _others = take(&other).await.unwrap();
        drop(first);
        let _third = take(&one).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        std::fs::remove_file(&path).unwrap();
    }
}
