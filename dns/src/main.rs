//! The program: watches, and answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser;
use freehold_dns::metrics::Metrics;
use freehold_dns::names::Name;
use freehold_dns::server::Server;
use freehold_dns::watch;
use freehold_serve::{connections, health, logging, stop};
use kube::Client;
use tokio::net::{TcpListener, UdpSocket};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// Who this pod's own questions go to, by resolv.conf(5).
const RESOLV_CONF: &str = "/etc/resolv.conf";

#[derive(Debug, Parser)]
#[command(
    about = "Answers the DNS questions of isolated tenants' pods: names of their own tenant and of the world, of nobody else"
)]
struct Arguments {
    /// Where questions are heard, over UDP and TCP.
    #[arg(long, default_value = "[::]:5353")]
    address: SocketAddr,
    /// The cluster's DNS; this pod's own name server if absent.
    #[arg(long)]
    upstream: Option<IpAddr>,
    /// The cluster's domain, below which names of Services are.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Where health and metrics are served.
    #[arg(long, default_value = "[::]:8081")]
    health_address: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    logging::init()?;
    let arguments = Arguments::parse();
    let stop = stop::on_signals()?;
    let upstream = arguments.upstream.map_or_else(own_name_server, Ok)?;
    let (metrics, registry) = Metrics::new();
    let readiness = health::Readiness::default();
    let listener = TcpListener::bind(arguments.health_address)
        .await
        .with_context(|| format!("could not listen on {}", arguments.health_address))?;
    let routes = connections::routes(health::routes(readiness.clone(), Arc::new(registry)));
    let health = tokio::spawn(connections::serve(listener, routes, stop.clone()));
    let hear = async {
        Ok::<_, std::io::Error>((UdpSocket::bind(arguments.address).await?, TcpListener::bind(arguments.address).await?))
    };
    let (datagrams, streams) = hear.await.with_context(|| format!("could not listen on {}", arguments.address))?;
    let client = Client::try_default().await.context("no way to the API server; set KUBECONFIG or run in a pod")?;
    let (view, mut tasks) = watch::start(&client).await.context("the first lists did not come")?;
    let server = Server::new(Name::from_text(&arguments.cluster_domain), (upstream, DNS_PORT).into(), view, metrics);
    readiness.set(true);
    tracing::info!(%upstream, domain = arguments.cluster_domain, "questions are answered");
    tokio::select! {
        outcome = server.serve(datagrams, streams, stop) => outcome.context("a socket failed")?,
        ended = tasks.join_next() => bail!("a watch ended: {ended:?}"),
    }
    health.await.context("the health server ended badly")
}

/// The first name server of this pod's own resolv.conf.
fn own_name_server() -> anyhow::Result<IpAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF).with_context(|| format!("could not read {RESOLV_CONF}"))?;
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let first = servers.filter_map(|address| address.trim().parse().ok()).next();
    first.with_context(|| format!("{RESOLV_CONF} names no name server; say one with --upstream"))
}
