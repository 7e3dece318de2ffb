//! Measures what Freehold costs the API server: pods and namespaces beside the same cluster without it, and with webhooks
//! that do nothing; and what many tenants cost the operator and the webhook.
//!
//! `scripts/bench-boundary` brings the cluster from one state to the next and calls this in each. Every call adds a line of
//! figures to a file; `page` makes the table of them. Nothing here passes or fails by a time.

mod many;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use freehold_crds::{BOUNDARY_NAME, Boundary};
use freehold_e2e::{objects, people};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, PostParams};
use serde::{Deserialize, Serialize};

/// Pods that are created one after the other, after so many that warm caches and connections.
const PODS: usize = 400;
const WARM: usize = 40;
/// Pods created at once, how many of them one after the other, and how often.
const AT_ONCE: usize = 16;
const CROWD: usize = 400;
const CROWDS: usize = 4;
/// How the row of webhooks that do nothing begins: the others are put beside it and beside the first.
const NOTHING: &str = "with webhooks and a policy that do nothing";
/// Namespaces that an owner creates, one after the other.
const NAMESPACES: usize = 40;
/// Longest wait for a namespace to be usable.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(10);
/// Time between two questions for the owner's rights: without one the questions would be what the API server is busy with.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Parser)]
#[command(about = "Measures what Freehold costs the API server")]
struct Args {
    /// The file of figures
    #[arg(long)]
    figures: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Creates pods in namespaces by turns, as a dry run: everything happens but the storing
    Pods {
        /// What the namespace is like, and its name: WHAT=NAMESPACE
        #[arg(required = true)]
        places: Vec<String>,
    },
    /// Creates namespaces as a tenant's owner, and waits for rights and a pod in each
    Namespaces {
        /// The tenant
        tenant: String,
    },
    /// Applies many Tenants at once, waits for all guards, and looks at our programs on the node
    Tenants {
        /// How many
        count: usize,
    },
    /// Keeps what the webhook's own bench found
    Decided {
        /// Median, in microseconds
        median: f64,
        /// 99th percentile, in microseconds
        p99: f64,
    },
    /// Keeps what the generator of reviews found
    Served {
        /// Reviews a second
        rate: f64,
        /// Asked
        asked: usize,
        /// Answered with yes
        allowed: usize,
        /// Median, in milliseconds
        median: f64,
        /// 99th percentile, in milliseconds
        p99: f64,
    },
    /// Prints the figures as tables
    Page,
}

#[derive(Serialize, Deserialize)]
enum Figures {
    /// Milliseconds of pods, and pods a second by many at once.
    Pods { state: String, median: f64, p99: f64, rate: f64 },
    /// Milliseconds from creating a namespace: median and 99th percentile.
    Namespaces { guarded: [f64; 2], rights: [f64; 2], usable: [f64; 2] },
    /// Microseconds of a decision in process.
    Decided { median: f64, p99: f64 },
    /// Milliseconds of an answer over TLS.
    Served { rate: f64, asked: usize, allowed: usize, median: f64, p99: f64 },
    /// What many tenants cost.
    Tenants(many::Cost),
}

fn pod(name: &str) -> Pod {
    let mut pod = objects::pod(name, "exec sleep 1000", &[]);
    if let Some(spec) = &mut pod.spec {
        spec.runtime_class_name = None;
    }
    pod
}

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// Of milliseconds: the value that this share lies below.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len() as f64) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// By turns, so that whatever else the machine does meanwhile meets all of them.
async fn pods(places: &[String]) -> anyhow::Result<Vec<Figures>> {
    let alice = people::client("FREEHOLD_KUBECONFIG_ALICE").await?;
    let mut all: Vec<(String, Api<Pod>, Vec<f64>, f64)> = Vec::new();
    for place in places {
        let (state, namespace) = place.rsplit_once('=').with_context(|| format!("{place} is not WHAT=NAMESPACE"))?;
        all.push((state.to_owned(), Api::namespaced(alice.clone(), namespace), Vec::new(), 0.0));
    }
    for n in 0..WARM + PODS {
        for (_, pods, times, _) in &mut all {
            let began = Instant::now();
            pods.create(&dry(), &pod(&format!("one-{n}"))).await?;
            times.push(milliseconds(began));
        }
    }
    for round in 0..CROWDS {
        for (_, pods, _, seconds) in &mut all {
            let began = Instant::now();
            let pods = &*pods;
            futures::stream::iter(0..CROWD)
                .map(|n| async move { pods.create(&dry(), &pod(&format!("many-{round}-{n}"))).await.map(drop) })
                .buffer_unordered(AT_ONCE)
                .try_collect::<Vec<()>>()
                .await?;
            *seconds += began.elapsed().as_secs_f64();
        }
    }
    let figures = |(state, _, times, seconds): (String, Api<Pod>, Vec<f64>, f64)| {
        let times = &times[WARM..];
        let rate = (CROWDS * CROWD) as f64 / seconds;
        Figures::Pods { state, median: quantile(times, 0.5), p99: quantile(times, 0.99), rate }
    };
    Ok(all.into_iter().map(figures).collect())
}

