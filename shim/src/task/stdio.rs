//! A process's standard streams: containerd's fifos on one side, streams of the agent's port on the other.
//!
//! Output is handed on before credit is given back, so what a slow reader has not taken waits in the guest. Fifos are
//! opened for both directions: a containerd that restarts finds them whole, and a write never meets a missing reader.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::agent::streams::{Incoming, Outgoing};

/// Bytes read from stdin at a time.
const CHUNK: usize = 32 * 1024;

/// Where a process's streams are on the host; empty paths are no streams.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Paths {
    /// Fifo to read.
    pub stdin: String,
    /// Fifo to write.
    pub stdout: String,
    /// Fifo to write.
    pub stderr: String,
    /// A terminal: no stderr.
    pub terminal: bool,
}

/// Numbers of the agent's streams, 0 for none, and what moves their bytes.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Number of stdin.
    pub stdin: u32,
    /// Number of stdout.
    pub stdout: u32,
    /// Number of stderr.
    pub stderr: u32,
    /// Ends once stdout and stderr are handed on.
    pub outputs: Vec<JoinHandle<()>>,
    /// Moves stdin.
    pub input: Option<JoinHandle<()>>,
}

/// Opens the host's side and begins to move bytes.
///
/// # Errors
/// If a path can't be opened, or too many streams are open.
pub fn open(agent: &Agent, paths: &Paths, close_stdin: &Arc<Notify>) -> io::Result<Stdio> {
    let mut stdio = Stdio::default();
    let full = || io::Error::other("too many streams of this pod are open");
    let stderr = if paths.terminal { "" } else { paths.stderr.as_str() };
    for (path, number) in [(paths.stdout.as_str(), &mut stdio.stdout), (stderr, &mut stdio.stderr)] {
        if path.is_empty() {
            continue;
        }
        let sink = sink(path)?;
        *number = agent.new_stream();
        let incoming = agent.streams().receive(*number).ok_or_else(full)?;
        stdio.outputs.push(tokio::spawn(take(agent.clone(), incoming, sink)));
    }
    if !paths.stdin.is_empty() {
        let source = pipe::OpenOptions::new().open_receiver(&paths.stdin).map_err(|e| named(&paths.stdin, &e))?;
        stdio.stdin = agent.new_stream();
        let outgoing = agent.streams().send(stdio.stdin).ok_or_else(full)?;
        stdio.input = Some(tokio::spawn(give(outgoing, source, close_stdin.clone())));
    }
    Ok(stdio)
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("can't open {path}: {error}"))
}

type Sink = Box<dyn AsyncWrite + Unpin + Send>;

/// A fifo, or a file by `file://`, which is appended to.
fn sink(path: &str) -> io::Result<Sink> {
    if let Some(file) = path.strip_prefix("file://") {
        let file = file.split('?').next().unwrap_or(file);
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file).map_err(|e| named(file, &e))?;
        return Ok(Box::new(tokio::fs::File::from_std(opened)));
    }
    if path.contains("://") {
        return Err(io::Error::other(format!("can't write to {path}: only fifos and file:// are known")));
    }
    let fifo = pipe::OpenOptions::new().read_write(true).open_sender(path).map_err(|e| named(path, &e))?;
    Ok(Box::new(fifo))
}

async fn take(agent: Agent, mut incoming: Incoming, mut sink: Sink) {
    let number = incoming.stream;
    while let Some(bytes) = incoming.next().await {
        if sink.write_all(&bytes).await.is_err() {
            incoming.reset().await;
            agent.streams().forget(number);
            return;
        }
        agent.streams().grant(number, bytes.len()).await;
    }
    let _ = sink.flush().await; // a file's last bytes; a failure has nobody to be told to
}

/// Sends stdin until its writers have closed it, or, once asked to close it, until it is empty.
async fn give(mut outgoing: Outgoing, mut source: pipe::Receiver, close: Arc<Notify>) {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = source.read(&mut buffer) => read,
            // The pipe itself is asked: that bytes have come may not be known here yet, and `try_read` would find none.
            () = close.notified() => match rustix::io::read(&source, &mut buffer) {
                Ok(n) => {
                    close.notify_one(); // still to be closed once it is empty
                    Ok(n)
                }
                Err(_) => Ok(0),
            },
        };
        match read {
            Ok(n @ 1..) => {
                if !outgoing.send(&buffer[..n]).await {
                    return; // nobody reads any more
                }
            }
            _ => return outgoing.end().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn only_fifos_and_files_are_written_to() {
        let folder = std::env::temp_dir().join(format!("freehold-stdio-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        assert!(sink("binary:///bin/logger").is_err());
        assert!(sink(folder.join("missing").to_str().unwrap()).is_err());
        let file = folder.join("log");
        let mut sink = sink(&format!("file://{}", file.display())).unwrap();
        sink.write_all(b"x").await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// The close is told first, and nothing has run since the bytes were written.
    #[tokio::test]
    async fn what_was_written_before_the_close_is_sent() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let (agent, _events) = Agent::connect(here);
        let fifo = std::env::temp_dir().join(format!("freehold-stdin-{}", std::process::id()));
        let _ = std::fs::remove_file(&fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let source = pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let mut writer = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        let (close, outgoing) = (Arc::new(Notify::new()), agent.streams().send(7).unwrap());
        std::io::Write::write_all(&mut writer, b"typed").unwrap();
        close.notify_one();
        give(outgoing, source, close).await;
        let mut bytes = vec![0; 256];
        let n = tokio::io::AsyncReadExt::read(&mut there, &mut bytes).await.unwrap();
        assert!(bytes[..n].windows(5).any(|part| part == b"typed"), "it ended without what was written: {:?}", &bytes[..n]);
        std::fs::remove_file(&fifo).unwrap();
    }

    #[tokio::test]
    async fn a_process_without_streams_has_none() {
        let (here, _there) = UnixStream::pair().unwrap();
        let (agent, _events) = Agent::connect(here);
        let stdio = open(&agent, &Paths::default(), &Arc::default()).unwrap();
        assert_eq!((stdio.stdin, stdio.stdout, stdio.stderr, stdio.outputs.len()), (0, 0, 0, 0));
    }
}
