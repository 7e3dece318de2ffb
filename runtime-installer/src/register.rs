//! Registers the handler with containerd: checked by containerd itself before anything is in force.
//!
//! Input: [`crate::containerd::Plan`] and the node's files below the mounted root. Order: the candidate is written beside,
//! `containerd config dump` reads it on the node, the dump may differ in nothing but our runtime; then the files take
//! their names, the old main file stays beside, and containerd restarts. A restart that fails puts the old files back.

use crate::containerd::{self, DROP_IN_DIRECTORY, DROP_IN_PATH, IMPORT, MAIN_PATH, MAX_CONFIG_BYTES, Plan, Runtime};
use crate::host;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for `containerd --version` and `config dump`; they answer at once.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// Time for a restart of containerd; its unit may wait for pods' shims to reconnect.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// The old main file.
const KEPT: &str = "/etc/containerd/config.toml.before-freehold";
/// Candidates, and the configuration to compare with where the node has none.
const CANDIDATE_MAIN: &str = "/etc/containerd/.freehold-candidate.toml";
const CANDIDATE_DROP_IN: &str = "/etc/containerd/.freehold-candidate-drop-in.toml";
const CANDIDATE_BEFORE: &str = "/etc/containerd/.freehold-before.toml";
/// Says that files were changed and containerd was not restarted yet; it outlives a crash of the installer.
const PENDING: &str = "/opt/freehold/restart-pending";

/// Where the node is and how its containerd is asked and restarted.
#[derive(Debug, Clone)]
pub struct Node {
    /// The node's root in this pod.
    pub root: PathBuf,
    /// containerd's name or path on the node.
    pub containerd: String,
    /// Command that restarts it.
    pub restart: Vec<String>,
}

/// A node's absolute path below its mounted root.
pub fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// Reads a file of at most the limit; a file that is not there is empty.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| format!("could not open {}", path.display())),
    };
    let mut text = String::new();
    let count = file
        .take(MAX_CONFIG_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("could not read {}", path.display()))?;
    ensure!(count as u64 <= MAX_CONFIG_BYTES, "{} is larger than {MAX_CONFIG_BYTES} bytes", path.display());
    Ok(text)
}

