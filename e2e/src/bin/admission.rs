//! Measures what Freehold costs the API server: pods and namespaces beside the same cluster without it, and with webhooks
//! that do nothing; and what many tenants cost the operator and the webhook.
//!
//! `scripts/bench-boundary` brings the cluster from one state to the next and calls this in each. Every call adds a line of
//! figures to a file; `page` makes the table of them. Nothing here passes or fails by a time.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use freehold_crds::{BOUNDARY_NAME, Boundary, Tenant};
use freehold_e2e::{objects, people, wait};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::{Deserialize, Serialize};
use serde_json::json;

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
/// Longest wait for a namespace to be usable, and for all tenants to be.
const NAMESPACE_LIMIT: Duration = Duration::from_secs(10);
const TENANTS_LIMIT: Duration = Duration::from_secs(1200);
/// How names of many tenants begin, and those of their namespaces.
const MANY: &str = "many-";
/// Namespaces of each of many tenants.
const NAMESPACES_EACH: usize = 3;
/// The kernel's clock ticks a second, as /proc/PID/stat counts (USER_HZ on every Linux).
const TICKS: f64 = 100.0;

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
    /// Creates namespaces as a tenant's owner, and waits until a pod is admitted in each
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
    /// Milliseconds from creating a namespace.
    Namespaces { guarded: [f64; 2], usable: [f64; 2], refused: usize },
    /// Microseconds of a decision in process.
    Decided { median: f64, p99: f64 },
    /// Milliseconds of an answer over TLS.
    Served { rate: f64, asked: usize, allowed: usize, median: f64, p99: f64 },
    /// What many tenants cost.
    Tenants { count: usize, seconds: f64, operator: Usage, operator_before: Usage, webhook: Usage },
}

/// Processor seconds and resident MiB of one process.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Usage {
    seconds: f64,
    mib: f64,
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

async fn namespaces(tenant: &str) -> anyhow::Result<Figures> {
    let alice = people::client("FREEHOLD_KUBECONFIG_ALICE").await?;
    let platform = people::client("FREEHOLD_KUBECONFIG").await?;
    let all: Api<Namespace> = Api::all(alice.clone());
    let (mut guarded, mut usable, mut refused) = (Vec::new(), Vec::new(), 0);
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
            let pods: Api<Pod> = Api::namespaced(alice.clone(), &name);
            let mut refused = 0;
            loop {
                match pods.create(&dry(), &pod("first")).await {
                    Ok(_) => return anyhow::Ok((milliseconds(began), refused)),
                    Err(kube::Error::Api(said)) if said.code == 403 && began.elapsed() < NAMESPACE_LIMIT => refused += 1,
                    Err(error) => return Err(error).with_context(|| format!("a pod in {name}")),
                }
            }
        };
        let (boundary, (first, tries)) = tokio::try_join!(watched, used)?;
        guarded.push(boundary);
        usable.push(first);
        refused += tries;
    }
    for n in 0..NAMESPACES {
        Api::<Namespace>::all(platform.clone()).delete(&format!("{tenant}-n{n}"), &DeleteParams::default()).await?;
    }
    let both = |values: &[f64]| [quantile(values, 0.5), quantile(values, 0.99)];
    Ok(Figures::Namespaces { guarded: both(&guarded), usable: both(&usable), refused })
}

/// Processor time and memory of a program on the node, summed over its processes.
fn usage(program: &str) -> anyhow::Result<Usage> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE is not set: run scripts/bench-boundary")?;
    let script = r#"for p in /proc/[0-9]*; do
        [ "$(tr '\0' '\n' <"$p/cmdline" 2>/dev/null | head -n1 | sed 's:.*/::')" = "$0" ] || continue
        read -r line <"$p/stat"; rest=${line##*) }; set -- $rest
        echo "$((${12} + ${13})) $(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "$p/status")"
    done"#;
    let mut words = way.split_whitespace();
    let output =
        Command::new(words.next().context("FREEHOLD_NODE is empty")?).args(words).args(["sh", "-c", script, program]).output()?;
    ensure!(output.status.success(), "the node: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut sum = Usage::default();
    let mut found = 0;
    for line in text.lines() {
        let (ticks, kib) = line.split_once(' ').context("a process without figures")?;
        sum.seconds += ticks.parse::<f64>()? / TICKS;
        sum.mib = sum.mib.max(kib.parse::<f64>()? / 1024.0);
        found += 1;
    }
    ensure!(found > 0, "no process {program} on the node");
    Ok(sum)
}

async fn tenants(count: usize) -> anyhow::Result<Figures> {
    let platform = people::client("FREEHOLD_KUBECONFIG").await?;
    let operator_before = usage("freehold-operator")?;
    let all: Api<Tenant> = Api::all(platform.clone());
    let began = Instant::now();
    futures::stream::iter(0..count)
        .map(|n| {
            let all = &all;
            async move {
                let name = format!("{MANY}{n}");
                let declared: Vec<_> = (0..NAMESPACES_EACH).map(|k| json!({"name": format!("{name}-{k}")})).collect();
                let tenant = json!({
                    "apiVersion": "freehold.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": name},
                    "spec": {"owners": [{"kind": "User", "name": format!("owner-{n}")}], "namespaces": {"declared": declared},
                        "quota": {"hard": {"requests.cpu": "4", "pods": "20"}}},
                });
                all.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&tenant)).await.map(drop)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let boundaries: Api<Boundary> = Api::all(platform);
    wait::until("every namespace's Boundary", TENANTS_LIMIT, async || {
        // Others come and go meanwhile: what was created before is still being deleted.
        let all = boundaries.list_metadata(&ListParams::default().match_any()).await?.items;
        let is = all.iter().filter(|one| one.metadata.namespace.as_deref().is_some_and(|name| name.starts_with(MANY))).count();
        ensure!(is >= count * NAMESPACES_EACH, "{is} Boundaries");
        Ok(())
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Figures::Tenants {
        count,
        seconds,
        operator: usage("freehold-operator")?,
        operator_before,
        webhook: usage("freehold-webhook")?,
    })
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
            Figures::Namespaces { guarded, usable, refused } => line(format!(
                "\n| a namespace that an owner creates | median, ms | p99, ms |\n|---|---|---|\n| until its Boundary, the last of its guards, is there | {:.0} | {:.0} |\n\
                 | until a pod of the owner is admitted in it | {:.0} | {:.0} |\n\nPods refused before that, for the owner's rights were not there yet: {:.1} a namespace, tried without a pause.",
                guarded[0],
                guarded[1],
                usable[0],
                usable[1],
                *refused as f64 / NAMESPACES as f64
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
            Figures::Tenants { count, seconds, operator, operator_before, webhook } => line(format!(
                "\n{count} Tenants with {NAMESPACES_EACH} declared namespaces each, applied at once: every Boundary was there after {seconds:.0} s. \
                 The operator took {:.1} s of processor time for it and then held {:.0} MiB resident, a webhook replica {:.0} MiB.",
                operator.seconds - operator_before.seconds,
                operator.mib,
                webhook.mib
            )),
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
        What::Tenants { count } => vec![tenants(count).await?],
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
