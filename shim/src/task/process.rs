//! One process as the task service holds it: its phase, its streams, and the request that starts it.

use std::sync::{Arc, Mutex};

use freehold_guest_api::message::StartProcess;
use tokio::sync::{Notify, watch};

use super::lifecycle::{Exit, Input, Phase, Refused};
use super::stdio::{Paths, Stdio};

/// A process: a container's first one, an exec, or (without a request) the sandbox itself.
#[derive(Debug)]
pub struct Process {
    /// Container id.
    pub container: String,
    /// Exec id; empty for the first process.
    pub exec_id: String,
    /// Its streams on the host.
    pub paths: Paths,
    /// What starts it, its streams not yet chosen; `None` for the sandbox.
    pub start: Option<StartProcess>,
    /// Asks to close stdin once it is empty.
    pub close_stdin: Arc<Notify>,
    /// What moves its bytes.
    pub stdio: Mutex<Stdio>,
    phase: watch::Sender<Phase>,
}

impl Process {
    /// A created one.
    pub fn new(container: &str, exec_id: &str, paths: Paths, start: Option<StartProcess>) -> Process {
        Process {
            container: container.to_owned(),
            exec_id: exec_id.to_owned(),
            paths,
            start,
            close_stdin: Arc::default(),
            stdio: Mutex::default(),
            phase: watch::Sender::new(Phase::Created),
        }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to the next phase and gives it.
    ///
    /// # Errors
    /// If the input does not fit.
    pub fn step(&self, input: Input) -> Result<Phase, Refused> {
        let mut result = Ok(Phase::Gone);
        self.phase.send_if_modified(|phase| {
            result = phase.next(input);
            if let Ok(next) = result {
                *phase = next;
            }
            result.is_ok()
        });
        result
    }

    /// Waits for its end; `None` if it was deleted before.
    pub async fn ended(&self) -> Option<Exit> {
        let mut phase = self.phase.subscribe();
        let found = phase.wait_for(|phase| matches!(phase, Phase::Stopped(_) | Phase::Gone)).await;
        found.ok().and_then(|phase| phase.exit())
    }

    /// Waits until a start under way has come to its end.
    pub async fn settled(&self) {
        let mut phase = self.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase != Phase::Starting).await; // the sender lives as long as this
    }
}
