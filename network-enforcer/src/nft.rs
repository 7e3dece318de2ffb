//! Runs `nft`: one transaction, whole or not at all.
//!
//! The program rather than netlink by a crate: `nft` is what a person at the node reads the table back with, what the
//! golden files are checked by, and maintained with the kernel; the crates that speak nf_tables lack verdict maps or `ct`
//! keys with a direction. It costs a few milliseconds and happens only when something changed.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Longest time of one transaction; thousands of elements take well under a second.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of its messages is repeated in an error.
const MAX_SAID: usize = 2000;

/// Why the table is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It could not be started or spoken to.
    #[error("could not run {program}: {source}")]
    Run {
        /// The command's first word.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end.
    #[error("nft did not end within {LIMIT:?}")]
    Slow,
    /// The kernel or `nft` refused the transaction; nothing of it is in force.
    #[error("nft refused: {0}")]
    Refused(String),
}

/// How `nft` is started.
#[derive(Clone, Debug)]
pub struct Nft {
    /// The program and what comes before its own arguments, such as a loader.
    pub command: Vec<String>,
}

impl Nft {
    /// Puts a transaction in force.
    ///
    /// # Errors
    /// If it is not in force.
    pub async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        self.run(&["-f", "-"], transaction).await.map(drop)
    }

    /// Whether the table with its hooks is there.
    ///
    /// # Errors
    /// If that could not be found out.
    pub async fn has_table(&self, table: &str) -> Result<bool, NftError> {
        for chain in ["forward", "input"] {
            match self.run(&["list", "chain", "inet", table, chain], "").await {
                // Of an emptied chain only the hook is left.
                Ok(text) if text.contains(&format!("jump {chain}/")) => {}
                Ok(_) => return Ok(false),
                Err(NftError::Refused(said)) if said.contains("No such file") => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<String, NftError> {
        let program = self.command.first().cloned().unwrap_or_default();
        let failed = |source| NftError::Run { program: program.clone(), source };
        let mut child = Command::new(&program)
            .args(&self.command[1..])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut stdin = child.stdin.take();
        let talk = async {
            let write = async {
                if let Some(mut stdin) = stdin.take() {
                    // One that ends early says why by itself.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let ((), output) = tokio::join!(write, child.wait_with_output());
            output
        };
        let output = tokio::time::timeout(LIMIT, talk).await.map_err(|_| NftError::Slow)?.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(NftError::Refused(String::from_utf8_lossy(&output.stderr).trim().chars().take(MAX_SAID).collect()))
    }
}
