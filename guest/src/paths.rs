//! Paths below a root that a container controls.
//!
//! A container may fill its root and its volumes with links before the agent mounts over them. So every path is resolved by
//! the kernel below an open root (openat2, RESOLVE_IN_ROOT), and all later work is on the descriptor, never on the name.

use crate::fail::{Failure, Result, Step};
use crate::sys;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Components of one path; PATH_MAX allows more, nobody needs them.
const MAX_DEPTH: usize = 256;
/// Bytes of an id: [`freehold_guest_api`] says 128.
const MAX_ID: usize = 128;

/// Whether `id` may be a file name: `[A-Za-z0-9_.-]`, 1 to 128 bytes, not `.` or `..`.
pub fn check_id(kind: &str, id: &str) -> Result<()> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if id.is_empty() || id.len() > MAX_ID || !plain || id == "." || id == ".." {
        return Err(Failure::refuse(format!("{kind} id {id:?} must be 1 to {MAX_ID} of [A-Za-z0-9_.-]")));
    }
    Ok(())
}

/// The components of a path below a root: `.` and empty ones are dropped, `..` is refused.
pub fn components(path: &str) -> Result<Vec<CString>> {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." || parts.len() == MAX_DEPTH {
            return Err(Failure::refuse(format!("path {path:?}: '..' or more than {MAX_DEPTH} components are not allowed")));
        }
        parts.push(CString::new(part).map_err(|_| Failure::refuse(format!("path {path:?} holds a NUL byte")))?);
    }
    Ok(parts)
}

fn joined(parts: &[CString]) -> CString {
    let bytes = parts.iter().map(|p| p.as_bytes()).collect::<Vec<_>>().join(&b'/');
    CString::new(if bytes.is_empty() { b".".to_vec() } else { bytes }).unwrap_or_default()
}

/// Opens what is at `path` below `root` with O_PATH.
pub fn find(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    sys::open_in_root(root, &joined(&components(path)?), libc::O_PATH, 0).step(format!("open {path:?} below its root"))
}

/// As [`find`], `None` if there is nothing.
pub fn find_maybe(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match find(root, path) {
        Ok(fd) => Ok(Some(fd)),
        Err(failure) if matches!(failure.errno, libc::ENOENT | libc::ENOTDIR) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Opens the directory at `path` below `root`, making the missing ones (mode 0755, owned by root).
pub fn make_dirs(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let parts = components(path)?;
    let what = || format!("make directory {path:?} below its root");
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    if let Ok(fd) = sys::open_in_root(root, &joined(&parts), flags, 0) {
        return Ok(fd);
    }
    let mut dir = sys::open_in_root(root, c".", flags, 0).step(what())?;
    for depth in 0..parts.len() {
        match sys::mkdir_at(dir.as_fd(), &parts[depth], 0o755) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).step(what()),
            _ => {}
        }
        dir = sys::open_in_root(root, &joined(&parts[..=depth]), flags, 0).step(what())?;
    }
    Ok(dir)
}

/// Opens the place to mount on at `path` below `root`, making a directory or (`file`) an empty file if there is none.
pub fn make_target(root: BorrowedFd<'_>, path: &str, file: bool) -> Result<OwnedFd> {
    if !file {
        return make_dirs(root, path);
    }
    if let Some(fd) = find_maybe(root, path)? {
        return Ok(fd);
    }
    let parts = components(path)?;
    if let Some((_, parents)) = parts.split_last() {
        make_dirs(root, &joined(parents).to_string_lossy())?;
    }
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_NOCTTY | libc::O_NONBLOCK;
    sys::open_in_root(root, &joined(&parts), flags, 0o644).step(format!("make file {path:?} below its root"))?;
    find(root, path)
}

/// The name by which mount(2) can reach an open file. The agent's own /proc must be at hand.
pub fn of_fd(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn ids() {
        for (id, good) in [("a", true), ("A_b.c-9", true), ("", false), (".", false), ("..", false), ("a/b", false), ("ä", false)]
        {
            assert_eq!(check_id("volume", id).is_ok(), good, "{id:?}");
        }
        assert!(check_id("volume", &"a".repeat(128)).is_ok());
        assert!(check_id("volume", &"a".repeat(129)).is_err());
    }

    #[test]
    fn dots() {
        assert_eq!(joined(&components("//a/./b/").unwrap()), CString::from(c"a/b"));
        assert_eq!(joined(&components("/").unwrap()), CString::from(c"."));
        assert!(components("/a/../b").is_err());
        assert!(components("a\0b").is_err());
    }

    #[test]
    fn links_stay_below_the_root() {
        let dir = std::env::temp_dir().join(format!("freehold-paths-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("root/inner")).unwrap();
        symlink("/", dir.join("root/abs")).unwrap();
        symlink("../../../../..", dir.join("root/up")).unwrap();
        let root = sys::open(dir.join("root"), libc::O_PATH).unwrap();
        for path in ["/abs/made", "/up/made2", "made3/deep"] {
            make_dirs(root.as_fd(), path).unwrap();
        }
        make_target(root.as_fd(), "/abs/etc/file", true).unwrap();
        for path in ["made", "made2", "made3/deep", "etc/file"] {
            assert!(dir.join("root").join(path).exists(), "{path}");
        }
        assert!(find_maybe(root.as_fd(), "nothing/here").unwrap().is_none());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
