//! QEMU's control protocol: commands with numbers, answers matched by them, descriptors passed beside a command, events.
//!
//! QEMU is trusted less than the shim (a guest may have taken it over): lines are bounded and unknown ones ignored.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, broadcast, mpsc};

/// Longest line taken, in bytes: `query-named-block-nodes` has about 2 KiB a disk, and there may be two thousand.
pub const MAX_LINE: usize = 8 * 1024 * 1024;
/// Time for one command: device hot-add under emulation takes tens of milliseconds.
pub const COMMAND_TIME: Duration = Duration::from_secs(10);
/// Events kept for a slow listener.
const EVENTS: usize = 64;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed or ended: QEMU is gone.
    #[error("QEMU's control socket failed during {command}: {reason}")]
    Lost {
        /// What was under way.
        command: String,
        /// Why.
        reason: String,
    },
    /// QEMU said no.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// No answer in time.
    #[error(
        "QEMU did not answer {command} within {COMMAND_TIME:?}: it hangs, or the node is overloaded; if it stays so, delete the pod, and look \
         at the node's load and kernel log"
    )]
    Late {
        /// What was asked.
        command: String,
    },
}

/// A connection; commands run one at a time.
#[derive(Debug)]
pub struct Qmp {
    stream: Arc<UnixStream>,
    turn: Mutex<Turn>,
    events: broadcast::Sender<Value>,
}

#[derive(Debug)]
struct Turn {
    next: u64,
    answers: mpsc::Receiver<Value>,
}

impl Qmp {
    /// Takes the greeting and leaves negotiation.
    ///
    /// # Errors
    /// If QEMU ends or does not answer.
    pub async fn connect(stream: UnixStream) -> Result<Qmp, QmpError> {
        let stream = Arc::new(stream);
        let (answer_to, answers) = mpsc::channel(4);
        let (events, _) = broadcast::channel(EVENTS);
        tokio::spawn(read(stream.clone(), answer_to, events.clone()));
        let qmp = Qmp { stream, turn: Mutex::new(Turn { next: 1, answers }), events };
        qmp.execute("qmp_capabilities", json!({}), None).await?;
        Ok(qmp)
    }

    /// Events from now on.
    pub fn events(&self) -> broadcast::Receiver<Value> {
        self.events.subscribe()
    }

    /// Runs a command, with a descriptor beside it for `add-fd` and `getfd`.
    ///
    /// # Errors
    /// If QEMU refuses, is gone, or is late.
    pub async fn execute(&self, command: &str, arguments: Value, fd: Option<BorrowedFd<'_>>) -> Result<Value, QmpError> {
        let mut turn = self.turn.lock().await;
        let id = turn.next;
        turn.next += 1;
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments, "id": id }));
        let work = async {
            self.send(line.as_bytes(), fd).await.map_err(|e| lost(command, &e.to_string()))?;
            loop {
                let answer = turn.answers.recv().await.ok_or_else(|| lost(command, "QEMU ended"))?;
                if answer["id"] != json!(id) {
                    continue; // the answer to a command that was given up
                }
                if let Some(error) = answer.get("error") {
                    let reason = error["desc"].as_str().unwrap_or("without a reason").to_owned();
                    return Err(QmpError::Refused { command: command.to_owned(), reason });
                }
                return Ok(answer["return"].clone());
            }
        };
        match tokio::time::timeout(COMMAND_TIME, work).await {
            Ok(result) => result,
            Err(_) => Err(QmpError::Late { command: command.to_owned() }),
        }
    }

    async fn send(&self, mut bytes: &[u8], mut fd: Option<BorrowedFd<'_>>) -> std::io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
                let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut beside = SendAncillaryBuffer::new(&mut space);
                if !fds.is_empty() {
                    beside.push(SendAncillaryMessage::ScmRights(&fds));
                }
                let parts = [std::io::IoSlice::new(bytes)];
                Ok(rustix::net::sendmsg(self.stream.as_fd(), &parts, &mut beside, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Ok(n) => {
                    bytes = &bytes[n..];
                    fd = None;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn lost(command: &str, reason: &str) -> QmpError {
    QmpError::Lost { command: command.to_owned(), reason: reason.to_owned() }
}

/// Reads lines until the end, or until one is too long.
async fn read(stream: Arc<UnixStream>, answers: mpsc::Sender<Value>, events: broadcast::Sender<Value>) {
    let mut lines = Lines::default();
    let mut buffer = [0u8; 4096];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => lines.push(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        loop {
            match lines.next_line() {
                Ok(None) => break,
                Err(TooLong) => return,
                Ok(Some(value)) if value.get("event").is_some() => drop(events.send(value)),
                Ok(Some(value)) if value.get("id").is_some() => {
                    if answers.send(value).await.is_err() {
                        return;
                    }
                }
                Ok(Some(_)) => {} // the greeting
            }
        }
    }
}

/// A line was longer than [`MAX_LINE`].
#[derive(Debug, PartialEq)]
struct TooLong;

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// So many hold no end of a line: they are not looked at again.
    searched: usize,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
    /// The next line that is JSON; others are skipped.
    fn next_line(&mut self) -> Result<Option<Value>, TooLong> {
        while let Some(end) = self.bytes[self.searched..].iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=self.searched + end).collect();
            self.searched = 0;
            if let Ok(value) = serde_json::from_slice(&line) {
                return Ok(Some(value));
            }
        }
        self.searched = self.bytes.len();
        if self.bytes.len() > MAX_LINE { Err(TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    #[test]
    fn lines_are_cut_skipped_and_bounded() {
        let mut lines = Lines::default();
        lines.push(b"rubbish\n{\"a\":1}\r\n{\"b\"");
        assert_eq!(lines.next_line(), Ok(Some(json!({ "a": 1 }))));
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b":2}\n");
        assert_eq!(lines.next_line(), Ok(Some(json!({ "b": 2 }))));
        lines.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(lines.next_line(), Err(TooLong));
    }

    #[tokio::test]
    async fn answers_are_matched_and_events_pass_by() {
        let (here, there) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let (read, mut write) = there.into_split();
            let mut lines = BufReader::new(read).lines();
            write.write_all(b"{\"QMP\":{}}\r\n").await.unwrap();
            while let Some(line) = lines.next_line().await.unwrap() {
                let asked: Value = serde_json::from_str(&line).unwrap();
                let answer = match asked["execute"].as_str().unwrap() {
                    "bad" => json!({ "error": { "desc": "no such thing" }, "id": asked["id"] }),
                    _ => json!({ "return": { "ok": true }, "id": asked["id"] }),
                };
                let text = format!("{{\"event\":\"E\"}}\r\n{{\"return\":{{}},\"id\":0}}\r\n{answer}\r\n");
                write.write_all(text.as_bytes()).await.unwrap();
            }
        });
        let qmp = Qmp::connect(here).await.unwrap();
        let mut events = qmp.events();
        assert_eq!(qmp.execute("good", json!({}), None).await.unwrap(), json!({ "ok": true }));
        assert_eq!(events.recv().await.unwrap()["event"], "E");
        let error = qmp.execute("bad", json!({}), None).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused bad: no such thing");
    }
}
