//! A pod's volumes in its machine: each source of the host becomes one volume of the guest, shared by the containers.
//!
//! Files and small trees are copied; trees are copied again when the kubelet swaps `..data`. An emptyDir is a disk whose
//! file lies in the emptyDir's own folder on the host, where the kubelet's limits and eviction see it and its removal
//! takes it along; one in memory is a tmpfs of the guest. A block volume is a disk. Other files of the node are asked for by
//! FUSE ([`crate::files`]). Whatever else a container wants mounted is refused by name.

pub mod block;
mod source;
mod tree;
mod watch;

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use freehold_guest_api::limits::MAX_CHUNK;
use freehold_guest_api::message::{AddVolume, Answer, Call, Empty, Files, GetFile, Medium, Mount, Tmpfs};

use source::{EMPTY_DIR, TREES};
pub use source::{Owner, Source, classify};

use crate::agent::Agent;
use crate::config::Bundle;
use crate::spec::SpecError;
use crate::spec::mounts::{Mount as SpecMount, Planned};
use crate::task::sandbox::Sandbox;

/// How often a changed volume that can't be read is read again.
const REREADS: u32 = 5;
/// Time between.
const REREAD_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// What statfs calls a tmpfs.
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Permission bits, with setuid, setgid and sticky.
const MODE: u32 = 0o7777;

