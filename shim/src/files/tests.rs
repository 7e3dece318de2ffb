//! A guest's requests about a real folder, message by message, as its kernel would send them, and as no kernel would.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::serve::Volume;
use super::wire::{Header, IN_HEADER, OUT_HEADER, Reply, op};

struct Guest {
    folder: PathBuf,
    volume: Volume,
}

/// A user other than the test's needs rights that a test may not have.
fn asker() -> (u32, u32) {
    if rustix::process::geteuid().is_root() {
        return (4711, 4712);
    }
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

impl Guest {
    fn new(name: &str) -> Guest {
        let folder = std::env::temp_dir().join(format!("freehold-files-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let root = rustix::fs::open(&folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Guest { folder, volume: Volume::new(root, 256).unwrap() }
    }

    fn ask(&self, op: u32, node: u64, body: Reply) -> Result<Vec<u8>, Errno> {
        let body = &body.0[OUT_HEADER..];
        let (uid, gid) = asker();
        let header = Header { length: IN_HEADER + body.len(), op, unique: 5, node, uid, gid };
        let reply = self.volume.answer(&header, body).unwrap();
        assert_eq!(reply.len(), u32::from_ne_bytes(reply[..4].try_into().unwrap()) as usize);
        match i32::from_ne_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(reply[OUT_HEADER..].to_vec()),
            error => Err(Errno::from_raw_os_error(-error)),
        }
    }

    fn look_up(&self, parent: u64, name: &str) -> Result<u64, Errno> {
        self.ask(op::LOOKUP, parent, named(name)).map(|entry| number(&entry, 0))
    }

    fn open(&self, node: u64, flags: OFlags) -> Result<u64, Errno> {
        self.ask(op::OPEN, node, Reply::new().u32(flags.bits()).u32(0)).map(|open| number(&open, 0))
    }

    fn create(&self, name: &str, mode: u32) -> (u64, u64) {
        let body = Reply::new().u32(OFlags::RDWR.bits()).u32(mode).u32(0).u32(0).bytes(name.as_bytes()).bytes(&[0]);
        let entry = self.ask(op::CREATE, 1, body).unwrap();
        (number(&entry, 0), number(&entry, 128))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn named(name: &str) -> Reply {
    Reply::new().bytes(name.as_bytes()).bytes(&[0])
}
fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}
fn io(handle: u64, offset: u64, size: u32) -> Reply {
    Reply::new().u64(handle).u64(offset).u32(size).u32(0).u64(0).u32(0).u32(0)
}

#[test]
fn a_file_is_made_written_read_moved_and_removed() {
    let guest = Guest::new("life");
    let (node, handle) = guest.create("a", 0o4750);
    let written = guest.ask(op::WRITE, node, io(handle, 3, 5).bytes(b"hello")).unwrap();
    assert_eq!(written[..4], 5u32.to_ne_bytes());
    assert_eq!(guest.ask(op::READ, node, io(handle, 0, 100)).unwrap(), b"\0\0\0hello");
    assert!(guest.ask(op::FSYNC, node, Reply::new().u64(handle).u32(1).u32(0)).is_ok());
    let found = std::fs::metadata(guest.folder.join("a")).unwrap();
    assert_eq!((found.uid(), found.gid()), asker());
    assert_eq!(found.permissions().mode() & 0o7777, 0o4750);
    assert!(guest.ask(op::RENAME, 1, Reply::new().u64(1).bytes(b"a\0b\0")).is_ok());
    assert_eq!(guest.look_up(1, "a"), Err(Errno::NOENT));
    assert_eq!(guest.look_up(1, "b"), Ok(node));
    assert!(guest.ask(op::UNLINK, 1, named("b")).is_ok());
    // Removed, but open: its content is there until it is closed.
    assert_eq!(guest.ask(op::READ, node, io(handle, 3, 2)).unwrap(), b"he");
    assert!(guest.ask(op::RELEASE, node, Reply::new().u64(handle).padded(24)).is_ok());
    assert_eq!(guest.ask(op::READ, node, io(handle, 3, 2)), Err(Errno::BADF));
}

#[test]
fn a_folder_is_listed_with_and_without_attributes() {
    let guest = Guest::new("list");
    for n in 0..100 {
        std::fs::write(guest.folder.join(format!("file-{n}")), "x").unwrap();
    }
    for (op, header) in [(op::READDIR, 0), (op::READDIRPLUS, 128)] {
        let handle = number(&guest.ask(op::OPENDIR, 1, Reply::new().u32(0).u32(0)).unwrap(), 0);
        let (mut names, mut offset) = (std::collections::BTreeSet::new(), 0);
        loop {
            let page = guest.ask(op, 1, io(handle, offset, 2048)).unwrap();
            let mut rest = page.as_slice();
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let length = u32::from_ne_bytes(rest[header + 16..header + 20].try_into().unwrap()) as usize;
                let name = String::from_utf8(rest[header + 24..header + 24 + length].to_vec()).unwrap();
                assert_eq!(header != 0 && !name.starts_with('.'), header != 0 && number(rest, 0) > 1, "{name}");
                offset = number(rest, header + 8);
                names.insert(name);
                rest = &rest[header + 24 + length.next_multiple_of(8)..];
            }
        }
        assert_eq!(names.len(), 102, "{names:?}");
    }
}

#[test]
fn a_folder_with_setgid_hands_its_group_on() {
    let guest = Guest::new("setgid");
    let gid = std::fs::metadata(&guest.folder).unwrap().gid();
    std::fs::set_permissions(&guest.folder, PermissionsExt::from_mode(0o2775)).unwrap();
    guest.create("file", 0o644);
    guest.ask(op::MKDIR, 1, Reply::new().u32(0o755).u32(0).bytes(b"folder\0")).unwrap();
    for (name, mode) in [("file", 0o644), ("folder", 0o2755)] {
        let found = std::fs::metadata(guest.folder.join(name)).unwrap();
        assert_eq!((found.gid(), found.permissions().mode() & 0o7777), (gid, mode), "{name}");
    }
}

#[test]
fn attributes_are_set() {
    let guest = Guest::new("set");
    let (node, handle) = guest.create("a", 0o4755);
    let set = |valid: u32, size: u64, mtime: u64, mode: u32| {
        let body = Reply::new().u32(valid).u32(0).u64(handle).u64(size).u64(0).u64(0).u64(mtime).u64(0);
        guest.ask(op::SETATTR, node, body.u32(0).u32(0).u32(0).u32(mode).u32(0).u32(0).u32(0).u32(0))
    };
    let found = || std::fs::metadata(guest.folder.join("a")).unwrap();
    set(1 << 3 | 1 << 11, 4096, 0, 0).unwrap(); // size, and setuid goes
    assert_eq!((found().len(), found().permissions().mode() & 0o7777), (4096, 0o755));
    set(1 << 5, 0, 1_000_000_000, 0).unwrap();
    assert_eq!(found().mtime(), 1_000_000_000);
    set(1, 0, 0, 0o640).unwrap();
    assert_eq!(found().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn what_leads_out_of_the_volume_is_not_followed() {
    let guest = Guest::new("out");
    std::os::unix::fs::symlink("/etc", guest.folder.join("link")).unwrap();
    let link = guest.look_up(1, "link").unwrap();
    assert_eq!(guest.ask(op::READLINK, link, Reply::new()).unwrap(), b"/etc");
    assert_eq!(guest.look_up(link, "passwd"), Err(Errno::NOTDIR));
    assert_eq!(guest.open(link, OFlags::RDONLY), Err(Errno::ACCESS));
    for name in ["..", ".", "", "link/passwd", "/etc/passwd"] {
        assert_eq!(guest.look_up(1, name), Err(Errno::INVAL), "{name}");
    }
    let body = Reply::new().u32(OFlags::RDWR.bits()).u32(0o644).u32(0).u32(0).bytes(b"link\0");
    assert!(guest.ask(op::CREATE, 1, body).is_err());
}

#[test]
fn devices_are_neither_made_nor_opened_and_pipes_not_waited_for() {
    let guest = Guest::new("device");
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        let body = Reply::new().u32(kind | 0o666).u32(0x103).u32(0).u32(0).bytes(b"null\0");
        assert_eq!(guest.ask(op::MKNOD, 1, body), Err(Errno::PERM));
    }
    let body = Reply::new().u32(libc::S_IFIFO | 0o600).u32(0).u32(0).u32(0).bytes(b"pipe\0");
    guest.ask(op::MKNOD, 1, body).unwrap();
    assert!(std::fs::metadata(guest.folder.join("pipe")).unwrap().file_type().is_fifo());
    let pipe = guest.look_up(1, "pipe").unwrap();
    assert_eq!(guest.open(pipe, OFlags::RDONLY), Err(Errno::ACCESS));
    let body = Reply::new().u32(OFlags::RDWR.bits()).u32(0o644).u32(0).u32(0).bytes(b"pipe\0");
    assert_eq!(guest.ask(op::CREATE, 1, body), Err(Errno::ACCESS));
}

#[test]
fn only_attributes_of_users_are_handed_on() {
    let guest = Guest::new("xattr");
    let (node, _) = guest.create("a", 0o644);
    let set =
        |name: &str| guest.ask(op::SETXATTR, node, Reply::new().u32(1).u32(0).bytes(name.as_bytes()).bytes(&[0]).bytes(b"v"));
    for name in ["trusted.overlay.opaque", "security.capability", "system.posix_acl_access"] {
        assert_eq!(set(name), Err(Errno::OPNOTSUPP), "{name}");
    }
    if rustix::fs::setxattr(guest.folder.join("a"), "user.test", b"", rustix::fs::XattrFlags::empty()).is_err() {
        return; // this machine's temporary folder has none
    }
    set("user.a").unwrap();
    let value = guest.ask(op::GETXATTR, node, Reply::new().u32(8).u32(0).bytes(b"user.a\0")).unwrap();
    assert_eq!(value, b"v");
    let names = guest.ask(op::LISTXATTR, node, Reply::new().u32(100).u32(0)).unwrap();
    assert!(String::from_utf8_lossy(&names).contains("user.a\0"));
    guest.ask(op::REMOVEXATTR, node, named("user.a")).unwrap();
}

#[test]
fn open_files_are_bounded() {
    let guest = Guest::new("many");
    let (node, _) = guest.create("a", 0o644);
    let end = (0..256).find_map(|_| guest.open(node, OFlags::RDONLY).err());
    assert_eq!(end, Some(Errno::NFILE));
    assert!(rustix::fs::openat(CWD, guest.folder.join("a"), OFlags::RDONLY, Mode::empty()).is_ok(), "the process has some left");
}

#[test]
fn bytes_of_any_kind_are_answered() {
    let guest = Guest::new("noise");
    for op in 0..64u32 {
        for length in [0usize, 1, 8, 40, 200] {
            for fill in [0u8, 0x41, 0xff] {
                let header = Header { length: IN_HEADER + length, op, unique: 1, node: 1, uid: 0, gid: 0 };
                if let Some(reply) = guest.volume.answer(&header, &vec![fill; length]) {
                    assert!(reply.len() >= OUT_HEADER, "{op}");
                }
            }
        }
    }
}

/// A lock of an owner: 1 to write, 2 to let go (F_WRLCK, F_UNLCK).
fn lock(guest: &Guest, op: u32, unique: u64, node: u64, owner: u64, kind: u32, flags: u32) -> Option<i32> {
    let body = Reply::new().u64(0).u64(owner).u64(0).u64(7).u32(kind).u32(0).u32(flags).u32(0);
    let header = Header { length: IN_HEADER + 48, op, unique, node, uid: 0, gid: 0 };
    let reply = guest.volume.answer(&header, &body.0[OUT_HEADER..])?;
    Some(i32::from_ne_bytes(reply[4..8].try_into().unwrap()))
}

#[test]
fn owners_respect_each_others_locks_also_those_of_other_servers() {
    let guest = Guest::new("lock");
    let (node, _) = guest.create("a", 0o644);
    let root = rustix::fs::open(&guest.folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let other = Guest { folder: guest.folder.join("none"), volume: Volume::new(root, 256).unwrap() };
    let there = other.look_up(1, "a").unwrap();
    let again = -Errno::AGAIN.raw_os_error();
    for flags in [0, 1] {
        assert_eq!(lock(&guest, op::SETLK, 1, node, 10, 1, flags), Some(0));
        assert_eq!(lock(&guest, op::SETLK, 2, node, 11, 1, flags), Some(again));
        assert_eq!(lock(&other, op::SETLK, 3, there, 10, 1, flags), Some(again), "another pod's, though by the same number");
        assert_eq!(lock(&guest, op::SETLKW, 4, node, 11, 1, flags), None, "it waits");
        assert!(guest.volume.granted().is_empty());
        assert_eq!(lock(&guest, op::SETLK, 5, node, 10, 2, flags), Some(0));
        let granted = guest.volume.granted();
        assert_eq!(number(&granted[0], 8), 4);
        assert_eq!(lock(&other, op::SETLKW, 6, there, 12, 1, flags), None);
        let header = Header { length: IN_HEADER + 8, op: op::INTERRUPT, unique: 7, node: 0, uid: 0, gid: 0 };
        let interrupted = other.volume.answer(&header, &6u64.to_ne_bytes()).unwrap();
        assert_eq!(interrupted[4..8], (-Errno::INTR.raw_os_error()).to_ne_bytes());
        // A call taken back before it came, as two threads may have it.
        assert!(other.volume.answer(&header, &8u64.to_ne_bytes()).is_none());
        assert_eq!(lock(&other, op::SETLKW, 8, there, 12, 1, flags), Some(-Errno::INTR.raw_os_error()));
        // Closing lets go.
        if flags == 0 {
            guest.ask(op::FLUSH, node, Reply::new().u64(0).u64(0).u64(11)).unwrap();
        } else {
            guest.ask(op::RELEASE, node, Reply::new().u64(0).u32(0).u32(2).u64(11)).unwrap();
        }
        assert_eq!(lock(&other, op::SETLK, 9, there, 12, 1, flags), Some(0));
        let body = Reply::new().u64(0).u64(10).u64(0).u64(7).u32(1).u32(0).u32(0).u32(0);
        let found = guest.ask(op::GETLK, node, body).unwrap();
        assert_eq!(found[16..20], (if flags == 0 { 1u32 } else { 2 }).to_ne_bytes(), "what stands against it");
        assert_eq!(lock(&other, op::SETLK, 10, there, 12, 2, flags), Some(0));
    }
}
