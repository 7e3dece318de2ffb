//! Runs upstream's specs on a cluster that `scripts/conformance` has set up, and writes what became of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use freehold_e2e::people;
use freehold_e2e::suite::{Outcome, page, run};

/// The name of the machine's RuntimeClass, and of its column.
const OURS: &str = "freehold-microvm";
/// The name of the other column.
const RUNC: &str = "runc";

/// Why specs fail that fail, or have no pod in a machine, as far as it was looked into: a part of the name, and the reason.
const KNOWN: &[(&str, &str)] = &[
    ("should be consumable via the environment [", "the shell of Debian's busybox drops variables with a dash in their name"),
    ("with hostAliases and hostNetwork", "its pod has the node's network"),
    ("should reject a Pod requesting a deleted RuntimeClass", "its pod names a RuntimeClass of its own, and is refused"),
    ("should schedule a Pod requesting a RuntimeClass and initialize its Overhead", "its pod names a RuntimeClass of its own"),
    ("in the configured hostUID/hostGID range", "it needs getsubids and a range in /etc/subuid on the node"),
    ("PrivilegedPod should enable privileged commands", "the kernel of the machine on which this ran has no dummy links"),
];

/// The suite of docs/conformance.md.
const NODE: &str = r"\[NodeConformance\]|\[Feature:UserNamespacesSupport\]";

/// Those about NetworkPolicies.
const NETPOL: &str = r"\[sig-network\] Netpol";

/// The head of the page.
const HEAD: &str = "# Conformance\n\n\
    Upstream's own specs (`[NodeConformance]` of Kubernetes' `test/e2e`, and those of user namespaces), unmodified, on runc and in virtual machines: what passes on runc must\n\
    pass here. The machine's RuntimeClass is forced on every pod that may have it; a spec whose pods all name a class of their own or use the\n\
    node's namespaces is counted as not forced. Of a spec that passed before the runner could tell its namespaces, and of one that has none, no\n\
    pod is counted. Written by `make conformance`; a spec at a time, each with the day of its last run.\n\n";

/// The head of the page about NetworkPolicies.
const NETPOL_HEAD: &str = "# Upstream's NetworkPolicy specs\n\n\
    Upstream's own specs (`Netpol` of Kubernetes' `test/e2e/network/netpol`), unmodified, on a cluster whose CNI enforces nothing, with the network\n\
    enforcer (`networkEnforcer.mode: Always`), with pods on runc, spread over two nodes, and with pods in virtual machines on one. Those about SCTP run only where the kernel has it.\n\
    Written by `make netpol`; a spec at a time, each with the day of its last run.\n\n";

/// The part that is a gate: one spec of each kind that has broken virtual machines before, minutes and not tens of them.
const GATE: &str = r"\[sig-node\] (Pods should (be submitted and removed|get a host IP|support remote command execution over websockets)|Container Runtime blackbox test on terminated container should report termination message as empty|InitContainer .*should invoke init containers on a RestartNever pod|Kubelet when scheduling a busybox command in a pod should print the output to logs)|\[sig-storage\] (ConfigMap (optional updates should be reflected|should be consumable from pods in volume with mappings \[)|EmptyDir volumes (should support \(non-root,0644,default\)|pod should support shared volumes)|Projected downwardAPI should update labels|Secrets should be consumable in multiple volumes)";

#[derive(Parser)]
#[command(about = "Runs upstream's NodeConformance specs and compares runtimes as sets")]
struct Args {
    /// What to run the specs on
    #[arg(long, value_enum)]
    on: On,
    /// Which specs
    #[arg(long, value_enum, default_value = "node")]
    which: Which,
    /// Specs at once
    #[arg(long, default_value_t = 4)]
    at_once: usize,
    /// Minutes after which no further chunk is begun
    #[arg(long, default_value_t = 600)]
    minutes: u64,
    /// Results of all runs
    #[arg(long, default_value = "docs/conformance.json")]
    results: PathBuf,
    /// The page for people; not written if absent
    #[arg(long)]
    page: Option<PathBuf>,
    /// What machine this is, for the page
    #[arg(long, default_value = "")]
    machine: String,
    /// Run also what has a result
    #[arg(long)]
    again: bool,
    /// End with an error if a spec of this run failed
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Runc,
    Machine,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// A part of a few minutes
    Gate,
    /// All that are not Serial, Slow, Disruptive or Flaky
    Node,
    /// All
    Full,
    /// Those about NetworkPolicies
    Netpol,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match compare(Args::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn compare(args: Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let say = |what: &str| eprintln!("[{:>5.0} s] {what}", began.elapsed().as_secs_f64());
    let node = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE names no command that runs another on the node")?;
    let node: Vec<String> = node.split(' ').map(str::to_owned).collect();
    let slow = r"\[Serial\]|\[Slow\]|\[Disruptive\]|\[Flaky\]";
    let (focus, skip) = match args.which {
        Which::Gate => (GATE, slow),
        Which::Node => (NODE, slow),
        Which::Full => (NODE, "^$"),
        Which::Netpol if run::has_sctp(&node).await? => (NETPOL, "^$"),
        Which::Netpol => (NETPOL, "SCTP"),
    };
    let specs = run::list(&node, focus, skip).await?;
    ensure!(!specs.is_empty(), "the suite has no such specs");
    let (runtime, class) = match args.on {
        On::Runc => (RUNC, None),
        On::Machine => (OURS, Some(OURS.to_owned())),
    };
    let plan = run::Plan {
        node,
        runtime: runtime.to_owned(),
        class,
        at_once: args.at_once,
        // A spec about NetworkPolicies starts nine pods and asks each from each, several times.
        chunk: if args.which == Which::Netpol { args.at_once } else { args.at_once * 4 },
        limit: Duration::from_secs(args.minutes * 60),
        results: args.results,
        again: args.again,
    };
    run::run(people::client("FREEHOLD_KUBECONFIG").await?, &plan, &specs, say).await?;
    let results = run::load(&plan.results)?;
    if let Some(path) = args.page {
        let text =
            page::page(if args.which == Which::Netpol { NETPOL_HEAD } else { HEAD }, &results, RUNC, OURS, &args.machine, KNOWN);
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let ran: Vec<_> = results.get(runtime).into_iter().flatten().filter(|(name, _)| specs.contains(*name)).collect();
    let count = |outcome| ran.iter().filter(|(_, one)| one.outcome == outcome).count();
    println!(
        "{} passed, {} failed, {} skipped on {runtime}",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    );
    ensure!(!args.strict || count(Outcome::Failed) == 0, "{} specs failed on {runtime}", count(Outcome::Failed));
    // What fails on runc too is no measure for a machine, and what is known is written down with its reason.
    let unexplained = page::unexplained(&results, RUNC, OURS, KNOWN);
    let unexplained: Vec<_> = unexplained.into_iter().filter(|name| specs.contains(*name)).cloned().collect();
    ensure!(
        args.on == On::Runc || unexplained.is_empty(),
        "{} specs fail in machines and not on runc, and nobody wrote down why:\n{}",
        unexplained.len(),
        unexplained.join("\n")
    );
    Ok(())
}
