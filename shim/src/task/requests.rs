//! What containerd asks of processes that there are.

use std::path::Path;
use std::sync::Arc;

use containerd_shim_protos::events::task as event;
use freehold_guest_api::message::{Answer, Call, ContainerRef, Freeze, Network, ProcessRef, Resize, Signal, Stats, Update};

use super::events::{self, Event};
use super::lifecycle::{Exit, Input, Phase, Turn};
use super::pod::{Done, Pod, Task, TaskError};
use super::process::Process;
use super::sandbox::Sandbox;
use super::stdio::{self, Paths};
use crate::agent::client::{self, AgentError};
use crate::record::Record;
use crate::server;
use crate::{network, spec};

const SIGKILL: u32 = 9;

impl Pod {
    /// Starts a process.
    ///
    /// # Errors
    /// If it does not fit its phase, or the guest fails.
    pub async fn start(&self, id: &str, exec_id: &str) -> Done<u32> {
        let (task, process) = self.process(id, exec_id)?;
        process.step(Input::Start)?;
        match self.bring_up(&task, &process).await {
            Ok(()) => {}
            Err(error) => {
                let _ = process.step(Input::StartFailed(crate::now_ns())); // the machine's end may have come before
                return Err(error);
            }
        }
        let pid = self.pid();
        self.events.tell(&if exec_id.is_empty() {
            Event::Start(event::TaskStart { container_id: id.to_owned(), pid, ..event::TaskStart::default() })
        } else {
            let (container_id, exec_id) = (id.to_owned(), exec_id.to_owned());
            Event::ExecStarted(event::TaskExecStarted { container_id, exec_id, pid, ..event::TaskExecStarted::default() })
        });
        let _ = process.step(Input::Started); // or the machine has ended meanwhile
        Ok(pid)
    }

    async fn bring_up(&self, task: &Task, process: &Arc<Process>) -> Done<()> {
        let sandbox = self.running()?;
        if process.exec_id.is_empty() && task.id == self.id {
            self.network(sandbox, task.netns.as_deref()).await?;
        }
        let Some(mut start) = process.start.clone() else { return Ok(()) };
        let stdio = stdio::open(&sandbox.agent, &process.paths, &process.close_stdin).map_err(anyhow::Error::from)?;
        (start.stdin, start.stdout, start.stderr) = (stdio.stdin, stdio.stdout, stdio.stderr);
        let streams = [stdio.stdin, stdio.stdout, stdio.stderr];
        *process.stdio.lock().expect("nothing panics under this lock") = stdio;
        match sandbox.agent.ask("StartProcess", Call::StartProcess(start)).await {
            Ok(Answer::Started(_)) => Ok(()),
            other => {
                for stream in streams {
                    sandbox.agent.streams().forget(stream);
                }
                self.stop_stdio(process).await;
                other?;
                Err(client::AgentError::Unexpected("StartProcess").into())
            }
        }
    }

    /// Without a namespace that CNI has filled the guest has a loopback interface alone.
    async fn network(&self, sandbox: &Sandbox, netns: Option<&Path>) -> Done<()> {
        let (network, ports) = match netns {
            None => (Network::default(), None),
            Some(netns) => {
                let joined = network::join(netns).await?;
                joined.plug(&sandbox.machine.qmp).await?;
                (joined.network, joined.ports)
            }
        };
        sandbox.agent.command("SetNetwork", Call::SetNetwork(network)).await?;
        if let Some(ports) = ports {
            let agent = sandbox.agent.clone();
            tokio::spawn(async move {
                if let Err(error) = ports.serve(agent).await {
                    tracing::warn!(%error, "port-forward does not work any more");
                }
            });
        }
        Ok(())
    }

