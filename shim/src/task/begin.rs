//! How a pod's machine begins: as a clone of its tenant's template, or cold. Whatever goes wrong with a template ends in a cold
//! boot, and in a line of the log that says why.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use freehold_guest_api::message::{Call, Configure, Happening, Ready};
use tokio::sync::mpsc;

use crate::agent::{Agent, client};
use crate::config::Config;
use crate::machine::command::Base;
use crate::machine::migration;
use crate::machine::process::{END_TIME, Machine, StartError};
use crate::template::{self, Template};

/// Time for a machine to boot, under emulation on a busy node.
const BOOT_TIME: Duration = Duration::from_secs(60);
/// Time for a clone to wake: it takes a tenth of a second, more on a busy node. One that does not is given up for a cold boot, and its template
/// with it.
const WAKE_TIME: Duration = Duration::from_secs(20);

/// What a machine begins from.
#[derive(Debug)]
pub struct Beginning<P> {
    /// Its first words.
    pub words: Configure,
    /// The pod's network namespace.
    pub network: Option<OwnedFd>,
    /// The template, or in words why there is none.
    pub template: Result<Template, String>,
    /// Called with supervisor and user as soon as there is a process to end; again if a clone is given up.
    pub place: P,
}

impl<P> Beginning<P> {
    fn network(&self) -> std::io::Result<Option<OwnedFd>> {
        self.network.as_ref().map(OwnedFd::try_clone).transpose()
    }
}

/// A machine whose agent has its first words.
#[derive(Debug)]
pub struct Begun {
    /// The machine.
    pub machine: Machine,
    /// The connection to its agent.
    pub agent: Agent,
    /// What happens in the guest.
    pub events: mpsc::Receiver<Happening>,
}

/// Begins a machine.
///
/// # Errors
/// If it does not start or the agent does not answer; it is ended then.
pub async fn begin<P>(config: &Config, from: Beginning<P>) -> anyhow::Result<Begun>
where
    P: Fn(u32, u32) -> anyhow::Result<()> + Clone + Send + Sync + 'static,
{
    let since = Instant::now();
    match &from.template {
        Err(reason) => tracing::info!(reason, "the machine boots cold"),
        Ok(template) => match try_clone(config, template, &from).await {
            Ok(begun) => {
                tracing::info!(milliseconds = since.elapsed().as_millis(), "the machine is a clone of its tenant's template");
                return Ok(begun);
            }
            Err(error) => {
                tracing::warn!("the machine boots cold, because its tenant's template is no good: {error:#}");
                template::reject(config, template);
            }
        },
    }
    match cold(config, &from).await {
        Err(error) if error.downcast_ref().is_some_and(StartError::is_abort) => {
            tracing::warn!("QEMU gave itself up, the machine boots once more: {error:#}");
            cold(config, &from).await
        }
        begun => begun,
    }
}

async fn cold<P>(config: &Config, from: &Beginning<P>) -> anyhow::Result<Begun>
where
    P: Fn(u32, u32) -> anyhow::Result<()> + Clone + Send + Sync + 'static,
{
    let (machine, port) = Machine::start(config, Base::Cold, from.network()?, from.place.clone()).await?;
    let (agent, events) = Agent::connect(port);
    tokio::select! {
        biased;
        // An end is told as such, not as the lost connection that comes with it.
        how = machine.wait() => return Err(machine.ended(how).into()),
        ready = agent.configure(from.words.clone(), BOOT_TIME) => if let Err(error) = ready {
            match tokio::time::timeout(END_TIME, machine.wait()).await {
                Ok(how) => return Err(machine.ended(how).into()),
                Err(_) => bail!(
                    "the virtual machine did not become ready: {error}; its last words: {}",
                    machine.console.tail()
                ),
            }
        },
    }
    Ok(Begun { machine, agent, events })
}

async fn try_clone<P>(config: &Config, template: &Template, from: &Beginning<P>) -> anyhow::Result<Begun>
where
    P: Fn(u32, u32) -> anyhow::Result<()> + Clone + Send + Sync + 'static,
{
    Ok(clone(config, template, from.network()?, from.words.clone(), from.place.clone()).await?.0)
}

/// Makes a clone of a template its own.
///
/// # Errors
/// If it does not start or wake in time; it is ended then.
pub async fn clone(
    config: &Config,
    template: &Template,
    network: Option<OwnedFd>,
    words: Configure,
    place: impl FnOnce(u32, u32) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<(Begun, Ready)> {
    let (machine, port) = Machine::start(config, Base::Clone(template.pieces.clone()), network, place).await?;
    let (agent, events) = Agent::connect(port);
    let woken = tokio::time::timeout(WAKE_TIME, wake(&machine, &agent, words)).await;
    match woken.unwrap_or_else(|_| bail!("it did not wake within {} s", WAKE_TIME.as_secs())) {
        Ok(ready) => Ok((Begun { machine, agent, events }, ready)),
        Err(error) => {
            let console = machine.console.tail();
            machine.kill();
            machine.wait().await; // its cgroup and user are free for the next one
            Err(error.context(format!("its last words: {console}")))
        }
    }
}

/// Nothing of a pod reaches the clone before it has random bytes and a clock of its own: its agent answers nothing else.
async fn wake(machine: &Machine, agent: &Agent, words: Configure) -> anyhow::Result<Ready> {
    migration::resume(&machine.qmp).await?;
    agent.command("Wake", Call::Wake(client::waking_words()?)).await?;
    // Of now: the words were made before the clone was.
    let words = Configure { realtime_ns: crate::now_ns(), ..words };
    agent.configure(words, WAKE_TIME).await.context("it took no first words")
}
