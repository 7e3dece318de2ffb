//! The pod's volumes: disks, tmpfs, files of the node, and trees and files that the shim fills.
//!
//! Pieces of a tree are gathered beside it and become visible with the last one: each file by rename, `..data` last, then
//! what is no longer there goes. A file volume keeps its inode, because containers have it bind-mounted.

use crate::disks::Disks;
use crate::fail::{Failure, Result, Step};
use crate::paths::{check_id, components};
use crate::relay;
use crate::rootfs::EXT4_OPTIONS;
use crate::sys;
use crate::user::UserNamespace;
use freehold_guest_api::limits::MAX_CHUNK;
use freehold_guest_api::message::{AddVolume, Disk, GetFile, Medium, PutEntries, PutEntry};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

/// Volumes of one pod; etcd's limit on the size of a pod comes first.
const MAX_VOLUMES: usize = 1024;

/// Where a volume is mounted with mapped ids, below its own folder.
const SHOWN: &str = "shown";

/// What a volume is made of, as far as later requests care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A mounted file system.
    Mounted,
    /// Filled by the shim.
    Tree,
    /// One file filled by the shim.
    File,
    /// A raw block device.
    Block,
}

/// A volume.
pub struct Volume {
    /// What it is.
    pub sort: Sort,
    /// Its directory, file or device.
    pub root: PathBuf,
    /// The same as containers are to see it: with mapped ids in a pod that has a user namespace.
    pub shown: PathBuf,
    base: PathBuf,
    disk: Option<Disk>,
}

/// All volumes by id.
pub type Volumes = BTreeMap<String, Volume>;

/// Makes a volume.
pub fn add(volumes: &mut Volumes, disks: &mut Disks, add: &AddVolume, user: Option<&UserNamespace>) -> Result<()> {
    check_id("volume", &add.volume)?;
    if volumes.contains_key(&add.volume) || volumes.len() >= MAX_VOLUMES {
        return Err(Failure::with(libc::EEXIST, format!("volume {} exists, or there are {MAX_VOLUMES}", add.volume)));
    }
    let base = Path::new("/run/volumes").join(&add.volume);
    fs::create_dir(&base).step("make the volume's directory")?;
    let disk = match add.medium {
        Some(Medium::Ext4(disk) | Medium::Block(disk)) => Some(disk),
        _ => None,
    };
    let made = disk.map(|disk| disks.attach(disk)).transpose().and_then(|node| make(add, &base, node.as_deref(), user));
    match made {
        Ok((sort, root, shown)) => {
            volumes.insert(add.volume.clone(), Volume { sort, root, shown, base, disk });
            Ok(())
        }
        Err(failure) => {
            for name in [SHOWN, "disk", "root"] {
                let _ = sys::unmount(base.join(name), 0);
                let _ = fs::remove_dir(base.join(name)).or_else(|_| fs::remove_file(base.join(name)));
            }
            let _ = fs::remove_dir(&base);
            if let Some(disk) = disk {
                disks.release(disk);
            }
            Err(failure)
        }
    }
}

fn make(add: &AddVolume, base: &Path, node: Option<&Path>, user: Option<&UserNamespace>) -> Result<(Sort, PathBuf, PathBuf)> {
    let (sort, root) = fill(add, base, node)?;
    let Some(user) = user.filter(|_| sort != Sort::Block && !add.unmapped) else { return Ok((sort, root.clone(), root)) };
    let shown = base.join(SHOWN);
    // Of a volume of files this waits until the kernel and the node have agreed on mapped ids.
    if fs::metadata(&root).step("look at the volume's root")?.is_dir() {
        fs::create_dir(&shown).step("make the place of mapped ids")?;
    } else {
        File::create(&shown).step("make the place of mapped ids")?;
    }
    user.show(&root, &shown)?;
    Ok((sort, root, shown))
}

