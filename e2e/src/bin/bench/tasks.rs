//! The container runtime's own share: from its first step for a pod until the process in the pod's container is started.
//!
//! Input: containerd's events, followed on the node. Kubernetes' part (scheduling, the kubelet's turns, the network plugin) lies
//! before, between and after, and is left out, but for the kubelet's way from creating the container to starting it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use freehold_e2e::wait;
use k8s_openapi::jiff::Timestamp;

use super::pods::SMALL;
use super::{node, on_node};

/// Time for containerd's last event of a pod that runs already.
const LATE: Duration = Duration::from_secs(10);

type Event = (Timestamp, String);

/// containerd's events since the beginning.
pub struct Tasks {
    said: Arc<Mutex<Vec<Event>>>,
    following: Child,
}

impl Tasks {
    /// Begins to follow them. Comes back once one was heard: what happens before containerd has heard of the wish is told to nobody.
    pub async fn follow() -> anyhow::Result<Self> {
        let mut following = on_node(&["ctr", "--namespace", "k8s.io", "events"])?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(following.stdout.take().context("no stdout")?).lines();
        let said = Arc::<Mutex<Vec<Event>>>::default();
        let all = said.clone();
        std::thread::spawn(move || {
            for event in lines.map_while(Result::ok).filter_map(|line| read(&line)) {
                all.lock().expect("nothing panics under this lock").push(event);
            }
        });
        let tasks = Self { said, following };
        wait::until("any event of containerd", LATE, async || {
            node(&["ctr", "--namespace", "k8s.io", "images", "label", SMALL, "bench=follows"])?;
            anyhow::ensure!(!tasks.said.lock().expect("nothing panics under this lock").is_empty(), "nothing was heard");
            Ok(())
        })
        .await?;
        Ok(tasks)
    }

    /// Seconds for the only pod that was begun since.
    pub async fn until_process(&self, since: Timestamp) -> anyhow::Result<f64> {
        wait::until("containerd's events of a pod", LATE, async || {
            let said = self.said.lock().expect("nothing panics under this lock");
            until_process(&said, since).with_context(|| format!("of {} events in all none that tells it", said.len()))
        })
        .await
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        let _ = self.following.kill();
        let _ = self.following.wait();
    }
}

/// `2026-01-02 03:04:05.678 +0000 UTC k8s.io /tasks/start {…}`
fn read(line: &str) -> Option<Event> {
    let words: Vec<&str> = line.split_whitespace().take(6).collect();
    let [day, time, "+0000", "UTC", _, topic] = words[..] else { return None };
    Some((format!("{day}T{time}Z").parse().ok()?, topic.to_owned()))
}

/// Of a sandbox and then of its one container: from its record until its task is started, both together.
fn until_process(said: &[Event], since: Timestamp) -> Option<f64> {
    let of = |topic: &'static str| said.iter().filter(move |(at, what)| *at >= since && what == topic).map(|(at, _)| *at);
    let (mut made, mut started) = (of("/containers/create"), of("/tasks/start"));
    let mut one = || Some(started.next()?.duration_since(made.next()?).as_secs_f64());
    Some(one()? + one()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_and_its_container_are_counted_and_what_lies_between_is_not() {
        let line = |second: &str, topic: &str| format!("2026-01-02 03:04:{second} +0000 UTC k8s.io {topic} {{\"id\":\"a b\"}}");
        let lines = [
            line("01", "/tasks/start"),
            line("02.5", "/containers/create"),
            line("03", "/tasks/create"),
            line("04", "/tasks/start"),
            line("06", "/containers/create"),
            "garbage".into(),
            line("06.25", "/tasks/start"),
        ];
        let said: Vec<Event> = lines.iter().filter_map(|line| read(line)).collect();
        let since = "2026-01-02T03:04:02Z".parse().unwrap();
        assert_eq!(said.len(), 6);
        assert_eq!(until_process(&said, since), Some(1.75));
        assert_eq!(until_process(&said[..5], since), None, "its container is not started yet");
    }
}
