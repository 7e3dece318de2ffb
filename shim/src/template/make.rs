//! `templates`: makes the templates that tenants want, removes what is beyond the bound, prints one line of JSON.
//!
//! The node agent runs it, in its own cgroup and with no pod's network. The machine is confined as a pod's is. Each run makes one
//! after the other; a second run at the same time waits for nothing and does nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use freehold_guest_api::message::{Call, Empty};
use rustix::fs::FlockOperation;

use super::{key_of, map, store};
use crate::agent::Agent;
use crate::config::{self, Config};
use crate::machine::command::Base;
use crate::machine::migration;
use crate::machine::process::{self, Machine, StartError};

/// Time for a machine to boot, under emulation on a busy node.
const BOOT_TIME: Duration = Duration::from_secs(60);
/// Time for QEMU to end once it was told to.
const QUIT_TIME: Duration = Duration::from_secs(10);
/// Most templates made in one run, which others wait for.
const MOST: usize = 8;

/// What was asked.
#[derive(Debug, PartialEq)]
pub struct Options {
    config: PathBuf,
    tenant: Option<String>,
}

/// Reads the command line after `templates`.
///
/// # Errors
/// If it is not understood.
pub fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let (mut config, mut tenant) = (None, None);
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--config" => config = Some(PathBuf::from(value)),
            "--tenant" if map::is_name(&value) => tenant = Some(value),
            "--tenant" => bail!("--tenant {value:?} is no UID of a tenant"),
            _ => bail!("unknown option {name}; usage: templates --config FILE [--tenant UID]"),
        }
    }
    Ok(Options { config: config.context("templates needs --config FILE")?, tenant })
}

/// Makes and removes.
///
/// # Errors
/// If a template can't be made; all others are.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let config = config::load(&options.config)?;
    let folder =
        config.templates.clone().with_context(|| format!("{} names no folder of templates", options.config.display()))?;
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).context("can't close the folder of templates to others")?;
    let lock = File::create(folder.join("lock")).context("can't open the lock")?;
    if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("templates are being made already");
    }
    let began = Instant::now();
    let tenants = options.tenant.map_or_else(|| store::wanted_by(&folder), |tenant| vec![tenant]);
    let failed = each(tenants.iter().take(MOST), async |tenant| {
        let result = renew(&config, &folder, tenant).await;
        store::unwant(&folder, tenant); // a pod will ask again
        result
    })
    .await;
    let made = tenants.len().min(MOST) - failed.len();
    let surplus = store::surplus(store::held(&folder), config.templates_max_bytes);
    surplus.iter().for_each(|key| store::remove(&folder, key));
    let held = store::held(&folder);
    let line = serde_json::json!({
        "made": made, "removed": surplus.len(), "held": held.len(), "bytes": held.iter().map(|one| one.bytes).sum::<u64>(),
        "milliseconds": u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    println!("{line}");
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("can't make {} of {} templates: {}", failed.len(), made + failed.len(), failed.join("; "))
    }
}

/// Does something for each, one after the other, whatever becomes of the one before; in words what failed.
async fn each<'a>(all: impl Iterator<Item = &'a String>, work: impl AsyncFn(&'a str) -> anyhow::Result<()>) -> Vec<String> {
    let mut failed = Vec::new();
    for one in all {
        if let Err(error) = work(one).await {
            failed.push(format!("{one}: {error:#}"));
        }
    }
    failed
}

/// Makes a tenant's template, unless a whole one is there.
async fn renew(config: &Config, folder: &Path, tenant: &str) -> anyhow::Result<()> {
    let key = key_of(config, tenant).map_err(anyhow::Error::msg)?;
    if store::open(folder, &key).is_ok() {
        return Ok(());
    }
    match make(config, folder, &key).await {
        Err(error) if error.downcast_ref().is_some_and(StartError::is_abort) => make(config, folder, &key).await,
        made => made,
    }
}

/// Boots a machine in files of its own, holds it, stops it, and seals the files under the key.
async fn make(config: &Config, folder: &Path, key: &str) -> anyhow::Result<()> {
    let new = folder.join(".new");
    let _ = fs::remove_dir_all(&new); // of a run that was killed; the lock is ours
    fs::create_dir(&new).context("make a folder")?;
    let pieces = store::pieces(&new);
    let create = |path: &Path| File::options().write(true).create_new(true).mode(0o600).open(path);
    let bytes = process::size(config).base_mib * 1024 * 1024;
    create(&pieces.memory).and_then(|file| file.set_len(bytes)).context("make the memory's file")?;
    create(&pieces.state).context("make the state's file")?;
    let (memory, state) = (pieces.memory.clone(), pieces.state.clone());
    let own = move |_, uid| -> anyhow::Result<()> {
        for path in [&memory, &state] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).context("give the files to the machine's user")?;
        }
        Ok(())
    };
    let (machine, port) = Machine::start(config, Base::Making(pieces), None, own).await?;
    let (agent, _events) = Agent::connect(port);
    tokio::select! {
        biased;
        how = machine.wait() => return Err(machine.ended(how).into()),
        held = agent.command_within("Hold", Call::Hold(Empty {}), BOOT_TIME) => {
            held.with_context(|| format!("the machine can't be held; its last words: {}", machine.console.tail()))?;
        }
    }
    migration::save(&machine.qmp).await?;
    if tokio::time::timeout(QUIT_TIME, machine.wait()).await.is_err() {
        bail!("QEMU did not end after its state was written");
    }
    store::seal(&new).context("seal the files")?;
    store::remove(folder, key); // a damaged one
    fs::rename(&new, folder.join(key)).context("give the template its name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_fails_does_not_end_it_for_those_behind() {
        let tenants = ["a", "bad", "c"].map(str::to_owned);
        let done = std::cell::RefCell::new(Vec::new());
        let failed = each(tenants.iter(), async |tenant| {
            done.borrow_mut().push(tenant.to_owned());
            if tenant == "bad" { bail!("no room") } else { Ok(()) }
        })
        .await;
        assert_eq!((done.into_inner(), failed), (tenants.to_vec(), vec!["bad: no room".to_owned()]));
    }

    #[test]
    fn options_are_read() {
        let parse = |args: &[&str]| options(args.iter().map(|arg| (*arg).to_owned()));
        let expect = Options { config: "/c".into(), tenant: Some("a-1".into()) };
        assert_eq!(parse(&["--config", "/c", "--tenant", "a-1"]).unwrap(), expect);
        for wrong in [&["--config"][..], &[], &["--config", "/c", "--tenant", "../x"], &["--speed", "1"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