/// The question whether who asks may create pods in a namespace.
fn may_create_pods(namespace: &str) -> SelfSubjectAccessReview {
    let attributes = ResourceAttributes {
        namespace: Some(namespace.to_owned()),
        verb: Some("create".to_owned()),
        resource: Some("pods".to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..SelfSubjectAccessReviewSpec::default() };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

async fn namespaces(tenant: &str) -> anyhow::Result<Figures> {
    let alice = people::client("FREEHOLD_KUBECONFIG_ALICE").await?;
    let platform = people::client("FREEHOLD_KUBECONFIG").await?;
    let all: Api<Namespace> = Api::all(alice.clone());
    let asked: Api<SelfSubjectAccessReview> = Api::all(alice.clone());
    let (mut guarded, mut rights, mut usable) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..NAMESPACES {
        let name = format!("{tenant}-n{n}");
        let began = Instant::now();
        all.create(&PostParams::default(), &objects::namespace(&name, Some(tenant))).await?;
        let boundaries: Api<Boundary> = Api::namespaced(platform.clone(), &name);
        let watched = async {
            let there =
                kube::runtime::wait::await_condition(boundaries, BOUNDARY_NAME, |found: Option<&Boundary>| found.is_some());
            tokio::time::timeout(NAMESPACE_LIMIT, there).await.context("no Boundary came")??;
            anyhow::Ok(milliseconds(began))
        };
        let used = async {
            while !asked.create(&PostParams::default(), &may_create_pods(&name)).await?.status.is_some_and(|said| said.allowed) {
                ensure!(began.elapsed() < NAMESPACE_LIMIT, "no rights in {name} after {} s", NAMESPACE_LIMIT.as_secs());
                tokio::time::sleep(LOOK).await;
            }
            let rights = milliseconds(began);
            let pods: Api<Pod> = Api::namespaced(alice.clone(), &name);
            pods.create(&dry(), &pod("first")).await.with_context(|| format!("a pod in {name}"))?;
            anyhow::Ok((rights, milliseconds(began)))
        };
        let (boundary, (may, first)) = tokio::try_join!(watched, used)?;
        guarded.push(boundary);
        rights.push(may);
        usable.push(first);
    }
    for n in 0..NAMESPACES {
        Api::<Namespace>::all(platform.clone()).delete(&format!("{tenant}-n{n}"), &DeleteParams::default()).await?;
    }
    let both = |values: &[f64]| [quantile(values, 0.5), quantile(values, 0.99)];
    Ok(Figures::Namespaces { guarded: both(&guarded), rights: both(&rights), usable: both(&usable) })
}

fn page(figures: &[Figures]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    let bare = figures.iter().find_map(|one| match one {
        Figures::Pods { median, rate, .. } => Some((*median, *rate)),
        _ => None,
    });
    let idle = figures.iter().find_map(|one| match one {
        Figures::Pods { state, median, rate, .. } if state.starts_with(NOTHING) => Some((*median, *rate)),
        _ => None,
    });
    if let Some((bare_median, bare_rate)) = bare {
        line(
            "| pod created (dry run) | median, ms | p99, ms | to the first row | to doing nothing | created/s by 16 at once | to the first row | to doing nothing |\n\
             |---|---|---|---|---|---|---|---|"
                .into(),
        );
        for one in figures {
            if let Figures::Pods { state, median, p99, rate } = one {
                let (idle_median, idle_rate) = idle.unwrap_or((f64::NAN, f64::NAN));
                line(format!(
                    "| {state} | {median:.2} | {p99:.2} | {:+.2} ms, {:.2} x | {:.2} x | {rate:.0} | {:.2} x | {:.2} x |",
                    median - bare_median,
                    median / bare_median,
                    median / idle_median,
                    rate / bare_rate,
                    rate / idle_rate
                ));
            }
        }
    }
    for one in figures {
        match one {
            Figures::Pods { .. } => {}
            Figures::Namespaces { guarded, rights, usable } => line(format!(
                "\n| a namespace that an owner creates | median, ms | p99, ms |\n|---|---|---|\n| until its Boundary, the last of its guards, is there | {:.0} | {:.0} |\n\
                 | until the owner has rights in it, asked every {} ms | {:.0} | {:.0} |\n| until a pod that the owner creates then is admitted | {:.0} | {:.0} |",
                guarded[0],
                guarded[1],
                LOOK.as_millis(),
                rights[0],
                rights[1],
                usable[0],
                usable[1],
            )),
            Figures::Decided { median, p99 } => {
                line(format!(
                    "\nA review of a pod of two containers is read, decided and answered in {median:.1} µs at the median, {p99:.1} µs at the 99th percentile."
                ));
            }
            Figures::Served { rate, asked, median, p99, .. } => line(format!(
                "\nOver TLS one replica on one processor answers {rate:.0} reviews a second ({asked} in all, each with a patch) in {median:.2} ms at the median and {p99:.2} ms at the \
                 99th percentile, counted from when each was due."
            )),
            Figures::Tenants(cost) => line(cost.words()),
        }
    }
    out
}

fn keep(file: &Path, figures: &Figures) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file).with_context(|| file.display().to_string())?;
    writeln!(file, "{}", serde_json::to_string(figures)?)?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let figures = match args.what {
        What::Pods { places } => pods(&places).await?,
        What::Namespaces { tenant } => vec![namespaces(&tenant).await?],
        What::Tenants { count } => vec![Figures::Tenants(many::measure(count).await?)],
        What::Decided { median, p99 } => vec![Figures::Decided { median, p99 }],
        What::Served { rate, asked, allowed, median, p99 } => {
            ensure!(asked == allowed, "{} of {asked} reviews were not answered with yes", asked - allowed);
            vec![Figures::Served { rate, asked, allowed, median, p99 }]
        }
        What::Page => {
            let text = std::fs::read_to_string(&args.figures).with_context(|| args.figures.display().to_string())?;
            let figures = text.lines().map(serde_json::from_str).collect::<Result<Vec<Figures>, _>>()?;
            print!("{}", page(&figures));
            return Ok(());
        }
    };
    figures.iter().try_for_each(|one| keep(&args.figures, one))
}
