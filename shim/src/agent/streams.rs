//! Byte streams on the agent's port. A receiver grants credit for what it has handed on; a sender sends within credit.
//! Both sides begin with [`WINDOW`] bytes of credit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use freehold_guest_api::frame::{self, Frame, Kind};
use freehold_guest_api::limits::{MAX_PAYLOAD, MAX_STREAMS, WINDOW};
use tokio::sync::{Notify, mpsc, watch};

/// Streams by number.
#[derive(Debug)]
pub struct Streams {
    outgoing: mpsc::Sender<Vec<u8>>,
    open: Mutex<HashMap<u32, Open>>,
}

#[derive(Debug)]
enum Open {
    /// The guest sends.
    Incoming { filler: Filler, allowed: usize },
    /// The guest receives.
    Outgoing { credit: watch::Sender<Credit> },
}

/// What the guest has sent and nobody has taken yet: one buffer, however small the pieces were. A piece of one byte that is kept
/// by itself costs some sixty.
#[derive(Debug, Default)]
struct Waiting {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: VecDeque<u8>,
    ended: bool,
    nobody_reads: bool,
}

impl Waiting {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("nothing panics under this lock"));
        self.changed.notify_one();
    }
}

/// The guest's side of it: with it ends the stream.
#[derive(Debug)]
struct Filler(Arc<Waiting>);

impl Drop for Filler {
    fn drop(&mut self) {
        self.0.change(|state| state.ended = true);
    }
}

/// Bytes that may be sent in all, and whether anybody reads.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Credit {
    total: u64,
    reset: bool,
}

impl Streams {
    /// Over this way out.
    pub fn new(outgoing: mpsc::Sender<Vec<u8>>) -> Streams {
        Streams { outgoing, open: Mutex::default() }
    }

    /// Expects bytes from the guest. What waits in the receiver is bounded by the credit given.
    pub fn receive(&self, stream: u32) -> Option<Incoming> {
        let waiting = Arc::new(Waiting::default());
        self.insert(stream, Open::Incoming { filler: Filler(waiting.clone()), allowed: WINDOW })?;
        Some(Incoming { stream, waiting, outgoing: self.outgoing.clone() })
    }

    /// Gets ready to send bytes to the guest.
    pub fn send(&self, stream: u32) -> Option<Outgoing> {
        let (credit, watching) = watch::channel(Credit { total: WINDOW as u64, reset: false });
        self.insert(stream, Open::Outgoing { credit })?;
        Some(Outgoing { stream, sent: 0, credit: watching, outgoing: self.outgoing.clone() })
    }

    fn insert(&self, stream: u32, entry: Open) -> Option<()> {
        let mut open = self.open.lock().expect("nothing panics under this lock");
        if open.len() >= MAX_STREAMS {
            return None;
        }
        open.insert(stream, entry);
        Some(())
    }

    /// Forgets a stream.
    pub fn forget(&self, stream: u32) {
        self.open.lock().expect("nothing panics under this lock").remove(&stream);
    }

    /// Ends all streams.
    pub fn close(&self) {
        self.open.lock().expect("nothing panics under this lock").clear();
    }

    /// Takes a frame of the guest. Frames of streams that are forgotten are dropped: the guest can't know yet.
    ///
    /// # Errors
    /// If the guest sends beyond its credit.
    pub fn take(&self, frame: Frame) -> Result<(), String> {
        let mut open = self.open.lock().expect("nothing panics under this lock");
        match (open.get_mut(&frame.stream), frame.kind) {
            (Some(Open::Incoming { filler, allowed }), Kind::Data) => {
                *allowed = allowed
                    .checked_sub(frame.payload.len())
                    .ok_or_else(|| format!("the guest sent beyond its credit on stream {}", frame.stream))?;
                filler.0.change(|state| {
                    // Dropped if nobody reads, and no credit is given back.
                    if !state.nobody_reads {
                        state.bytes.extend(&frame.payload);
                    }
                });
            }
            (Some(Open::Incoming { .. }), Kind::Eof) => drop(open.remove(&frame.stream)),
            (Some(Open::Outgoing { credit }), Kind::Credit) => {
                if let Ok(more) = <[u8; 4]>::try_from(frame.payload.as_slice()) {
                    credit.send_modify(|c| c.total = c.total.saturating_add(u64::from(u32::from_le_bytes(more))));
                }
            }
            (Some(Open::Outgoing { credit }), Kind::Reset) => {
                credit.send_modify(|c| c.reset = true);
                open.remove(&frame.stream);
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the guest credit on a stream it sends on.
    pub async fn grant(&self, stream: u32, bytes: usize) {
        if let Some(Open::Incoming { allowed, .. }) = self.open.lock().expect("nothing panics under this lock").get_mut(&stream) {
            *allowed += bytes;
        } else {
            return;
        }
        let mut out = Vec::new();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        frame::encode(&mut out, stream, Kind::Credit, 0, &bytes.to_le_bytes());
        let _ = self.outgoing.send(out).await; // lost: the reader says so
    }
}

/// Bytes from the guest.
#[derive(Debug)]
pub struct Incoming {
    /// Its number.
    pub stream: u32,
    waiting: Arc<Waiting>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Incoming {
    /// The next bytes, at most [`MAX_PAYLOAD`]; `None` at the end. Grant credit once they are handed on.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            {
                let mut state = self.waiting.state.lock().expect("nothing panics under this lock");
                if !state.bytes.is_empty() {
                    let n = state.bytes.len().min(MAX_PAYLOAD);
                    let next = state.bytes.drain(..n).collect();
                    if state.bytes.is_empty() {
                        state.bytes = VecDeque::new(); // most streams rest most of the time
                    }
                    return Some(next);
                }
                if state.ended {
                    return None;
                }
            }
            self.waiting.changed.notified().await; // keeps one call that came meanwhile
        }
    }

    /// Tells the guest that nobody reads.
    pub async fn reset(self) {
        let mut out = Vec::new();
        frame::encode(&mut out, self.stream, Kind::Reset, 0, &[]);
        let _ = self.outgoing.send(out).await;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.waiting.change(|state| {
            state.nobody_reads = true;
            state.bytes = VecDeque::new();
        });
    }
}

/// Bytes to the guest.
#[derive(Debug)]
pub struct Outgoing {
    /// Its number.
    pub stream: u32,
    sent: u64,
    credit: watch::Receiver<Credit>,
    outgoing: mpsc::Sender<Vec<u8>>,
}

impl Outgoing {
    /// Sends all bytes as credit comes; false if nobody reads any more.
    pub async fn send(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let sent = self.sent;
            let Ok(credit) = self.credit.wait_for(|c| c.reset || c.total > sent).await.map(|c| *c) else { return false };
            if credit.reset {
                return false;
            }
            let room = usize::try_from(credit.total - sent).unwrap_or(usize::MAX);
            let n = bytes.len().min(room).min(MAX_PAYLOAD);
            let mut out = Vec::with_capacity(n + frame::HEADER);
            frame::encode(&mut out, self.stream, Kind::Data, 0, &bytes[..n]);
            if self.outgoing.send(out).await.is_err() {
                return false;
            }
            self.sent += n as u64;
            bytes = &bytes[n..];
        }
        true
    }

