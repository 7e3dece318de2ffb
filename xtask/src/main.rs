//! `cargo xtask`: generates what is committed, checks the structure, builds packages and images.
//!
//! Input is this workspace and the command line; output are files in the repository (generate), in the cache (images),
//! or a verdict (check). It exists apart from the rooms so that none of them carries build code.

mod check;
mod generate;
mod images;
mod steps;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Freehold's own build and test commands")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the generated files (CRDs in the chart, tables in docs); with --check only compare them
    Generate(generate::Args),
    /// Check the invariants of ARCHITECTURE.md: who depends on whom, what RBAC must not hold
    Check(check::Args),
    /// Build packages, guest kernel, runtime bundle and container images into the cache
    Images(images::Args),
    /// Download the containerd of a Debian release, for a test node that runs an old one
    Containerd(images::containerd::Args),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Generate(args) => generate::run(args),
        Command::Check(args) => check::run(args),
        Command::Images(args) => images::run(args),
        Command::Containerd(args) => images::containerd::run(args),
    }
}
