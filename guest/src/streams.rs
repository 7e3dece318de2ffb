//! Byte streams between processes and the shim, with credit.
//!
//! A stream is one way, also where two are of one connection: `Input` is what the shim sends to a process, `Output` what a process sends to the shim. Each
//! receiver has granted [`WINDOW`] bytes at the start and grants more as it consumes.

use crate::port::Port;
use crate::sys;
use freehold_guest_api::Kind;
use freehold_guest_api::limits::{MAX_PAYLOAD, MAX_STREAMS, WINDOW};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;

/// Consumed input is granted anew in pieces of this size, not byte by byte.
const GRANT: usize = WINDOW / 4;
/// More credit than this is never kept, whatever the shim grants.
const MAX_CREDIT: usize = 16 * WINDOW;

/// A stream.
pub enum Stream {
    /// To a process.
    Input {
        /// Its stdin or terminal.
        file: File,
        /// Received, not yet taken by the process.
        waiting: VecDeque<u8>,
        /// Taken, not yet granted anew.
        consumed: usize,
        /// No more will come.
        ended: bool,
        /// What Eof does.
        end: End,
    },
    /// From a process.
    Output {
        /// Its stdout, stderr or terminal.
        file: File,
        /// Bytes that may still be sent.
        credit: usize,
        /// Nobody reads: read and drop, so that the process is not stopped by it.
        discard: bool,
        /// A connection: what nobody reads is closed, not dropped.
        connection: bool,
    },
}

/// What the end of a stream to the guest does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Closes a pipe.
    Close,
    /// Nothing: a terminal stays.
    Keep,
    /// Ends the sending side of a connection.
    Shutdown,
}

/// All open streams by number.
#[derive(Default)]
pub struct Streams {
    open: BTreeMap<u32, Stream>,
}

impl Streams {
    /// Whether `number` can be opened.
    pub fn is_free(&self, number: u32) -> bool {
        self.open.len() < MAX_STREAMS && !self.open.contains_key(&number)
    }
    /// Opens a stream to a process.
    pub fn open_input(&mut self, number: u32, file: File, end: End) {
        let stream = Stream::Input { file, waiting: VecDeque::new(), consumed: 0, ended: false, end };
        self.open.insert(number, stream);
    }
    /// Opens a stream from a process.
    pub fn open_output(&mut self, number: u32, file: File) {
        self.open.insert(number, Stream::Output { file, credit: WINDOW, discard: false, connection: false });
    }
    /// Opens both streams of a connection.
    pub fn open_connection(&mut self, input: u32, output: u32, files: [File; 2]) {
        let [to, from] = files;
        self.open_input(input, to, End::Shutdown);
        self.open.insert(output, Stream::Output { file: from, credit: WINDOW, discard: false, connection: true });
    }
    /// Whether the stream is still open.
    pub fn is_open(&self, number: u32) -> bool {
        self.open.contains_key(&number)
    }
    /// Forgets a stream to a process that has ended and tells the shim.
    pub fn close_input(&mut self, number: u32, port: &mut Port) {
        if self.open.remove(&number).is_some() {
            port.urgent(number, Kind::Reset, &[]);
        }
    }

    /// What to wait for: number, descriptor, events.
    pub fn interests(&self, room: bool) -> impl Iterator<Item = (u32, i32, i16)> {
        self.open.iter().filter_map(move |(&number, stream)| match stream {
            Stream::Input { file, waiting, .. } => (!waiting.is_empty()).then(|| (number, file.as_raw_fd(), libc::POLLOUT)),
            Stream::Output { file, credit, discard, .. } => {
                (*discard || (*credit > 0 && room)).then(|| (number, file.as_raw_fd(), libc::POLLIN))
            }
        })
    }

    /// Bytes from the shim. More than was granted ends the stream: it would grow without bound.
    pub fn receive(&mut self, number: u32, bytes: &[u8], port: &mut Port) {
        let Some(Stream::Input { waiting, consumed, .. }) = self.open.get_mut(&number) else { return };
        if waiting.len() + *consumed + bytes.len() > WINDOW {
            self.close_input(number, port);
            return;
        }
        waiting.extend(bytes);
        self.write(number, port);
    }
    /// The shim sends no more.
    pub fn end(&mut self, number: u32, port: &mut Port) {
        if let Some(Stream::Input { ended, .. }) = self.open.get_mut(&number) {
            *ended = true;
            self.write(number, port);
        }
    }
    /// The shim takes more.
    pub fn credit(&mut self, number: u32, more: u32) {
        if let Some(Stream::Output { credit, .. }) = self.open.get_mut(&number) {
            *credit = credit.saturating_add(more as usize).min(MAX_CREDIT);
        }
    }
    /// The shim reads no more.
    pub fn reset(&mut self, number: u32) {
        match self.open.get_mut(&number) {
            Some(Stream::Output { file, connection: true, .. }) => {
                sys::shutdown(file, libc::SHUT_RDWR);
                self.open.remove(&number);
            }
            Some(Stream::Output { discard, .. }) => *discard = true,
            _ => {}
        }
    }

    /// Lets a process take its input.
    pub fn write(&mut self, number: u32, port: &mut Port) {
        let Some(Stream::Input { file, waiting, consumed, ended, end }) = self.open.get_mut(&number) else { return };
        while !waiting.is_empty() {
            match file.write(waiting.as_slices().0) {
                Ok(n) => {
                    waiting.drain(..n);
                    *consumed += n;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.close_input(number, port),
            }
        }
        if *consumed >= GRANT || (waiting.is_empty() && *consumed > 0) {
            port.urgent(number, Kind::Credit, &(*consumed as u32).to_le_bytes());
            *consumed = 0;
        }
        if *ended && waiting.is_empty() && *end != End::Keep {
            if *end == End::Shutdown {
                sys::shutdown(file, libc::SHUT_WR);
            }
            self.open.remove(&number);
        }
    }

    /// Takes one piece of a process's output. With `last` (the process has ended) an empty pipe is the end, even if a
    /// process left in the background still holds it.
    pub fn read(&mut self, number: u32, port: &mut Port, last: bool) -> bool {
        let Some(Stream::Output { file, credit, discard, .. }) = self.open.get_mut(&number) else { return false };
        let limit = if *discard { MAX_PAYLOAD } else { MAX_PAYLOAD.min(*credit) };
        if limit == 0 || !port.has_room() {
            return false;
        }
        let mut buffer = vec![0; limit];
        match file.read(&mut buffer) {
            Ok(n) if n > 0 => {
                if !*discard {
                    *credit -= n;
                    port.data(number, Kind::Data, &buffer[..n]);
                }
                return true;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => return true,
            Err(e) if e.kind() == ErrorKind::WouldBlock && !last => return false,
            // 0, or EIO: a terminal that nobody has open any more.
            _ => {}
        }
        port.data(number, Kind::Eof, &[]);
        self.open.remove(&number);
        false
    }
}
