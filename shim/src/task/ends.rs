//! How processes end: the guest tells, or the machine ends, which ends them all.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::events::task as event;
use freehold_guest_api::message::Happening;
use tokio::sync::mpsc;

use super::events::{self, Event};
use super::lifecycle::{Exit, Input, KILLED, Turn};
use super::pod::{Pod, Task};
use super::process::Process;
use super::sandbox::Sandbox;

/// Time for output to reach containerd after its process ended; a reader that is gone must not hide the end.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// What a container's status says when its machine has ended under it: how, why that may be, and the kernel's last words.
fn end_words(how: &str, console: &str) -> String {
    let panic = console.find("Kernel panic").map(|at| &console[at..]);
    let (why, last) = match panic {
        Some(last) => ("; the guest's kernel panicked", last),
        None if how.ends_with("signal 9") => (
            "; the node was out of memory, the pod was beyond its limit and RuntimeClass.overhead, or somebody killed it",
            console,
        ),
        None => ("", console),
    };
    let last = if last.trim().is_empty() { String::new() } else { format!("; its last words: {}", last.trim()) };
    format!("the pod's virtual machine ended ({how}), and its containers with it{why}{last}")
}

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
        tracing::info!(%why, %how, console = %sandbox.machine.console.tail(), "the virtual machine ended");
        let _ = self.turn(Turn::Ended); // allowed from everywhere
        let exit = Exit { status: KILLED, at_ns: crate::now_ns() };
        let tasks: Vec<_> = self.tasks.lock().expect("nothing panics under this lock").values().cloned().collect();
        let words = end_words(&how, &sandbox.machine.console.tail());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_cause() {
        assert!(end_words("killed by signal 9", "").ends_with("or somebody killed it"));
        let panicked = end_words("exit status: 0", "[1.0] noise\n[2.0] Kernel panic - not syncing: Attempted to kill init!");
        assert!(panicked.contains("kernel panicked; its last words: Kernel panic - not syncing: Attempted"), "{panicked}");
        assert_eq!(
            end_words("exit status: 1", " "),
            "the pod's virtual machine ended (exit status: 1), and its containers with it"
        );
    }
}
