//! A pod: its machine once there is one, its tasks, and what each request does to them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use containerd_shim_protos::events::task as event;
use containerd_shim_protos::protobuf::MessageField;
use freehold_guest_api::message::{
    Answer, Call, ContainerRef, Disk, Freeze, Happening, Network, ProcessRef, Resize, Resources, Signal, StartProcess, Stats,
    Update,
};
use tokio::sync::{Notify, OnceCell, mpsc};

use super::events::{self, Event, Publisher};
use super::lifecycle::{Exit, Input, KILLED, Phase, Refused};
use super::process::Process;
use super::sandbox::Sandbox;
use super::stdio::{self, Paths};
use crate::agent::client;
use crate::config::{self, Config};
use crate::record::Record;
use crate::spec::{self, Spec};
use crate::volumes::{self, Owner, WriteBack};
use crate::{cgroup, network};

/// Time for output to reach containerd after its process ended; a reader that is gone must not hide the end.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// /dev/shm of a pod, as containerd's CRI plugin gives it.
const SHM_BYTES: u64 = 64 * 1024 * 1024;
const SIGKILL: u32 = 9;

/// Why a request is not done, in containerd's terms.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// There is no such task or process.
    #[error("there is no {0}")]
    NotFound(String),
    /// There is one already.
    #[error("{0} exists")]
    Exists(String),
    /// It does not fit what the process does now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A kind of request that is not served.
    #[error("{0} is not done by virtual machines of Freehold")]
    Unsupported(&'static str),
    /// It failed.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl From<crate::agent::client::AgentError> for TaskError {
    fn from(error: crate::agent::client::AgentError) -> TaskError {
        TaskError::Failed(error.into())
    }
}

/// What a container's status says when its machine has ended under it: how, why that may be, and the kernel's last words.
fn end_words(how: &str, console: &str) -> String {
    let panic = console.find("Kernel panic").map(|at| &console[at..]);
    let (why, last) = match panic {
        Some(last) => ("; the guest's kernel panicked", last),
        None if how.ends_with("signal 9") => (
            "; the node was out of memory, the pod was beyond its limit and RuntimeClass.overhead, or somebody killed it",
            console,
        ),
        None => ("", console),
    };
    let last = if last.trim().is_empty() { String::new() } else { format!("; its last words: {}", last.trim()) };
    format!("the pod's virtual machine ended ({how}), and its containers with it{why}{last}")
}

/// The guest did not answer in time.
fn is_silence(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(client::AgentError::Late(..))))
}

type Done<T> = Result<T, TaskError>;

/// A task of containerd's: a container, or the pod's sandbox.
#[derive(Debug)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Its folder.
    pub bundle: PathBuf,
    /// It is the pod's sandbox: the machine itself.
    pub is_sandbox: bool,
    /// Its first process.
    pub init: Arc<Process>,
    /// Namespace of the network, if the task brings the pod's.
    netns: Option<PathBuf>,
    writable: Option<Disk>,
    back: Vec<WriteBack>,
    own_pids: bool,
    seccomp: Vec<u8>,
    resources: Mutex<Resources>,
    execs: Mutex<HashMap<String, Arc<Process>>>,
}

impl Task {
    fn is_alive(&self) -> bool {
        !matches!(self.init.phase(), Phase::Stopped(_) | Phase::Gone)
    }
}

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

/// A pod.
pub struct Pod {
    id: String,
    socket: PathBuf,
    events: Publisher,
    sandbox: OnceCell<Arc<Sandbox>>,
    tasks: Mutex<HashMap<String, Arc<Task>>>,
    /// Told when containerd asks the shim to end.
    pub over: Notify,
}

impl Pod {
    /// An empty one.
    pub fn new(id: &str, socket: PathBuf, events: Publisher) -> Arc<Pod> {
        Arc::new(Pod {
            id: id.to_owned(),
            socket,
            events,
            sandbox: OnceCell::new(),
            tasks: Mutex::default(),
            over: Notify::new(),
        })
    }

    /// A task.
    ///
    /// # Errors
    /// If there is none.
    pub fn task(&self, id: &str) -> Done<Arc<Task>> {
        self.tasks
            .lock()
            .expect("nothing panics under this lock")
            .get(id)
            .cloned()
            .ok_or_else(|| TaskError::NotFound(format!("task {id}")))
    }

    /// A process of a task.
    ///
    /// # Errors
    /// If there is none.
    pub fn process(&self, id: &str, exec_id: &str) -> Done<(Arc<Task>, Arc<Process>)> {
        let task = self.task(id)?;
        let process = if exec_id.is_empty() {
            Some(task.init.clone())
        } else {
            task.execs.lock().expect("nothing panics under this lock").get(exec_id).cloned()
        };
        let process = process.ok_or_else(|| TaskError::NotFound(format!("process {exec_id} in task {id}")))?;
        Ok((task, process))
    }

