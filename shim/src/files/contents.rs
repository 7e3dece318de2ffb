//! What files and folders hold: opened, read, written, listed.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::attributes::{self, drop_privileged_bits, of_fd};
use super::nodes;
use super::serve::Volume;
use super::wire::{Body, Header, MAX_DATA, OUT_HEADER, Reply, op};

/// Flags of an open(2) in the guest that mean something on the node; the guest's kernel has done with the others.
const KNOWN: OFlags = OFlags::RDONLY
    .union(OFlags::WRONLY)
    .union(OFlags::RDWR)
    .union(OFlags::APPEND)
    .union(OFlags::EXCL)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC);
/// Bits of fuse.h.
const OPEN_KILL_SUIDGID: u32 = 1;
const WRITE_KILL_SUIDGID: u32 = 1 << 2;
const FSYNC_DATA_ONLY: u32 = 1;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
/// Bytes of `struct fuse_entry_out` and of `struct fuse_dirent` without the name.
const ENTRY: usize = 128;
const DIRENT: usize = 24;

/// The flags with which a guest's file is opened here. A pipe that another pod has put there does not make this wait.
pub fn opening(flags: u32) -> OFlags {
    OFlags::from_bits_retain(flags) & KNOWN | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

impl Volume {
    /// Opens a held file for its content.
    pub fn reopen(&self, fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let kind = FileType::from_raw_mode(nodes::stat(fd)?.stx_mode.into());
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(Errno::ACCESS); // a device or pipe of the node
        }
        rustix::fs::openat(CWD, of_fd(fd), opening(flags.bits()) - OFlags::EXCL, Mode::empty())
    }

    /// OPEN and OPENDIR
    pub fn open(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (flags, open_flags) = (body.u32()?, body.u32()?);
        let fd = self.fd(header.node)?;
        let flags = if header.op == op::OPENDIR { OFlags::RDONLY } else { OFlags::from_bits_retain(flags) };
        let file = self.reopen(&fd, flags)?;
        if open_flags & OPEN_KILL_SUIDGID != 0 {
            drop_privileged_bits(&file)?;
        }
        Ok(Reply::new().u64(self.keep(header.node, file)?).u32(0).u32(0))
    }

    /// RELEASE and RELEASEDIR
    pub fn release(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (handle, _flags, release_flags, owner) = (body.u64()?, body.u32()?, body.u32()?, body.u64()?);
        if let Some(node) = self.handles().forget(handle) {
            self.nodes().opened(node, false);
        }
        self.end_flock(header, release_flags, owner);
        Ok(Reply::new())
    }

    /// READ
    pub fn read(&self, mut body: Body) -> Result<Reply, Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
        let file = self.file(handle)?;
        let mut reply = Reply::new().padded(size.min(MAX_DATA));
        let length = file.read_at(&mut reply.0[OUT_HEADER..], offset).map_err(errno)?;
        reply.0.truncate(OUT_HEADER + length);
        Ok(reply)
    }

    /// WRITE
    pub fn write(&self, mut body: Body) -> Result<Reply, Errno> {
        let (handle, offset, size, write_flags) = (body.u64()?, body.u64()?, body.u32()? as usize, body.u32()?);
        let (_owner, _flags, _) = (body.u64()?, body.u32()?, body.u32()?);
        let (file, data) = (self.file(handle)?, body.bytes(size)?);
        if write_flags & WRITE_KILL_SUIDGID != 0 {
            drop_privileged_bits(&*file)?;
        }
        let length = file.write_at(data, offset).map_err(errno)?;
        Ok(Reply::new().u32(length as u32).u32(0))
    }

    /// FSYNC and FSYNCDIR
    pub fn sync(&self, mut body: Body) -> Result<Reply, Errno> {
        let (handle, flags) = (body.u64()?, body.u32()?);
        let file = self.file(handle)?;
        if flags & FSYNC_DATA_ONLY != 0 {
            rustix::fs::fdatasync(&*file)?
        } else {
            rustix::fs::fsync(&*file)?
        }
        Ok(Reply::new())
    }

    /// FALLOCATE
    pub fn allocate(&self, mut body: Body) -> Result<Reply, Errno> {
        let (handle, offset, length, mode) = (body.u64()?, body.u64()?, body.u64()?, body.u32()?);
        rustix::fs::fallocate(&*self.file(handle)?, FallocateFlags::from_bits_retain(mode), offset, length)?;
        Ok(Reply::new())
    }

    /// LSEEK: where data or a hole begins.
    pub fn seek(&self, mut body: Body) -> Result<Reply, Errno> {
        let (handle, offset, whence) = (body.u64()?, body.u64()?, body.u32()?);
        let from = match whence {
            SEEK_DATA => SeekFrom::Data(offset),
            SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        Ok(Reply::new().u64(rustix::fs::seek(&*self.file(handle)?, from)?))
    }

    /// COPY_FILE_RANGE
    pub fn copy(&self, mut body: Body) -> Result<Reply, Errno> {
        let (from, mut from_at, _node) = (body.u64()?, body.u64()?, body.u64()?);
        let (to, mut to_at, length) = (body.u64()?, body.u64()?, body.u64()?);
        let (from, to) = (self.file(from)?, self.file(to)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        let copied = rustix::fs::copy_file_range(&*from, Some(&mut from_at), &*to, Some(&mut to_at), length)?;
        Ok(Reply::new().u32(copied as u32).u32(0))
    }

    /// READDIR and READDIRPLUS
    pub fn list(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (handle, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
        let (size, plus) = (size.min(MAX_DATA), header.op == op::READDIRPLUS);
        let (folder, above) = (self.file(handle)?, self.fd(header.node)?);
        let _one_at_a_time = self.listing.lock().map_err(|_| Errno::IO)?;
        rustix::fs::seek(&*folder, SeekFrom::Start(offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); size];
        let mut entries = RawDir::new(&*folder, &mut buffer);
        let mut reply = Reply::new();
        while let Some(found) = entries.next() {
            let found = found?;
            let name = found.file_name().to_bytes();
            let length = DIRENT + name.len().next_multiple_of(8) + if plus { ENTRY } else { 0 };
            if reply.len() + length > size {
                break;
            }
            if plus {
                reply = self.with_entry(reply, header.node, &above, name);
            }
            let kind = found.file_type().as_raw_mode() >> 12;
            reply = reply.u64(found.ino()).u64(found.next_entry_cookie()).u32(name.len() as u32).u32(kind);
            let end = reply.len() + name.len().next_multiple_of(8);
            reply = reply.bytes(name).padded(end);
        }
        Ok(reply)
    }

    /// Adds what a name leads to; nothing for the folder itself and the one above, and for what is gone meanwhile.
    fn with_entry(&self, reply: Reply, parent: u64, folder: &Arc<OwnedFd>, name: &[u8]) -> Reply {
        let end = reply.len() + ENTRY;
        let told = || -> Result<(u64, rustix::fs::Statx), Errno> {
            if matches!(name, b"." | b"..") {
                return Err(Errno::NOENT);
            }
            let fd = nodes::open_place(&**folder, name)?;
            let stat = nodes::stat(&fd)?;
            Ok((self.nodes().tell(parent, name, fd, &stat)?, stat))
        };
        match told() {
            Ok((number, stat)) => attributes::entry(reply, number, &stat),
            Err(_) => reply.padded(end),
        }
    }

    /// The open file of a handle.
    pub fn file(&self, handle: u64) -> Result<Arc<File>, Errno> {
        self.handles().get(handle)
    }

    /// Keeps an open file for the guest.
    pub fn keep(&self, node: u64, file: OwnedFd) -> Result<u64, Errno> {
        let handle = self.handles().keep(node, File::from(file))?;
        self.nodes().opened(node, true);
        Ok(handle)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
