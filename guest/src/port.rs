//! The virtio-serial port to the shim: found by name, frames in, frames out.
//!
//! Replies and credit go first, at the border of a frame; data and events keep their order among each other, so that
//! an exit never overtakes the output before it.

use crate::fail::{Failure, Result, Step};
use crate::sys;
use freehold_guest_api::frame::{self, Frame};
use freehold_guest_api::limits::{MAX_PAYLOAD, PORT_NAME};
use freehold_guest_api::{Decoder, Kind};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// How long the port may take to appear after boot; it is on the command line of the machine, so it is there at once.
const APPEAR: Duration = Duration::from_secs(10);
/// How long the shim may take to connect; it does so before the machine starts, a template may wait longer.
const CONNECT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(2);
/// Data that waits in the agent for the port; beyond it the agent reads no more output.
const MAX_QUEUED: usize = 256 * 1024;

/// The connection.
pub struct Port {
    file: File,
    decoder: Decoder,
    urgent: VecDeque<Vec<u8>>,
    ordered: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    written: usize,
    queued: usize,
    /// Events not yet written.
    pub events: usize,
}

impl Port {
    /// Finds the port and waits until the shim is there.
    pub fn connect() -> Result<Port> {
        let file = open(PORT_NAME)?;
        sys::set_nonblocking(file.as_fd()).step("make the port non-blocking")?;
        Ok(Port::over(file))
    }

    /// The port that an earlier image of this process has left open at `fd`.
    pub fn resume(fd: RawFd) -> Result<Port> {
        let file = File::from(sys::adopt(fd).step(format!("take over descriptor {fd} as the port"))?);
        Ok(Port::over(file))
    }

    fn over(file: File) -> Port {
        let (urgent, ordered) = (VecDeque::new(), VecDeque::new());
        Port { file, decoder: Decoder::default(), urgent, ordered, current: Vec::new(), written: 0, queued: 0, events: 0 }
    }

    /// Leaves the port open for the next image of this process, at the same number.
    pub fn keep_on_exec(&self) -> Result<()> {
        sys::keep_on_exec(self.file.as_fd()).step("keep the port")
    }

    /// Nothing waits to be read or written: what waits here would be lost with this process's memory.
    pub fn is_idle(&self) -> bool {
        !self.wants_write() && self.decoder.is_empty()
    }

    /// For poll.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
    /// Whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        self.written < self.current.len() || !self.urgent.is_empty() || !self.ordered.is_empty()
    }
    /// Whether more output may be read from processes.
    pub fn has_room(&self) -> bool {
        self.queued < MAX_QUEUED
    }

    /// A message that need not wait for data.
    pub fn reply(&mut self, message: &[u8]) {
        let mut bytes = Vec::new();
        frame::message_frames(&mut bytes, Kind::Reply, message);
        self.urgent.push_back(bytes);
    }
    /// An event, after all data queued so far.
    pub fn event(&mut self, message: &[u8]) {
        let mut bytes = Vec::new();
        frame::message_frames(&mut bytes, Kind::Event, message);
        self.events += 1;
        self.queued += bytes.len();
        self.ordered.push_back(bytes);
    }
    /// Data or Eof.
    pub fn data(&mut self, stream: u32, kind: Kind, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(frame::HEADER + payload.len());
        frame::encode(&mut bytes, stream, kind, 0, payload);
        self.queued += bytes.len();
        self.ordered.push_back(bytes);
    }
    /// Credit or Reset.
    pub fn urgent(&mut self, stream: u32, kind: Kind, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, stream, kind, 0, payload);
        self.urgent.push_back(bytes);
    }

    /// Writes what the port takes.
    pub fn flush(&mut self) -> Result<()> {
        while self.wants_write() {
            if self.written == self.current.len() {
                self.written = 0;
                self.current = match self.urgent.pop_front() {
                    Some(bytes) => bytes,
                    None => self.next_ordered(),
                };
            }
            match self.file.write(&self.current[self.written..]) {
                Ok(0) => return Ok(()),
                Ok(n) => self.written += n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
                Err(e) => return Err(e).step("write to the shim"),
            }
        }
        Ok(())
    }

    fn next_ordered(&mut self) -> Vec<u8> {
        let bytes = self.ordered.pop_front().unwrap_or_default();
        self.queued -= bytes.len();
        if bytes.get(4) == Some(&(Kind::Event as u8)) {
            self.events -= 1;
        }
        bytes
    }

    /// Reads what is there and gives the whole frames in it.
    pub fn read(&mut self) -> Result<Vec<Frame>> {
        let mut buffer = vec![0; MAX_PAYLOAD + frame::HEADER];
        let mut frames = Vec::new();
        match self.file.read(&mut buffer) {
            Ok(0) => return Err(Failure::with(libc::ECONNRESET, "the shim has closed the port")),
            Ok(n) => self.decoder.push(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(frames),
            Err(e) => return Err(e).step("read from the shim"),
        }
        while let Some(frame) =
            self.decoder.next_frame().map_err(|e| Failure::with(libc::EPROTO, format!("bytes from the shim: {e}")))?
        {
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// Calls `try_it` until it gives something or `limit` is over.
pub fn wait_for<T>(limit: Duration, mut try_it: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = try_it() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Opens a port by its name, once somebody is at its other end: before, it reads as ended.
pub fn open(port: &str) -> Result<File> {
    let path = find(port)?;
    let open = || File::options().read(true).write(true).open(&path);
    let file = wait_for(APPEAR, || open().ok()).map_or_else(open, Ok).step(format!("open {path}"))?;
    let fd = file.as_raw_fd();
    let connected = || {
        let mut fds = [libc::pollfd { fd, events: libc::POLLOUT, revents: 0 }];
        sys::poll(&mut fds, 0).ok()?;
        (fds[0].revents & libc::POLLHUP == 0).then_some(())
    };
    wait_for(CONNECT, connected)
        .ok_or_else(|| Failure::with(libc::ETIMEDOUT, format!("nobody connected to port {port} in {CONNECT:?}")))?;
    Ok(file)
}

/// Finds a port and gives its device file.
fn find(port: &str) -> Result<String> {
    let look = || {
        fs::read_dir("/sys/class/virtio-ports").ok()?.flatten().find_map(|entry| {
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            (name.trim() == port).then(|| format!("/dev/{}", entry.file_name().to_string_lossy()))
        })
    };
    wait_for(APPEAR, look)
        .ok_or_else(|| Failure::with(libc::ENODEV, format!("no virtio port named {port} appeared in {APPEAR:?}")))
}
