//! How tasks come to be: the pod's machine boots, a container is made in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;
use freehold_guest_api::message::{Call, Disk, Happening, StartProcess};
use tokio::sync::mpsc;

use super::events::Event;
use super::lifecycle::Turn;
use super::pod::{Done, Pod, Task, TaskError};
use super::process::Process;
use super::queue::{self, Whose};
use super::sandbox::Sandbox;
use super::stdio::Paths;
use super::{begin, clock};
use crate::agent::client;
use crate::cgroup;
use crate::config::{self, Config};
use crate::machine::qmp::QmpError;
use crate::record::Record;
use crate::spec::{self, Spec};
use crate::template;
use crate::volumes::{self, Owner, WriteBack};

/// /dev/shm of a pod, as containerd's CRI plugin gives it.
const SHM_BYTES: u64 = 64 * 1024 * 1024;

/// What was made for a container.
#[derive(Debug, Default)]
struct Made {
    writable: Option<Disk>,
    start: Option<StartProcess>,
    back: Vec<WriteBack>,
}

/// What is asked to be made.
#[derive(Debug)]
pub struct Create {
    /// Id.
    pub id: String,
    /// Folder with config.json.
    pub bundle: PathBuf,
    /// Mounts of the root file system: kind, source, options.
    pub rootfs: Vec<(String, String, Vec<String>)>,
    /// Streams.
    pub paths: Paths,
    /// The handler's configuration file.
    pub config: Option<PathBuf>,
}

/// Guest or QEMU did not answer in time.
fn is_silence(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(client::AgentError::Late(..)))
            || matches!(cause.downcast_ref(), Some(QmpError::Late { .. }))
    })
}

impl Pod {
    /// Makes a task; the first one boots the machine.
    ///
    /// # Errors
    /// If it can't be run in a machine, or a step fails.
    pub async fn create(self: &Arc<Pod>, create: Create) -> Done<u32> {
        if self.task(&create.id).is_ok() {
            return Err(TaskError::Exists(format!("task {}", create.id)));
        }
        let spec = spec::read(&create.bundle).map_err(anyhow::Error::from)?;
        let alone = create.id == self.id;
        spec.refuse_host_namespaces(alone).map_err(anyhow::Error::from)?;
        if alone {
            let path = create.config.as_deref().context(
                "the runtime handler has no configuration: a file NAME.toml beside the runtime_path, or ConfigPath in its options, as the \
                 runtime installer writes them",
            )?;
            self.boot(config::load(path).map_err(anyhow::Error::from)?, &spec, &create.bundle).await?;
        }
        let sandbox = self.running()?.clone();
        let is_sandbox = spec.is_sandbox();
        let made = if is_sandbox { Ok(Made::default()) } else { self.make(&sandbox, &create, &spec).await };
        let Made { writable, start, back } = match made {
            Ok(made) => made,
            Err(error) => {
                // A guest that is silent so long has stalled; its end has the kubelet make the pod a new sandbox.
                if alone {
                    sandbox.machine.kill();
                } else if is_silence(&error) {
                    sandbox.machine.give_up(format!("the node's shim ended it: {error:#}"));
                }
                return Err(error.into());
            }
        };
        let task = Task {
            init: Arc::new(Process::new(&create.id, "", create.paths.clone(), start)),
            id: create.id.clone(),
            bundle: create.bundle.clone(),
            is_sandbox,
            netns: if alone { spec.network() } else { None },
            writable,
            back,
            own_pids: !is_sandbox && !spec.joins_pids(),
            seccomp: spec.seccomp().map_err(anyhow::Error::from)?,
            resources: Mutex::new(spec.linux.resources.to_guest()),
            execs: Mutex::default(),
        };
        self.tasks.lock().expect("nothing panics under this lock").insert(create.id.clone(), Arc::new(task));
        let pid = self.pid();
        self.events.tell(&Event::Create(event::TaskCreate {
            container_id: create.id,
            bundle: create.bundle.display().to_string(),
            io: MessageField::some(event::TaskIO {
                stdin: create.paths.stdin,
                stdout: create.paths.stdout,
                stderr: create.paths.stderr,
                terminal: create.paths.terminal,
                ..event::TaskIO::default()
            }),
            pid,
            ..event::TaskCreate::default()
        }));
        Ok(pid)
    }

    /// Boots the machine in its turn. Whatever fails is the end of this pod.
    async fn boot(self: &Arc<Pod>, config: Config, spec: &Spec, bundle: &Path) -> Done<()> {
        self.turn(Turn::Boot)?;
        let (sandbox, happenings) = match self.start_machine(config, spec, bundle).await {
            Ok(started) => started,
            Err(error) => {
                let _ = self.turn(Turn::Ended); // allowed from everywhere
                return Err(error.into());
            }
        };
        let sandbox = self.sandbox.get_or_init(async || Arc::new(sandbox)).await.clone();
        self.turn(Turn::Booted)?;
        if let Err(error) = crate::inspect::serve(&self.socket, sandbox.clone()) {
            tracing::warn!("administrators can't inspect this pod: {error:#}");
        }
        tokio::spawn(clock::keep(sandbox.agent.clone()));
        tokio::spawn(self.clone().follow(sandbox, happenings));
        Ok(())
    }

