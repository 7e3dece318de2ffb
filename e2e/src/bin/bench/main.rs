//! Measures pods in machines beside pods on runc, in one run on one node, and prints a table of Markdown.
//!
//! `scripts/bench` gives it a cluster: `FREEHOLD_KUBECONFIG` is an administrator's, `FREEHOLD_NODE` a command that runs
//! others as root on the node, `FREEHOLD_SHIM` and `FREEHOLD_HANDLER` the shim's and the handler's path there. Nothing here
//! passes or fails by a time: figures are for people, and ratios of one run are worth more than seconds of two.

mod weight;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use freehold_e2e::figures::{HEAD, row};
use freehold_e2e::{people, wait};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, AttachParams, DeleteParams, LogParams, PostParams};
use serde_json::{Value, json};

use weight::{Weight, weigh};

/// Pods of each kind that come and go one after the other.
const ROUNDS: usize = 7;
/// Execs in each of them.
const EXECS: usize = 3;
/// Pods that are there at once for memory and rest.
const SEVERAL: usize = 5;
/// Pods that are made at once.
const CROWD: usize = 20;
/// Longest wait for anything: a crowd of machines boots by emulation on few processors.
const LONG: Duration = Duration::from_secs(300);

/// A kind of pods.
struct Kind {
    name: &'static str,
    class: Option<&'static str>,
    /// The shim's name: it and all below it are a pod's processes.
    shim: &'static str,
}

const RUNC: Kind = Kind { name: "runc", class: None, shim: "containerd-shim-runc-v2" };
const MACHINE: Kind = Kind { name: "machine", class: Some("freehold-microvm"), shim: "containerd-shim-freehold-v2" };

/// Seconds of pods' lives.
#[derive(Default)]
struct Lives {
    running: Vec<f64>,
    first_byte: Vec<f64>,
    exec: Vec<f64>,
    gone: Vec<f64>,
}

fn node(command: &[&str]) -> anyhow::Result<String> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE is not set: run scripts/bench")?;
    let mut words = way.split_whitespace();
    let output = Command::new(words.next().context("FREEHOLD_NODE is empty")?).args(words).args(command).output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn pod(kind: &Kind, name: &str) -> anyhow::Result<Pod> {
    let container = json!({
        "name": "main", "image": "freehold.dev/test:dev",
        // A process that takes TERM, so that deleting is not a wait for the grace to be over.
        "command": ["sh", "-c", "trap 'exit 0' TERM; echo first; sleep 100000 & wait"],
    });
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [container]}});
    if let Some(class) = kind.class {
        pod["spec"]["runtimeClassName"] = json!(class);
    }
    Ok(serde_json::from_value(pod)?)
}

async fn create(pods: &Api<Pod>, kind: &Kind, name: &str) -> anyhow::Result<()> {
    pods.create(&PostParams::default(), &pod(kind, name)?).await?;
    let is_running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    let running = kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_some_and(is_running));
    tokio::time::timeout(LONG, running).await.with_context(|| format!("{name} does not run"))??;
    Ok(())
}

async fn remove(pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let gone = kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
    pods.delete(name, &DeleteParams::default()).await?;
    tokio::time::timeout(LONG, gone).await.with_context(|| format!("{name} does not go"))??;
    Ok(())
}

/// When the container runtime took the first line of a pod's log: its stamp, so that nothing is lost by looking too late.
async fn first_byte(pods: &Api<Pod>, name: &str) -> anyhow::Result<Timestamp> {
    let parameters = LogParams { timestamps: true, ..LogParams::default() };
    wait::until("the first byte of its log", LONG, async || {
        let log = pods.logs(name, &parameters).await?;
        let stamp = log.split_once(" first").context("nothing yet")?.0;
        stamp.parse().with_context(|| format!("the log begins with no time: {stamp}"))
    })
    .await
}

