//! What files are, and changes of it: owner, mode, size, times, extended attributes.
//!
//! The guest's kernel judges who of its processes may do what (`default_permissions`); to the node all of a machine is one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Statx, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::nodes;
use super::serve::Volume;
use super::wire::{Body, Header, MAX_DATA, Reply};

/// Seconds for which the guest may believe what it was told of a file: another pod's changes show that late.
const VALID_SECONDS: u64 = 1;
/// Extended attributes that a guest may have: the others are the node's own, or would give rights on it.
const USER: &[u8] = b"user.";
/// Which attributes are set (fuse.h's FATTR_ bits).
mod set {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const FH: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
/// Mode bits with setuid, setgid and sticky.
pub const MODE: u32 = 0o7777;
/// UTIME_NOW and UTIME_OMIT of utimensat(2).
const NOW: i64 = 0x3fff_ffff;
const OMIT: i64 = 0x3fff_fffe;

/// Adds `struct fuse_attr`.
pub fn attributes(reply: Reply, stat: &Statx) -> Reply {
    let seconds = |time: &rustix::fs::StatxTimestamp| time.tv_sec as u64;
    reply
        .u64(stat.stx_ino)
        .u64(stat.stx_size)
        .u64(stat.stx_blocks)
        .u64(seconds(&stat.stx_atime))
        .u64(seconds(&stat.stx_mtime))
        .u64(seconds(&stat.stx_ctime))
        .u32(stat.stx_atime.tv_nsec)
        .u32(stat.stx_mtime.tv_nsec)
        .u32(stat.stx_ctime.tv_nsec)
        .u32(stat.stx_mode.into())
        .u32(stat.stx_nlink)
        .u32(stat.stx_uid)
        .u32(stat.stx_gid)
        .u32(0) // devices of the node are none of the guest's
        .u32(stat.stx_blksize)
        .u32(0)
}

/// Adds `struct fuse_entry_out`.
pub fn entry(reply: Reply, number: u64, stat: &Statx) -> Reply {
    attributes(reply.u64(number).u64(0).u64(VALID_SECONDS).u64(VALID_SECONDS).u32(0).u32(0), stat)
}

/// A user or group; the highest number means none to the kernel.
pub fn real(id: u32) -> Result<u32, Errno> {
    if id == u32::MAX { Err(Errno::INVAL) } else { Ok(id) }
}

/// Changes owner and group.
pub fn give(fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    rustix::fs::chownat(fd, "", uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::EMPTY_PATH)
}

fn reply_of(fd: impl AsFd) -> Result<Reply, Errno> {
    Ok(attributes(Reply::new().u64(VALID_SECONDS).u64(0), &nodes::stat(fd)?))
}

/// The name by which a held file can be opened, of whatever kind it is: the server's own /proc is in its root.
pub fn of_fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Takes setuid and setgid from a file that is written, as the kernel does for those without rights.
pub fn drop_privileged_bits(fd: impl AsFd) -> Result<(), Errno> {
    let mode = rustix::fs::fstat(&fd)?.st_mode & MODE;
    let without = if mode & 0o010 == 0 { mode & !SETUID } else { mode & !(SETUID | SETGID) };
    if without == mode { Ok(()) } else { rustix::fs::fchmod(fd, Mode::from_raw_mode(without)) }
}

impl Volume {
    /// GETATTR
    pub fn get_attributes(&self, header: &Header) -> Result<Reply, Errno> {
        reply_of(&*self.fd(header.node)?)
    }