    /// QEMU's pid: the one that every process of the pod has on the host. 0 before there is a machine.
    pub fn pid(&self) -> u32 {
        self.sandbox.get().map_or(0, |sandbox| sandbox.machine.pid)
    }

    fn running(&self) -> Done<&Arc<Sandbox>> {
        self.sandbox.get().ok_or_else(|| TaskError::NotFound("virtual machine of this pod".into()))
    }

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
                "the runtime handler has no configuration: its options need ConfigPath, which the runtime installer writes",
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
                if alone || is_silence(&error) {
                    sandbox.machine.kill();
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

    async fn boot(self: &Arc<Pod>, config: Config, spec: &Spec, bundle: &Path) -> Done<()> {
        if self.sandbox.initialized() {
            return Err(TaskError::Exists("the pod's virtual machine".into()));
        }
        let mut words = client::first_words(&spec.hostname)?;
        words.sysctls = spec.sysctls();
        if spec.is_sandbox() {
            words.shm_bytes = SHM_BYTES;
        }
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").map_err(anyhow::Error::from)?;
        let places = cgroup::places(&spec.linux.cgroups_path, &mountinfo);
        let (bundle, socket, all, score) = (bundle.to_owned(), self.socket.clone(), places.clone(), spec.process.oom_score_adj);
        let layers = config.layer_cache.clone();
        let place = move |pid, uid| {
            let started = crate::record::started(pid).context("QEMU's supervisor ended at once")?;
            let cgroups = all.iter().map(|place| place.folder.clone()).collect();
            let record = Record { pid, started, uid, cgroups, socket, layers };
            record.write(&bundle).context("can't note the machine in the bundle")?;
            cgroup::oom_score(pid, score); // QEMU inherits it, and the cgroups
            cgroup::join(all.iter().filter(|place| !place.late), pid).context("can't put QEMU into the pod's cgroup")
        };
        let booted = Sandbox::boot(config, words, place).await.and_then(|(sandbox, happenings)| {
            for pid in [sandbox.machine.supervisor, sandbox.machine.pid] {
                let late = places.iter().filter(|place| place.late);
                cgroup::join(late, pid).context("can't put QEMU into the pod's cgroup")?;
            }
            Ok((sandbox, happenings))
        });
        let (sandbox, happenings) = match booted {
            Ok(booted) => booted,
            Err(error) => {
                let cgroups: Vec<_> = places.into_iter().map(|place| place.folder).collect();
                let _ = tokio::task::spawn_blocking(move || crate::record::remove_cgroups(&cgroups)).await;
                return Err(error.into());
            }
        };
        let sandbox = self.sandbox.get_or_init(async || Arc::new(sandbox)).await.clone();
        if let Err(error) = crate::inspect::serve(&self.socket, sandbox.clone()) {
            tracing::warn!("administrators can't inspect this pod: {error:#}");
        }
        tokio::spawn(self.clone().follow(sandbox, happenings));
        Ok(())
    }

    async fn make(&self, sandbox: &Sandbox, create: &Create, spec: &Spec) -> anyhow::Result<Made> {
        spec.refuse_unsupported()?;
        let start = spec.process.to_start(&create.id, "", spec.seccomp()?)?;
        let pids = self.joined_pids(spec)?;
        let pod = spec.pod_uid().map_or_else(PathBuf::new, |uid| sandbox.config.kubelet_root.join("pods").join(uid));
        let (mounts, back) = volumes::carry(sandbox, spec.planned()?, &Owner { pod, sandbox: self.id.clone() }).await?;
        let devices = volumes::block::carry(sandbox, spec).await?;
        let rootfs = sandbox.rootfs(&create.rootfs).await?;
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

    /// Starts a process.
    ///
    /// # Errors
    /// If it does not fit its phase, or the guest fails.
    pub async fn start(&self, id: &str, exec_id: &str) -> Done<u32> {
        let (task, process) = self.process(id, exec_id)?;
        process.step(Input::Start)?;
        match self.bring_up(&task, &process).await {
            Ok(()) => {}
            Err(error) => {
                let _ = process.step(Input::StartFailed(crate::now_ns())); // the machine's end may have come before
                return Err(error);
            }
        }
        let pid = self.pid();
        self.events.tell(&if exec_id.is_empty() {
            Event::Start(event::TaskStart { container_id: id.to_owned(), pid, ..event::TaskStart::default() })
        } else {
            let (container_id, exec_id) = (id.to_owned(), exec_id.to_owned());
            Event::ExecStarted(event::TaskExecStarted { container_id, exec_id, pid, ..event::TaskExecStarted::default() })
        });
        let _ = process.step(Input::Started); // or the machine has ended meanwhile
        Ok(pid)
    }

    async fn bring_up(&self, task: &Task, process: &Arc<Process>) -> Done<()> {
        let sandbox = self.running()?;
        if process.exec_id.is_empty() && task.id == self.id {
            self.network(sandbox, task.netns.as_deref()).await?;
        }
        let Some(mut start) = process.start.clone() else { return Ok(()) };
        let stdio = stdio::open(&sandbox.agent, &process.paths, &process.close_stdin).map_err(anyhow::Error::from)?;
        (start.stdin, start.stdout, start.stderr) = (stdio.stdin, stdio.stdout, stdio.stderr);
        let streams = [stdio.stdin, stdio.stdout, stdio.stderr];
        *process.stdio.lock().expect("nothing panics under this lock") = stdio;
        match sandbox.agent.ask("StartProcess", Call::StartProcess(start)).await {
            Ok(Answer::Started(_)) => Ok(()),
            other => {
                for stream in streams {
                    sandbox.agent.streams().forget(stream);
                }
                self.stop_stdio(process).await;
                other?;
                Err(client::AgentError::Unexpected("StartProcess").into())
            }
        }
    }

    /// Without a namespace that CNI has filled the guest has a loopback interface alone.
    async fn network(&self, sandbox: &Sandbox, netns: Option<&Path>) -> Done<()> {
        let (network, ports) = match netns {
            None => (Network::default(), None),
            Some(netns) => {
                let joined = network::join(netns).await?;
                joined.plug(&sandbox.machine.qmp).await?;
                (joined.network, joined.ports)
            }
        };
        sandbox.agent.command("SetNetwork", Call::SetNetwork(network)).await?;
        if let Some(ports) = ports {
            let agent = sandbox.agent.clone();
            tokio::spawn(async move {
                if let Err(error) = ports.serve(agent).await {
                    tracing::warn!(%error, "port-forward does not work any more");
                }
            });
        }
        Ok(())
    }

    /// Makes an exec.
    ///
    /// # Errors
    /// If the container does not run, the id is taken, or the process is not understood.
    pub fn exec(&self, id: &str, exec_id: &str, process: &spec::process::Process, paths: Paths) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Err(TaskError::Unsupported("an exec in the sandbox, which has no process,"));
        }
        let mut start = process.to_start(id, exec_id, task.seccomp.clone()).map_err(anyhow::Error::from)?;
        start.terminal = paths.terminal;
        let mut execs = task.execs.lock().expect("nothing panics under this lock");
        if execs.contains_key(exec_id) {
            return Err(TaskError::Exists(format!("process {exec_id}")));
        }
        execs.insert(exec_id.to_owned(), Arc::new(Process::new(id, exec_id, paths, Some(start))));
        let (container_id, exec_id) = (id.to_owned(), exec_id.to_owned());
        self.events.tell(&Event::ExecAdded(event::TaskExecAdded { container_id, exec_id, ..event::TaskExecAdded::default() }));
        Ok(())
    }

