//! Measures pods in machines, booted and cloned, beside pods on runc, in one run on one node, and prints a table of Markdown.
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
    let spec = json!({"automountServiceAccountToken": false, "containers": [container]});
    let mut pod = json!({"metadata": {"name": name}, "spec": spec});
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
async fn weights(pods: &Api<Pod>, kind: &Kind) -> anyhow::Result<Vec<Weight>> {
    let name = |n: usize| format!("{}-heavy-{n}", kind.name);
    create(pods, kind, &name(1)).await?;
    let one = weigh(kind).await?;
    for n in 2..=SEVERAL {
        create(pods, kind, &name(n)).await?;
    }
    let several = weigh(kind).await?;
    let names: Vec<String> = (1..=SEVERAL).map(name).collect();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    Ok(vec![one, several])
}

/// Seconds until all of a crowd run, what they weigh, and seconds until all of it has gone.
async fn crowd(pods: &Api<Pod>, kind: &Kind) -> anyhow::Result<([f64; 2], Weight)> {
    let names: Vec<String> = (1..=CROWD).map(|n| format!("{}-crowd-{n}", kind.name)).collect();
    let began = Instant::now();
    try_join_all(names.iter().map(|name| create(pods, kind, name))).await?;
    let run = began.elapsed().as_secs_f64();
    let weight = weigh(kind).await?;
    let began = Instant::now();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    Ok(([run, began.elapsed().as_secs_f64()], weight))
}

/// Seconds of machines alone from start to their agent's answer, and what QEMU says that they run with.
fn canaries(tenant: Option<&str>) -> anyhow::Result<(Vec<f64>, String)> {
    let path = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: run scripts/bench"));
    let (shim, handler) = (path("FREEHOLD_SHIM")?, path("FREEHOLD_HANDLER")?);
    let mut command = vec![shim.as_str(), "canary", "--config", &handler, "--timeout-seconds", "60"];
    command.extend(tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
    let (mut times, mut acceleration) = (Vec::new(), String::new());
    for _ in 0..ROUNDS {
        let said: Value = serde_json::from_str(&node(&command)?)?;
        times.push(said["startMilliseconds"].as_f64().context("a canary without a time")? / 1000.0);
        acceleration = said["acceleration"].as_str().context("a canary that does not say how it runs")?.to_owned();
    }
    Ok((times, acceleration))
}

/// What a kind of pods did.
struct Measured {
    lives: Lives,
    crowd: [f64; 2],
    /// Of one, of several, of a crowd.
    weights: Vec<Weight>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let client = people::client("FREEHOLD_KUBECONFIG").await?;
    let tenant = std::env::var("FREEHOLD_TENANT").context("FREEHOLD_TENANT is not set: run scripts/bench")?;
    let pods = KINDS.map(|kind| Api::<Pod>::namespaced(client.clone(), kind.namespace));
    let ((cold, acceleration), (clone, _)) = (canaries(None)?, canaries(Some(&tenant))?);
    let mut lives = KINDS.map(|_| Lives::default());
    for (kind, pods) in KINDS.iter().zip(&pods) {
        live(pods, kind, 0, &mut Lives::default()).await?; // converts the layer, fills caches
    }
    for round in 1..=ROUNDS {
        for ((kind, pods), lives) in KINDS.iter().zip(&pods).zip(&mut lives) {
            live(pods, kind, round, lives).await?;
        }
    }
    let mut measured = Vec::new();
    for ((kind, pods), lives) in KINDS.iter().zip(&pods).zip(lives) {
        let mut weights = weights(pods, kind).await?;
        let (crowd, weight) = crowd(pods, kind).await?;
        weights.push(weight);
        measured.push(Measured { lives, crowd, weights });
    }
    let [runc, booted, cloned] = measured.as_slice() else { anyhow::bail!("three kinds were measured") };
    print(&acceleration, [&cold, &clone], [runc, booted, cloned]);
    Ok(())
}

fn print(acceleration: &str, [cold, clone]: [&[f64]; 2], kinds: [&Measured; 3]) {
    println!("QEMU itself reports: **{acceleration}**.\n\n{HEAD}");
    println!("{}", row("a machine alone, from start to its agent's first answer, s", [&[], cold, clone], 2));
    let lives = |what: &str, of: fn(&Lives) -> &[f64], digits| {
        println!("{}", row(what, kinds.map(|kind| of(&kind.lives)), digits));
    };
    lives("pod created until Running, s", |lives| &lives.running, 2);
    lives("pod created until the first byte of its log, s", |lives| &lives.first_byte, 2);
    lives("exec of `true`, there and back, s", |lives| &lives.exec, 3);
    lives("delete until gone, s", |lives| &lives.gone, 2);
    for (n, what) in ["the last runs", "the last has gone"].into_iter().enumerate() {
        let values = kinds.map(|kind| [kind.crowd[n]]);
        println!("{}", row(&format!("{CROWD} pods at once, until {what}, s"), values.each_ref().map(|one| one.as_slice()), 1));
    }
    for (n, count) in [1, SEVERAL, CROWD].into_iter().enumerate() {
        let among = if count == 1 { "one pod".to_owned() } else { format!("each of {count} pods") };
        let each = |what: &str, of: fn(&Weight) -> f64| {
            let values = kinds.map(|kind| [of(&kind.weights[n]) / count as f64]);
            println!("{}", row(what, values.each_ref().map(|one| one.as_slice()), 1));
        };
        each(&format!("memory of {among}: shim, MiB"), |weight| weight.shim_mib);
        each(&format!("memory of {among}: what is below it, MiB"), |weight| weight.below_mib);
        each(&format!("{among} at rest, thousandths of a processor"), |weight| weight.processors * 1e3);
    }
}