    /// SETATTR
    pub fn set_attributes(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (valid, _) = (body.u32()?, body.u32()?);
        let (handle, size, _owner) = (body.u64()?, body.u64()?, body.u64()?);
        let (atime, mtime, _) = (body.u64()?, body.u64()?, body.u64()?);
        let (atime_nsec, mtime_nsec, _) = (body.u32()?, body.u32()?, body.u32()?);
        let (mode, _, uid, gid) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
        let has = |bit| valid & bit != 0;
        let fd = self.fd(header.node)?;
        if has(set::UID | set::GID) {
            let id = |bit, id| if has(bit) { real(id).map(Some) } else { Ok(None) };
            give(&fd, id(set::UID, uid)?, id(set::GID, gid)?)?;
        }
        if has(set::MODE) {
            rustix::fs::chmodat(CWD, of_fd(&fd), Mode::from_raw_mode(mode & MODE), AtFlags::empty())?;
        }
        if has(set::SIZE) {
            let file = if has(set::FH) { self.file(handle)? } else { Arc::new(self.reopen(&fd, OFlags::WRONLY)?.into()) };
            rustix::fs::ftruncate(&*file, size)?;
            if has(set::KILL_SUIDGID) {
                drop_privileged_bits(&*file)?;
            }
        }
        if has(set::ATIME | set::MTIME) {
            let time = |bit, now, seconds: u64, nanos: u32| Timespec {
                tv_sec: seconds as i64,
                tv_nsec: if has(now) {
                    NOW
                } else if has(bit) {
                    nanos.into()
                } else {
                    OMIT
                },
            };
            let times = Timestamps {
                last_access: time(set::ATIME, set::ATIME_NOW, atime, atime_nsec),
                last_modification: time(set::MTIME, set::MTIME_NOW, mtime, mtime_nsec),
            };
            rustix::fs::utimensat(&*fd, "", &times, AtFlags::EMPTY_PATH)?;
        }
        reply_of(&*fd)
    }

    /// STATFS
    pub fn file_system(&self, header: &Header) -> Result<Reply, Errno> {
        let found = rustix::fs::fstatvfs(&*self.fd(header.node)?)?;
        let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let reply = Reply::new().u64(found.f_blocks).u64(found.f_bfree).u64(found.f_bavail).u64(found.f_files).u64(found.f_ffree);
        Ok(reply.u32(clip(found.f_bsize)).u32(clip(found.f_namemax)).u32(clip(found.f_frsize)).padded(80))
    }

    /// SETXATTR
    pub fn set_extended(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (size, flags) = (body.u32()? as usize, body.u32()?);
        let name = user_name(body.text()?)?;
        let value = body.bytes(size)?;
        let path = of_fd(&*self.fd(header.node)?);
        rustix::fs::setxattr(path, name, value, XattrFlags::from_bits_retain(flags))?;
        Ok(Reply::new())
    }

    /// GETXATTR
    pub fn get_extended(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (size, _) = (body.u32()? as usize, body.u32()?);
        let name = user_name(body.text()?)?;
        let mut value = vec![0; MAX_DATA];
        let length = rustix::fs::getxattr(of_fd(&*self.fd(header.node)?), name, value.as_mut_slice())?;
        sized(&value[..length], size)
    }

    /// LISTXATTR
    pub fn list_extended(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (size, _) = (body.u32()? as usize, body.u32()?);
        let mut names = vec![0; MAX_DATA];
        let length = rustix::fs::listxattr(of_fd(&*self.fd(header.node)?), names.as_mut_slice())?;
        let own = names[..length].split_inclusive(|byte| *byte == 0).filter(|name| name.starts_with(USER));
        sized(&own.flatten().copied().collect::<Vec<u8>>(), size)
    }

    /// REMOVEXATTR
    pub fn remove_extended(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let name = user_name(body.text()?)?;
        rustix::fs::removexattr(of_fd(&*self.fd(header.node)?), name)?;
        Ok(Reply::new())
    }
}

fn user_name(name: &[u8]) -> Result<&std::ffi::OsStr, Errno> {
    if name.starts_with(USER) { Ok(std::ffi::OsStr::from_bytes(name)) } else { Err(Errno::OPNOTSUPP) }
}

/// A value, or how long it is if nobody wants it yet.
fn sized(value: &[u8], size: usize) -> Result<Reply, Errno> {
    match size {
        0 => Ok(Reply::new().u32(value.len() as u32).u32(0)),
        _ if value.len() > size => Err(Errno::RANGE),
        _ => Ok(Reply::new().bytes(value)),
    }
}