    /// Sends a signal. Any to the sandbox that ends a program ends the machine.
    ///
    /// # Errors
    /// If the process has ended, or the guest fails.
    pub async fn kill(self: &Arc<Pod>, id: &str, exec_id: &str, signal: u32, all: bool) -> Done<()> {
        let (task, process) = self.process(id, exec_id)?;
        process.settled().await;
        match process.phase() {
            Phase::Created if !task.is_sandbox => {
                let exit = process.step(Input::Kill(crate::now_ns()))?.exit();
                self.tell_exit(&process, exit);
                return Ok(());
            }
            Phase::Stopped(_) | Phase::Gone => return Err(TaskError::NotFound("process: it has ended".into())),
            _ => {}
        }
        let sandbox = self.running()?.clone();
        if task.is_sandbox {
            tokio::spawn(async move { sandbox.end().await });
            return Ok(());
        }
        let signal = Signal { container: id.to_owned(), exec_id: exec_id.to_owned(), signal, all };
        let killed = signal.signal == SIGKILL;
        match sandbox.agent.command("Signal", Call::Signal(signal)).await {
            Err(error) if !killed => Err(error.into()),
            // A process that ends on its own meanwhile answers ESRCH, which SIGKILL wants anyway.
            Err(error) => Err(TaskError::NotFound(format!("process: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Forgets an ended process, or a task with all that was plugged for it. Gives pid and end.
    ///
    /// # Errors
    /// If it still runs.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Done<(u32, Exit)> {
        let (task, process) = self.process(id, exec_id)?;
        let exit = process.phase().exit().unwrap_or(Exit { status: 0, at_ns: crate::now_ns() });
        process.step(Input::Delete)?;
        self.stop_stdio(&process).await;
        let pid = self.pid();
        if let Some(sandbox) = self.sandbox.get() {
            let reference = ProcessRef { container: id.to_owned(), exec_id: exec_id.to_owned() };
            if !task.is_sandbox
                && let Err(error) = sandbox.agent.command("Delete", Call::Delete(reference)).await
            {
                tracing::warn!(id, exec_id, %error, "the guest did not delete");
            }
            if exec_id.is_empty() {
                self.release(sandbox, &task).await;
            }
        }
        if exec_id.is_empty() {
            self.tasks.lock().expect("nothing panics under this lock").remove(id);
        } else {
            task.execs.lock().expect("nothing panics under this lock").remove(exec_id);
        }
        self.events.tell(&Event::Delete(event::TaskDelete {
            container_id: id.to_owned(),
            id: exec_id.to_owned(),
            pid,
            exit_status: exit.status,
            exited_at: events::timestamp(exit.at_ns),
            ..event::TaskDelete::default()
        }));
        Ok((pid, exit))
    }

    async fn release(&self, sandbox: &Sandbox, task: &Task) {
        if task.id == self.id {
            sandbox.end().await;
            if let Some(record) = Record::read(&task.bundle) {
                let _ = tokio::task::spawn_blocking(move || crate::record::remove_cgroups(&record.cgroups)).await;
            }
            return;
        }
        if let Some(disk) = task.writable {
            sandbox.unplug(disk).await;
        }
        let _ = sandbox.limit(&task.id, None).await; // refused only by a machine that is gone
    }

    async fn stop_stdio(&self, process: &Process) {
        let stdio = std::mem::take(&mut *process.stdio.lock().expect("nothing panics under this lock"));
        if let Some(input) = stdio.input {
            input.abort();
        }
        for output in stdio.outputs {
            output.abort();
        }
    }

    /// New size of a terminal.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn resize(&self, id: &str, exec_id: &str, columns: u32, rows: u32) -> Done<()> {
        self.process(id, exec_id)?;
        let resize = Resize { container: id.to_owned(), exec_id: exec_id.to_owned(), columns, rows };
        Ok(self.running()?.agent.command("Resize", Call::Resize(resize)).await?)
    }

    /// Stops a container, or lets it go on.
    ///
    /// # Errors
    /// If it does not run, or the guest fails.
    pub async fn freeze(&self, id: &str, frozen: bool) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Err(TaskError::Unsupported("pausing a whole pod"));
        }
        let (input, back) = if frozen { (Input::Pause, Input::Resume) } else { (Input::Resume, Input::Pause) };
        task.init.step(input)?;
        let result = self.running()?.agent.command("Freeze", Call::Freeze(Freeze { container: id.to_owned(), frozen })).await;
        if let Err(error) = result {
            let _ = task.init.step(back); // or it has ended
            return Err(error.into());
        }
        let container_id = id.to_owned();
        self.events.tell(&if frozen {
            Event::Paused(event::TaskPaused { container_id, ..event::TaskPaused::default() })
        } else {
            Event::Resumed(event::TaskResumed { container_id, ..event::TaskResumed::default() })
        });
        Ok(())
    }

    /// A container's figures, or the machine's for the sandbox.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn stats(&self, id: &str) -> Done<Stats> {
        let task = self.task(id)?;
        let sandbox = self.running()?;
        if task.is_sandbox {
            return Ok(super::stats::of_machine(sandbox.machine.pid));
        }
        match sandbox.agent.ask("Stats", Call::Stats(ContainerRef { container: id.to_owned() })).await? {
            Answer::Stats(stats) => Ok(stats),
            _ => Err(client::AgentError::Unexpected("Stats").into()),
        }
    }

