//! The enforcer's program: watches, and keeps the table as it should be.
//!
//! The table stays when the program ends: a restart opens nothing and ends no connection. It goes with `remove`, and when
//! the DaemonSet itself is gone.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand, ValueEnum};
use freehold_crds::{Judged, ProbeResult, probing};
use freehold_network_enforcer::core::compile::compile;
use freehold_network_enforcer::core::table::{TABLE, Table};
use freehold_network_enforcer::core::{delta, render};
use freehold_network_enforcer::metrics::Metrics;
use freehold_network_enforcer::nft::{Nft, NftError};
use freehold_network_enforcer::watch::{Cache, Own};
use freehold_network_enforcer::{bridges, convert, judged, links, probe};
use freehold_serve::{connections, health, logging, stop};
use kube::Client;

/// Least time between two transactions: changes that come together go together.
const PAUSE: Duration = Duration::from_millis(50);
/// Time between looks at whether the table is still there: whoever flushes all rules of a node takes it away.
const RECHECK: Duration = Duration::from_secs(5);
/// Where a container leaves its last words.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// Time to learn that the DaemonSet is gone; short, because a replacement of this pod waits for it.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
#[command(about = "Enforces NetworkPolicies and tenants' boundaries on one node by nftables")]
struct Arguments {
    /// Name of this pod's node.
    #[arg(long, env = "NODE_NAME", default_value = "")]
    node_name: String,
    /// How nft is started, split at spaces.
    #[arg(long, default_value = "nft", value_delimiter = ' ')]
    nft: Vec<String>,
    /// Where health and metrics are served; this node only, so that no pod reads them.
    #[arg(long, default_value = "127.0.0.1:9466")]
    health_address: std::net::SocketAddr,
    /// Namespace and name of the DaemonSet this runs for: when it is gone, so is the table.
    #[arg(long)]
    daemon_set: Option<String>,
    /// Always: everybody's traffic is judged. Auto: as the node's NodeNetwork says.
    #[arg(long, value_enum, ignore_case = true, default_value = "always")]
    mode: Mode,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Always,
    Auto,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Remove the table and end.
    Remove,
    /// Answer a probe of the node's NetworkPolicies.
    ProbeAnswer,
    /// Ask the pod at these addresses; 0: policies held, 3: a closed port answered, 5: but not that
    /// which the network enforcer closes, 4: nothing can be said.
    ProbeAsk {
        /// Its addresses, one a family.
        #[arg(value_delimiter = ',', required = true)]
        addresses: Vec<IpAddr>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    logging::init()?;
    let arguments = Arguments::parse();
    let nft = Nft { command: arguments.nft.clone() };
    let done = |()| ExitCode::SUCCESS;
    match &arguments.command {
        Some(Subcommands::Remove) => nft.apply(&render::remove()).await.context("the table could not be removed").map(done),
        Some(Subcommands::ProbeAnswer) => probe::answer().await.map(done),
        Some(Subcommands::ProbeAsk { addresses }) => ask(addresses).await,
        None => serve(&arguments, &nft).await.map(done),
    }
}

/// Asks, and says what came of it where the kubelet reads it.
async fn ask(addresses: &[IpAddr]) -> anyhow::Result<ExitCode> {
    let (found, evidence) = probe::ask(addresses).await;
    tokio::fs::write(TERMINATION_LOG, &evidence).await.with_context(|| format!("could not write {TERMINATION_LOG}"))?;
    Ok(ExitCode::from(match (found.result, found.enforcer_seen) {
        (ProbeResult::Held, _) => probing::EXIT_HELD,
        (ProbeResult::Ignored, false) => probing::EXIT_IGNORED,
        (ProbeResult::Ignored, true) => probing::EXIT_IGNORED_BUT_OURS,
        (ProbeResult::NoAnswer, _) => probing::EXIT_NO_ANSWER,
    }))
}

/// Watches and enforces until a stop.
async fn serve(arguments: &Arguments, nft: &Nft) -> anyhow::Result<()> {
    if arguments.node_name.is_empty() {
        bail!("this node's name is not known; set NODE_NAME or --node-name");
    }
    let mut stop = stop::on_signals()?;
    let (metrics, registry) = Metrics::new();
    let readiness = health::Readiness::default();
    let listener = tokio::net::TcpListener::bind(arguments.health_address)
        .await
        .with_context(|| format!("could not listen on {}", arguments.health_address))?;
    let routes = connections::routes(health::routes(readiness.clone(), Arc::new(registry)));
    let server = tokio::spawn(connections::serve(listener, routes, stop.clone()));
    let client = Client::try_default().await.context("no way to the API server; set KUBECONFIG or run in a pod")?;
    let named = arguments.daemon_set.as_deref().and_then(|text| text.split_once('/'));
    let own = named.map(|(namespace, name)| Own::follow(&client, namespace, name));
    let work = async {
        let asked = (arguments.mode == Mode::Auto).then_some(arguments.node_name.as_str());
        let (cache, mut watches) = Cache::start(&client, asked).await.context("the first lists did not come")?;
        tokio::select! {
            outcome = enforce(arguments, nft, &cache, &metrics, &readiness) => outcome,
            ended = watches.join_next() => bail!("a watch ended: {ended:?}"),
        }
    };
    tokio::select! {
        outcome = work => outcome?,
        () = stop.wait() => farewell(nft, own.as_ref()).await,
    }
    server.await.context("the health server ended badly")
}

/// Keeps the table as it should be, for ever.
async fn enforce(
    arguments: &Arguments,
    nft: &Nft,
    cache: &Cache,
    metrics: &Metrics,
    readiness: &health::Readiness,
) -> anyhow::Result<()> {
    let mut held = Held::Unknown;
    loop {
        let objects = cache.objects();
        let node = objects.nodes.iter().find(|node| node.metadata.name.as_deref() == Some(&arguments.node_name));
        let ranges = node.map(|node| convert::ranges(node)).unwrap_or_default();
        let routes = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let links = links::links(&routes("/proc/net/route"), &routes("/proc/net/ipv6_route"), &ranges);
        let blind = bridges::blind(&links);
        let view = convert::view(&objects, &arguments.node_name, links);
        metrics.know(view.pods.values().filter(|pod| pod.local).count(), view.policies.len());
        let said = cache.judged();
        metrics.judge(said.unwrap_or(Judged::Everybodys));
        let view = match said {
            None => Some(view),
            Some(said) => judged::part(view, said),
        };
        let blind = blind.filter(|_| view.is_some());
        match bring(nft, held, view.as_ref().map(compile), metrics).await {
            Ok(now) => {
                held = now;
                metrics.see(blind.is_some());
                if let Some(why) = &blind {
                    tracing::error!(why, "pods on one bridge reach each other unseen");
                }
                readiness.set(blind.is_none());
            }
            Err(error) => {
                tracing::error!(%error, "the table was not brought up to date; what stood there is in force");
                readiness.set(false);
                held = Held::Unknown;
            }
        }
        tokio::time::sleep(PAUSE).await;
        let wait = if matches!(held, Held::Unknown) { Duration::from_secs(1) } else { RECHECK };
        if tokio::time::timeout(wait, cache.changed.notified()).await.is_err()
            && matches!(held, Held::Table(_))
            && !nft.has_table(TABLE).await.unwrap_or(false)
        {
            tracing::warn!("the table is gone or was emptied; it is put back");
            held = Held::Unknown;
        }
    }
}

/// What the kernel holds of ours.
enum Held {
    /// Not known, after a start or a failure: it is replaced as a whole.
    Unknown,
    /// No table.
    Nothing,
    /// This one.
    Table(Table),
}

/// From what the kernel holds to what it should hold; what it holds then.
async fn bring(nft: &Nft, held: Held, wanted: Option<Table>, metrics: &Metrics) -> Result<Held, NftError> {
    let (kind, transaction) = match (&held, &wanted) {
        (Held::Nothing, None) => return Ok(Held::Nothing),
        (_, None) => ("remove", render::remove()),
        (Held::Table(held), Some(wanted)) => match delta::transaction(held, wanted) {
            Some(delta) => ("delta", delta),
            None => return Ok(Held::Table(wanted.clone())),
        },
        (_, Some(wanted)) => ("whole", render::replace(wanted)),
    };
    let outcome = nft.apply(&transaction).await;
    metrics.applied(kind, outcome.is_ok());
    tracing::info!(kind, bytes = transaction.len(), ok = outcome.is_ok(), "transaction");
    outcome.map(|()| wanted.map_or(Held::Nothing, Held::Table))
}

/// Removes the table if what this runs for is gone; in doubt it stays, which only closes.
async fn farewell(nft: &Nft, own: Option<&Own>) {
    let Some(own) = own else { return };
    // The event may be on its way still: who deletes both at once sends them one after the other.
    let gone = async {
        while !own.is_gone() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(FAREWELL, gone).await.is_err() {
        tracing::info!("the DaemonSet is not known to be gone; the table stays");
        return;
    }
    match nft.apply(&render::remove()).await {
        Ok(()) => tracing::info!("the DaemonSet is gone, and so is the table"),
        Err(error) => tracing::error!(%error, "the table could not be removed; on the node: nft delete table inet {TABLE}"),
    }
}
