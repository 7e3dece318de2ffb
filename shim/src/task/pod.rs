//! A pod: its machine once there is one, and its tasks. What is done with them is in `create`, `requests` and `ends`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use freehold_guest_api::message::{Disk, Resources};
use tokio::sync::{Notify, OnceCell};

use super::events::Publisher;
use super::lifecycle::{Machine, NoMachine, Phase, Refused, Turn};
use super::process::Process;
use super::sandbox::Sandbox;
use crate::volumes::WriteBack;

/// Why a request is not done, in containerd's terms.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// There is no such task or process.
    #[error("there is no {0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0} exists")]
    Exists(String),
    /// It does not fit what the process does now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The machine does not do it now.
    #[error(transparent)]
    Machine(#[from] NoMachine),
    /// A kind of request that is not served.
    #[error("{0} is not done by virtual machines of Freehold")]
    Unsupported(&'static str),
    /// It failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl From<crate::agent::client::AgentError> for TaskError {
    fn from(error: crate::agent::client::AgentError) -> TaskError {
        TaskError::Failed(error.into())
    }
}

pub(super) type Done<T> = Result<T, TaskError>;

/// A task of containerd's: a container, or the pod's sandbox.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its folder.
    pub bundle: PathBuf,
    /// It is the pod's sandbox: the machine itself.
    pub is_sandbox: bool,
    /// Its first process.
    pub init: Arc<Process>,
    /// Namespace of the network, if the task brings the pod's.
    pub(super) netns: Option<PathBuf>,
    pub(super) writable: Option<Disk>,
    pub(super) back: Vec<WriteBack>,
    pub(super) own_pids: bool,
    pub(super) seccomp: Vec<u8>,
    pub(super) resources: Mutex<Resources>,
    pub(super) execs: Mutex<HashMap<String, Arc<Process>>>,
}

impl Task {
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.init.phase(), Phase::Stopped(_) | Phase::Gone)
    }
}

/// A pod.
pub struct Pod {
    pub(super) id: String,
    pub(super) socket: PathBuf,
    pub(super) note: PathBuf,
    pub(super) events: Publisher,
    machine: Mutex<Machine>,
    pub(super) sandbox: OnceCell<Arc<Sandbox>>,
    pub(super) tasks: Mutex<HashMap<String, Arc<Task>>>,
    /// Told when containerd asks the shim to end.
    pub over: Notify,
}

impl Pod {
    /// An empty one, served at this socket, which is [noted](crate::server) there.
    pub fn new(id: &str, socket: PathBuf, note: PathBuf, events: Publisher) -> Arc<Pod> {
        Arc::new(Pod {
            id: id.to_owned(),
            socket,
            note,
            events,
            machine: Mutex::new(Machine::Absent),
            sandbox: OnceCell::new(),
            tasks: Mutex::default(),
            over: Notify::new(),
        })
    }

    /// A task.
    ///
    /// # Errors
    /// If there is none.
    pub fn task(&self, id: &str) -> Done<Arc<Task>> {
        self.tasks
            .lock()
            .expect("nothing panics under this lock")
            .get(id)
            .cloned()
            .ok_or_else(|| TaskError::NotFound(format!("task {id}")))
    }

    /// A process of a task.
    ///
    /// # Errors
    /// If there is none.
    pub fn process(&self, id: &str, exec_id: &str) -> Done<(Arc<Task>, Arc<Process>)> {
        let task = self.task(id)?;
        let process = if exec_id.is_empty() {
            Some(task.init.clone())
        } else {
            task.execs.lock().expect("nothing panics under this lock").get(exec_id).cloned()
        };
        let process = process.ok_or_else(|| TaskError::NotFound(format!("process {exec_id} in task {id}")))?;
        Ok((task, process))
    }

    /// The pid that every process of the pod has on the host. 0 before there is a machine.
    ///
    /// It is the supervisor's, whose network is the pod's: the kubelet reads the pod's traffic from `/proc/PID/net/dev`.
    pub fn pid(&self) -> u32 {
        self.sandbox.get().map_or(0, |sandbox| sandbox.machine.supervisor)
    }

    /// The machine's life goes on.
    pub(super) fn turn(&self, turn: Turn) -> Result<(), NoMachine> {
        let mut machine = self.machine.lock().expect("nothing panics under this lock");
        *machine = machine.next(turn)?;
        Ok(())
    }

    /// The machine, if it still serves.
    pub(super) fn running(&self) -> Done<&Arc<Sandbox>> {
        let machine = *self.machine.lock().expect("nothing panics under this lock");
        machine.serves()?;
        self.sandbox.get().ok_or_else(|| NoMachine(machine).into())
    }

    /// No machine was ever asked for.
    pub fn is_unasked(&self) -> bool {
        *self.machine.lock().expect("nothing panics under this lock") == Machine::Absent
    }

    /// Nothing is left to serve.
    pub fn is_empty(&self) -> bool {
        self.tasks.lock().expect("nothing panics under this lock").is_empty()
    }

    /// Ends the machine, if there still is one.
    pub fn kill_machine(&self) {
        if let Some(sandbox) = self.sandbox.get() {
            sandbox.machine.kill();
        }
    }
}
