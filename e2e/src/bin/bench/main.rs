//! Measures pods in machines, booted and cloned, beside pods on runc, in one run on one node, and prints tables of Markdown.
//!
//! `scripts/bench` gives it a cluster: `FREEHOLD_KUBECONFIG` is an administrator's, `FREEHOLD_NODE` a command that runs
//! others as root on the node, `FREEHOLD_SHIM` and `FREEHOLD_HANDLER` the shim's and the handler's path there. Nothing here
//! passes or fails by a time: figures are for people, and ratios of one run are worth more than seconds of two.

mod inside;
mod measure;
mod pods;
mod table;
mod tasks;
mod weight;

use std::process::Command;

use anyhow::{Context as _, ensure};
use freehold_e2e::people;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;

use measure::Measured;
use tasks::Tasks;

/// Pods of each kind that come and go one after the other, unless `FREEHOLD_ROUNDS` says otherwise.
const ROUNDS: usize = 7;

/// A kind of pods.
struct Kind {
    name: &'static str,
    /// Machines of this namespace boot, or are clones: the node's map says whose it is.
    namespace: &'static str,
    class: Option<&'static str>,
    /// The shim's name: it and all below it are a pod's processes.
    shim: &'static str,
}

const RUNC: Kind = Kind { name: "runc", namespace: "default", class: None, shim: "containerd-shim-runc-v2" };
const COLD: Kind =
    Kind { name: "cold", namespace: "default", class: Some("freehold-microvm"), shim: "containerd-shim-freehold-v2" };
const CLONE: Kind = Kind { name: "clone", namespace: "kube-public", ..COLD };
/// All of them, in the order of the table's columns.
const KINDS: [&Kind; 3] = [&RUNC, &COLD, &CLONE];

/// Words of a command that runs others on the node.
fn on_node(command: &[&str]) -> anyhow::Result<Command> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE is not set: run scripts/bench")?;
    let mut words = way.split_whitespace();
    let mut out = Command::new(words.next().context("FREEHOLD_NODE is empty")?);
    out.args(words).args(command);
    Ok(out)
}

fn node(command: &[&str]) -> anyhow::Result<String> {
    let output = on_node(command)?.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let tenant = std::env::var("FREEHOLD_TENANT").context("FREEHOLD_TENANT is not set: run scripts/bench")?;
    let rounds = std::env::var("FREEHOLD_ROUNDS").map_or(Ok(ROUNDS), |rounds| rounds.parse()).context("FREEHOLD_ROUNDS")?;
    let pods = KINDS.map(|kind| Api::<Pod>::namespaced(client.clone(), kind.namespace));
    let (cold, acceleration) = measure::canaries(None, rounds)?;
    let (clone, _) = measure::canaries(Some(&tenant), rounds)?;
    let tasks = Tasks::follow().await?;
    let mut measured = KINDS.map(|_| Measured::default());
    for (kind, pods) in KINDS.iter().zip(&pods) {
        measure::live(pods, kind, 0, &tasks, &mut Measured::default()).await?; // converts the layers, fills caches
    }
    for round in 1..=rounds {
        for ((kind, pods), measured) in KINDS.iter().zip(&pods).zip(&mut measured) {
            measure::live(pods, kind, round, &tasks, measured).await?;
        }
    }
    for ((kind, pods), measured) in KINDS.iter().zip(&pods).zip(&mut measured) {
        measure::weights(pods, kind, measured).await?;
        measure::crowd(pods, kind, measured).await?;
        inside::measure(pods, kind, measured).await?;
    }
    for ((kind, pods), measured) in KINDS.iter().zip(&pods).zip(&mut measured) {
        measure::large(pods, kind, measured).await?; // last, because it throws converted layers away
    }
    let [runc, booted, cloned] = measured;
    table::print(&acceleration, [&cold, &clone], [&runc, &booted, &cloned]);
    Ok(())
}