    /// New limits of a container.
    ///
    /// # Errors
    /// If the guest fails.
    pub async fn update(&self, id: &str, change: &spec::SpecResources) -> Done<()> {
        let task = self.task(id)?;
        if task.is_sandbox {
            return Ok(()); // a sandbox has no limits of its own: its containers' are what counts
        }
        let sandbox = self.running()?;
        let old = *task.resources.lock().expect("nothing panics under this lock");
        let new = change.over(&old);
        if new.memory > old.memory {
            sandbox.limit(id, Some(new.memory)).await?; // room first
        }
        let update = Update { container: id.to_owned(), resources: Some(new) };
        sandbox.agent.command("Update", Call::Update(update)).await?;
        *task.resources.lock().expect("nothing panics under this lock") = new;
        Ok(sandbox.limit(id, Some(new.memory)).await?)
    }

    /// Nothing is left to serve.
    pub fn is_empty(&self) -> bool {
        self.tasks.lock().expect("nothing panics under this lock").is_empty()
    }

    /// Ends the machine, if there still is one.
    pub fn kill_machine(&self) {
        if let Some(sandbox) = self.sandbox.get() {
            sandbox.machine.kill();
        }
    }

    /// Acts on what the guest tells, until the machine ends, which ends every process.
    async fn follow(self: Arc<Pod>, sandbox: Arc<Sandbox>, mut happenings: mpsc::Receiver<Happening>) {
        loop {
            tokio::select! {
                biased;
                happening = happenings.recv() => match happening {
                    Some(happening) => self.take(happening),
                    None => break,
                },
                _ = sandbox.machine.wait() => break,
            }
        }
        let why = sandbox.agent.lost().await;
        sandbox.machine.kill();
        let how = sandbox.machine.wait().await;
        tracing::info!(%why, %how, console = %sandbox.machine.console.tail(), "the virtual machine ended");
        let exit = Exit { status: KILLED, at_ns: crate::now_ns() };
        let tasks: Vec<_> = self.tasks.lock().expect("nothing panics under this lock").values().cloned().collect();
        let words = end_words(&how, &sandbox.machine.console.tail());
        for task in tasks {
            for back in task.back.iter().filter(|_| task.is_alive()) {
                if let Err(error) = back.say(&words) {
                    tracing::warn!(id = task.id, "the machine's end was not told: {error:#}");
                }
            }
            let execs: Vec<_> = task.execs.lock().expect("nothing panics under this lock").values().cloned().collect();
            for process in execs.into_iter().chain([task.init.clone()]) {
                if let Ok(phase) = process.step(Input::Exited(exit)) {
                    self.tell_exit(&process, phase.exit());
                }
            }
        }
    }

