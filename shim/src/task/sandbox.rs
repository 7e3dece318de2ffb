//! A running pod: the machine, the connection to its agent, and what was plugged into it.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use freehold_guest_api::limits::{FILES_PORT, MAX_FILE_VOLUMES};
use freehold_guest_api::message::{Call, Disk, Empty, Happening, Rootfs, UserIds};
use serde_json::json;
use tokio::sync::mpsc;

use super::{begin, clock};
use crate::agent::Agent;
use crate::cgroup::Place;
use crate::config::{Bundle, Config};
use crate::files;
use crate::machine::process::Machine;
use crate::machine::{disks, memory, port};
use crate::rootfs::{layers, scratch, shape};
use crate::spec::{Spec, SpecError};
use crate::volumes::Volumes;

/// Time for the guest to write its disks and power off.
const OFF_TIME: Duration = Duration::from_secs(2);
/// Time for an image's layers to be opened. The kubelet waits 120 s (its runtimeRequestTimeout) and would say no more than that
/// a deadline was exceeded.
const LAYERS_TIME: Duration = Duration::from_secs(90);
/// Time for memory to be plugged; a container starts without the rest.
const GROW_TIME: Duration = Duration::from_secs(3);
/// Time between looks at it.
const GROW_STEP: Duration = Duration::from_millis(20);

/// A pod's machine.
#[derive(Debug)]
pub struct Sandbox {
    /// The machine.
    pub machine: Machine,
    /// Its agent.
    pub agent: Agent,
    /// The handler's configuration.
    pub config: Config,
    /// Volumes.
    pub volumes: tokio::sync::Mutex<Volumes>,
    /// The ids of its user namespace, if it has one.
    pub user_ids: Option<UserIds>,
    /// The pod's cgroups, which whatever runs for it joins.
    pub places: Vec<Place>,
    plugged: tokio::sync::Mutex<Plugged>,
    limits: Mutex<HashMap<String, u64>>,
    oom_score: AtomicI32,
}

#[derive(Debug, Default)]
struct Plugged {
    layers: HashMap<String, u32>,
    used: BTreeSet<u32>,
}

impl Sandbox {
    /// Gets a machine that has its first words, from a template if there is one (see [`begin`]).
    ///
    /// # Errors
    /// If it does not start or the agent does not answer; the machine is ended then.
    pub async fn boot(
        config: Config,
        from: begin::Beginning<impl Fn(u32, u32) -> anyhow::Result<()> + Clone + Send + Sync + 'static>,
    ) -> anyhow::Result<(Sandbox, mpsc::Receiver<Happening>)> {
        let user_ids = from.words.user_ids;
        let begin::Begun { machine, agent, events } = begin::begin(&config, from).await?;
        let sandbox = Sandbox {
            machine,
            agent,
            config,
            volumes: tokio::sync::Mutex::default(),
            user_ids,
            places: Vec::new(),
            plugged: tokio::sync::Mutex::default(),
            limits: Mutex::default(),
            oom_score: AtomicI32::new(i32::MIN),
        };
        sandbox.grow().await?; // up to the default
        // The first words are as old as the boot took. Last, as a guest that grows answers late and so leaves more in doubt.
        clock::set(&sandbox.agent, true).await?;
        Ok((sandbox, events))
    }

    /// Refuses a container whose ids are not those of its pod.
    ///
    /// # Errors
    /// If it is one.
    pub fn refuse_other_ids(&self, spec: &Spec) -> Result<(), SpecError> {
        if spec.user_ids()? == self.user_ids {
            return Ok(());
        }
        Err(SpecError::Unsupported {
            what: "a user namespace that is not its pod's",
            remedy: "give it the ids of the pod's sandbox",
        })
    }

    /// Plugs a container's layers (each once a pod) and its writable disk. Without mounts they are of what is mounted at `root`.
    ///
    /// # Errors
    /// If the root file system is of no known shape, or a file can't be made or plugged.
    pub async fn rootfs(&self, mounts: &[(String, String, Vec<String>)], root: &Path) -> anyhow::Result<Rootfs> {
        let mounts: Vec<_> =
            mounts.iter().map(|(kind, source, options)| (kind.as_str(), source.as_str(), options.as_slice())).collect();
        let shape = shape::read(&mounts, self.user_ids.is_some(), root, &std::fs::read_to_string("/proc/self/mountinfo")?)?;
        let (mut found, count) = (Vec::new(), shape.layers.len());
        let end = tokio::time::Instant::now() + LAYERS_TIME;
        for layer in &shape.layers {
            let (config, layer) = (self.config.clone(), layer.clone());
            let opening = tokio::task::spawn_blocking(move || layers::open(&config, &layer));
            let Ok(opened) = tokio::time::timeout_at(end, opening).await else {
                bail!(
                    "the image's layers are still being made into disks, {} of {count} are done after {} s: this goes on, and the \
                     kubelet's next try takes them",
                    found.len(),
                    LAYERS_TIME.as_secs()
                )
            };
            let (key, file) = opened??;
            found.push(self.layer(key, &file).await?);
        }
        let writable = match &shape.upper {
            Some(upper) => Some(self.writable(Bundle(self.config.bundle.clone()).scratch(), upper).await?),
            None => None,
        };
        Ok(Rootfs { layers: found, writable, readonly: false })
    }

    async fn layer(&self, key: String, file: impl AsFd) -> anyhow::Result<Disk> {
        let mut plugged = self.plugged.lock().await;
        if let Some(&lun) = plugged.layers.get(&key) {
            return Ok(Disk { target: disks::TARGET, lun });
        }
        let lun = plugged.free()?;
        let disk = disks::plug(&self.machine.qmp, lun, file, false).await?;
        plugged.used.insert(lun);
        plugged.layers.insert(key, lun);
        Ok(disk)
    }

