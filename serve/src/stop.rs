//! The wish to end, told once and seen by every task.
//!
//! Input: SIGTERM (the kubelet) or SIGINT (a person). Servers stop accepting and finish what they began.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells every [`Stop`] made from it to end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Resolves once a stop was asked for; clone it for each task.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stopper {
    /// Asks all holders of [`Stop`] to end. Saying it twice changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Waits until a stop is asked for. A dropped [`Stopper`] counts as one: nobody could ask any more.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}

/// A pair of the two.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

/// A [`Stop`] that follows SIGTERM and SIGINT of this process. Errors when signal handlers cannot be set.
pub fn on_signals() -> std::io::Result<Stop> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stopper, stop) = channel();
    tokio::spawn(async move {
        let name = tokio::select! { _ = term.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        tracing::info!(signal = name, "stopping: no new connections, finishing those that run");
        stopper.stop();
    });
    Ok(stop)
}
