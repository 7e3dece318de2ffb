//! What each request does.

use crate::agent::Agent;
use crate::cgroup::Cgroup;
use crate::child::Entry;
use crate::container::Container;
use crate::fail::{Failure, Result, Step};
use crate::paths::check_id;
use crate::process::{self, PidNamespace};
use crate::rootfs::Root;
use crate::sys::{self, Forked};
use crate::template::Stage;
use crate::{configure, cpus, template, user, volumes};
use freehold_guest_api::limits::{MAX_CONTAINERS, MAX_PROCESSES};
use freehold_guest_api::message::{
    Answer, Call, CreateContainer, Empty, FileContent, Pids, ProcessRef, Resize, Signal, StartProcess, Started, Update,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

const MAX_SIGNAL: u32 = 64;

impl Agent {
    /// Does what is asked.
    pub fn answer(&mut self, id: u64, call: Call) -> Result<Answer> {
        self.stage.admits(&call)?;
        let done = |()| Answer::Done(Empty {});
        match call {
            Call::Configure(configure) => self.configure(&configure),
            Call::SetNetwork(network) => crate::network::apply(&network, self.user.as_ref()).map(done),
            Call::AddVolume(add) => volumes::add(&mut self.volumes, &mut self.disks, &add, self.user.as_ref()).map(done),
            Call::PutEntries(put) => volumes::put(&self.volumes, &put).map(done),
            Call::GetFile(get) => volumes::get(&self.volumes, &get).map(|data| Answer::File(FileContent { data })),
            Call::RemoveVolume(volume) => self.remove_volume(&volume.volume).map(done),
            Call::CreateContainer(create) => self.create(create).map(done),
            Call::StartProcess(start) => self.start(&start).map(|pid| Answer::Started(Started { pid })),
            Call::Signal(signal) => self.signal(&signal).map(done),
            Call::Resize(resize) => self.resize(&resize).map(done),
            Call::Delete(process) => self.delete(&process).map(done),
            Call::Stats(container) => self.container(&container.container)?.cgroup.stats().map(Answer::Stats),
            Call::Pids(container) => self.container(&container.container)?.cgroup.pids().map(|pids| Answer::Pids(Pids { pids })),
            Call::Update(update) => self.update(&update).map(done),
            Call::Freeze(freeze) => self.container(&freeze.container)?.cgroup.freeze(freeze.frozen).map(done),
            Call::Dial(dial) => crate::dial::dial(&mut self.streams, &dial).map(done),
            Call::AdjustClock(by) => crate::clock::adjust(&by).map(Answer::Time),
            Call::Shutdown(_) => {
                self.stopping = true;
                Ok(done(()))
            }
            Call::Hold(_) => {
                self.stage = Stage::Held;
                Ok(done(()))
            }
            // The agent that is executed anew answers.
            Call::Wake(wake) => template::wake(&wake, &self.port, id).map(|never| match never {}),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        let missing = || Failure::with(libc::ENOENT, format!("there is no container {id:?}"));
        self.containers.get_mut(id).ok_or_else(missing)
    }

    fn configure(&mut self, configure: &freehold_guest_api::message::Configure) -> Result<Answer> {
        // Also if it fails half way: there is no way back, and the shim ends the machine.
        self.stage = Stage::Configured;
        let (ready, user) = configure::configure(configure)?;
        self.user = user;
        Ok(Answer::Ready(ready))
    }

    /// Makes the pod's pid namespace, if there is none yet: a process of its own keeps it.
    fn make_shared_pids(&mut self) -> Result<()> {
        if self.shared_pids.is_some() {
            return Ok(());
        }
        let forked = match &self.user {
            None => sys::fork(libc::CLONE_NEWPID).step("fork"),
            Some(user) => user.fork(libc::CLONE_NEWPID, || Ok(())),
        };
        match forked.step("make the shared pid namespace")? {
            Forked::Child => {
                if self.user.is_some() && user::become_root().is_err() {
                    sys::exit_now(1);
                }
                // It needs no file of the agent's.
                let _ = sys::close_all();
                sys::pause_for_ever()
            }
            Forked::Parent(pid) => {
                let path = format!("/proc/{pid}/ns/pid");
                self.shared_pids = Some(sys::open(path, libc::O_RDONLY).step("open the shared pid namespace")?);
                Ok(())
            }
        }
    }

    fn create(&mut self, create: CreateContainer) -> Result<()> {
        check_id("container", &create.container)?;
        if self.containers.contains_key(&create.container) || self.containers.len() >= MAX_CONTAINERS {
            let message = format!("container {} exists, or there are {MAX_CONTAINERS}", create.container);
            return Err(Failure::with(libc::EEXIST, message));
        }
        if create.share_pids {
            self.make_shared_pids()?;
        }
        cpus::bring_up();
        for mount in &create.mounts {
            crate::mounts::parse(&mount.options).step(format!("mount {}", mount.destination))?;
        }
        for volume in create.mounts.iter().map(|m| &m.volume).chain(create.devices.iter().map(|d| &d.volume)) {
            if !volume.is_empty() && !self.volumes.contains_key(volume) {
                return Err(volumes::unknown(volume));
            }
        }
        let rootfs = create.rootfs.as_ref().ok_or_else(|| Failure::refuse("a container needs a root file system"))?;
        let mut root = Root::mount(&create.container, rootfs, &mut self.disks, self.user.as_ref())?;
        let cgroup = Cgroup::create(&create.container, &create.resources.unwrap_or_default(), user::root(self.user.as_ref()))
            .inspect_err(|_| root.unmount(&mut self.disks))?;
        let memory_events = cgroup.memory_events();
        let id = create.container.clone();
        let container = Container { spec: create, root, cgroup, memory_events, init: None, processes: BTreeMap::new() };
        self.containers.insert(id, container);
        Ok(())
    }

    /// The pid namespace of the running container that this one wants to be in.
    fn target_of(&self, id: &str) -> Result<Option<OwnedFd>> {
        let Some(name) = self.containers.get(id).map(|c| &c.spec.pids_of).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let target = self.containers.get(name).filter(|c| c.processes.get("").is_some_and(|init| init.ended.is_none()));
        let gone = || Failure::with(libc::ESRCH, format!("container {name}, whose processes are to be shared, does not run"));
        let (_, namespace) = target.and_then(|c| c.init.as_ref()).ok_or_else(gone)?;
        namespace.try_clone().step("copy the target's pid namespace").map(Some)
    }

    fn start(&mut self, start: &StartProcess) -> Result<u32> {
        let known: usize = self.containers.values().map(|c| c.processes.len()).sum();
        if known >= MAX_PROCESSES {
            return Err(Failure::with(libc::EAGAIN, format!("the pod has {MAX_PROCESSES} processes; delete ended ones")));
        }
        let target = self.target_of(&start.container)?;
        let missing = || Failure::with(libc::ENOENT, format!("there is no container {:?}", start.container));
        let container = self.containers.get_mut(&start.container).ok_or_else(missing)?;
        if container.processes.contains_key(&start.exec_id) {
            return Err(Failure::with(libc::EEXIST, format!("process {:?} exists", start.exec_id)));
        }
        let process = if start.exec_id.is_empty() {
            let joined = if container.spec.share_pids { self.shared_pids.as_ref() } else { target.as_ref() };
            let places: BTreeMap<String, PathBuf> = self.volumes.iter().map(|(id, v)| (id.clone(), v.shown.clone())).collect();
            let entry = Entry::Init { spec: &container.spec, root: container.root.path(), volumes: &places };
            let pids = joined.map_or(PidNamespace::New, |joined| PidNamespace::Existing(joined, &self.own_pids));
            let process = process::start(start, entry, container.cgroup.procs()?, &pids, self.user.as_ref(), &mut self.streams)?;
            let namespace = format!("/proc/{}/ns/pid", process.pid);
            let namespace = sys::open(namespace, libc::O_RDONLY).step("open the container's pid namespace")?;
            container.init = Some((sys::pidfd(process.pid).step("open the container's init")?, namespace));
            process
        } else {
            let first = container.processes.get("").filter(|init| init.ended.is_none()).map(|init| init.pid);
            let Some((first, (init, namespace))) = first.zip(container.init.as_ref()) else {
                return Err(Failure::with(libc::ESRCH, format!("container {} does not run", start.container)));
            };
            let pids = PidNamespace::Existing(namespace, &self.own_pids);
            let cgroup = container.cgroup.procs_beside(first)?;
            process::start(start, Entry::Exec(init), cgroup, &pids, self.user.as_ref(), &mut self.streams)?
        };
        let pid = process.pid as u32;
        container.processes.insert(start.exec_id.clone(), process);
        Ok(pid)
    }

    fn signal(&mut self, signal: &Signal) -> Result<()> {
        let number = signal.signal;
        if number > MAX_SIGNAL {
            return Err(Failure::refuse(format!("signal {number} is beyond {MAX_SIGNAL}")));
        }
        let container = self.container(&signal.container)?;
        if signal.all && number == libc::SIGKILL as u32 {
            return container.cgroup.kill();
        }
        if signal.all {
            for pid in container.cgroup.pids()? {
                // One that has just ended needs no signal.
                let _ = sys::kill(pid as i32, number as i32);
            }
            return Ok(());
        }
        let running = container.processes.get(&signal.exec_id).filter(|process| process.ended.is_none());
        let ended = || Failure::with(libc::ESRCH, format!("process {:?} does not run", signal.exec_id));
        sys::kill(running.ok_or_else(ended)?.pid, number as i32).step(format!("send signal {number}"))
    }

    fn resize(&mut self, resize: &Resize) -> Result<()> {
        let process = self.container(&resize.container)?.processes.get(&resize.exec_id);
        let terminal = process.and_then(|process| process.terminal.as_ref());
        let terminal = terminal.ok_or_else(|| Failure::with(libc::ENOTTY, "the process has no terminal"))?;
        sys::set_terminal_size(terminal.as_fd(), resize.columns, resize.rows).step("size the terminal")
    }

    fn delete(&mut self, process: &ProcessRef) -> Result<()> {
        let container = self.container(&process.container)?;
        let running = |p: &process::Process| !p.told;
        let busy = || Failure::with(libc::EBUSY, format!("process {:?} still runs or its end was not told", process.exec_id));
        if !process.exec_id.is_empty() {
            if container.processes.get(&process.exec_id).is_some_and(running) {
                return Err(busy());
            }
            container.processes.remove(&process.exec_id);
            return Ok(());
        }
        if container.processes.values().any(running) {
            return Err(busy());
        }
        if let Some(mut container) = self.containers.remove(&process.container) {
            container.cgroup.remove();
            container.root.unmount(&mut self.disks);
        }
        Ok(())
    }

    fn update(&mut self, update: &Update) -> Result<()> {
        cpus::bring_up();
        self.container(&update.container)?.cgroup.update(&update.resources.unwrap_or_default())
    }

    fn remove_volume(&mut self, id: &str) -> Result<()> {
        let uses = |c: &&Container| c.spec.mounts.iter().any(|m| m.volume == id) || c.spec.devices.iter().any(|d| d.volume == id);
        if let Some(user) = self.containers.values().find(uses) {
            return Err(Failure::with(libc::EBUSY, format!("volume {id} is used by container {}", user.spec.container)));
        }
        volumes::remove(&mut self.volumes, &mut self.disks, id)
    }
}
