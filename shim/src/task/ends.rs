//! How processes end: the guest tells, or the machine ends, which ends them all.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::events::task as event;
use freehold_guest_api::message::Happening;
use tokio::sync::mpsc;

use super::cause::End;
use super::events::{self, Event};
use super::lifecycle::{Exit, Input, KILLED, Turn};
use super::pod::{Pod, Task};
use super::process::Process;
use super::sandbox::Sandbox;
use crate::cgroup;

/// Time for output to reach containerd after its process ended; a reader that is gone must not hide the end.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Time for containerd to take in that the sandbox ended.
const TAKE_IN_TIME: Duration = Duration::from_millis(200);

impl Pod {
    /// Acts on what the guest tells, until the machine ends, which ends every process.
    pub(super) async fn follow(self: Arc<Pod>, sandbox: Arc<Sandbox>, mut happenings: mpsc::Receiver<Happening>) {
        loop {
            tokio::select! {
                biased;
                happening = happenings.recv() => match happening {
                    Some(happening) => self.take(happening),
                    None => break,
                },
                _ = sandbox.machine.wait() => break,
            }
        }
        let why = sandbox.agent.lost().await;
        sandbox.machine.kill();
        let how = sandbox.machine.wait().await;
        let _ = self.turn(Turn::Ended); // allowed from everywhere
        let exit = Exit { status: KILLED, at_ns: crate::now_ns() };
        let mut tasks: Vec<_> = self.tasks.lock().expect("nothing panics under this lock").values().cloned().collect();
        // The kubelet must not find a container that ended in a sandbox that did not: it would start it there once more, and what
        // that fails with would take the place of the words.
        tasks.sort_by_key(|task| !task.is_sandbox);
        let others = tasks.len() > 1;
        let (given_up, console, panic) =
            (sandbox.machine.given_up(), sandbox.machine.console.tail(), sandbox.machine.console.panic());
        // Of a panic the last lines show registers and traces alone.
        tracing::info!(%why, %how, panic = panic.as_deref().unwrap_or("none"), %console, "the virtual machine ended");
        let starved = cgroup::starved(&sandbox.places);
        let words = End { how: &how, given_up: given_up.as_deref(), starved, panic: panic.as_deref(), console: &console }.words();
        for task in tasks {
            for back in task.back.iter().filter(|_| task.is_alive()) {
                if let Err(error) = back.say(&words) {
                    tracing::warn!(id = task.id, "the machine's end was not told: {error:#}");
                }
            }
            let execs: Vec<_> = task.execs.lock().expect("nothing panics under this lock").values().cloned().collect();
            for process in execs.into_iter().chain([task.init.clone()]) {
                process.settled().await; // what is being started fails now, or is told as started before it is told as ended
                if let Ok(phase) = process.step(Input::Exited(exit)) {
                    self.tell_exit(&process, phase.exit());
                }
            }
            if task.is_sandbox && others {
                tokio::time::sleep(TAKE_IN_TIME).await;
            }
        }
    }

    fn take(self: &Arc<Pod>, happening: Happening) {
        match happening {
            Happening::Exited(exited) => {
                let Ok((task, process)) = self.process(&exited.container, &exited.exec_id) else { return };
                let exit = Exit { status: exited.status, at_ns: crate::now_ns() };
                tokio::spawn(self.clone().ended(task, process, exit));
            }
            Happening::OutOfMemory(container) => {
                let container_id = container.container;
                if self.task(&container_id).is_ok() {
                    self.events.tell(&Event::Oom(event::TaskOOM { container_id, ..event::TaskOOM::default() }));
                }
            }
        }
    }

    async fn ended(self: Arc<Pod>, task: Arc<Task>, process: Arc<Process>, exit: Exit) {
        process.settled().await;
        let outputs = std::mem::take(&mut process.stdio.lock().expect("nothing panics under this lock").outputs);
        for mut output in outputs {
            if tokio::time::timeout(DRAIN_TIME, &mut output).await.is_err() {
                output.abort();
            }
        }
        if let (true, Some(sandbox)) = (process.exec_id.is_empty(), self.sandbox.get()) {
            for back in &task.back {
                if let Err(error) = back.run(&sandbox.agent).await {
                    tracing::warn!(id = task.id, "the termination log was not copied back: {error:#}");
                }
            }
        }
        if let Ok(phase) = process.step(Input::Exited(exit)) {
            self.tell_exit(&process, phase.exit());
        }
    }

    pub(super) fn tell_exit(&self, process: &Process, exit: Option<Exit>) {
        if let Some(exit) = exit {
            self.events.tell(&events::exit(&process.container, &process.exec_id, self.pid(), exit));
        }
    }
}
