//! Locks of a guest's processes, taken on the node, so that pods that share a volume respect each other's.
//!
//! An owner's locks on a file are those of an open file of its own: record locks of the open-file kind (fcntl(2), F_OFD_SETLK),
//! which close with it, or flock(2). Who waits for a lock keeps no thread: the wish is tried again when a lock of this guest goes,
//! and every [`PAUSE`] for those of others, whose end the node's kernel tells only to who waits in it.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::serve::Volume;
use super::wire::{Body, Header, Reply, op};

/// Owners of locks at once, each with a descriptor.
const MAX_OWNERS: usize = 1024;
/// Wishes at once.
const MAX_WISHES: usize = 256;
/// Calls taken back whose wish was not known yet: it may be on its way in another thread.
const MAX_TAKEN_BACK: usize = 64;
/// Time between tries at locks that another pod has.
const PAUSE: Duration = Duration::from_millis(50);
/// It is a flock (fuse.h).
const FLOCK: u32 = 1;
/// The end of an open file was the end of its flock (fuse.h).
const RELEASE_FLOCK: u32 = 1 << 1;
/// A lock to the end of the file, however long it gets.
const TO_THE_END: u64 = i64::MAX as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Owner {
    node: u64,
    id: u64,
    flock: bool,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    unique: u64,
    owner: Owner,
    start: u64,
    end: u64,
    kind: u32,
}

/// Locks and wishes of one guest.
#[derive(Debug, Default)]
pub struct Locks {
    owners: HashMap<Owner, OwnedFd>,
    wishes: Vec<Wish>,
    taken_back: VecDeque<u64>,
}

/// What there is to wait for.
#[derive(Debug, Default)]
pub struct Waiting {
    locks: Mutex<Locks>,
    changed: Condvar,
}

impl Wish {
    fn read(header: &Header, mut body: Body) -> Result<Wish, Errno> {
        let (_handle, id) = (body.u64()?, body.u64()?);
        let (start, end) = (body.u64()?, body.u64()?);
        let (kind, _pid, flags) = (body.u32()?, body.u32()?, body.u32()?);
        if start > end || end > TO_THE_END {
            return Err(Errno::INVAL);
        }
        let owner = Owner { node: header.node, id, flock: flags & FLOCK != 0 };
        Ok(Wish { unique: header.unique, owner, start, end, kind })
    }

    fn record(&self) -> libc::flock {
        libc::flock {
            l_type: self.kind as _,
            l_whence: libc::SEEK_SET as _,
            l_start: self.start as _,
            l_len: if self.end == TO_THE_END { 0 } else { (self.end - self.start + 1) as _ },
            l_pid: 0,
        }
    }

    fn try_on(&self, file: &OwnedFd) -> Result<(), Errno> {
        if self.owner.flock {
            return rustix::fs::flock(
                file,
                match self.kind as i32 {
                    libc::F_RDLCK => FlockOperation::NonBlockingLockShared,
                    libc::F_WRLCK => FlockOperation::NonBlockingLockExclusive,
                    _ => FlockOperation::NonBlockingUnlock,
                },
            );
        }
        record(file, libc::F_OFD_SETLK, &mut self.record())
    }
}