    async fn start_machine(
        &self,
        config: Config,
        spec: &Spec,
        bundle: &Path,
    ) -> anyhow::Result<(Sandbox, mpsc::Receiver<Happening>)> {
        let tenant = || template::tenant(&config, spec.namespace());
        let whose = tenant().map_or_else(|_| Whose::Namespace(spec.namespace().unwrap_or_default().to_owned()), Whose::Tenant);
        let _seat = queue::take(Path::new(queue::FILE), &whose, queue::seats(config.acceleration)).await?;
        let mut words = client::first_words(&spec.hostname)?;
        words.sysctls = spec.sysctls();
        words.user_ids = spec.user_ids()?;
        if spec.is_sandbox() {
            words.shm_bytes = SHM_BYTES;
        }
        let places = cgroup::places(&spec.linux.cgroups_path, &std::fs::read_to_string("/proc/self/mountinfo")?);
        let (bundle, all, score) = (bundle.to_owned(), places.clone(), spec.process.oom_score_adj);
        let layers = config.layer_cache.clone();
        // Asked again: the namespace may have become another tenant's while this pod waited for its seat.
        let template = tenant().and_then(|tenant| template::choose(&config, &tenant));
        let place = move |pid, uid| {
            let started = crate::record::started(pid).context("QEMU's supervisor ended at once")?;
            let cgroups = all.iter().map(|place| place.folder.clone()).collect();
            let record = Record { pid, started, uid, cgroups, layers: layers.clone() };
            record.write(&bundle).context("can't note the machine in the bundle")?;
            cgroup::oom_score(pid, score); // QEMU inherits it, and the cgroups
            cgroup::join(all.iter().filter(|place| !place.late), pid).context("can't put QEMU into the pod's cgroup")
        };
        // Docker plugs the network in later: its figures are missing then.
        let network = spec.network().and_then(|path| std::fs::File::open(path).ok()).map(Into::into);
        let beginning = begin::Beginning { words, network, template, place };
        let booted = Sandbox::boot(config, beginning).await.and_then(|(mut sandbox, happenings)| {
            for pid in [sandbox.machine.supervisor, sandbox.machine.pid] {
                let late = places.iter().filter(|place| place.late);
                cgroup::join(late, pid).context("can't put QEMU into the pod's cgroup")?;
            }
            sandbox.places.clone_from(&places);
            Ok((sandbox, happenings))
        });
        if booted.is_err() {
            let cgroups: Vec<_> = places.into_iter().map(|place| place.folder).collect();
            let _ = tokio::task::spawn_blocking(move || crate::record::remove_cgroups(&cgroups)).await;
        }
        booted
    }

    async fn make(&self, sandbox: &Sandbox, create: &Create, spec: &Spec) -> anyhow::Result<Made> {
        spec.refuse_unsupported()?;
        sandbox.refuse_other_ids(spec)?;
        let start = spec.process.to_start(&create.id, "", spec.seccomp()?)?;
        let pids = self.joined_pids(spec)?;
        let pod = spec.pod_uid().map_or_else(PathBuf::new, |uid| sandbox.config.kubelet_root.join("pods").join(uid));
        let (mounts, back) = volumes::carry(sandbox, spec.planned()?, &Owner { pod, sandbox: self.id.clone() }).await?;
        let devices = volumes::block::carry(sandbox, spec).await?;
        let rootfs = sandbox.rootfs(&create.rootfs, &create.bundle.join(&spec.root.path)).await?;
        let writable = rootfs.writable;
        let mut request = spec.to_create(&create.id, rootfs, mounts);
        request.devices = devices;
        (request.share_pids, request.pids_of) = pids;
        let memory = request.resources.map_or(0, |resources| resources.memory);
        sandbox.note_oom_score(start.oom_score_adj);
        sandbox.limit(&create.id, Some(memory)).await?;
        let made = sandbox.agent.command("CreateContainer", Call::CreateContainer(request)).await;
        if let Err(error) = made {
            if let Some(disk) = writable {
                sandbox.unplug(disk).await;
            }
            let _ = sandbox.limit(&create.id, None).await; // the machine only keeps memory that it could give back
            return Err(error.into());
        }
        Ok(Made { writable, start: Some(start), back })
    }

    /// In whose pid namespace a container is: the pod's shared one, or that of the one container whose processes a debug
    /// container is to see.
    fn joined_pids(&self, spec: &Spec) -> anyhow::Result<(bool, String)> {
        if !spec.joins_pids() {
            return Ok((false, String::new()));
        }
        let tasks = self.tasks.lock().expect("nothing panics under this lock");
        let apart: Vec<&String> = tasks.values().filter(|task| task.own_pids && task.is_alive()).map(|task| &task.id).collect();
        match apart.as_slice() {
            [] => Ok((true, String::new())),
            [target] => Ok((false, (*target).clone())),
            _ => anyhow::bail!(
                "a debug container's target can't be told apart in a virtual machine with several containers: leave --target out"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_told_from_failure() {
        let late = anyhow::Error::from(client::AgentError::Late("AddVolume", client::REQUEST_TIME)).context("the mount /x");
        assert!(is_silence(&late));
        assert!(is_silence(&QmpError::Late { command: "device_add".into() }.into()));
        let failed = client::AgentError::Failed { errno: 2, message: String::new() };
        assert!(!is_silence(&anyhow::Error::from(failed)));
    }
}
