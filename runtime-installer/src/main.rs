//! Node agent: installs the shim, registers it with the container runtime, proves it, reports NodeRuntime.
//!
//! Input: the SandboxRuntime named on the command line, NODE_NAME, the node's root mounted at /host, the bundle in the
//! image at /bundle. The operator acts on the NodeRuntime it writes. It is apart from the operator because it is the only
//! part that is privileged, and only on its own node.
//!
//! Not here yet: uninstalling, and pods per version in the status.

mod bundle;
mod canary;
mod containerd;
mod handler;
mod host;
mod register;
mod round;
mod status;
mod templates;
mod tenants;
mod versions;

use anyhow::Context;
use clap::Parser;
use freehold_crds::{NodeRuntime, SandboxRuntime};
use freehold_serve::{connections, health, logging, stop};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Name under which the API server records our fields.
const FIELD_MANAGER: &str = "freehold-runtime-installer";
/// Time between rounds on a node that is ready: the proof is renewed.
const RECHECK: Duration = Duration::from_secs(1800);
/// Time between rounds on a node that is not.
const RETRY: Duration = Duration::from_secs(60);

#[derive(Debug, Parser)]
#[command(about = "Installs and proves Freehold's runtime on one node")]
struct Arguments {
    /// Name of this pod's node.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Name of the SandboxRuntime to install.
    #[arg(long, default_value = "microvm")]
    runtime: String,
    /// Where the node's root is mounted.
    #[arg(long, default_value = "/host")]
    root: PathBuf,
    /// The bundle in the image.
    #[arg(long, default_value = "/bundle")]
    bundle: PathBuf,
    /// containerd's name or path on the node.
    #[arg(long, default_value = "containerd")]
    containerd: String,
    /// Command that restarts containerd on the node, split at spaces.
    #[arg(long, default_value = "systemctl restart containerd", value_delimiter = ' ')]
    restart_command: Vec<String>,
    /// Where health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8081")]
    health_address: std::net::SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    logging::init()?;
    let arguments = Arguments::parse();
    let mut stop = stop::on_signals()?;
    let readiness = health::Readiness::default();
    let listener = tokio::net::TcpListener::bind(arguments.health_address)
        .await
        .with_context(|| format!("could not listen on {}", arguments.health_address))?;
    let routes = connections::routes(health::routes(readiness.clone(), Arc::default()));
    let server = tokio::spawn(connections::serve(listener, routes, stop.clone()));
    let client = kube::Client::try_default().await.context("no way to the API server")?;
    loop {
        let (wait, done) = tokio::select! {
            () = stop.wait() => break,
            done = round(&client, &arguments) => match done {
                Ok(done) => {
                    readiness.set(true);
                    (if done.outcome.reason == status::PASSED { RECHECK } else { RETRY }, Some(done))
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "the round could not be reported");
                    (RETRY, None)
                }
            },
        };
        tokio::select! {
            () = stop.wait() => break,
            () = tokio::time::sleep(wait) => {},
            () = meanwhile(&client, &arguments, done) => {},
        }
    }
    server.await.context("the health server ended badly")
}

/// What was done, and of which generation of the SandboxRuntime.
struct Done {
    outcome: status::Outcome,
    generation: Option<i64>,
}

/// What goes on between two rounds; it ends once the SandboxRuntime is another than that of the last one.
async fn meanwhile(client: &kube::Client, arguments: &Arguments, done: Option<Done>) {
    // A round that could not be reported is tried again in its time, not sooner.
    let Some(done) = done else { return std::future::pending().await };
    let templates = async {
        match &done.outcome.templates {
            Some(templating) => templates::keep(client, &arguments.root, templating).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! { _ = templates => {}, () = changed(client, &arguments.runtime, done.generation) => {} }
}

/// Ends once the SandboxRuntime has another generation: its spec was changed, or it was made anew.
async fn changed(client: &kube::Client, runtime: &str, generation: Option<i64>) {
    let runtimes: Api<SandboxRuntime> = Api::all(client.clone());
    let mut seen = pin!(watch_object(runtimes, runtime).default_backoff());
    while let Some(next) = seen.next().await {
        match next {
            Ok(Some(found)) if found.metadata.generation != generation => {
                tracing::info!(runtime, "the SandboxRuntime was changed");
                return;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(runtime, %error, "the watch of the SandboxRuntime failed; it is taken up again"),
        }
    }
}

/// One round and its report.
async fn round(client: &kube::Client, arguments: &Arguments) -> anyhow::Result<Done> {
    let (runtime, node) = (arguments.runtime.as_str(), arguments.node_name.as_str());
    let runtimes: Api<SandboxRuntime> = Api::all(client.clone());
    let spec = runtimes.get(runtime).await.with_context(|| format!("could not read SandboxRuntime {runtime}"))?;
    let machine = register::Node {
        root: arguments.root.clone(),
        containerd: arguments.containerd.clone(),
        restart: arguments.restart_command.clone(),
    };
    let outcome = round::run(&machine, &arguments.bundle, &spec).await;
    let ready = outcome.reason == status::PASSED;
    tracing::info!(ready, reason = outcome.reason, message = outcome.message, "round ended");

    let nodes: Api<Node> = Api::all(client.clone());
    let owner = nodes.get_metadata(node).await.with_context(|| format!("could not read Node {node}"))?;
    let uid = owner.metadata.uid.context("the Node has no UID")?;
    let reports: Api<NodeRuntime> = Api::all(client.clone());
    let (name, parameters) = (status::name(runtime, node), PatchParams::apply(FIELD_MANAGER).force());
    let applied = reports
        .patch(&name, &parameters, &Patch::Apply(status::object(runtime, node, &uid)))
        .await
        .with_context(|| format!("could not apply NodeRuntime {name}"))?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let since = status::since(&serde_json::to_value(&applied)?, ready, &now);
    let document = status::status(runtime, node, &outcome, &now, &since);
    reports
        .patch_status(&name, &parameters, &Patch::Apply(document))
        .await
        .with_context(|| format!("could not apply the status of NodeRuntime {name}"))?;
    Ok(Done { outcome, generation: spec.metadata.generation })
}
