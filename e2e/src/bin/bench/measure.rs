//! What is measured of pods from outside: how long their lives' steps take, what they weigh, how many at once do.

use std::time::Instant;

use anyhow::Context as _;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, AttachParams};
use serde_json::Value;

use super::inside::Inside;
use super::pods::{LARGE, LAYERS, SMALL, create, first_byte, remove};
use super::tasks::Tasks;
use super::weight::{Weight, weigh};
use super::{Kind, node};

/// Execs in each pod that comes and goes.
const EXECS: usize = 3;
/// Pods that are there at once for memory and rest.
pub const SEVERAL: usize = 5;
/// Pods that are made at once.
pub const CROWD: usize = 20;

/// What a kind of pods did: seconds, but for weights and what is inside.
#[derive(Default)]
pub struct Measured {
    pub running: Vec<f64>,
    pub first_byte: Vec<f64>,
    /// The runtime's own share.
    pub process: Vec<f64>,
    pub exec: Vec<f64>,
    pub gone: Vec<f64>,
    /// Until Running, with an image of ten layers.
    pub layers: Vec<f64>,
    /// Until all run, and until all have gone.
    pub crowd: [f64; 2],
    /// Of one, of several, of a crowd.
    pub weights: Vec<Weight>,
    /// Until Running with a large image: the first time on the node, and the second.
    pub large: [f64; 2],
    pub inside: Inside,
}

/// One pod comes and goes, and after it one of many layers.
pub async fn live(pods: &Api<Pod>, kind: &Kind, round: usize, tasks: &Tasks, all: &mut Measured) -> anyhow::Result<()> {
    let name = format!("{}-{round}", kind.name);
    let (began, at) = (Instant::now(), Timestamp::now());
    create(pods, kind, &name, SMALL).await?;
    all.running.push(began.elapsed().as_secs_f64());
    all.first_byte.push(first_byte(pods, &name).await?.duration_since(at).as_secs_f64());
    all.process.push(tasks.until_process(at).await?);
    for _ in 0..EXECS {
        let began = Instant::now();
        let mut process = pods.exec(&name, ["true"], &AttachParams::default().stdin(false)).await?;
        process.take_status().context("an exec without an end")?.await.context("the exec did not end")?;
        all.exec.push(began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    remove(pods, &name).await?;
    all.gone.push(began.elapsed().as_secs_f64());
    all.layers.push(start(pods, kind, &format!("{name}-layers"), LAYERS).await?);
    Ok(())
}

/// Seconds until a pod runs, which then goes.
async fn start(pods: &Api<Pod>, kind: &Kind, name: &str, image: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    create(pods, kind, name, image).await?;
    let seconds = began.elapsed().as_secs_f64();
    remove(pods, name).await?;
    Ok(seconds)
}

/// Weight of one pod, and of several together.
pub async fn weights(pods: &Api<Pod>, kind: &Kind, all: &mut Measured) -> anyhow::Result<()> {
    let name = |n: usize| format!("{}-heavy-{n}", kind.name);
    create(pods, kind, &name(1), SMALL).await?;
    all.weights.push(weigh(kind).await?);
    for n in 2..=SEVERAL {
        create(pods, kind, &name(n), SMALL).await?;
    }
    all.weights.push(weigh(kind).await?);
    let names: Vec<String> = (1..=SEVERAL).map(name).collect();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    Ok(())
}

/// Seconds until all of a crowd run, what they weigh, and seconds until all of it has gone.
pub async fn crowd(pods: &Api<Pod>, kind: &Kind, all: &mut Measured) -> anyhow::Result<()> {
    let names: Vec<String> = (1..=CROWD).map(|n| format!("{}-crowd-{n}", kind.name)).collect();
    let began = Instant::now();
    try_join_all(names.iter().map(|name| create(pods, kind, name, SMALL))).await?;
    all.crowd[0] = began.elapsed().as_secs_f64();
    all.weights.push(weigh(kind).await?);
    let began = Instant::now();
    try_join_all(names.iter().map(|name| remove(pods, name))).await?;
    all.crowd[1] = began.elapsed().as_secs_f64();
    Ok(())
}

/// A large image's first start on the node, and its second.
pub async fn large(pods: &Api<Pod>, kind: &Kind, all: &mut Measured) -> anyhow::Result<()> {
    node(&["sh", "-c", "rm -f /var/lib/freehold/layers/*.erofs"])?;
    for (n, seconds) in all.large.iter_mut().enumerate() {
        *seconds = start(pods, kind, &format!("{}-large-{n}", kind.name), LARGE).await?;
    }
    Ok(())
}

/// Seconds of machines alone from start to their agent's answer, and what QEMU says that they run with.
pub fn canaries(tenant: Option<&str>, rounds: usize) -> anyhow::Result<(Vec<f64>, String)> {
    let path = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: run scripts/bench"));
    let (shim, handler) = (path("FREEHOLD_SHIM")?, path("FREEHOLD_HANDLER")?);
    let mut command = vec![shim.as_str(), "canary", "--config", &handler, "--timeout-seconds", "60"];
    command.extend(tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
    let (mut times, mut acceleration) = (Vec::new(), String::new());
    for _ in 0..rounds {
        let said: Value = serde_json::from_str(&node(&command)?)?;
        times.push(said["startMilliseconds"].as_f64().context("a canary without a time")? / 1000.0);
        acceleration = said["acceleration"].as_str().context("a canary that does not say how it runs")?.to_owned();
    }
    Ok((times, acceleration))
}
