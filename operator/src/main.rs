//! The operator's program: arguments, leadership, two controllers, health, and a graceful stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use freehold_operator::apply::{FIELD_MANAGER, Scribe};
use freehold_operator::cache::Cache;
use freehold_operator::desired::probe::Mode;
use freehold_operator::desired::resolve::NameServers;
use freehold_operator::desired::tenant::Bound;
use freehold_operator::leader::Candidate;
use freehold_operator::metrics::Metrics;
use freehold_operator::{probes, sandboxes, tenants};
use freehold_serve::stop::Stop;
use freehold_serve::{connections, health, logging, stop};
use futures::StreamExt as _;
use k8s_openapi::jiff::SignedDuration;
use kube::runtime::events::Recorder;
use kube::runtime::{Config, applier};

/// Tenants, and SandboxRuntimes, that are worked on at once. More than there are processors: a round mostly waits, for the API server and for quotas to count.
const CONCURRENCY: u16 = 16;
/// Longest time that running rounds have to end after a stop; below the usual grace period of 30 seconds.
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Parser)]
#[command(about = "Resolves Tenants into Boundaries and keeps what they need in place")]
struct Arguments {
    /// Namespace of the Lease by which one of several operators acts.
    #[arg(long, default_value = "freehold-system")]
    lease_namespace: String,
    /// Where health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8081")]
    health_address: std::net::SocketAddr,
    /// Addresses of the name server of tenants whose `dns` is Isolated, one a family; none if it is not run.
    #[arg(long = "name-server")]
    name_servers: Vec<std::net::IpAddr>,
    /// The cluster's domain, below which names of Services are.
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Whether owners may read their Tenants. Each then has a ClusterRoleBinding, through all of which RBAC looks for every request.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    owners_see_tenants: bool,
    /// When the network enforcer is on: Always, Auto (where a probe found that nothing else enforces) or Off.
    #[arg(long, value_enum, ignore_case = true, default_value = "off")]
    network_enforcer: Mode,
    /// The network enforcer's image, with which nodes are probed; without it none is.
    #[arg(long, default_value = "")]
    probe_image: String,
    /// When a node pulls that image.
    #[arg(long, default_value = "IfNotPresent")]
    probe_pull_policy: String,
    /// Seconds between probes of a node of which is known what it does.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(60..=86400))]
    probe_interval_seconds: u32,
}

/// What the arguments say of a leader's work.
struct Wishes {
    bound: Bound,
    probes: probes::Settings,
    name_servers: NameServers,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    logging::init()?;
    let arguments = Arguments::parse();
    let mut stop = stop::on_signals()?;
    let (metrics, registry) = Metrics::new();
    let readiness = health::Readiness::default();
    let listener = tokio::net::TcpListener::bind(arguments.health_address)
        .await
        .with_context(|| format!("could not listen on {}", arguments.health_address))?;
    let routes = connections::routes(health::routes(readiness.clone(), Arc::new(registry)));
    let server = tokio::spawn(connections::serve(listener, routes, stop.clone()));

    let client = kube::Client::try_default().await.context("no way to the API server; set KUBECONFIG or run in a pod")?;
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "operator".to_owned());
    let identity = format!("{host}_{}_{}", std::process::id(), k8s_openapi::jiff::Timestamp::now().as_nanosecond());
    let wishes = Wishes {
        bound: if arguments.owners_see_tenants { Bound::Cluster } else { Bound::Namespace },
        probes: probes::Settings {
            mode: arguments.network_enforcer,
            image: arguments.probe_image,
            pull_policy: arguments.probe_pull_policy,
            interval: SignedDuration::from_secs(arguments.probe_interval_seconds.into()),
        },
        name_servers: NameServers {
            addresses: arguments.name_servers.iter().map(ToString::to_string).collect(),
            domain: arguments.cluster_domain,
        },
    };
    let candidate = Candidate::new(client.clone(), arguments.lease_namespace, identity);
    // One who waits is ready to take over; else a rollout would wait for ever.
    readiness.set(true);
    let outcome = if candidate.lead(&mut stop).await {
        tracing::info!("leading");
        metrics.lead(true);
        let outcome = lead(client, metrics.clone(), wishes, &candidate, &readiness, stop).await;
        metrics.lead(false);
        if outcome.is_ok() {
            candidate.release().await;
        }
        outcome
    } else {
        Ok(())
    };
    outcome?;
    server.await.context("the health server ended badly")
}

/// Acts as the leader, until a stop or until leadership is lost, which is an error: the process must end at once.
async fn lead(
    client: kube::Client,
    metrics: Metrics,
    wishes: Wishes,
    candidate: &Candidate,
    readiness: &health::Readiness,
    mut stop: Stop,
) -> anyhow::Result<()> {
    let work = async {
        readiness.set(false);
        let (cache, mut watches) = tokio::select! {
            started = Cache::start(&client) => started.context("the first lists did not come")?,
            () = stop.wait() => return Ok(()),
        };
        readiness.set(true);
        tracing::info!(tenants = cache.tenants.len(), namespaces = cache.namespaces.len(), "caches are filled");
        let context = Arc::new(tenants::Context {
            cache: cache.clone(),
            scribe: Scribe { client: client.clone(), metrics: metrics.clone() },
            told: Default::default(),
            surveys: Default::default(),
            bound: wishes.bound,
            shards: Default::default(),
            recorder: Recorder::new(client.clone(), FIELD_MANAGER.into()),
            name_servers: wishes.name_servers,
        });
        watches.spawn(context.shards.clone().keep(context.scribe.clone(), cache.clone()));
        let mut controllers = tokio::task::JoinSet::new();
        let (ending, counting) = (stop.clone(), metrics.clone());
        controllers.spawn(
            applier(
                |tenant, context| Box::pin(tenants::reconcile(tenant, context)),
                tenants::on_error,
                context.clone(),
                cache.tenants.clone(),
                cache.tenant_wakes.stream().take_until(ended(ending)),
                Config::default().concurrency(CONCURRENCY),
            )
            .for_each(move |result| {
                counting.reconciled("tenants", result.is_ok());
                std::future::ready(())
            }),
        );
        let (ending, counting) = (stop.clone(), metrics.clone());
        controllers.spawn(
            applier(
                |sandbox, context| Box::pin(sandboxes::reconcile(sandbox, context)),
                sandboxes::on_error,
                context,
                cache.sandboxes.clone(),
                cache.sandbox_wakes.stream().take_until(ended(ending)),
                Config::default().concurrency(CONCURRENCY),
            )
            .for_each(move |result| {
                counting.reconciled("sandboxes", result.is_ok());
                std::future::ready(())
            }),
        );
        controllers.spawn(probes::run(client.clone(), cache.clone(), metrics.clone(), wishes.probes, stop.clone()));
        let finished = async { while controllers.join_next().await.is_some() {} };
        let mut stopped = stop.clone();
        tokio::select! {
            () = finished => {}
            ended = watches.join_next() => bail!("a watch ended: {ended:?}"),
            () = async { stopped.wait().await; tokio::time::sleep(STOP_LIMIT).await } => {
                tracing::warn!(limit = ?STOP_LIMIT, "rounds were still running at the end of the stop limit; they are cut");
            }
        }
        Ok(())
    };
    tokio::select! {
        done = work => done,
        () = candidate.keep() => bail!("leadership was lost; ending, so that nothing is written by two at once"),
    }
}

/// Resolves when a stop was asked for.
async fn ended(mut stop: Stop) {
    stop.wait().await;
}
