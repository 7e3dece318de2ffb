//! `cargo xtask containerd`: the containerd of a Debian release, for test nodes that run an old one.
//!
//! Input are the machine's apt sources, as for the bundle; output is a folder of programs in the cache, which
//! `e2e/cluster` takes instead of the containerd that it builds. It is apart from the other packages because nothing of
//! the product is made of it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::packages::{MANIFEST, download, sources, unpack, upstream};
use super::{digest_of, locked_cache, missing_tools, short, write_whole};
use crate::steps::Steps;

/// What `cargo xtask containerd` is told.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_enum)]
    series: Series,
}

/// The series before 2.0 that nodes still run, as Debian's releases have them.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Series {
    /// Debian 12
    #[value(name = "1.6")]
    OneSix,
    /// Debian 13
    #[value(name = "1.7")]
    OneSeven,
}

impl Series {
    fn release(self) -> &'static str {
        match self {
            Series::OneSix => "bookworm",
            Series::OneSeven => "trixie",
        }
    }

    fn version(self) -> (u32, u32) {
        match self {
            Series::OneSix => (1, 6),
            Series::OneSeven => (1, 7),
        }
    }
}

/// Downloads and unpacks what the cache does not have; the folder of the programs is the only line on stdout.
pub fn run(args: Args) -> anyhow::Result<()> {
    missing_tools(super::Part::Packages)?;
    let (cache, _lock) = locked_cache("containerd.lock")?;
    let (release, wanted) = (args.series.release(), args.series.version());
    let sources = sources(Path::new("/etc"), release)?;
    let folder = cache.join("containerd").join(short(&digest_of(&[sources.as_bytes()])));
    let manifest = folder.join(MANIFEST);
    let (archives, trees) = (folder.join("archives"), folder.join("trees"));
    if !manifest.exists() {
        // Alone: the C library that these programs need is as old as Debian 12, and runc is the cluster's own.
        let fetch = || download(&folder, &archives, &sources, &[], &["containerd"]);
        Steps::new().run(&format!("download containerd of Debian {release}"), fetch)?;
        let all = unpack(&archives, &trees)?;
        let package = all.first().context("containerd was not downloaded")?;
        if upstream(&package.version) != Some(wanted) {
            bail!("containerd of Debian {release} has version {}, not {}.{}", package.version, wanted.0, wanted.1);
        }
        write_whole(&manifest, &serde_json::to_vec_pretty(&all)?)?;
    }
    let said = fs::read_to_string(&manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    eprintln!("{said}");
    println!("{}", trees.join("containerd/usr/bin").display());
    Ok(())
}