    /// Makes an exec.
    ///
    /// # Errors
    /// If the container does not run, the id is taken, or the process is not understood.
    pub fn exec(&self, id: &str, exec_id: &str, process: &spec::process::Process, paths: Paths) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Err(TaskError::Unsupported("an exec in the sandbox, which has no process,"));
        }
        let mut start = process.to_start(id, exec_id, task.seccomp.clone()).map_err(anyhow::Error::from)?;
        start.terminal = paths.terminal;
        let mut execs = task.execs.lock().expect("nothing panics under this lock");
        if execs.contains_key(exec_id) {
            return Err(TaskError::Exists(format!("process {exec_id}")));
        }
        execs.insert(exec_id.to_owned(), Arc::new(Process::new(id, exec_id, paths, Some(start))));
        let (container_id, exec_id) = (id.to_owned(), exec_id.to_owned());
        self.events.tell(&Event::ExecAdded(event::TaskExecAdded { container_id, exec_id, ..event::TaskExecAdded::default() }));
        Ok(())
    }

    /// Sends a signal. Any to the sandbox that ends a program ends the machine.
    ///
    /// # Errors
    /// If the process has ended, or the guest fails.
    pub async fn kill(self: &Arc<Pod>, id: &str, exec_id: &str, signal: u32, all: bool) -> Done<()> {
        let (task, process) = self.process(id, exec_id)?;
        process.settled().await;
        match process.phase() {
            Phase::Created if !task.is_sandbox => {
                let exit = process.step(Input::Kill(crate::now_ns()))?.exit();
                self.tell_exit(&process, exit);
                return Ok(());
            }
            Phase::Stopped(_) | Phase::Gone => return Err(TaskError::NotFound("process: it has ended".into())),
            _ => {}
        }
        let sandbox = self.running()?.clone();
        if task.is_sandbox {
            let _ = self.turn(Turn::End); // or it is over already
            tokio::spawn(async move { sandbox.end().await });
            return Ok(());
        }
        let signal = Signal { container: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        let killed = signal.signal == SIGKILL;
        match sandbox.agent.command("Signal", Call::Signal(signal)).await {
            // A guest that does not answer would never end anything, and the pod could never be deleted.
            Err(error @ AgentError::Late(..)) => {
                tracing::warn!(id, exec_id, %error, "the machine is ended, because its guest does not take a signal");
                sandbox.machine.give_up(format!("the node's shim ended it: {error}"));
                Ok(())
            }
            Err(error) if !killed => Err(error.into()),
            // A process that ends on its own meanwhile answers ESRCH, which SIGKILL wants anyway.
            Err(error) => Err(TaskError::NotFound(format!("process: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Forgets an ended process, or a task with all that was plugged for it. Gives pid and end.
    ///
    /// # Errors
    /// If it still runs.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Done<(u32, Exit)> {
        let (task, process) = self.process(id, exec_id)?;
        let exit = process.phase().exit().unwrap_or(Exit { status: 0, at_ns: crate::now_ns() });
        process.step(Input::Delete)?;
        self.stop_stdio(&process).await;
        let pid = self.pid();
        if let Some(sandbox) = self.sandbox.get() {
            let reference = ProcessRef { container: id.to_owned(), exec_id: exec_id.to_owned() };
            if !task.is_sandbox
                && self.running().is_ok()
                && let Err(error) = sandbox.agent.command("Delete", Call::Delete(reference)).await
            {
                tracing::warn!(id, exec_id, %error, "the guest did not delete");
            }
            if exec_id.is_empty() {
                self.release(sandbox, &task).await;
            }
        }
        if exec_id.is_empty() {
            self.tasks.lock().expect("nothing panics under this lock").remove(id);
            if id == self.id && !self.is_empty() {
                server::release(&self.note); // this server is still to tell how the others ended, and containerd is about to run `delete`
            }
        } else {
            task.execs.lock().expect("nothing panics under this lock").remove(exec_id);
        }
        self.events.tell(&Event::Delete(event::TaskDelete {
            container_id: id.to_owned(),
            id: exec_id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: events::timestamp(exit.at_ns),
            ..event::TaskDelete::default()
        }));
        Ok((pid, exit))
    }

    async fn release(&self, sandbox: &Sandbox, task: &Task) {
        if task.id == self.id {
            let _ = self.turn(Turn::End);
            sandbox.end().await;
            if let Some(record) = Record::read(&task.bundle) {
                let _ = tokio::task::spawn_blocking(move || crate::record::remove_cgroups(&record.cgroups)).await;
            }
            return;
        }
        if let Some(disk) = task.writable {
            sandbox.unplug(disk).await;
        }
        let _ = sandbox.limit(&task.id, None).await; // refused only by a machine that is gone
    }

    async fn stop_stdio(&self, process: &Process) {
        let stdio = std::mem::take(&mut *process.stdio.lock().expect("nothing panics under this lock"));
        if let Some(input) = stdio.input {
            input.abort();
        }
        for output in stdio.outputs {
            output.abort();
        }
    }

    /// New size of a terminal.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn resize(&self, id: &str, exec_id: &str, columns: u32, rows: u32) -> Done<()> {
        self.process(id, exec_id)?;
        let resize = Resize { container: id.to_owned(), exec_id: exec_id.to_owned(), columns, rows };
        Ok(self.running()?.agent.command("Resize", Call::Resize(resize)).await?)
    }

    /// Stops a container, or lets it go on.
    ///
    /// # Errors
    /// If it does not run, or the guest fails.
    pub async fn freeze(&self, id: &str, frozen: bool) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Err(TaskError::Unsupported("pausing a whole pod"));
        }
        let (input, back) = if frozen { (Input::Pause, Input::Resume) } else { (Input::Resume, Input::Pause) };
        task.init.step(input)?;
        let result = self.running()?.agent.command("Freeze", Call::Freeze(Freeze { container: id.to_owned(), frozen })).await;
        if let Err(error) = result {
            let _ = task.init.step(back); // or it has ended
            return Err(error.into());
        }
        let container_id = id.to_owned();
        self.events.tell(&if frozen {
            Event::Paused(event::TaskPaused { container_id, ..event::TaskPaused::default() })
        } else {
            Event::Resumed(event::TaskResumed { container_id, ..event::TaskResumed::default() })
        });
        Ok(())
    }

    /// A container's figures, or the machine's for the sandbox.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn stats(&self, id: &str) -> Done<Stats> {
        let task = self.task(id)?;
        let sandbox = self.running()?;
        if task.is_sandbox {
            return Ok(super::stats::of_machine(sandbox.machine.pid));
        }
        match sandbox.agent.ask("Stats", Call::Stats(ContainerRef { container: id.to_owned() })).await? {
            Answer::Stats(stats) => Ok(stats),
            _ => Err(client::AgentError::Unexpected("Stats").into()),
        }
    }

    /// New limits of a container.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn update(&self, id: &str, change: &spec::SpecResources) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Ok(()); // a sandbox has no limits of its own: its containers' are what counts
        }
        let sandbox = self.running()?;
        let old = *task.resources.lock().expect("nothing panics under this lock");
        let new = change.over(&old);
        if new.memory > old.memory {
            sandbox.limit(id, Some(new.memory)).await?; // room first
        }
        let update = Update { container: id.to_owned(), resources: Some(new) };
        sandbox.agent.command("Update", Call::Update(update)).await?;
        *task.resources.lock().expect("nothing panics under this lock") = new;
        Ok(sandbox.limit(id, Some(new.memory)).await?)
    }
}
