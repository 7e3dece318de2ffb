//! The demo's evidence: applies the two example Tenants as the platform team, works as their owners, and prints a table.
//!
//! `scripts/demo` starts the cluster and installs the chart before; `--webhook-away` says that the webhook is scaled to zero
//! and only the floor counts. Exits with 1 if a row is red.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use freehold_crds::{Boundary, Tenant};
use freehold_e2e::evidence::{STAGE_A, STAGE_B, belonging, kernel, looking, network, pods, usage};
use freehold_e2e::{Answer, Counts, People, Row, Verdict, objects, row, wait};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};

/// Everything of ours that reacts to a fresh namespace has this long.
const GUARDED: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Prints live evidence of what separates two tenants")]
struct Args {
    /// How to print the rows
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// The webhook is away: only refusals by RBAC, quota or an admission policy count
    #[arg(long)]
    webhook_away: bool,
    /// The example Tenants
    #[arg(long, default_values = ["examples/team-a.yaml", "examples/team-b.yaml"])]
    tenants: Vec<std::path::PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match show(Args::parse()).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn show(args: Args) -> anyhow::Result<()> {
    let people = People::from_environment().await?;
    let began = Instant::now();
    let say = |what: &str| eprintln!("[{:>6.1} s] {what}", began.elapsed().as_secs_f64());

    say("the platform team applies two Tenants");
    for file in &args.tenants {
        apply_tenant(&people.platform, file).await?;
    }
    say("each owner makes a namespace and a Deployment in it");
    let class = args.webhook_away.then_some("freehold-microvm");
    stage(&people, &people.alice, STAGE_A, "team-a", class).await?;
    stage(&people, &people.bob, STAGE_B, "team-b", class).await?;
    deploy(&people.alice, STAGE_A, "neighbour", class).await?;
    say("waiting for the pods to say what they run on");
    let a = kernel::facts(&people.alice, STAGE_A, "web").await?;
    let b = kernel::facts(&people.bob, STAGE_B, "web").await?;
    let neighbour = kernel::facts(&people.alice, STAGE_A, "neighbour").await?;

    say("collecting evidence");
    let counts = if args.webhook_away { Counts::Floor } else { Counts::Anyone };
    let mut rows = kernel::rows(&a, &b)?;
    if !args.webhook_away {
        let holds = [&a, &b].iter().all(|facts| facts.runtime_class == "freehold-microvm");
        rows.push(Row::fact(
            "runtimeClassName of pods that named none",
            format!("{}, {}", a.runtime_class, b.runtime_class),
            "both run".to_owned(),
            "webhook",
            holds,
        ));
    }
    rows.extend(looking::rows(&people).await?);
    let round = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().to_string();
    rows.extend(belonging::rows(&people, &round).await?);
    rows.push(belonging::theft(&people).await?);
    rows.extend(pods::rows(&people, counts).await?);
    rows.push(network::row(&people.alice, STAGE_A, &a, &neighbour, &b).await?);
    for tenant in ["team-a", "team-b"] {
        rows.push(
            wait::until("usage to be counted", GUARDED, || async {
                let row = usage::quota(&people.platform, tenant).await?;
                anyhow::ensure!(row.verdict == Verdict::Green, "{}", row.answer);
                Ok(row)
            })
            .await?,
        );
    }
    rows.push(usage::start(&people.platform, &[&a, &b, &neighbour]).await?);

    match args.output {
        Output::Table => println!("{}", row::table(&rows)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    let red = rows.iter().filter(|row| row.verdict == Verdict::Red).count();
    say(&format!("{} rows, {red} red", rows.len()));
    anyhow::ensure!(red == 0, "{red} rows are red");
    Ok(())
}

async fn apply_tenant(platform: &Client, file: &std::path::Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("could not read {}", file.display()))?;
    let tenant: serde_json::Value = serde_yaml::from_str(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    let name = tenant["metadata"]["name"].as_str().with_context(|| format!("{} names no Tenant", file.display()))?.to_owned();
    Api::<Tenant>::all(platform.clone())
        .patch(&name, &PatchParams::apply("platform-team").force(), &Patch::Apply(tenant))
        .await?;
    Ok(())
}

/// The namespace of a tenant, guarded, with its Deployment `web`.
async fn stage(people: &People, owner: &Client, name: &str, tenant: &str, class: Option<&str>) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(owner.clone());
    wait::until(&format!("the owner of {tenant} to be let in"), GUARDED, || async {
        match namespaces.create(&PostParams::default(), &objects::namespace(name, Some(tenant))).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            outcome => match Answer::of(outcome)? {
                Answer::Admitted => Ok(()),
                refused => anyhow::bail!("{refused}"),
            },
        }
    })
    .await?;
    let boundaries: Api<Boundary> = Api::namespaced(people.platform.clone(), name);
    wait::until(&format!("the Boundary of {name}"), GUARDED, || async { Ok(boundaries.get("boundary").await.map(|_| ())?) })
        .await?;
    deploy(owner, name, "web", class).await
}

async fn deploy(owner: &Client, namespace: &str, name: &str, class: Option<&str>) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(owner.clone(), namespace);
    let object = objects::deployment(name, kernel::SCRIPT, class);
    wait::until(&format!("the owner to deploy {namespace}/{name}"), GUARDED, || async {
        match deployments.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            outcome => match Answer::of(outcome)? {
                Answer::Admitted => Ok(()),
                refused => anyhow::bail!("{refused}"),
            },
        }
    })
    .await
}