fn record(file: &OwnedFd, command: i32, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: the command reads (and F_OFD_GETLK writes) a struct flock, which lives until after the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

impl Volume {
    fn locks(&self) -> MutexGuard<'_, Locks> {
        self.waiting.locks.lock().expect("nothing panics under this lock")
    }

    /// The file on which an owner's locks are; opened for both, if the volume may be written.
    fn lock_file(&self, owner: Owner) -> Result<OwnedFd, Errno> {
        let fd = self.fd(owner.node)?;
        self.reopen(&fd, OFlags::RDWR).or_else(|_| self.reopen(&fd, OFlags::RDONLY))
    }

    fn try_lock(&self, locks: &mut Locks, wish: &Wish) -> Result<(), Errno> {
        if let Some(file) = locks.owners.get(&wish.owner) {
            return wish.try_on(file);
        }
        if wish.kind as i32 == libc::F_UNLCK {
            return Ok(());
        }
        if locks.owners.len() >= MAX_OWNERS {
            return Err(Errno::NOLCK);
        }
        let file = self.lock_file(wish.owner)?;
        wish.try_on(&file)?;
        locks.owners.insert(wish.owner, file);
        Ok(())
    }

    /// SETLK and SETLKW; nothing if the answer comes once the lock is there.
    pub fn lock(&self, header: &Header, body: Body) -> Result<Option<Reply>, Errno> {
        let wish = Wish::read(header, body)?;
        let mut locks = self.locks();
        match self.try_lock(&mut locks, &wish) {
            Err(Errno::AGAIN | Errno::ACCESS) if header.op == op::SETLKW => {}
            Err(error) => return Err(error),
            Ok(()) => {
                self.waiting.changed.notify_all(); // less may be locked now
                return Ok(Some(Reply::new()));
            }
        }
        if locks.taken_back.contains(&header.unique) {
            return Err(Errno::INTR);
        }
        if locks.wishes.len() >= MAX_WISHES {
            return Err(Errno::NOLCK);
        }
        locks.wishes.push(wish);
        self.waiting.changed.notify_all();
        Ok(None)
    }

    /// GETLK: the lock that stands against one.
    pub fn get_lock(&self, header: &Header, body: Body) -> Result<Reply, Errno> {
        let wish = Wish::read(header, body)?;
        let mut found = wish.record();
        match self.locks().owners.get(&wish.owner) {
            Some(file) => record(file, libc::F_OFD_GETLK, &mut found)?,
            None => record(&self.lock_file(wish.owner)?, libc::F_OFD_GETLK, &mut found)?,
        }
        let start = found.l_start as u64;
        let end = if found.l_len == 0 { TO_THE_END } else { start + found.l_len as u64 - 1 };
        // Who has it is nobody of the guest's.
        Ok(Reply::new().u64(start).u64(end).u32(found.l_type as u32).u32(0))
    }

    /// FLUSH: a process has closed the file, and so its record locks go.
    pub fn flush(&self, header: &Header, mut body: Body) -> Result<Reply, Errno> {
        let (_handle, _) = (body.u64()?, body.u64()?);
        self.unlock(Owner { node: header.node, id: body.u64()?, flock: false });
        Ok(Reply::new())
    }

    /// A file is closed by its last user, and so is its flock.
    pub fn end_flock(&self, header: &Header, release_flags: u32, id: u64) {
        if release_flags & RELEASE_FLOCK != 0 {
            self.unlock(Owner { node: header.node, id, flock: true });
        }
    }

    fn unlock(&self, owner: Owner) {
        if self.locks().owners.remove(&owner).is_some() {
            self.waiting.changed.notify_all();
        }
    }

    /// INTERRUPT: who asked no longer waits; gives the answer to a wish.
    pub fn take_back(&self, mut body: Body) -> Option<Vec<u8>> {
        let unique = body.u64().ok()?;
        let mut locks = self.locks();
        let at = locks.wishes.iter().position(|wish| wish.unique == unique);
        let Some(at) = at else {
            if locks.taken_back.len() >= MAX_TAKEN_BACK {
                locks.taken_back.pop_front();
            }
            locks.taken_back.push_back(unique);
            return None;
        };
        locks.wishes.swap_remove(at);
        Some(Reply::new().finish(unique, Errno::INTR.raw_os_error()))
    }

    /// Waits for wishes and tries them; gives the answers to those that came true or can't.
    pub fn granted(&self) -> Vec<Vec<u8>> {
        let locks = self.locks();
        let mut locks = if locks.wishes.is_empty() {
            self.waiting.changed.wait_while(locks, |locks| locks.wishes.is_empty() && !self.ended()).expect("no panic")
        } else {
            self.waiting.changed.wait_timeout(locks, PAUSE).expect("no panic").0
        };
        let (mut left, mut answers) = (Vec::new(), Vec::new());
        for wish in std::mem::take(&mut locks.wishes) {
            match self.try_lock(&mut locks, &wish) {
                Err(Errno::AGAIN | Errno::ACCESS) => left.push(wish),
                Err(error) => answers.push(Reply::new().finish(wish.unique, error.raw_os_error())),
                Ok(()) => answers.push(Reply::new().finish(wish.unique, 0)),
            }
        }
        locks.wishes = left;
        answers
    }

    /// Wakes whoever waits for wishes.
    pub fn wake(&self) {
        drop(self.locks());
        self.waiting.changed.notify_all();
    }
}
