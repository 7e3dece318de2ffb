//! A container's root file system: erofs layers under an ext4 disk, joined by overlayfs.
//!
//! It is mounted in the agent's own mount namespace below `/run/containers/<id>`; the container's init gets a copy of the
//! namespace and makes everything else in that copy (see [`crate::mounts`]).

use crate::disks::Disks;
use crate::fail::{Failure, Result, Step};
use crate::sys;
use crate::user::{self, UserNamespace};
use freehold_guest_api::message::{Disk, Rootfs};
use std::fs;
use std::path::{Path, PathBuf};

/// Layers of one image: containerd and overlayfs (500) allow more, an image of Docker's format has at most 127.
const MAX_LAYERS: usize = 127;

/// Writable disks are sparse files of the host, whose blocks count as the pod's storage: the kernel must not fill the inode
/// tables of a fresh one in the background (256 MiB of 16 GiB), and gives back what is deleted.
pub const EXT4_OPTIONS: &str = "noinit_itable,discard";

/// A mounted root file system.
pub struct Root {
    base: PathBuf,
    mounts: Vec<PathBuf>,
    disks: Vec<Disk>,
}

impl Root {
    /// Mounts it; what was done is undone if a step fails.
    pub fn mount(container: &str, rootfs: &Rootfs, disks: &mut Disks, user: Option<&UserNamespace>) -> Result<Root> {
        let count = rootfs.layers.len();
        if count == 0 || count > MAX_LAYERS {
            return Err(Failure::refuse(format!("{count} layers, must be 1 to {MAX_LAYERS}")));
        }
        let base = Path::new("/run/containers").join(container);
        fs::create_dir(&base).step(format!("make {}", base.display()))?;
        let mut root = Root { base, mounts: Vec::new(), disks: Vec::new() };
        match root.mount_all(rootfs, disks, user) {
            Ok(()) => Ok(root),
            Err(failure) => {
                root.unmount(disks);
                Err(failure)
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.base.join("root")
    }

    fn mount_all(&mut self, rootfs: &Rootfs, disks: &mut Disks, user: Option<&UserNamespace>) -> Result<()> {
        // Root of a user namespace makes no node of a device. One that an image brings is none either.
        let nodev = if user.is_some() { libc::MS_NODEV } else { 0 };
        let mut lower = Vec::new();
        for (number, disk) in rootfs.layers.iter().enumerate() {
            lower.push(number.to_string());
            self.mount_disk(*disk, &number.to_string(), "erofs", libc::MS_RDONLY | nodev, disks)?;
            if let Some(user) = user {
                user.map(&self.base.join(number.to_string()))?;
            }
        }
        let root = self.path();
        fs::create_dir(&root).step("make the root's mount point")?;
        let changes = match rootfs.writable {
            Some(disk) => {
                self.mount_disk(disk, "changes", "ext4", 0, disks)?;
                for dir in ["upper", "work"] {
                    fs::create_dir_all(self.base.join("changes").join(dir)).step(format!("make {dir} on the writable disk"))?;
                }
                let owner = Some(user::root(user));
                std::os::unix::fs::chown(self.base.join("changes/upper"), owner, owner).step("own the writable disk")?;
                ",upperdir=changes/upper,workdir=changes/work"
            }
            None => "",
        };
        // Names relative to the working directory: the options have to fit in one page.
        std::env::set_current_dir(&self.base).step("enter the container's directory")?;
        let mounted = if lower.len() == 1 && changes.is_empty() {
            sys::mount("0", &root, "", libc::MS_BIND, "")
        } else {
            sys::mount("overlay", &root, "overlay", nodev, &format!("lowerdir={}{changes}", lower.join(":")))
        };
        std::env::set_current_dir("/").step("enter /")?;
        mounted.step("mount the overlay of the container's layers")?;
        self.mounts.push(root);
        Ok(())
    }

    fn mount_disk(&mut self, disk: Disk, name: &str, fs_type: &str, flags: u64, disks: &mut Disks) -> Result<()> {
        let target = self.base.join(name);
        let node = disks.attach(disk)?;
        self.disks.push(disk);
        fs::create_dir(&target).step(format!("make {}", target.display()))?;
        let data = if fs_type == "ext4" { EXT4_OPTIONS } else { "" };
        sys::mount(&node.to_string_lossy(), &target, fs_type, flags | libc::MS_NODEV, data)
            .step(format!("mount disk {}:{} as {fs_type}", disk.target, disk.lun))?;
        self.mounts.push(target);
        Ok(())
    }

    /// Unmounts everything and lets the disks go.
    pub fn unmount(&mut self, disks: &mut Disks) {
        while let Some(target) = self.mounts.pop() {
            // Busy only if a process in uninterruptible sleep survived its cgroup; then the mount goes with it.
            let _ = sys::unmount(&target, 0).or_else(|_| sys::unmount(&target, libc::MNT_DETACH));
        }
        for disk in self.disks.drain(..) {
            disks.release(disk);
        }
        // All that is left are empty mount points on the agent's tmpfs. Never remove_dir_all: something may be mounted.
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.base);
    }
}