fn fill(add: &AddVolume, base: &Path, node: Option<&Path>) -> Result<(Sort, PathBuf)> {
    let medium = add.medium.as_ref().ok_or_else(|| Failure::refuse(format!("volume {} has no medium", add.volume)))?;
    let root = base.join("root");
    let (sort, root) = match (medium, node) {
        (Medium::Block(_), Some(node)) => return Ok((Sort::Block, node.to_path_buf())),
        (Medium::Files(files), _) => {
            let target = base.join("disk");
            if files.is_file {
                File::create(&target).step("make the mount point")?;
            } else {
                fs::create_dir(&target).step("make the mount point")?;
            }
            relay::mount(&add.volume, &target, files.is_file)?;
            return Ok((Sort::Mounted, target)); // whose it is says the node
        }
        (Medium::Ext4(_), Some(node)) => {
            let disk = base.join("disk");
            fs::create_dir(&disk).step("make the mount point")?;
            let source = node.to_string_lossy();
            sys::mount(&source, &disk, "ext4", libc::MS_NOSUID | libc::MS_NODEV, EXT4_OPTIONS).step("mount the volume's disk")?;
            // A directory of its own: the root of an ext4 file system has a lost+found, which a volume must not show.
            let root = disk.join("volume");
            fs::create_dir_all(&root).step("make the volume's root")?;
            (Sort::Mounted, root)
        }
        (Medium::Tmpfs(tmpfs), _) => {
            let disk = base.join("disk");
            fs::create_dir(&disk).step("make the mount point")?;
            let size = if tmpfs.size == 0 { "50%".to_owned() } else { tmpfs.size.to_string() };
            sys::mount("tmpfs", &disk, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, &format!("size={size}"))
                .step("mount the volume's tmpfs")?;
            (Sort::Mounted, disk)
        }
        (Medium::File(_), _) => {
            File::create(&root).step("make the volume's file")?;
            (Sort::File, root)
        }
        _ => {
            fs::create_dir(&root).step("make the volume's root")?;
            (Sort::Tree, root)
        }
    };
    own(&root, add.uid, add.gid, add.mode)?;
    Ok((sort, root))
}

fn own(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<()> {
    chown(path, Some(uid), Some(gid)).step(format!("change owner of {}", path.display()))?;
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)).step(format!("change mode of {}", path.display()))
}

/// Unmounts and forgets a volume.
pub fn remove(volumes: &mut Volumes, disks: &mut Disks, id: &str) -> Result<()> {
    let volume = volumes.get_mut(id).ok_or_else(|| unknown(id))?;
    if volume.shown != volume.root {
        sys::unmount(&volume.shown, 0).step(format!("unmount volume {id}"))?;
        volume.shown.clone_from(&volume.root);
    }
    if volume.sort == Sort::Mounted {
        sys::unmount(volume.base.join("disk"), 0).step(format!("unmount volume {id}"))?;
    }
    let Some(volume) = volumes.remove(id) else { return Ok(()) };
    fs::remove_dir_all(&volume.base).step(format!("remove volume {id}"))?;
    if let Some(disk) = volume.disk {
        disks.release(disk);
    }
    Ok(())
}

/// The failure for a volume that is not there.
pub fn unknown(id: &str) -> Failure {
    Failure::with(libc::ENOENT, format!("there is no volume {id:?}"))
}

/// Takes a piece of a tree's or file's content.
pub fn put(volumes: &Volumes, put: &PutEntries) -> Result<()> {
    let volume = volumes.get(&put.volume).ok_or_else(|| unknown(&put.volume))?;
    let stage = volume.base.join("stage");
    match volume.sort {
        Sort::Tree => {
            fs::create_dir_all(&stage).step("make the staging directory")?;
            for entry in &put.entries {
                put_entry(&stage, entry)?;
            }
            if !put.more {
                publish(&stage, &volume.root)?;
                fs::remove_dir_all(&stage).step("remove the staging directory")?;
            }
        }
        Sort::File => {
            let staged = File::options().create(true).truncate(false).write(true).open(&stage).step("open the staged file")?;
            for entry in &put.entries {
                staged.write_all_at(&entry.data, entry.offset).step("write the staged file")?;
                own(&stage, entry.uid, entry.gid, entry.mode)?;
            }
            if !put.more {
                let content = fs::read(&stage).step("read the staged file")?;
                fs::write(&volume.root, content).step("write the volume's file")?;
                if let Some(last) = put.entries.last() {
                    own(&volume.root, last.uid, last.gid, last.mode)?;
                }
                fs::remove_file(&stage).step("remove the staged file")?;
            }
        }
        _ => return Err(Failure::refuse(format!("volume {} is neither a tree nor a file", put.volume))),
    }
    Ok(())
}