async fn live(pods: &Api<Pod>, kind: &Kind, round: usize, lives: &mut Lives) -> anyhow::Result<()> {
    let name = format!("{}-{round}", kind.name);
    let (began, at) = (Instant::now(), Timestamp::now());
    create(pods, kind, &name).await?;
    lives.running.push(began.elapsed().as_secs_f64());
    lives.first_byte.push(first_byte(pods, &name).await?.duration_since(at).as_secs_f64());
    for _ in 0..EXECS {
        let began = Instant::now();
        let mut process = pods.exec(&name, ["true"], &AttachParams::default().stdin(false)).await?;
        process.take_status().context("an exec without an end")?.await.context("the exec did not end")?;
        lives.exec.push(began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    remove(pods, &name).await?;
    lives.gone.push(began.elapsed().as_secs_f64());
    Ok(())
}

/// Weight of one pod, and of several together.
async fn weights(pods: &Api<Pod>, kind: &Kind) -> anyhow::Result<[Weight; 2]> {
    let name = |n: usize| format!("{}-heavy-{n}", kind.name);
    create(pods, kind, &name(1)).await?;
    let one = weigh(kind).await?;
    for n in 2..=SEVERAL {
        create(pods, kind, &name(n)).await?;
    }
    let several = weigh(kind).await?;
    let names: Vec<String> = (1..=SEVERAL).map(name).collect();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    Ok([one, several])
}

/// Seconds until all of a crowd run, and until all of it has gone.
async fn crowd(pods: &Api<Pod>, kind: &Kind) -> anyhow::Result<[f64; 2]> {
    let names: Vec<String> = (1..=CROWD).map(|n| format!("{}-crowd-{n}", kind.name)).collect();
    let began = Instant::now();
    try_join_all(names.iter().map(|name| create(pods, kind, name))).await?;
    let run = began.elapsed().as_secs_f64();
    let began = Instant::now();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    Ok([run, began.elapsed().as_secs_f64()])
}

/// Seconds of cold machines from start to their agent's answer, and what QEMU says that it runs with.
fn canaries() -> anyhow::Result<(Vec<f64>, String)> {
    let path = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: run scripts/bench"));
    let (shim, handler) = (path("FREEHOLD_SHIM")?, path("FREEHOLD_HANDLER")?);
    let (mut times, mut acceleration) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let said: Value = serde_json::from_str(&node(&[&shim, "canary", "--config", &handler, "--timeout-seconds", "60"])?)?;
        times.push(said["startMilliseconds"].as_f64().context("a canary without a time")? / 1000.0);
        acceleration = said["acceleration"].as_str().context("a canary that does not say how it runs")?.to_owned();
    }
    Ok((times, acceleration))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    let (cold, acceleration) = canaries()?;
    for kind in [&RUNC, &MACHINE] {
        live(&pods, kind, 0, &mut Lives::default()).await?; // converts the layer, fills caches
    }
    let [mut runc, mut machine] = [Lives::default(), Lives::default()];
    for round in 1..=ROUNDS {
        live(&pods, &RUNC, round, &mut runc).await?;
        live(&pods, &MACHINE, round, &mut machine).await?;
    }
    let (runc_weights, machine_weights) = (weights(&pods, &RUNC).await?, weights(&pods, &MACHINE).await?);
    let (runc_crowd, machine_crowd) = (crowd(&pods, &RUNC).await?, crowd(&pods, &MACHINE).await?);

    println!("QEMU itself reports: **{acceleration}**.\n\n{HEAD}");
    let print = |what: &str, runc: &[f64], machine: &[f64], digits| println!("{}", row(what, runc, machine, digits));
    print("a machine alone, from start to its agent's first answer, s", &[], &cold, 2);
    print("pod created until Running, s", &runc.running, &machine.running, 2);
    print("pod created until the first byte of its log, s", &runc.first_byte, &machine.first_byte, 2);
    print("exec of `true`, there and back, s", &runc.exec, &machine.exec, 3);
    print("delete until gone, s", &runc.gone, &machine.gone, 2);
    for (n, what) in
        [format!("{CROWD} pods at once, until the last runs, s"), format!("{CROWD} pods at once, until the last has gone, s")]
            .iter()
            .enumerate()
    {
        print(what, &[runc_crowd[n]], &[machine_crowd[n]], 1);
    }
    for (n, count) in [1, SEVERAL].into_iter().enumerate() {
        let among = if count == 1 { "one pod".to_owned() } else { format!("each of {count} pods") };
        let (runc, machine, count) = (runc_weights[n], machine_weights[n], count as f64);
        print(&format!("memory of {among}: shim, MiB"), &[runc.shim_mib / count], &[machine.shim_mib / count], 1);
        print(&format!("memory of {among}: what is below it, MiB"), &[runc.below_mib / count], &[machine.below_mib / count], 1);
        print(
            &format!("{among} at rest, thousandths of a processor"),
            &[runc.processors * 1e3 / count],
            &[machine.processors * 1e3 / count],
            1,
        );
    }
    Ok(())
}