/// Writes a file whole: under another name first, then renamed. Returns whether it differed.
pub fn write(path: &Path, text: &str) -> anyhow::Result<bool> {
    if path.exists() && read(path)? == text {
        return Ok(false);
    }
    let parent = path.parent().context("a file needs a folder")?;
    let name = path.file_name().context("a file needs a name")?.to_string_lossy().into_owned();
    let temporary = parent.join(format!(".{name}.new"));
    let written = fs::create_dir_all(parent)
        .and_then(|()| fs::write(&temporary, text))
        .and_then(|()| fs::File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    written.with_context(|| format!("could not write {}", path.display()))?;
    Ok(true)
}

/// Puts back what was there; an empty text stands for no file.
fn restore(path: &Path, text: &str) -> anyhow::Result<()> {
    match text.is_empty() {
        true if path.exists() => fs::remove_file(path).with_context(|| format!("could not remove {}", path.display())),
        true => Ok(()),
        false => write(path, text).map(|_| ()),
    }
}

impl Node {
    /// Registers the runtime; containerd's version and the file that names the runtime.
    pub async fn register(&self, runtime: &Runtime) -> anyhow::Result<(String, String)> {
        let said = host::run(&[&self.containerd, "--version"], ASK_LIMIT).await?;
        // "containerd github.com/containerd/containerd/v2 v2.1.4 <commit>"
        let version = said.split_whitespace().nth(2).unwrap_or_default().trim_start_matches('v').to_owned();
        let (main, drop_in) = (below(&self.root, MAIN_PATH), below(&self.root, DROP_IN_PATH));
        let (old_main, old_drop_in) = (read(&main)?, read(&drop_in)?);
        let plan = containerd::plan(containerd::major(&version)?, &old_main, runtime)?;
        let path = plan.config_path().to_owned();
        let pending = below(&self.root, PENDING);
        let unchanged = plan.main.is_none() && plan.drop_in.as_ref().is_none_or(|text| *text == old_drop_in);
        if unchanged && !pending.exists() {
            return Ok((version, path));
        }
        let checked = self.check(&old_main, &plan, &runtime.handler).await;
        for candidate in [CANDIDATE_MAIN, CANDIDATE_DROP_IN, CANDIDATE_BEFORE] {
            let _ = fs::remove_file(below(&self.root, candidate));
        }
        checked?;
        write(&pending, "containerd's configuration was changed and it was not restarted yet\n")?;
        let kept = below(&self.root, KEPT);
        if plan.main.is_some() && !old_main.is_empty() && !kept.exists() {
            write(&kept, &old_main)?;
        }
        if let Some(text) = &plan.drop_in {
            write(&drop_in, text)?;
        }
        if let Some(text) = &plan.main {
            write(&main, text)?;
        }
        if let Err(error) = self.restart().await {
            restore(&main, &old_main)?;
            restore(&drop_in, &old_drop_in)?;
            let again = self.restart().await;
            fs::remove_file(&pending).with_context(|| format!("could not remove {}", pending.display()))?;
            again.context("containerd does not start even with its old configuration; look at its log on the node")?;
            return Err(error.context("containerd did not restart with the new configuration; the old one is back in force"));
        }
        fs::remove_file(&pending).with_context(|| format!("could not remove {}", pending.display()))?;
        Ok((version, path))
    }

    async fn restart(&self) -> anyhow::Result<()> {
        let command: Vec<&str> = self.restart.iter().map(String::as_str).collect();
        host::run(&command, RESTART_LIMIT).await.map(|_| ())
    }

    /// Lets containerd itself read the candidate, and compares with what it reads today.
    async fn check(&self, old: &str, plan: &Plan, handler: &str) -> anyhow::Result<()> {
        let (before, main) = candidates(old, plan);
        write(&below(&self.root, CANDIDATE_BEFORE), &before)?;
        write(&below(&self.root, CANDIDATE_MAIN), &main)?;
        if let Some(text) = &plan.drop_in {
            write(&below(&self.root, CANDIDATE_DROP_IN), text)?;
        }
        let today = self.dump(CANDIDATE_BEFORE).await.context("containerd does not accept its present configuration")?;
        let then = self.dump(CANDIDATE_MAIN).await.context("containerd does not accept the configuration with our runtime")?;
        if !containerd::only_added(&today, &then, handler)? {
            bail!(
                "containerd would read more changes than the runtime {handler} from the new configuration, so nothing was \
                 changed; look for files in {DROP_IN_DIRECTORY} that were not imported before, and compare \
                 `containerd config dump` with and without the import {IMPORT}"
            );
        }
        Ok(())
    }

    async fn dump(&self, config: &str) -> anyhow::Result<String> {
        host::run(&[&self.containerd, "--config", config, "config", "dump"], ASK_LIMIT).await
    }
}

/// Texts to compare: today's, and the planned one with the candidate drop-in imported, so that nothing is in force yet.
fn candidates(old: &str, plan: &Plan) -> (String, String) {
    let version = if plan.drop_in.is_some() { "version = 3\n" } else { "version = 2\n" };
    let before = if old.is_empty() { version.to_owned() } else { old.to_owned() };
    let main = plan.main.clone().unwrap_or_else(|| before.clone());
    let main = match plan.drop_in {
        Some(_) => containerd::with_import(&main, CANDIDATE_DROP_IN),
        None => main,
    };
    (before, main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_imports_the_candidate_drop_in_and_not_the_name_in_force() {
        let plan = Plan { main: None, drop_in: Some("version = 3\n".to_owned()) };
        let (before, main) = candidates("version = 3\nimports = ['/etc/containerd/conf.d/*.toml']\n", &plan);
        assert!(!before.contains(CANDIDATE_DROP_IN));
        assert!(main.contains(CANDIDATE_DROP_IN) && main.contains(IMPORT), "{main}");
        assert_eq!(candidates("", &Plan { main: Some("x = 1\n".to_owned()), drop_in: None }).1, "x = 1\n");
    }

    #[test]
    fn files_are_written_whole_and_only_when_they_differ() {
        let folder = std::env::temp_dir().join(format!("freehold-register-{}", std::process::id()));
        let path = below(&folder, "/etc/x.toml");
        assert_eq!(read(&path).unwrap(), "");
        assert!(write(&path, "a").unwrap());
        assert!(!write(&path, "a").unwrap());
        restore(&path, "b").unwrap();
        assert_eq!(read(&path).unwrap(), "b");
        restore(&path, "").unwrap();
        assert!(!path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