fn put_entry(stage: &Path, entry: &PutEntry) -> Result<()> {
    let parts = components(&entry.path)?;
    let mut path = stage.to_path_buf();
    path.extend(parts.iter().map(|part| part.to_string_lossy().into_owned()));
    // The stage holds what the shim sent, links too; no entry may be written through one of them.
    for parent in path.ancestors().skip(1).take_while(|p| p.starts_with(stage)) {
        if fs::symlink_metadata(parent).step(format!("look up {}", parent.display()))?.is_symlink() {
            return Err(Failure::refuse(format!("entry {:?} lies below a link", entry.path)));
        }
    }
    let what = || format!("make entry {:?}", entry.path);
    match entry.mode & libc::S_IFMT {
        libc::S_IFDIR => fs::create_dir_all(&path).step(what())?,
        libc::S_IFLNK => {
            let target = String::from_utf8_lossy(&entry.data).into_owned();
            symlink(target, &path).step(what())?;
            return lchown(&path, Some(entry.uid), Some(entry.gid)).step(what());
        }
        libc::S_IFREG => {
            let file = File::options().create(true).truncate(false).write(true).custom_nofollow().open(&path).step(what())?;
            file.write_all_at(&entry.data, entry.offset).step(what())?;
        }
        other => return Err(Failure::refuse(format!("entry {:?} is of unknown type {other:#o}", entry.path))),
    }
    own(&path, entry.uid, entry.gid, entry.mode)
}

trait NoFollow {
    fn custom_nofollow(&mut self) -> &mut Self;
}
impl NoFollow for fs::OpenOptions {
    fn custom_nofollow(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(libc::O_NOFOLLOW)
    }
}

/// Moves the staged tree over the visible one, `..data` last, then removes what is not in it.
fn publish(stage: &Path, root: &Path) -> Result<()> {
    let names = |dir: &Path| -> Result<Vec<std::ffi::OsString>> {
        let entries = fs::read_dir(dir).step(format!("list {}", dir.display()))?;
        Ok(entries.flatten().map(|entry| entry.file_name()).collect())
    };
    let mut new = names(stage)?;
    new.sort_by_key(|name| name == "..data");
    let old = names(root)?;
    for name in &new {
        let (from, to) = (stage.join(name), root.join(name));
        let is_dir = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
        if is_dir(&from) && is_dir(&to) {
            publish(&from, &to)?;
        } else {
            if is_dir(&to) {
                fs::remove_dir_all(&to).step("replace a directory")?;
            }
            fs::rename(&from, &to).step(format!("show {}", to.display()))?;
        }
    }
    for name in old.iter().filter(|name| !new.contains(name)) {
        let path = root.join(name);
        let gone = if fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        gone.step(format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// Reads a file volume from its start.
pub fn get(volumes: &Volumes, get: &GetFile) -> Result<Vec<u8>> {
    let volume = volumes.get(&get.volume).ok_or_else(|| unknown(&get.volume))?;
    if volume.sort != Sort::File {
        return Err(Failure::refuse(format!("volume {} is not a file", get.volume)));
    }
    let limit = u64::from(get.limit).min(MAX_CHUNK as u64);
    let mut data = Vec::new();
    File::open(&volume.root).step("open the volume's file")?.take(limit).read_to_end(&mut data).step("read the volume's file")?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_tree_replaces_the_old_one() {
        let base = std::env::temp_dir().join(format!("freehold-volumes-{}", std::process::id()));
        let (stage, root) = (base.join("stage"), base.join("root"));
        for (generation, key) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir_all(stage.join(generation)).unwrap();
            fs::create_dir_all(&root).unwrap();
            fs::write(stage.join(generation).join(key), generation).unwrap();
            symlink(generation, stage.join("..data")).unwrap();
            symlink(format!("..data/{key}"), stage.join(key)).unwrap();
            publish(&stage, &root).unwrap();
            fs::remove_dir_all(&stage).unwrap();
            assert_eq!(fs::read_to_string(root.join(key)).unwrap(), generation);
        }
        assert!(!root.join("..1").exists() && fs::symlink_metadata(root.join("a")).is_err());
        fs::remove_dir_all(&base).unwrap();
    }
}
