//! FUSE's messages as Linux's `include/uapi/linux/fuse.h` (7.41, Linux 6.12) lays them out: pure reading and writing of bytes.
//!
//! What is read comes from a guest and is hostile: every number is checked where it is used, a short body is EINVAL.

pub use freehold_guest_api::limits::MAX_FILE_DATA as MAX_DATA;
use freehold_guest_api::limits::MAX_FILE_REQUEST as MAX_REQUEST;
use rustix::io::Errno;

/// Bytes of a request's header.
pub const IN_HEADER: usize = 40;
/// Bytes of a reply's header.
pub const OUT_HEADER: usize = 16;
/// Longest name of a file (NAME_MAX).
const MAX_NAME: usize = 255;

/// What is asked.
pub mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const GETLK: u32 = 31;
    pub const SETLK: u32 = 32;
    pub const SETLKW: u32 = 33;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
}

/// A request's header.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    /// Bytes in all.
    pub length: usize,
    /// One of [`op`].
    pub op: u32,
    /// Number of the request.
    pub unique: u64,
    /// Which file.
    pub node: u64,
    /// Who asks, as the guest says.
    pub uid: u32,
    /// Who asks, as the guest says.
    pub gid: u32,
}

impl Header {
    /// Reads a header; `None` if its length can't be.
    pub fn read(bytes: &[u8; IN_HEADER]) -> Option<Header> {
        let mut body = Body(bytes);
        let (length, op) = (body.u32().ok()? as usize, body.u32().ok()?);
        let (unique, node) = (body.u64().ok()?, body.u64().ok()?);
        let (uid, gid) = (body.u32().ok()?, body.u32().ok()?);
        (IN_HEADER..=MAX_REQUEST).contains(&length).then_some(Header { length, op, unique, node, uid, gid })
    }
}

/// What is left of a request's body.
#[derive(Debug, Clone, Copy)]
pub struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (found, rest) = self.0.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(found)
    }
    /// The next number.
    pub fn u32(&mut self) -> Result<u32, Errno> {
        Ok(u32::from_ne_bytes(self.take(4)?.try_into().map_err(|_| Errno::INVAL)?))
    }
    /// The next number.
    pub fn u64(&mut self) -> Result<u64, Errno> {
        Ok(u64::from_ne_bytes(self.take(8)?.try_into().map_err(|_| Errno::INVAL)?))
    }
    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        self.take(length)
    }
    /// The next text, without its NUL.
    pub fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let text = self.take(end)?;
        self.take(1)?;
        Ok(text)
    }
    /// The next text, if it can be the name of a file in a folder.
    pub fn name(&mut self) -> Result<&'a [u8], Errno> {
        let name = self.text()?;
        if name.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let plain = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/');
        if plain { Ok(name) } else { Err(Errno::INVAL) }
    }
}

/// A reply, begun with room for its header.
#[derive(Debug)]
pub struct Reply(pub Vec<u8>);

impl Reply {
    /// An empty one.
    pub fn new() -> Reply {
        Reply(vec![0; OUT_HEADER])
    }
    /// Adds a number.
    pub fn u16(mut self, value: u16) -> Reply {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    /// Adds a number.
    pub fn u32(mut self, value: u32) -> Reply {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    /// Adds a number.
    pub fn u64(mut self, value: u64) -> Reply {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Reply {
        self.0.extend_from_slice(bytes);
        self
    }
    /// Adds zeros up to so many bytes after the header.
    pub fn padded(mut self, length: usize) -> Reply {
        self.0.resize(OUT_HEADER + length, 0);
        self
    }
    /// Bytes after the header.
    pub fn len(&self) -> usize {
        self.0.len() - OUT_HEADER
    }
    /// As it is sent.
    pub fn finish(mut self, unique: u64, error: i32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[4..8].copy_from_slice(&(-error).to_ne_bytes());
        self.0[8..16].copy_from_slice(&unique.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_names_are_refused() {
        for (bytes, expect) in [
            (&b"a\0"[..], Ok(&b"a"[..])),
            (b"..a\0", Ok(b"..a")),
            (b"\0", Err(Errno::INVAL)),
            (b".\0", Err(Errno::INVAL)),
            (b"..\0", Err(Errno::INVAL)),
            (b"a/b\0", Err(Errno::INVAL)),
            (b"endless", Err(Errno::INVAL)),
            (&[[b'x'; 256].as_slice(), b"\0"].concat(), Err(Errno::NAMETOOLONG)),
        ] {
            assert_eq!(Body(bytes).name(), expect);
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let header = |length: u32| {
            let mut bytes = [0; IN_HEADER];
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            Header::read(&bytes)
        };
        assert!(header(IN_HEADER as u32).is_some() && header(MAX_REQUEST as u32).is_some());
        assert!(header(IN_HEADER as u32 - 1).is_none() && header(MAX_REQUEST as u32 + 1).is_none() && header(u32::MAX).is_none());
        assert!(Body(&[1, 2, 3]).u32().is_err() && Body(&[0; 7]).u64().is_err());
    }

    #[test]
    fn a_reply_says_its_length_error_and_number() {
        let bytes = Reply::new().u32(7).padded(8).finish(9, 2);
        assert_eq!(bytes, [&24u32.to_ne_bytes()[..], &(-2i32).to_ne_bytes(), &9u64.to_ne_bytes(), &7u64.to_ne_bytes()].concat());
    }
}
