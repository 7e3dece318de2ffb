//! The demo's evidence: applies the two example Tenants as the platform team, works as their owners, and prints a table.
//!
//! `scripts/demo` starts the cluster and installs the chart before. Exits with 1 if a row is red.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use freehold_e2e::evidence::{collect, stage};
use freehold_e2e::{People, Verdict, row};

#[derive(Parser)]
#[command(about = "Prints live evidence of what separates two tenants")]
struct Args {
    /// How to print the rows
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    /// The example Tenants
    #[arg(long, default_values = ["examples/team-a.yaml", "examples/team-b.yaml"])]
    tenants: Vec<PathBuf>,
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
    let say = |what: &str| eprintln!("       {:>5.1} s {what}", began.elapsed().as_secs_f64());

    say("the platform team applies two Tenants");
    for file in &args.tenants {
        stage::tenant(&people.platform, file).await?;
    }
    say("each owner makes a namespace and Deployments in it; their pods boot");
    let set = stage::set(&people).await?;
    say("trying what must be refused");
    let rows = collect::rows(&people, &set, say).await?;
    match args.output {
        Output::Table => println!("{}", row::table(&rows)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows)?),
    }
    let count = |verdict: Verdict| rows.iter().filter(|row| row.verdict == verdict).count();
    let (red, not_enforced) = (count(Verdict::Red), count(Verdict::NotEnforced));
    say(&format!("{} rows: {} ok, {red} red, {not_enforced} not enforced", rows.len(), count(Verdict::Green)));
    anyhow::ensure!(red == 0, "{red} rows are red");
    Ok(())
}
