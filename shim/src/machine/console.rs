//! The last words of a machine: a bounded ring of its serial console and of QEMU's own messages, put into errors.
//!
//! The bytes are the guest's, hostile: everything but printable ASCII is replaced before it reaches an event or a log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes kept: a kernel panic with its back trace.
pub const RING: usize = 16 * 1024;
/// Lines shown in an error.
const LINES: usize = 8;
/// Bytes shown in an error: containerd and the kubelet cut longer messages.
const SHOWN: usize = 1024;

/// The ring.
#[derive(Debug, Default)]
pub struct Console(Mutex<VecDeque<u8>>);

impl Console {
    /// Takes bytes; the oldest fall out.
    pub fn push(&self, bytes: &[u8]) {
        let mut ring = self.0.lock().expect("nothing panics under this lock");
        ring.extend(bytes.iter().skip(bytes.len().saturating_sub(RING)));
        let over = ring.len().saturating_sub(RING);
        ring.drain(..over);
    }

    /// All that is kept, made safe to print.
    pub fn text(&self) -> String {
        let ring = self.0.lock().expect("nothing panics under this lock");
        ring.iter().map(|&b| if b == b'\n' || (b' '..=b'~').contains(&b) { char::from(b) } else { ' ' }).collect()
    }

    /// The last lines, made safe to print.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let shown = lines[lines.len().saturating_sub(LINES)..].join(" | ");
        shown[shown.len().saturating_sub(SHOWN)..].to_owned()
    }

    /// The line in which the guest's kernel gave up, if it did: behind it come registers and traces, more than [`Self::tail`] shows.
    pub fn panic(&self) -> Option<String> {
        let text = self.text();
        let said = text[text.rfind("Kernel panic")?..].lines().next()?;
        Some(said[..said.len().min(SHOWN)].trim().to_owned())
    }

    /// Reads `source` into the ring until it ends.
    pub fn follow<R: AsyncRead + Unpin + Send + 'static>(self: &Arc<Self>, mut source: R) {
        let ring = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0u8; 1024];
            while let Ok(n @ 1..) = source.read(&mut buffer).await {
                ring.push(&buffer[..n]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_shows_the_end() {
        let console = Console::default();
        for i in 0..10_000 {
            console.push(format!("line {i}\r\n").as_bytes());
        }
        assert!(console.0.lock().unwrap().len() <= RING);
        let tail = console.tail();
        assert!(tail.ends_with("line 9999") && tail.len() <= SHOWN, "{tail}");
    }

    #[test]
    fn a_panic_is_found_behind_its_trace() {
        let console = Console::default();
        assert_eq!(console.panic(), None);
        console.push(b"[    2.0] Kernel panic - not syncing: Out of memory \r\n");
        for register in 0..40 {
            console.push(format!("[    2.1] R{register}: 0000000000000000\r\n").as_bytes());
        }
        assert_eq!(console.panic().as_deref(), Some("Kernel panic - not syncing: Out of memory"));
        assert!(!console.tail().contains("panic"));
    }

    #[test]
    fn control_bytes_are_not_shown() {
        let console = Console::default();
        console.push(b"\x1b[2Jfine\xff\n");
        assert_eq!(console.tail(), "[2Jfine");
    }
}
