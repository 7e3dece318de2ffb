//! The files that a guest knows, by number. Each is held by an O_PATH descriptor, so a number never comes to mean another file.
//!
//! Descriptors are fewer than the files that a guest may know: those that were opened longest ago are closed, and opened again
//! by the name under which the file was last seen, if it is the same file by device, number and birth.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

/// The volume itself.
pub const ROOT: u64 = 1;
/// Files that a guest may know at once. The guest's own kernel needs about 1 KiB for each, so an honest one forgets before.
const MAX_NODES: usize = 256 * 1024;
/// Folders within folders when a file is opened again.
const MAX_DEPTH: usize = 256;

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    device: (u32, u32),
    number: u64,
    born: (i64, u32),
}

impl Key {
    fn of(stat: &Statx) -> Key {
        Key {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            number: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }
}

#[derive(Debug)]
struct Node {
    fd: Option<Arc<OwnedFd>>,
    key: Key,
    /// How often the guest was told of it.
    known: u64,
    /// Opened by the guest: its descriptor stays.
    opened: u32,
    place: (u64, Box<[u8]>),
}

/// All of them.
#[derive(Debug)]
pub struct Nodes {
    by_number: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    held: VecDeque<u64>,
    most_held: usize,
    next: u64,
}

/// What there is to know of a file.
///
/// # Errors
/// As statx(2).
pub fn stat(fd: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Opens a name in a folder as a place. Nothing is followed, and nothing above the folder can be reached.
///
/// # Errors
/// As openat2(2).
pub fn open_place(folder: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(folder, OsStr::from_bytes(name), flags, Mode::empty(), how)
}

impl Nodes {
    /// Begins with the volume itself.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub fn new(root: OwnedFd, most_held: usize) -> Result<Nodes, Errno> {
        let key = Key::of(&stat(&root)?);
        let node = Node { fd: Some(Arc::new(root)), key, known: 1, opened: 1, place: (ROOT, Box::default()) };
        Ok(Nodes {
            by_number: HashMap::from([(ROOT, node)]),
            by_key: HashMap::from([(key, ROOT)]),
            held: VecDeque::new(),
            most_held,
            next: ROOT + 1,
        })
    }

    /// Notes that the guest was told of a file, and gives its number.
    ///
    /// # Errors
    /// ENFILE if it knows too many.
    pub fn tell(&mut self, parent: u64, name: &[u8], fd: OwnedFd, stat: &Statx) -> Result<u64, Errno> {
        let key = Key::of(stat);
        if let Some(&number) = self.by_key.get(&key)
            && let Some(node) = self.by_number.get_mut(&number)
        {
            node.known += 1;
            if number != ROOT {
                node.place = (parent, name.into());
            }
            if node.fd.is_none() {
                node.fd = Some(Arc::new(fd));
                self.hold(number);
            }
            return Ok(number);
        }
        if self.by_number.len() >= MAX_NODES {
            return Err(Errno::NFILE);
        }
        let number = self.next;
        self.next += 1;
        let node = Node { fd: Some(Arc::new(fd)), key, known: 1, opened: 0, place: (parent, name.into()) };
        self.by_number.insert(number, node);
        self.by_key.insert(key, number);
        self.hold(number);
        Ok(number)
    }

    /// Notes that it holds a descriptor, and lets go of the oldest beyond the bound.
    fn hold(&mut self, number: u64) {
        self.held.push_back(number);
        for _ in 0..self.held.len() {
            if self.held.len() <= self.most_held {
                return;
            }
            let Some(oldest) = self.held.pop_front() else { return };
            match self.by_number.get_mut(&oldest) {
                Some(node) if node.opened > 0 => self.held.push_back(oldest),
                Some(node) => node.fd = None,
                None => {}
            }
        }
    }

    /// The descriptor of a file.
    ///
    /// # Errors
    /// ESTALE if the guest does not know it, or it is no longer where it was.
    pub fn fd(&mut self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        self.fd_within(number, MAX_DEPTH)
    }

    fn fd_within(&mut self, number: u64, depth: usize) -> Result<Arc<OwnedFd>, Errno> {
        let node = self.by_number.get(&number).ok_or(Errno::STALE)?;
        if let Some(fd) = &node.fd {
            return Ok(fd.clone());
        }
        let (parent, name, key) = (node.place.0, node.place.1.clone(), node.key);
        let above = self.fd_within(parent, depth.checked_sub(1).ok_or(Errno::STALE)?)?;
        let fd = open_place(&*above, &name).map_err(|_| Errno::STALE)?;
        if Key::of(&stat(&fd)?) != key {
            return Err(Errno::STALE);
        }
        let fd = Arc::new(fd);
        if let Some(node) = self.by_number.get_mut(&number) {
            node.fd = Some(fd.clone());
        }
        self.hold(number);
        Ok(fd)
    }

    /// Notes one more (or less) open handle of a file.
    pub fn opened(&mut self, number: u64, more: bool) {
        if let Some(node) = self.by_number.get_mut(&number) {
            node.opened = if more { node.opened.saturating_add(1) } else { node.opened.saturating_sub(1) };
        }
    }

    /// Notes that a file has another name now, if the guest knows it.
    pub fn moved(&mut self, parent: u64, name: &[u8], stat: &Statx) {
        let number = self.by_key.get(&Key::of(stat)).copied().filter(|number| *number != ROOT);
        if let Some(node) = number.and_then(|number| self.by_number.get_mut(&number)) {
            node.place = (parent, name.into());
        }
    }

    /// The guest forgets a file so many times.
    pub fn forget(&mut self, number: u64, times: u64) {
        if number == ROOT {
            return;
        }
        let Some(node) = self.by_number.get_mut(&number) else { return };
        node.known = node.known.saturating_sub(times);
        if node.known == 0 {
            let key = node.key;
            self.by_number.remove(&number);
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(nodes: &mut Nodes, parent: u64, name: &[u8]) -> u64 {
        let above = nodes.fd(parent).unwrap();
        let fd = open_place(&*above, name).unwrap();
        let stat = stat(&fd).unwrap();
        nodes.tell(parent, name, fd, &stat).unwrap()
    }

    #[test]
    fn numbers_stay_with_their_files_beyond_the_descriptors_held() {
        let folder = std::env::temp_dir().join(format!("freehold-nodes-{}", std::process::id()));
        let inner = folder.join("inner");
        std::fs::create_dir_all(&inner).unwrap();
        let names: Vec<String> = (0..16).map(|n| n.to_string()).collect();
        for name in &names {
            std::fs::write(inner.join(name), name).unwrap();
        }
        let root = rustix::fs::open(&folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let mut nodes = Nodes::new(root, 4).unwrap();
        let dir = lookup(&mut nodes, ROOT, b"inner");
        let numbers: Vec<u64> = names.iter().map(|name| lookup(&mut nodes, dir, name.as_bytes())).collect();
        assert!(nodes.held.len() <= 4 && nodes.by_number.values().filter(|node| node.fd.is_some()).count() <= 5);
        for (number, name) in numbers.iter().zip(&names) {
            let found = stat(&*nodes.fd(*number).unwrap()).unwrap();
            assert_eq!(found.stx_ino, std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(inner.join(name)).unwrap()));
        }
        assert_eq!(lookup(&mut nodes, dir, b"3"), numbers[3]);
        nodes.forget(numbers[3], 1);
        assert!(nodes.fd(numbers[3]).is_ok(), "it was told twice");
        nodes.forget(numbers[3], 1);
        assert_eq!(nodes.fd(numbers[3]).unwrap_err(), Errno::STALE);
        // A new file of the same name is another one.
        let old = numbers[0];
        assert!(nodes.by_number[&old].fd.is_none(), "this test needs one whose descriptor is closed");
        std::fs::rename(inner.join("1"), inner.join("0")).unwrap();
        assert_eq!(nodes.fd(old).unwrap_err(), Errno::STALE);
        nodes.forget(ROOT, u64::MAX);
        assert!(nodes.fd(ROOT).is_ok());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nothing_above_or_behind_a_link_is_opened() {
        let folder = std::env::temp_dir().join(format!("freehold-place-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("out")).unwrap();
        let root = rustix::fs::open(&folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let link = open_place(&root, b"out").unwrap();
        assert_eq!(u32::from(stat(&link).unwrap().stx_mode) & 0o170_000, 0o120_000, "the link itself");
        assert_eq!(open_place(&root, b"..").unwrap_err(), Errno::XDEV);
        assert!(open_place(&root, b"/etc").is_err() && open_place(&root, b"out/x").is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
