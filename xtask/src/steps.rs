//! Steps of a long run: each is announced with the elapsed time, run, and counted, so that a person sees where time went.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A run of several steps.
pub struct Steps {
    began: Instant,
    took: Vec<(String, Duration)>,
}

impl Steps {
    pub fn new() -> Steps {
        Steps { began: Instant::now(), took: Vec::new() }
    }

    /// Announces and runs one step.
    pub fn run<T>(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        eprintln!("[{:>6.1} s] {name}", self.began.elapsed().as_secs_f64());
        let began = Instant::now();
        let result = step().with_context(|| name.to_owned());
        self.took.push((name.to_owned(), began.elapsed()));
        result
    }

    /// Where the time went, longest first.
    pub fn summary(&self) -> String {
        let mut took = self.took.clone();
        took.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let mut text = format!("{:>8.1} s  in all\n", self.began.elapsed().as_secs_f64());
        for (name, took) in took.iter().filter(|(_, took)| took.as_secs_f64() >= 0.1) {
            text.push_str(&format!("{:>8.1} s  {name}\n", took.as_secs_f64()));
        }
        text
    }
}

/// Runs a command with its output shown; an error says the command line and how it ended.
pub fn call(command: &mut Command) -> anyhow::Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("could not start {line}"))?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}

/// The root of the workspace that cargo runs this command for. Asked at run time: a target folder that several checkouts
/// share holds one binary, which may have been built for another of them.
pub fn workspace() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = Path::new(&own);
    own.parent().unwrap_or(own).to_owned()
}