/// What was carried into the machine so far, by its source on the host.
#[derive(Debug, Default)]
pub struct Volumes {
    known: HashMap<PathBuf, String>,
    tried: usize,
    watches: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Volumes {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

/// A termination log: the guest's file goes back to the host's before the container's end is told.
#[derive(Debug, Clone)]
pub struct WriteBack {
    volume: String,
    path: PathBuf,
}

impl WriteBack {
    /// Copies it back.
    ///
    /// # Errors
    /// If the guest or the host's file fails.
    pub async fn run(&self, agent: &Agent) -> anyhow::Result<()> {
        let limit = u32::try_from(MAX_CHUNK)?;
        let get = GetFile { volume: self.volume.clone(), limit };
        let Answer::File(file) = agent.ask("GetFile", Call::GetFile(get)).await? else { bail!("the guest sent no file") };
        self.write(&file.data[..file.data.len().min(MAX_CHUNK)])
    }

    /// Says in the termination log what the guest could not: why the machine ended.
    ///
    /// # Errors
    /// If the host's file fails.
    pub fn say(&self, why: &str) -> anyhow::Result<()> {
        self.write(why.as_bytes())
    }

    fn write(&self, content: &[u8]) -> anyhow::Result<()> {
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let target = std::fs::OpenOptions::new().write(true).truncate(true).custom_flags(no_follow).open(&self.path);
        let mut target = target.with_context(|| format!("can't open {}", self.path.display()))?;
        Ok(std::io::Write::write_all(&mut target, content)?)
    }
}

/// Carries all that the mounts of a container name into the machine; gives the agent's mounts in the same order.
///
/// # Errors
/// If a mount is of no kind that a machine can have, or a step fails; the message names the mount.
pub async fn carry(sandbox: &Sandbox, planned: Vec<Planned>, owner: &Owner) -> anyhow::Result<(Vec<Mount>, Vec<WriteBack>)> {
    let (mut mounts, mut back) = (Vec::new(), Vec::new());
    for plan in planned {
        match plan {
            Planned::Guest(mount) => mounts.push(mount),
            Planned::Bind(bind) => {
                let (mount, write_back) = match one(sandbox, &bind, owner).await {
                    Err(error) if !error.is::<SpecError>() => {
                        let named = format!("the mount {} can't be given to the virtual machine", bind.destination);
                        return Err(error.context(named));
                    }
                    result => result?, // a refusal names its mount itself
                };
                mounts.push(mount);
                back.extend(write_back);
            }
        }
    }
    Ok((mounts, back))
}

async fn one(sandbox: &Sandbox, bind: &SpecMount, owner: &Owner) -> anyhow::Result<(Mount, Option<WriteBack>)> {
    let path = PathBuf::from(&bind.source);
    let refused = |reason| SpecError::Mount { destination: bind.destination.clone(), source_path: bind.source.clone(), reason };
    let mut mount = Mount { destination: bind.destination.clone(), options: bind.options.clone(), ..Mount::default() };
    // As containerd gives images as volumes: it has had their files given to the pod's ids itself.
    let unmapped = bind.uid_mappings.is_empty();
    let mut back = None;
    match classify(&path, owner).map_err(refused)? {
        Source::Shm => {
            mount.fs_type = "tmpfs".into(); // the agent has one for the pod and takes it by its place
            mount.options = ["nosuid", "noexec", "nodev"].map(String::from).to_vec();
        }
        Source::File { write_back } => {
            mount.volume = copied(sandbox, &path, false).await?;
            back = write_back.then(|| WriteBack { volume: mount.volume.clone(), path });
        }
        Source::Tree => mount.volume = copied(sandbox, &path, true).await?,
        Source::EmptyDir => mount.volume = empty_dir(sandbox, &path).await?,
        Source::Files => mount.volume = files(sandbox, &path, !bind.is_read_only(), unmapped).await?,
        Source::SubPath { volume } => {
            let volumes = owner.pod.join("volumes");
            let whole = volumes.join(EMPTY_DIR).join(&volume);
            if whole.is_dir() {
                let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
                let sub_path = source::sub_path(&mountinfo, &path, EMPTY_DIR, &volume);
                mount.sub_path = sub_path.context("the kubelet's mount of its subPath is not there")?;
                mount.volume = empty_dir(sandbox, &whole).await?;
            } else if TREES.iter().any(|kind| volumes.join(kind).join(&volume).is_dir()) {
                mount.volume = copied(sandbox, &path, false).await?; // as the kubelet says, a subPath gets no updates
            } else {
                mount.volume = files(sandbox, &path, !bind.is_read_only(), unmapped).await?; // the kubelet has resolved and mounted it
            }
        }
    }
    Ok((mount, back))
}

/// Notes a new volume, or finds the one that is there. The lock is held while it is made, so that two containers that want
/// the same one make it once.
async fn ensure(
    sandbox: &Sandbox,
    path: &Path,
    make: impl AsyncFnOnce(String) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>>,
) -> anyhow::Result<String> {
    let mut volumes = sandbox.volumes.lock().await;
    if let Some(id) = volumes.known.get(path) {
        return Ok(id.clone());
    }
    let id = format!("v{}", volumes.tried); // one that failed may have left a port or disk of this name
    volumes.tried += 1;
    let watch = make(id.clone()).await?;
    volumes.watches.extend(watch);
    volumes.known.insert(path.to_owned(), id.clone());
    Ok(id)
}

async fn copied(sandbox: &Sandbox, path: &Path, watched: bool) -> anyhow::Result<String> {
    ensure(sandbox, path, async |id| {
        let metadata = std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
        let medium = if metadata.is_dir() { Medium::Tree(Empty {}) } else { Medium::File(Empty {}) };
        add(&sandbox.agent, &id, &metadata, medium).await?;
        // Watched before it is read: a change in between is seen.
        let watch = if watched { Some(watch::Watch::new(path)?) } else { None };
        put(&sandbox.agent, &id, path).await?;
        Ok(watch.map(|watch| {
            let (agent, path) = (sandbox.agent.clone(), path.to_owned());
            tokio::spawn(async move {
                while watch.changed().await {
                    let mut result = put(&agent, &id, &path).await;
                    // The kubelet removes the folder before this one while it is read.
                    for _ in 0..REREADS {
                        if result.is_ok() {
                            break;
                        }
                        tokio::time::sleep(REREAD_PAUSE).await;
                        result = put(&agent, &id, &path).await;
                    }
                    if let Err(error) = result {
                        tracing::warn!(path = %path.display(), "a volume was not brought up to date: {error:#}");
                    }
                }
            })
        }))
    })
    .await
}

async fn empty_dir(sandbox: &Sandbox, path: &Path) -> anyhow::Result<String> {
    ensure(sandbox, path, async |id| {
        let metadata = std::fs::metadata(path).with_context(|| format!("can't read {}", path.display()))?;
        let stat = rustix::fs::statfs(path)?;
        let medium = if u64::try_from(stat.f_type).is_ok_and(|kind| kind == TMPFS_MAGIC) && is_mount(path)? {
            let size = u64::try_from(stat.f_bsize).unwrap_or(0).saturating_mul(stat.f_blocks);
            Medium::Tmpfs(Tmpfs { size })
        } else {
            Medium::Ext4(sandbox.writable(Bundle(sandbox.config.bundle.clone()).volume(), path).await?)
        };
        add(&sandbox.agent, &id, &metadata, medium).await?;
        Ok(None)
    })
    .await
}

/// Files that a container may only read are a volume of their own, which the node itself keeps read-only.
async fn files(sandbox: &Sandbox, path: &Path, writable: bool, unmapped: bool) -> anyhow::Result<String> {
    let key = if writable { path.to_owned() } else { path.join("..read-only") };
    let key = if unmapped { key.join("..unmapped") } else { key };
    ensure(sandbox, &key, async |id| {
        let is_file = sandbox.files(&id, path, writable).await?;
        let medium = Some(Medium::Files(Files { is_file }));
        let add = AddVolume { volume: id, medium, unmapped, ..AddVolume::default() };
        sandbox.agent.command("AddVolume", Call::AddVolume(add)).await?;
        Ok(None)
    })
    .await
}

/// Whether something is mounted there: an emptyDir on a node whose disk is a tmpfs is none in memory.
fn is_mount(path: &Path) -> std::io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(std::fs::metadata(path)?.dev() != std::fs::metadata(parent)?.dev())
}

async fn add(agent: &Agent, id: &str, metadata: &std::fs::Metadata, medium: Medium) -> anyhow::Result<()> {
    let (mode, uid, gid) = (metadata.mode() & MODE, metadata.uid(), metadata.gid());
    let add = AddVolume { volume: id.to_owned(), mode, uid, gid, medium: Some(medium), unmapped: false };
    Ok(agent.command("AddVolume", Call::AddVolume(add)).await?)
}

async fn put(agent: &Agent, id: &str, path: &Path) -> anyhow::Result<()> {
    let (id, from) = (id.to_owned(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || tree::read(&id, &from)).await?;
    for message in read.with_context(|| format!("can't read {}", path.display()))? {
        agent.command("PutEntries", Call::PutEntries(message)).await?;
    }
    Ok(())
}
