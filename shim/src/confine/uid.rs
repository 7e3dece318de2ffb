//! A user of its own for each pod's machine, out of a range that nobody else uses, taken by a lock on a file.
//!
//! The lock goes with its last holder, shim or supervisor, so a user is free only when nothing runs as it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Where the files are.
pub const FOLDER: &str = "/run/freehold/users";
/// Users of the range: far more than a node has pods (the kubelet's own default is 110).
pub const COUNT: u32 = 16 * 1024;

/// A user that is taken.
#[derive(Debug)]
pub struct Lease {
    /// Its number, and its group's.
    pub uid: u32,
    /// Holds the lock.
    pub lock: File,
    path: PathBuf,
}

/// Takes the first free user of the range that begins at `first`.
///
/// # Errors
/// If the folder can't be used, or all are taken.
pub fn take(folder: &Path, first: u32) -> io::Result<Lease> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    for uid in (first..).take(COUNT as usize) {
        let path = path(folder, uid);
        if let Some(lock) = lock(&path, true)? {
            return Ok(Lease { uid, lock, path });
        }
    }
    Err(io::Error::other(format!("all {COUNT} users for virtual machines are taken")))
}

/// Removes the file of a user whose holders have died.
pub fn tidy(folder: &Path, uid: u32) {
    let path = path(folder, uid);
    if let Ok(Some(_lock)) = lock(&path, false) {
        let _ = std::fs::remove_file(&path);
    }
}

fn path(folder: &Path, uid: u32) -> PathBuf {
    folder.join(uid.to_string())
}

/// Locks the file that has this name now: one that was removed meanwhile guards nothing.
fn lock(path: &Path, create: bool) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(create).truncate(false).mode(0o600).open(path)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let same = std::fs::metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|held| held.ino() == named.ino()));
    Ok(same.then_some(file))
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // before the lock goes: whoever waits finds another file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_taken_once_and_given_back() {
        let folder = std::env::temp_dir().join(format!("freehold-users-{}", std::process::id()));
        let (a, b) = (take(&folder, 1000).unwrap(), take(&folder, 1000).unwrap());
        assert_eq!((a.uid, b.uid), (1000, 1001));
        tidy(&folder, 1000);
        assert!(folder.join("1000").exists(), "a taken user's file was removed");
        drop(a);
        assert_eq!(take(&folder, 1000).unwrap().uid, 1000);
        std::fs::write(folder.join("1000"), []).unwrap(); // as a killed shim leaves it
        tidy(&folder, 1000);
        drop(b);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
    }
}