    fn take(self: &Arc<Pod>, happening: Happening) {
        match happening {
            Happening::Exited(exited) => {
                let Ok((task, process)) = self.process(&exited.container, &exited.exec_id) else { return };
                let exit = Exit { status: exited.status, at_ns: crate::now_ns() };
                tokio::spawn(self.clone().ended(task, process, exit));
            }
            Happening::OutOfMemory(container) => {
                let container_id = container.container;
                if self.task(&container_id).is_ok() {
                    self.events.tell(&Event::Oom(event::TaskOOM { container_id, ..event::TaskOOM::default() }));
                }
            }
        }
    }

    async fn ended(self: Arc<Pod>, task: Arc<Task>, process: Arc<Process>, exit: Exit) {
        process.settled().await;
        let outputs = std::mem::take(&mut process.stdio.lock().expect("nothing panics under this lock").outputs);
        for mut output in outputs {
            if tokio::time::timeout(DRAIN_TIME, &mut output).await.is_err() {
                output.abort();
            }
        }
        if let (true, Some(sandbox)) = (process.exec_id.is_empty(), self.sandbox.get()) {
            for back in &task.back {
                if let Err(error) = back.run(&sandbox.agent).await {
                    tracing::warn!(id = task.id, "the termination log was not copied back: {error:#}");
                }
            }
        }
        if let Ok(phase) = process.step(Input::Exited(exit)) {
            self.tell_exit(&process, phase.exit());
        }
    }

    fn tell_exit(&self, process: &Process, exit: Option<Exit>) {
        if let Some(exit) = exit {
            self.events.tell(&events::exit(&process.container, &process.exec_id, self.pid(), exit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_cause() {
        assert!(end_words("killed by signal 9", "").ends_with("or somebody killed it"));
        let panicked = end_words("exit status: 0", "[1.0] noise\n[2.0] Kernel panic - not syncing: Attempted to kill init!");
        assert!(panicked.contains("kernel panicked; its last words: Kernel panic - not syncing: Attempted"), "{panicked}");
        assert_eq!(
            end_words("exit status: 1", " "),
            "the pod's virtual machine ended (exit status: 1), and its containers with it"
        );
    }

    #[test]
    fn silence_is_told_from_failure() {
        let late = anyhow::Error::from(client::AgentError::Late("AddVolume", client::REQUEST_TIME)).context("the mount /x");
        assert!(is_silence(&late));
        let failed = client::AgentError::Failed { errno: 2, message: String::new() };
        assert!(!is_silence(&anyhow::Error::from(failed)));
    }
}
