//! The file server's process: requests of one guest about one volume, answered until the machine ends.
//!
//! Its input is the volume's descriptor and a socket whose other end is a port of the machine; both are hostile. It runs
//! confined (see [`super`]): it could name nothing but the volume even if it were taken over.

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context, bail};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Resource;

use super::handles::Handles;
use super::locks::Waiting;
use super::nodes::Nodes;
use super::wire::{Body, Header, IN_HEADER, MAX_DATA, Reply, op};

/// Threads that answer: a slow disk keeps one of them, and a guest has work for a few.
const THREADS: usize = 4;
/// Version of the protocol that is spoken (fuse.h): 7.31 has all that is used here.
const MAJOR: u32 = 7;
const MINOR: u32 = 31;
/// What the guest's kernel may use (fuse.h): reads at once, record locks, larger writes, flocks, data that is read again when a
/// file has changed, listings with attributes, folders listed and looked up at once, setuid bits taken away here.
const WANTED: u32 = 1 | 1 << 1 | 1 << 5 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 18 | 1 << 28;
/// Flags of the second word, which the first tells of (FUSE_INIT_EXT): mounts may be shown with mapped ids. The guest then says who asks
/// only where something is made, by the ids of this volume.
const MORE: u32 = 1 << 30;
const WANTED_MORE: u32 = 1 << (40 - 32);
/// Requests in the background, and from when on the guest's kernel holds more back: its own defaults.
const BACKGROUND: u16 = 12;
const CONGESTED: u16 = 9;
/// Descriptors beside those of files: standard streams, socket, volume, and those under way in each thread.
const OTHER_DESCRIPTORS: usize = 64;

/// A volume that is served.
#[derive(Debug)]
pub struct Volume {
    nodes: Mutex<Nodes>,
    handles: Mutex<Handles>,
    /// A folder's position is that of its open file.
    pub listing: Mutex<()>,
    /// Locks.
    pub waiting: Waiting,
    ended: AtomicBool,
}

impl Volume {
    /// Serves what `root` is. Of the descriptors that this process may have, half are for files that the guest has open.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub fn new(root: OwnedFd, descriptors: usize) -> Result<Volume, Errno> {
        let half = descriptors.saturating_sub(OTHER_DESCRIPTORS) / 2;
        let (nodes, handles) = (Mutex::new(Nodes::new(root, half)?), Mutex::new(Handles::new(half)));
        Ok(Volume { nodes, handles, listing: Mutex::new(()), waiting: Waiting::default(), ended: AtomicBool::new(false) })
    }
    /// The machine has ended.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
    /// The files that the guest knows.
    pub fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().expect("nothing panics under this lock")
    }
    /// The files that it has open.
    pub fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().expect("nothing panics under this lock")
    }
    /// A file that the guest knows.
    pub fn fd(&self, number: u64) -> Result<Arc<OwnedFd>, Errno> {
        self.nodes().fd(number)
    }

    /// What is sent for a request; nothing for those that want no answer.
    pub fn answer(&self, header: &Header, body: &[u8]) -> Option<Vec<u8>> {
        let called = match header.op {
            op::FORGET | op::BATCH_FORGET => {
                self.forget(header, Body(body));
                return None;
            }
            op::INTERRUPT => return self.take_back(Body(body)),
            op::SETLK | op::SETLKW => self.lock(header, Body(body)).transpose()?,
            _ => self.call(header, Body(body)),
        };
        Some(match called {
            Ok(reply) => reply.finish(header.unique, 0),
            Err(error) => Reply::new().finish(header.unique, error.raw_os_error()),
        })
    }

    fn forget(&self, header: &Header, mut body: Body) {
        if header.op == op::FORGET
            && let Ok(times) = body.u64()
        {
            self.nodes().forget(header.node, times);
        }
        if header.op == op::BATCH_FORGET && body.u64().is_ok() {
            let mut nodes = self.nodes();
            while let (Ok(number), Ok(times)) = (body.u64(), body.u64()) {
                nodes.forget(number, times);
            }
        }
    }

    fn call(&self, header: &Header, body: Body) -> Result<Reply, Errno> {
        match header.op {
            op::INIT => init(body),
            op::LOOKUP => self.look_up(header, body),
            op::GETATTR => self.get_attributes(header),
            op::SETATTR => self.set_attributes(header, body),
            op::READLINK => self.read_link(header),
            op::SYMLINK => self.make_link(header, body),
            op::MKNOD => self.make_node(header, body),
            op::MKDIR => self.make_folder(header, body),
            op::UNLINK | op::RMDIR => self.remove(header, body),
            op::RENAME | op::RENAME2 => self.rename(header, body),
            op::LINK => self.link(header, body),
            op::CREATE => self.create(header, body),
            op::OPEN | op::OPENDIR => self.open(header, body),
            op::RELEASE | op::RELEASEDIR => self.release(header, body),
            op::FLUSH => self.flush(header, body),
            op::GETLK => self.get_lock(header, body),
            op::READ => self.read(body),
            op::WRITE => self.write(body),
            op::FSYNC | op::FSYNCDIR => self.sync(body),
            op::FALLOCATE => self.allocate(body),
            op::LSEEK => self.seek(body),
            op::COPY_FILE_RANGE => self.copy(body),
            op::READDIR | op::READDIRPLUS => self.list(header, body),
            op::STATFS => self.file_system(header),
            op::SETXATTR => self.set_extended(header, body),
            op::GETXATTR => self.get_extended(header, body),
            op::LISTXATTR => self.list_extended(header, body),
            op::REMOVEXATTR => self.remove_extended(header, body),
            op::DESTROY => Ok(Reply::new()),
            op::IOCTL => Err(Errno::NOTTY),
            _ => Err(Errno::NOSYS),
        }
    }
}

