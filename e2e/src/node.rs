//! The cluster's node: `FREEHOLD_NODE` is a command that runs another one there, split at spaces.

use anyhow::{Context as _, ensure};

/// Runs a script in the node's shell; what it prints.
///
/// # Errors
/// If there is no way to the node, or the script fails.
pub fn sh(script: &str) -> anyhow::Result<String> {
    let way = std::env::var("FREEHOLD_NODE").context("FREEHOLD_NODE names no command that runs another on the node")?;
    let mut words = way.split_whitespace();
    let program = words.next().context("FREEHOLD_NODE is empty")?;
    let output = std::process::Command::new(program).args(words).args(["sh", "-c", script]).output()?;
    ensure!(output.status.success(), "the node: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}
