//! Names in folders: looked up, made, moved, removed.
//!
//! A new file is made by user 0 and then given to who the guest says asked, with the mode last: a change of owner takes
//! setuid away.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::attributes::{self, MODE, of_fd};
use super::nodes;
use super::serve::Volume;
use super::wire::{Body, Header, Reply, op};

/// Setgid of a folder: what is made in it gets its group.
const SETGID: u32 = 0o2000;
/// Bits by which a change of owner loses something.
const SPECIAL: u32 = 0o6000;
/// Longest target of a link (PATH_MAX).
const MAX_TARGET: usize = 4096;
const RENAME_KNOWN: RenameFlags = RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE);

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Only permission bits: what kind of file it is says the call.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & MODE & !SPECIAL)
}

impl Volume {
    /// LOOKUP
    pub fn look_up(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (parent, name) = (self.fd(header.node)?, body.name()?);
        self.told(header.node, name, nodes::open_place(&*parent, name)?)
    }

    /// Tells the guest of a file.
    fn told(&self, parent: u64, name: &[u8], fd: OwnedFd) -> Result<Reply, Errno> {
        let stat = nodes::stat(&fd)?;
        let number = self.nodes().tell(parent, name, fd, &stat)?;
        Ok(attributes::entry(Reply::new(), number, &stat))
    }

    /// Gives a file that was just made to who asked for it.
    fn give(&self, header: &Header, parent: impl AsFd, fd: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let inherits = u32::from(nodes::stat(parent)?.stx_mode) & SETGID != 0;
        let (user, group) = (attributes::real(header.uid)?, attributes::real(header.gid)?);
        attributes::give(fd, Some(user), (!inherits).then_some(group))?;
        let stat = nodes::stat(fd)?;
        let folder = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
        let wanted = mode & MODE | if inherits && folder { SETGID } else { 0 };
        if wanted & SPECIAL != 0 {
            rustix::fs::chmodat(CWD, of_fd(fd), Mode::from_raw_mode(wanted), AtFlags::empty())?;
        }
        Ok(())
    }

    fn made(&self, header: &Header, parent: &Arc<OwnedFd>, name: &[u8], mode: u32) -> Result<Reply, Errno> {
        let fd = nodes::open_place(&**parent, name)?;
        self.give(header, &**parent, &fd, mode)?;
        self.told(header.node, name, fd)
    }

    /// MKDIR
    pub fn make_folder(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (mode, _umask) = (body.u32()?, body.u32()?);
        let (parent, name) = (self.fd(header.node)?, body.name()?);
        rustix::fs::mkdirat(&*parent, os(name), permissions(mode))?;
        self.made(header, &parent, name, mode)
    }

    /// MKNOD: files, pipes and sockets. A device of the node is nothing that a guest may name.
    pub fn make_node(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (mode, _device, _umask, _) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let (parent, name) = (self.fd(header.node)?, body.name()?);
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket) {
            return Err(Errno::PERM);
        }
        rustix::fs::mknodat(&*parent, os(name), kind, permissions(mode), 0)?;
        self.made(header, &parent, name, mode)
    }

    /// SYMLINK
    pub fn make_link(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (name, target) = (body.name()?, body.text()?);
        if target.len() >= MAX_TARGET {
            return Err(Errno::NAMETOOLONG);
        }
        let parent = self.fd(header.node)?;
        rustix::fs::symlinkat(os(target), &*parent, os(name))?;
        self.made(header, &parent, name, 0)
    }

    /// READLINK
    pub fn read_link(&self, header: &Header) -> Result<Reply, Errno> {
        let target = rustix::fs::readlinkat(&*self.fd(header.node)?, "", Vec::with_capacity(MAX_TARGET))?;
        Ok(Reply::new().bytes(target.as_bytes()))
    }

    /// LINK: one more name of a file.
    pub fn link(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (old, name) = (body.u64()?, body.name()?);
        let (file, parent) = (self.fd(old)?, self.fd(header.node)?);
        rustix::fs::linkat(CWD, of_fd(&file), &*parent, os(name), AtFlags::SYMLINK_FOLLOW)?;
        self.told(header.node, name, nodes::open_place(&*parent, name)?)
    }

    /// UNLINK and RMDIR
    pub fn remove(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let flags = if header.op == op::RMDIR { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&*self.fd(header.node)?, os(body.name()?), flags)?;
        Ok(Reply::new())
    }

    /// RENAME and RENAME2
    pub fn rename(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let target = body.u64()?;
        let flags = if header.op == op::RENAME2 { (body.u32()?, body.u32()?).0 } else { 0 };
        let flags = RenameFlags::from_bits_retain(flags);
        let (old, new) = (body.name()?, body.name()?);
        if !RENAME_KNOWN.contains(flags) {
            return Err(Errno::INVAL);
        }
        let (from, to) = (self.fd(header.node)?, self.fd(target)?);
        rustix::fs::renameat_with(&*from, os(old), &*to, os(new), flags)?;
        for (number, parent, name) in [(target, &to, new), (header.node, &from, old)] {
            // The second is there only if they changed places.
            if let Ok(stat) = nodes::open_place(&**parent, name).and_then(nodes::stat) {
                self.nodes().moved(number, name, &stat);
            }
        }
        Ok(Reply::new())
    }

    /// CREATE: a new file, open. One that another pod has made meanwhile is opened as it is.
    pub fn create(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (flags, mode, _umask, _) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let (parent, name) = (self.fd(header.node)?, body.name()?);
        let empties = OFlags::from_bits_retain(flags).contains(OFlags::TRUNC);
        let flags = super::contents::opening(flags);
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let open = |more, mode| rustix::fs::openat2(&*parent, os(name), flags | OFlags::NOFOLLOW | more, mode, how);
        let (file, new) = match open(OFlags::CREATE | OFlags::EXCL, permissions(mode)) {
            Ok(file) => (file, true),
            Err(Errno::EXIST) if !flags.contains(OFlags::EXCL) => (open(OFlags::empty(), Mode::empty())?, false),
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        let place = nodes::open_place(&*parent, name)?;
        if new {
            self.give(header, &*parent, &place, mode)?;
        } else if empties {
            rustix::fs::ftruncate(&file, 0)?;
        }
        let stat = nodes::stat(&place)?;
        let number = self.nodes().tell(header.node, name, place, &stat)?;
        let handle = match self.keep(number, file) {
            Ok(handle) => handle,
            Err(error) => {
                self.nodes().forget(number, 1); // it is not told after all
                return Err(error);
            }
        };
        Ok(attributes::entry(Reply::new(), number, &stat).u64(handle).u32(0).u32(0))
    }
}