fn init(mut body: Body) -> Result<Reply, Errno> {
    let (major, _minor, read_ahead, flags) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    if major != MAJOR {
        return Err(Errno::PROTO);
    }
    let more = if flags & MORE == 0 { 0 } else { body.u32()? & WANTED_MORE };
    let reply = Reply::new().u32(MAJOR).u32(MINOR).u32(read_ahead).u32(flags & (WANTED | MORE)).u16(BACKGROUND).u16(CONGESTED);
    let (granularity, pages, alignment) = (1, 0, 0);
    Ok(reply.u32(MAX_DATA as u32).u32(granularity).u16(pages).u16(alignment).u32(more).padded(64))
}

/// What is read and written, each by one thread at a time.
struct Line {
    socket: UnixStream,
    reading: Mutex<()>,
    writing: Mutex<()>,
}

impl Line {
    /// The next request; none if the machine has ended.
    fn next(&self, body: &mut Vec<u8>) -> anyhow::Result<Option<Header>> {
        let _turn = self.reading.lock().expect("nothing panics under this lock");
        let mut bytes = [0; IN_HEADER];
        if (&self.socket).read_exact(&mut bytes).is_err() {
            return Ok(None);
        }
        let Some(header) = Header::read(&bytes) else { bail!("the guest sent a request of a length that none has") };
        body.resize(header.length - IN_HEADER, 0);
        Ok((&self.socket).read_exact(body).is_ok().then_some(header))
    }

    /// False if the machine has ended.
    fn send(&self, reply: &[u8]) -> bool {
        let _turn = self.writing.lock().expect("nothing panics under this lock");
        (&self.socket).write_all(reply).is_ok()
    }
}

/// Sends what wishes come to.
fn grant(volume: &Volume, line: &Line) -> anyhow::Result<()> {
    while !volume.ended() {
        if !volume.granted().iter().all(|reply| line.send(reply)) {
            break;
        }
    }
    Ok(())
}

fn work(volume: &Volume, line: &Line) -> anyhow::Result<()> {
    let mut body = Vec::new();
    while let Some(header) = line.next(&mut body)? {
        if volume.answer(&header, &body).is_some_and(|reply| !line.send(&reply)) {
            break;
        }
    }
    Ok(())
}

/// Serves the volume at descriptor `root` over the socket at descriptor `socket` until the machine ends.
pub fn run(root: &str, socket: &str) -> ExitCode {
    let number = |text: &str| text.parse::<RawFd>().context("the file server needs two descriptors");
    let served = number(root).and_then(|root| Ok((root, number(socket)?))).and_then(|(root, socket)| {
        // SAFETY: the supervisor started this program with these two open for it alone; nothing else here knows them.
        let (root, socket) = unsafe { (OwnedFd::from_raw_fd(root), OwnedFd::from_raw_fd(socket)) };
        serve(root, socket.into())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the file server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(root: OwnedFd, socket: UnixStream) -> anyhow::Result<()> {
    rustix::process::umask(Mode::empty()); // the guest's kernel has applied its process's own
    let descriptors = rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let volume = Volume::new(root, usize::try_from(descriptors)?).context("can't look at the volume")?;
    let line = Line { socket, reading: Mutex::new(()), writing: Mutex::new(()) };
    // The first thread that ends, ends all: the others find the connection closed.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..=THREADS)
            .map(|number| {
                let (volume, line) = (&volume, &line);
                scope.spawn(move || {
                    let result = if number == 0 { grant(volume, line) } else { work(volume, line) };
                    volume.ended.store(true, Ordering::Relaxed);
                    volume.wake();
                    let _ = line.socket.shutdown(std::net::Shutdown::Both); // another may have done so
                    result
                })
            })
            .collect();
        let mut all = Ok(());
        for thread in threads {
            let result = thread.join().unwrap_or_else(|_| bail!("a thread panicked"));
            all = all.and(result); // each is waited for
        }
        all
    })
}