    /// Makes a writable disk of a template in a folder of the host and plugs it.
    ///
    /// # Errors
    /// If it can't be made or plugged.
    pub async fn writable(&self, template: PathBuf, folder: &Path) -> anyhow::Result<Disk> {
        let (folder, shown) = (folder.to_owned(), folder.display().to_string());
        let file = tokio::task::spawn_blocking(move || scratch::make(&template, &folder)).await?;
        let file =
            file.map_err(|error| anyhow::anyhow!("can't make a writable disk in {shown}: {error}{}", crate::if_full(&error)))?;
        let mut plugged = self.plugged.lock().await;
        let lun = plugged.free()?;
        let disk = disks::plug(&self.machine.qmp, lun, &file, true).await?;
        plugged.used.insert(lun);
        Ok(disk)
    }

    /// Plugs a block device of the node.
    ///
    /// # Errors
    /// If it can't be plugged.
    pub async fn block(&self, device: &std::fs::File, writable: bool) -> anyhow::Result<Disk> {
        let mut plugged = self.plugged.lock().await;
        let lun = plugged.free()?;
        let disk = disks::plug(&self.machine.qmp, lun, device, writable).await?;
        plugged.used.insert(lun);
        Ok(disk)
    }

    /// Has a volume with files served to the guest; says whether it is one file. A server that ends takes the machine with it: its
    /// containers would go on without what they have written to.
    ///
    /// # Errors
    /// If it can't be opened, served or plugged.
    pub async fn files(&self, volume: &str, path: &Path, writable: bool) -> anyhow::Result<bool> {
        let opened = files::open(path, writable)?;
        let is_file = opened.is_file;
        let (server, socket) = files::start(&Bundle(self.config.bundle.clone()), &self.places, opened).await?;
        let id = format!("files-{volume}");
        let plugged = port::plug(&self.machine.qmp, &id, &format!("{FILES_PORT}{volume}"), socket).await;
        plugged.with_context(|| format!("a pod may have {MAX_FILE_VOLUMES} volumes with files"))?;
        let (kill, console, path) = (self.machine.killer()?, self.machine.console.clone(), path.to_owned());
        tokio::spawn(async move {
            if let Some(how) = files::end(server).await {
                // It becomes the message of the containers' status.
                console.push(format!("\nthe server of the files of {} ended: {how}\n", path.display()).as_bytes());
            }
            kill();
        });
        Ok(is_file)
    }

    /// Takes away a writable disk that the guest has let go.
    pub async fn unplug(&self, disk: Disk) {
        match disks::unplug(&self.machine.qmp, disk.lun).await {
            Ok(()) => drop(self.plugged.lock().await.used.remove(&disk.lun)),
            Err(error) => tracing::warn!(lun = disk.lun, %error, "a disk stays plugged until the machine ends"),
        }
    }

    /// Notes a container's memory limit (0: none) and grows the machine for it; `None` forgets it.
    ///
    /// # Errors
    /// If QEMU refuses.
    pub async fn limit(&self, container: &str, bytes: Option<u64>) -> anyhow::Result<()> {
        {
            let mut limits = self.limits.lock().expect("nothing panics under this lock");
            match bytes {
                Some(bytes) => limits.insert(container.to_owned(), bytes),
                None => limits.remove(container),
            };
        }
        self.grow().await
    }

    /// The machine is killed as soon as its first container would be: the node's kernel sees only the machine.
    pub fn note_oom_score(&self, score: i32) {
        if self.oom_score.fetch_max(score, Ordering::Relaxed) < score {
            crate::cgroup::oom_score(self.machine.pid, score);
        }
    }

    async fn grow(&self) -> anyhow::Result<()> {
        let limits: Vec<u64> = self.limits.lock().expect("nothing panics under this lock").values().copied().collect();
        let default = u64::from(self.config.default_memory_mib);
        let growth = memory::growth(default, self.machine.base_mib, self.machine.room_mib, &limits);
        memory::resize(&self.machine.qmp, growth).await?;
        let end = tokio::time::Instant::now() + GROW_TIME;
        let ask = json!({ "path": "/machine/peripheral/memory0", "property": "size" });
        while tokio::time::Instant::now() < end {
            let size = self.machine.qmp.execute("qom-get", ask.clone(), None).await?.as_u64().unwrap_or(0);
            if size >= growth * 1024 * 1024 {
                return Ok(());
            }
            tokio::time::sleep(GROW_STEP).await;
        }
        tracing::warn!(growth, "the guest did not take all its memory in time");
        Ok(())
    }

    /// Lets the guest write its disks and ends the machine.
    pub async fn end(&self) {
        let _ = self.agent.ask_within("Shutdown", Call::Shutdown(Empty {}), OFF_TIME).await; // else it is killed
        if tokio::time::timeout(OFF_TIME, self.machine.wait()).await.is_err() {
            self.machine.kill();
            self.machine.wait().await;
        }
    }
}

impl Plugged {
    fn free(&self) -> anyhow::Result<u32> {
        let free = (0..disks::MAX_LUNS).find(|lun| !self.used.contains(lun));
        free.with_context(|| format!("the pod has {} disks: too many image layers and volumes", disks::MAX_LUNS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_disk_is_taken() {
        let mut plugged = Plugged { used: [0, 1, 3].into(), ..Plugged::default() };
        assert_eq!(plugged.free().unwrap(), 2);
        plugged.used = (0..disks::MAX_LUNS).collect();
        assert!(plugged.free().is_err());
    }
}
