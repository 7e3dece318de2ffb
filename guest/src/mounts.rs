//! A container's mounts and devices, made by its init in its own mount namespace before it changes its root.
//!
//! proc and cgroup2 show the namespaces of who mounts them, so this can't happen in the agent. `/dev/shm` is the one of the
//! pod, whatever type the spec says, if it names no volume.

use crate::fail::{Failure, Result, Step};
use crate::paths;
use crate::sys;
use freehold_guest_api::message::{Device, Mount};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The pod's /dev/shm.
pub const SHM: &str = "/run/shm";
const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const ATTR_NOEXEC: u64 = 8;

/// Options of a mount, understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// MS_* flags of a new file system.
    pub flags: u64,
    /// MOUNT_ATTR_* of a bind mount.
    pub attributes: u64,
    /// With the mounts below.
    pub recursive: bool,
    /// What the file system itself understands.
    pub data: String,
}

/// Reads the options of the OCI spec.
pub fn parse(options: &[String]) -> Result<Options> {
    let mut parsed = Options::default();
    let mut data: Vec<&str> = Vec::new();
    for option in options {
        let (flag, attribute) = match option.as_str() {
            "ro" => (libc::MS_RDONLY, ATTR_RDONLY),
            "nosuid" => (libc::MS_NOSUID, ATTR_NOSUID),
            "nodev" => (libc::MS_NODEV, ATTR_NODEV),
            "noexec" => (libc::MS_NOEXEC, ATTR_NOEXEC),
            "noatime" => (libc::MS_NOATIME, 0x10),
            "strictatime" => (libc::MS_STRICTATIME, 0x20),
            "nodiratime" => (libc::MS_NODIRATIME, 0x80),
            "sync" => (libc::MS_SYNCHRONOUS, 0),
            "rbind" => {
                parsed.recursive = true;
                (0, 0)
            }
            // What is anyway, and propagation, which ends at the container's namespace.
            "rw"
            | "suid"
            | "dev"
            | "exec"
            | "relatime"
            | "async"
            | "bind"
            | "defaults"
            | "private"
            | "rprivate"
            | "slave"
            | "rslave"
            | "shared"
            | "rshared"
            | "nsdelegate"
            | "memory_recursiveprot" => (0, 0),
            other if is_data(other) => {
                data.push(other);
                (0, 0)
            }
            other => return Err(Failure::refuse(format!("mount option {other:?} is not known"))),
        };
        parsed.flags |= flag;
        parsed.attributes |= attribute;
    }
    parsed.data = data.join(",");
    Ok(parsed)
}

fn is_data(option: &str) -> bool {
    let names = ["size", "mode", "uid", "gid", "nr_inodes", "ptmxmode", "hidepid"];
    option == "newinstance" || option.split_once('=').is_some_and(|(name, _)| names.contains(&name))
}

/// Makes one mount below `root`. `volumes` are the places of the volumes by id.
pub fn mount(root: BorrowedFd<'_>, mount: &Mount, volumes: &BTreeMap<String, PathBuf>) -> Result<()> {
    let what = || format!("mount {}", mount.destination);
    let options = parse(&mount.options).step(what())?;
    let shm = mount.volume.is_empty() && mount.destination.trim_end_matches('/') == "/dev/shm";
    if !mount.volume.is_empty() || shm {
        let path = match volumes.get(&mount.volume) {
            _ if shm => PathBuf::from(SHM),
            Some(path) => path.clone(),
            None => return Err(crate::volumes::unknown(&mount.volume)).step(what()),
        };
        let source = sys::open(&path, libc::O_PATH).step(what())?;
        let source = sub_path(source, &mount.sub_path).step(what())?;
        return bind(root, source.as_fd(), &mount.destination, &options).step(what());
    }
    if !["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup2"].contains(&mount.fs_type.as_str()) {
        return Err(Failure::refuse(format!("{}: file system type {:?} is not known", what(), mount.fs_type)));
    }
    let target = paths::make_dirs(root, &mount.destination).step(what())?;
    let kind = mount.fs_type.as_str();
    sys::mount(kind, paths::of_fd(target.as_fd()), kind, options.flags, &options.data).step(what())
}

/// The place at `path` in a volume. Missing folders are made with the mode and owners of the volume's root: the kubelet
/// makes them so, but on the host, where the volume is not.
fn sub_path(volume: OwnedFd, path: &str) -> Result<OwnedFd> {
    let parts = paths::components(path)?;
    let names: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
    for depth in 1..=names.len() {
        let part = names[..depth].join("/");
        if paths::find_maybe(volume.as_fd(), &part)?.is_none() {
            let like = std::fs::metadata(paths::of_fd(volume.as_fd())).step("look up the volume's root")?;
            let made = paths::make_dirs(volume.as_fd(), &part)?;
            let place = paths::of_fd(made.as_fd());
            std::os::unix::fs::chown(&place, Some(like.uid()), Some(like.gid())).step(format!("own {part:?}"))?;
            std::fs::set_permissions(&place, like.permissions()).step(format!("change mode of {part:?}"))?;
        }
    }
    if names.is_empty() { Ok(volume) } else { paths::find(volume.as_fd(), path) }
}