    /// No more will come.
    pub async fn end(self) {
        let mut out = Vec::new();
        frame::encode(&mut out, self.stream, Kind::Eof, 0, &[]);
        let _ = self.outgoing.send(out).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(stream: u32, n: usize) -> Frame {
        Frame { stream, kind: Kind::Data, flags: 0, payload: vec![7; n] }
    }

    #[tokio::test]
    async fn the_guest_may_not_send_beyond_its_credit() {
        let (out, mut sent) = mpsc::channel(8);
        let streams = Streams::new(out);
        let mut incoming = streams.receive(3).unwrap();
        for _ in 0..WINDOW / MAX_PAYLOAD {
            streams.take(data(3, MAX_PAYLOAD)).unwrap();
        }
        assert!(streams.take(data(3, 1)).is_err());
        assert_eq!(incoming.next().await.unwrap().len(), MAX_PAYLOAD);
        streams.grant(3, MAX_PAYLOAD).await;
        assert!(sent.recv().await.is_some());
        streams.take(data(3, 1)).unwrap();
    }

    /// Bytes of memory that wait in the shim for a stream's reader.
    fn kept(incoming: &Incoming) -> usize {
        incoming.waiting.state.lock().unwrap().bytes.capacity()
    }

    #[tokio::test]
    async fn output_in_pieces_of_one_byte_costs_no_more_than_in_large_ones() {
        let (out, _sent) = mpsc::channel(8);
        let streams = Streams::new(out);
        let mut incoming = streams.receive(3).unwrap();
        for _ in 0..WINDOW {
            streams.take(data(3, 1)).unwrap();
        }
        assert!(kept(&incoming) <= 2 * WINDOW, "{} bytes are kept for {WINDOW}", kept(&incoming));
        for _ in 0..WINDOW / MAX_PAYLOAD {
            assert_eq!(incoming.next().await.unwrap().len(), MAX_PAYLOAD);
        }
        assert_eq!(kept(&incoming), 0);
    }

    #[tokio::test]
    async fn what_came_before_the_end_is_read_and_then_the_end() {
        let (out, _sent) = mpsc::channel(8);
        let streams = Streams::new(out);
        let mut incoming = streams.receive(3).unwrap();
        streams.take(data(3, 2)).unwrap();
        streams.take(Frame { stream: 3, kind: Kind::Eof, flags: 0, payload: Vec::new() }).unwrap();
        assert_eq!(incoming.next().await.unwrap(), [7, 7]);
        assert_eq!(incoming.next().await, None);
        let mut lost = streams.receive(4).unwrap();
        let waiting = tokio::spawn(async move { lost.next().await });
        streams.close();
        assert_eq!(waiting.await.unwrap(), None);
    }

    #[tokio::test]
    async fn the_shim_waits_for_credit_and_stops_at_a_reset() {
        let (out, mut sent) = mpsc::channel(64);
        let streams = Streams::new(out);
        let mut outgoing = streams.send(5).unwrap();
        assert!(outgoing.send(&vec![1; WINDOW]).await);
        let waiting = tokio::spawn(async move { outgoing.send(&[2]).await });
        let credit = Frame { stream: 5, kind: Kind::Credit, flags: 0, payload: 1u32.to_le_bytes().to_vec() };
        streams.take(credit).unwrap();
        assert!(waiting.await.unwrap());
        sent.close();
        let mut outgoing = streams.send(6).unwrap();
        streams.take(Frame { stream: 6, kind: Kind::Reset, flags: 0, payload: Vec::new() }).unwrap();
        assert!(!outgoing.send(&[1]).await);
    }
}
