//! The webhook's program: arguments, caches, certificates, two listeners, and a graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use freehold_serve::{connections, health, logging, stop, tls};
use freehold_webhook::certificates::Keeper;
use freehold_webhook::generations::MIN_VALIDITY;
use freehold_webhook::look_up::LookUp;
use freehold_webhook::metrics::Metrics;
use freehold_webhook::server;

#[derive(Debug, Parser)]
#[command(about = "Answers AdmissionReviews for tenants' namespaces and pods")]
struct Arguments {
    /// Where reviews are answered, over TLS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    address: SocketAddr,
    /// Where health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
    /// Namespace of the Secret with our certificates.
    #[arg(long, default_value = "freehold-system")]
    namespace: String,
    /// Name of that Secret.
    #[arg(long, default_value = "freehold-webhook-certificates")]
    secret: String,
    /// Name of the mutating and of the validating webhook configuration.
    #[arg(long, default_value = "freehold-webhook")]
    configuration: String,
    /// A name or address that the API server calls us by; can be said several times.
    #[arg(long = "name", default_value = "freehold-webhook.freehold-system.svc")]
    names: Vec<String>,
    /// Seconds for which a certificate is valid; at two thirds the next one is made.
    #[arg(long, default_value_t = 90 * 24 * 3600)]
    certificate_validity_seconds: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    logging::init()?;
    let arguments = Arguments::parse();
    let validity = Duration::from_secs(arguments.certificate_validity_seconds);
    ensure!(
        validity >= MIN_VALIDITY && validity <= Duration::from_secs(10 * 366 * 24 * 3600),
        "--certificate-validity-seconds is {}; allowed: {} to ten years",
        validity.as_secs(),
        MIN_VALIDITY.as_secs()
    );
    let stop = stop::on_signals()?;
    let (metrics, registry) = Metrics::new();
    let readiness = health::Readiness::default();
    let listen = |address: SocketAddr| async move {
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))
    };
    let (listener, plain) = (listen(arguments.address).await?, listen(arguments.health_address).await?);
    let routes = connections::routes(health::routes(readiness.clone(), Arc::new(registry)));
    let health_server = tokio::spawn(connections::serve(plain, routes, stop.clone()));

    let client = kube::Client::try_default().await.context("no way to the API server; set KUBECONFIG or run in a pod")?;
    let mut ending = stop.clone();
    let (look_up, mut watches) = tokio::select! {
        started = LookUp::start(&client) => started.context("the first lists did not come")?,
        () = ending.wait() => return Ok(()),
    };
    let keeper = Keeper {
        client,
        namespace: arguments.namespace,
        secret: arguments.secret,
        configuration: arguments.configuration,
        names: arguments.names,
        validity,
        metrics: metrics.clone(),
    };
    let (certificates, shown) = tokio::select! {
        begun = keeper.begin() => begun.context("no certificate to serve")?,
        () = ending.wait() => return Ok(()),
    };
    let (served, stopped) = (certificates.clone(), stop.clone());
    let looking_after = tokio::spawn(async move { keeper.keep(&served, shown, stopped).await });
    readiness.set(true);
    tracing::info!(address = %arguments.address, "answering reviews");
    tokio::select! {
        served = tls::serve(listener, certificates, server::routes(look_up, metrics), stop) => served?,
        ended = watches.join_next() => bail!("a watch ended: {ended:?}"),
    }
    looking_after.await.context("the keeper of certificates ended badly")?;
    health_server.await.context("the health server ended badly")
}