fn bind(root: BorrowedFd<'_>, source: BorrowedFd<'_>, destination: &str, options: &Options) -> Result<()> {
    let is_dir = std::fs::metadata(paths::of_fd(source)).step("look up the source")?.is_dir();
    let tree = sys::clone_mount(source, options.recursive).step("copy the source's mount")?;
    sys::set_mount_attributes(tree.as_fd(), options.attributes, options.recursive).step("set options")?;
    let target = paths::make_target(root, destination, !is_dir)?;
    sys::attach_mount(tree.as_fd(), target.as_fd()).step("attach")
}

/// Shows a path empty; one that is not there needs nothing.
pub fn mask(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(target) = paths::find_maybe(root, path)? else { return Ok(()) };
    let place = paths::of_fd(target.as_fd());
    if std::fs::metadata(&place).step(format!("look up {path}"))?.is_dir() {
        return sys::mount("tmpfs", place, "tmpfs", libc::MS_RDONLY, "size=0k,nr_inodes=2").step(format!("mask {path}"));
    }
    sys::mount("/dev/null", place, "", libc::MS_BIND, "").step(format!("mask {path}"))
}

/// Makes a path read-only; one that is not there needs nothing.
pub fn make_readonly(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let Some(target) = paths::find_maybe(root, path)? else { return Ok(()) };
    let what = || format!("make {path} read-only");
    let tree = sys::clone_mount(target.as_fd(), true).step(what())?;
    sys::set_mount_attributes(tree.as_fd(), ATTR_RDONLY, true).step(what())?;
    sys::attach_mount(tree.as_fd(), target.as_fd()).step(what())
}

const NODES: [(&CStr, u32, u32); 6] =
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// Puts the usual nodes and links into the container's /dev, if it has one of its own there.
pub fn make_nodes(root: BorrowedFd<'_>) -> Result<()> {
    let dev = paths::make_dirs(root, "/dev")?;
    let there = |error: &std::io::Error| error.kind() == std::io::ErrorKind::AlreadyExists;
    for (name, major, minor) in NODES {
        match sys::mknod_at(dev.as_fd(), name, libc::S_IFCHR | 0o666, libc::makedev(major, minor) as u64) {
            Ok(()) => sys::own_at(dev.as_fd(), name, 0, 0, 0o666).step(format!("own /dev/{}", name.to_string_lossy()))?,
            Err(error) if there(&error) => {}
            // In a user namespace nobody makes nodes: the guest's own is shown.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => show_node(root, &name.to_string_lossy())?,
            Err(error) => return Err(error).step(format!("make /dev/{}", name.to_string_lossy())),
        }
    }
    for (target, name) in LINKS {
        match sys::symlink_at(target, dev.as_fd(), name) {
            Err(error) if !there(&error) => return Err(error).step(format!("link /dev/{}", name.to_string_lossy())),
            _ => {}
        }
    }
    Ok(())
}

fn show_node(root: BorrowedFd<'_>, name: &str) -> Result<()> {
    let path = format!("/dev/{name}");
    let source = sys::open(&path, libc::O_PATH).step(format!("open the guest's {path}"))?;
    bind(root, source.as_fd(), &path, &Options::default()).step(format!("show {path}"))
}

/// Makes a device node of a block volume.
pub fn make_device(root: BorrowedFd<'_>, device: &Device, volumes: &BTreeMap<String, PathBuf>) -> Result<()> {
    let what = || format!("make device {}", device.path);
    let source = volumes.get(&device.volume).ok_or_else(|| crate::volumes::unknown(&device.volume)).step(what())?;
    let number = std::fs::metadata(source).step(what())?.rdev();
    let mut parts = paths::components(&device.path)?;
    let name = parts.pop().ok_or_else(|| Failure::refuse("a device needs a path"))?;
    let parent = device.path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
    let dir = paths::make_dirs(root, parent).step(what())?;
    sys::mknod_at(dir.as_fd(), &name, libc::S_IFBLK | (device.mode & 0o777), number).step(what())?;
    sys::own_at(dir.as_fd(), &name, device.uid, device.gid, device.mode & 0o777).step(what())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(list: &str) -> Result<Options> {
        parse(&list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_missing_sub_path_is_made_like_its_volume() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("freehold-sub-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o2770)).unwrap();
        let open = || sys::open(&dir, libc::O_PATH).unwrap();
        sub_path(open(), "a/b").unwrap();
        for made in ["a", "a/b"] {
            assert_eq!(std::fs::metadata(dir.join(made)).unwrap().permissions().mode() & 0o7777, 0o2770, "{made}");
        }
        std::fs::write(dir.join("file"), "x").unwrap();
        assert!(sub_path(open(), "file").is_ok() && sub_path(open(), "").is_ok() && sub_path(open(), "a/../..").is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn known_options() {
        let parsed = options("nosuid noexec nodev ro mode=0755 size=65536k").unwrap();
        assert_eq!(parsed.flags, libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_RDONLY);
        assert_eq!(parsed.attributes, 15);
        assert_eq!(parsed.data, "mode=0755,size=65536k");
        assert!(options("rbind rprivate rw").unwrap().recursive);
    }

    #[test]
    fn unknown_options_are_named() {
        for option in ["idmap", "lowerdir=/", "context=x"] {
            assert!(options(option).unwrap_err().message.contains(option));
        }
    }
}
