//! The connection: one reader, one writer, answers by number, events in order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_guest_api::frame::{self, CONTROL, Decoder, Frame, Kind, MORE};
use freehold_guest_api::limits::{MAX_EVENTS, MAX_MESSAGE, MAX_REQUESTS};
use freehold_guest_api::message::{Answer, Call, Configure, Event, Happening, Ready, Reply, Request, Wake};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::streams::Streams;

/// Time for a request; mounting a cold image under emulation takes a few hundred milliseconds.
pub const REQUEST_TIME: Duration = Duration::from_secs(20);
/// Pieces waiting to be written; each is at most one message or one frame of data.
const OUTGOING: usize = 64;

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// The agent tried and failed.
    #[error("the guest failed: {message}")]
    Failed {
        /// `errno`, or 0.
        errno: i32,
        /// The agent's words.
        message: String,
    },
    /// No answer in time.
    #[error(
        "the guest did not answer {0} within {1:?}: its machine or the node's KVM hangs, a volume of it does not answer, or the node is \
         overloaded; if it stays so, delete the pod, and look at the node's load and kernel log"
    )]
    Late(&'static str, Duration),
    /// The connection is over.
    #[error("the connection to the guest is lost: {0}")]
    Lost(String),
    /// The answer is not one to this request.
    #[error("the guest answered {0} with something else")]
    Unexpected(&'static str),
}

/// A connection to an agent; clones share it.
#[derive(Debug, Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    outgoing: mpsc::Sender<Vec<u8>>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Option<Answer>>>>,
    turns: Semaphore,
    next_id: AtomicU64,
    next_stream: AtomicU32,
    streams: Arc<Streams>,
    lost: watch::Sender<Option<String>>,
}

impl Agent {
    /// Takes the port. Events come on the receiver, which ends with the connection.
    pub fn connect(port: UnixStream) -> (Agent, mpsc::Receiver<Happening>) {
        let (read, write) = port.into_split();
        let (outgoing, outgoing_rx) = mpsc::channel(OUTGOING);
        let (events_tx, events) = mpsc::channel(MAX_EVENTS);
        let inner = Arc::new(Inner {
            streams: Arc::new(Streams::new(outgoing.clone())),
            outgoing,
            pending: Mutex::default(),
            turns: Semaphore::new(MAX_REQUESTS),
            next_id: AtomicU64::new(1),
            next_stream: AtomicU32::new(1),
            lost: watch::Sender::new(None),
        });
        tokio::spawn(write_all(write, outgoing_rx));
        let reader = inner.clone();
        tokio::spawn(async move {
            let reason = read_all(read, &reader, events_tx).await;
            reader.pending.lock().expect("nothing panics under this lock").clear();
            reader.streams.close();
            reader.lost.send_replace(Some(reason));
        });
        (Agent { inner }, events)
    }

    /// Byte streams of this connection.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.inner.streams
    }

    /// A stream number that was not used before.
    pub fn new_stream(&self) -> u32 {
        self.inner.next_stream.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for the connection's end; says why.
    pub async fn lost(&self) -> String {
        let mut lost = self.inner.lost.subscribe();
        lost.wait_for(Option::is_some).await.map_or_else(|_| String::new(), |reason| reason.clone().unwrap_or_default())
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// If the agent fails, is late, or is gone.
    pub async fn ask(&self, what: &'static str, call: Call) -> Result<Answer, AgentError> {
        self.ask_within(what, call, REQUEST_TIME).await
    }

    /// As [`Agent::ask`], with a limit of its own.
    ///
    /// # Errors
    /// If the agent fails, is late, or is gone.
    pub async fn ask_within(&self, what: &'static str, call: Call, time: Duration) -> Result<Answer, AgentError> {
        let id = self.inner.next_id.fetch_add(1, Ordering::Relaxed);
        let result = tokio::time::timeout(time, self.exchange(id, call)).await;
        self.inner.pending.lock().expect("nothing panics under this lock").remove(&id);
        match result {
            Err(_) => Err(AgentError::Late(what, time)),
            Ok(Err(error)) => Err(error),
            Ok(Ok(None)) => Err(AgentError::Unexpected(what)),
            Ok(Ok(Some(Answer::Error(error)))) => {
                Err(AgentError::Failed { errno: error.errno, message: crate::printable(&error.message) })
            }
            Ok(Ok(Some(answer))) => Ok(answer),
        }
    }

    /// Asks for something that is answered by "done".
    ///
    /// # Errors
    /// As [`Agent::ask`].
    pub async fn command(&self, what: &'static str, call: Call) -> Result<(), AgentError> {
        self.command_within(what, call, REQUEST_TIME).await
    }

    /// As [`Agent::command`], with a limit of its own.
    ///
    /// # Errors
    /// As [`Agent::ask`].
    pub async fn command_within(&self, what: &'static str, call: Call, time: Duration) -> Result<(), AgentError> {
        match self.ask_within(what, call, time).await? {
            Answer::Done(_) => Ok(()),
            _ => Err(AgentError::Unexpected(what)),
        }
    }

    /// The first words to a fresh guest: clock, entropy, names.
    ///
    /// # Errors
    /// As [`Agent::ask`].
    pub async fn configure(&self, configure: Configure, time: Duration) -> Result<Ready, AgentError> {
        match self.ask_within("Configure", Call::Configure(configure), time).await? {
            Answer::Ready(ready) => Ok(ready),
            _ => Err(AgentError::Unexpected("Configure")),
        }
    }

    async fn exchange(&self, id: u64, call: Call) -> Result<Option<Answer>, AgentError> {
        let _turn = self.inner.turns.acquire().await.map_err(|e| AgentError::Lost(e.to_string()))?;
        let (answer_to, answer) = oneshot::channel();
        self.inner.pending.lock().expect("nothing panics under this lock").insert(id, answer_to);
        let message = Request { id, call: Some(call) }.encode_to_vec();
        if message.len() > MAX_MESSAGE {
            return Err(AgentError::Failed {
                errno: 0,
                message: format!("a request of {} bytes, at most {MAX_MESSAGE} are allowed", message.len()),
            });
        }
        let mut bytes = Vec::with_capacity(message.len() + 64);
        frame::message_frames(&mut bytes, Kind::Request, &message);
        let lost = || AgentError::Lost(self.inner.lost.borrow().clone().unwrap_or_else(|| "it ended".into()));
        self.inner.outgoing.send(bytes).await.map_err(|_| lost())?;
        if self.inner.lost.borrow().is_some() {
            return Err(lost());
        }
        answer.await.map_err(|_| lost())
    }
}

async fn write_all(mut port: OwnedWriteHalf, mut outgoing: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = outgoing.recv().await {
        if port.write_all(&bytes).await.is_err() {
            return; // the reader sees the same end and says so
        }
    }
}

/// Reads until the end; says why it ended.
async fn read_all(mut port: OwnedReadHalf, inner: &Inner, events: mpsc::Sender<Happening>) -> String {
    let mut decoder = Decoder::default();
    let mut control = Control::default();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let n = match port.read(&mut buffer).await {
            Ok(0) => return "the machine ended".into(),
            Ok(n) => n,
            Err(error) => return error.to_string(),
        };
        decoder.push(&buffer[..n]);
        loop {
            let next = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(next)) => next,
                Err(error) => return error.to_string(),
            };
            let result = match next.stream {
                CONTROL => take_control(&mut control, next, inner, &events),
                _ => inner.streams.take(next),
            };
            if let Err(reason) = result {
                return reason;
            }
        }
    }
}

