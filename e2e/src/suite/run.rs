//! Runs chunks of specs on the node, watches which pods got which class, and keeps results as they come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};

use super::{Outcome, Results, report};

/// Longest time for one chunk: specs have limits of their own, of five minutes at most.
const CHUNK_LIMIT: Duration = Duration::from_secs(900);

/// What to run.
pub struct Plan {
    /// Command that runs another on the node, in words.
    pub node: Vec<String>,
    /// Name of the runtime in the results; pods of another class count as not forced.
    pub runtime: String,
    /// The RuntimeClass that the pods get, none for the node's default.
    pub class: Option<String>,
    /// Specs at once.
    pub at_once: usize,
    /// Specs in one run of ginkgo; results are kept after each.
    pub chunk: usize,
    /// Ends after this time, between two chunks.
    pub limit: Duration,
    /// Where results are kept.
    pub results: PathBuf,
    /// Run also what has a result.
    pub again: bool,
}

/// Names of the specs that `focus` takes and `skip` leaves.
///
/// # Errors
/// If the suite can't be asked.
pub async fn list(node: &[String], focus: &str, skip: &str) -> anyhow::Result<BTreeSet<String>> {
    let script = r#"cd /root && ./e2e.test --ginkgo.dry-run --ginkgo.focus="$0" --ginkgo.skip="$1" --ginkgo.json-report=/root/list.json >/root/list.log 2>&1 || { tail -n 5 /root/list.log >&2; exit 1; }; cat /root/list.json"#;
    let text = on_node(node, &["sh", "-c", script, focus, skip], Duration::from_secs(120)).await?;
    report::selected(&text).context("the suite's list is not understood")
}

/// Whether the node's kernel has SCTP, loaded or to be loaded.
///
/// # Errors
/// If the node can't be asked.
pub async fn has_sctp(node: &[String]) -> anyhow::Result<bool> {
    let script = "modprobe sctp 2>/dev/null; grep -c '^SCTP ' /proc/net/protocols || true";
    Ok(on_node(node, &["sh", "-c", script], Duration::from_secs(30)).await?.trim_ascii() != b"0")
}

async fn on_node(node: &[String], command: &[&str], limit: Duration) -> anyhow::Result<Vec<u8>> {
    let (program, rest) = node.split_first().context("no command that runs another on the node")?;
    let child = tokio::process::Command::new(program)
        .args(rest)
        .args(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(limit, child)
        .await
        .with_context(|| format!("no end within {} s on the node", limit.as_secs()))??;
    ensure!(output.status.success(), "the command on the node ended with {}", output.status);
    Ok(output.stdout)
}

/// The results so far; none if there is no file yet.
///
/// # Errors
/// If the file is there and not understood.
pub fn load(path: &std::path::Path) -> anyhow::Result<Results> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is not understood", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
        Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
    }
}

/// Of each namespace: when its first pod was made, and whether each of its pods got the class.
type Seen = Arc<Mutex<BTreeMap<String, (i64, BTreeMap<String, bool>)>>>;

/// Follows all pods.
async fn follow(client: Client, class: Option<String>, seen: Seen) {
    let mut pods =
        std::pin::pin!(watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().applied_objects());
    while let Some(event) = pods.next().await {
        let Ok(pod) = event else { continue };
        let got = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone());
        let made = pod.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        if let Ok(mut seen) = seen.lock() {
            let (first, pods) = seen.entry(pod.namespace().unwrap_or_default()).or_insert((made, BTreeMap::new()));
            *first = made.min(*first);
            pods.insert(pod.name_any(), got == class);
        }
    }
}

/// Runs what has no result yet, chunk by chunk. `say` is told what goes on.
///
/// # Errors
/// If the suite can't be run at all; a spec that fails is a result.
pub async fn run(client: Client, plan: &Plan, specs: &BTreeSet<String>, say: impl Fn(&str)) -> anyhow::Result<()> {
    let mut all = load(&plan.results)?;
    let known = all.get(&plan.runtime);
    let is_known = |name: &String| known.is_some_and(|known| known.contains_key(name));
    let mut pending: Vec<String> = specs.iter().filter(|name| plan.again || !is_known(name)).cloned().collect();
    // By how long they took before, on any runtime: those of one chunk end together, and the shortest come first.
    pending.sort_by_key(|name| {
        all.values().filter_map(|results| results.get(name)).map(|one| one.seconds).max().unwrap_or(u64::MAX)
    });
    say(&format!("{} of {} specs to run on {}, {} at once", pending.len(), specs.len(), plan.runtime, plan.at_once));
    let seen = Seen::default();
    let following = tokio::spawn(follow(client, plan.class.clone(), seen.clone()));
    let began = Instant::now();
    for chunk in pending.chunks(plan.chunk) {
        if began.elapsed() >= plan.limit {
            say("the time allowed is over; the rest comes with the next run");
            break;
        }
        let asked: BTreeSet<String> = chunk.iter().cloned().collect();
        let script = r#"cd /root && rm -f chunk.json; ./ginkgo --procs="$0" --no-color --timeout="$1"s --focus="$2" --json-report=chunk.json --output-dir=/root ./e2e.test -- --kubeconfig="$KUBECONFIG" --provider=skeleton --kubectl-path="$(command -v kubectl)" >chunk.log 2>&1; test -s chunk.json || { tail -n 20 chunk.log >&2; exit 1; }; cat chunk.json"#;
        let (procs, limit) = (plan.at_once.to_string(), CHUNK_LIMIT.as_secs().to_string());
        let text = on_node(
            &plan.node,
            &["sh", "-c", script, &procs, &limit, &report::focus(asked.iter())],
            CHUNK_LIMIT + Duration::from_secs(60),
        )
        .await?;
        let namespaces = match seen.lock() {
            Ok(seen) => seen
                .iter()
                .map(|(namespace, (first, pods))| {
                    let forced = pods.values().filter(|got| **got).count();
                    (namespace.clone(), report::Pods { first: *first, forced, others: pods.len() - forced })
                })
                .collect(),
            Err(_) => BTreeMap::new(),
        };
        let date = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        let found = report::results(&text, &asked, &namespaces, &date).context("ginkgo's report is not understood")?;
        ensure!(!found.is_empty(), "ginkgo ran none of the specs that were asked for");
        let failed: Vec<_> = found.iter().filter(|(_, one)| one.outcome == Outcome::Failed).collect();
        for (name, one) in &failed {
            say(&format!("FAILED {name}: {}", one.reason));
        }
        let results = all.entry(plan.runtime.clone()).or_default();
        results.extend(found.clone());
        say(&format!("{} of {} have a result; {} of this chunk failed", results.len(), specs.len(), failed.len()));
        let text = serde_json::to_vec_pretty(&all)?;
        std::fs::write(&plan.results, text).with_context(|| format!("could not write {}", plan.results.display()))?;
    }
    following.abort();
    Ok(())
}