fn take_control(control: &mut Control, frame: Frame, inner: &Inner, events: &mpsc::Sender<Happening>) -> Result<(), String> {
    match control.take(frame)? {
        None => Ok(()),
        Some((Kind::Reply, bytes)) => {
            let reply = Reply::decode(bytes.as_slice()).map_err(|e| format!("a reply can't be decoded: {e}"))?;
            let waiting = inner.pending.lock().expect("nothing panics under this lock").remove(&reply.id);
            if let Some(waiting) = waiting {
                let _ = waiting.send(reply.answer); // the asker may have given up
            }
            Ok(())
        }
        Some((Kind::Event, bytes)) => {
            let event = Event::decode(bytes.as_slice()).map_err(|e| format!("an event can't be decoded: {e}"))?;
            let Some(happening) = event.happening else { return Ok(()) };
            events.try_send(happening).map_err(|_| format!("more than {MAX_EVENTS} events wait"))
        }
        Some((kind, _)) => Err(format!("a message of kind {kind:?} from the guest")),
    }
}

/// Puts control messages together from frames.
#[derive(Debug, Default)]
struct Control {
    kind: Option<Kind>,
    bytes: Vec<u8>,
}

impl Control {
    fn take(&mut self, frame: Frame) -> Result<Option<(Kind, Vec<u8>)>, String> {
        if self.kind.is_some_and(|kind| kind != frame.kind) {
            return Err("frames of two control messages are mixed".into());
        }
        if self.bytes.len() + frame.payload.len() > MAX_MESSAGE {
            return Err(format!("a control message of more than {MAX_MESSAGE} bytes"));
        }
        self.bytes.extend_from_slice(&frame.payload);
        if frame.flags & MORE != 0 {
            self.kind = Some(frame.kind);
            return Ok(None);
        }
        self.kind = None;
        Ok(Some((frame.kind, std::mem::take(&mut self.bytes))))
    }
}

/// What makes a clone of a template its own, with the clock and fresh entropy of now.
///
/// # Errors
/// If the host gives no random bytes.
pub fn waking_words() -> Result<Wake, AgentError> {
    Ok(Wake { entropy: entropy()?, realtime_ns: crate::now_ns() })
}

fn entropy() -> Result<Vec<u8>, AgentError> {
    let mut entropy = vec![0u8; 64];
    let filled = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
    if filled == Ok(entropy.len()) {
        Ok(entropy)
    } else {
        Err(AgentError::Lost("the host gave no random bytes for the guest".into()))
    }
}

/// The first words, with the clock and fresh entropy of now.
///
/// # Errors
/// If the host gives no random bytes.
pub fn first_words(hostname: &str) -> Result<Configure, AgentError> {
    Ok(Configure {
        version: freehold_guest_api::limits::VERSION,
        realtime_ns: crate::now_ns(),
        entropy: entropy()?,
        hostname: hostname.to_owned(),
        sysctls: Vec::new(),
        shm_bytes: 0,
        user_ids: None,
    })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
