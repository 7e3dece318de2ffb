//! The agent: one thread, one poll loop, requests answered one after the other.
//!
//! A request runs to its end before the next one and before more bytes are moved; the longest waits are for a disk or a
//! network card to appear, and those are bounded. One thread is what makes fork(2) safe here.

use crate::container::Container;
use crate::disks::Disks;
use crate::fail::{Failure, Result, Step};
use crate::port::Port;
use crate::streams::Streams;
use crate::sys;
use crate::template::Stage;
use crate::user::UserNamespace;
use crate::volumes::Volumes;
use freehold_guest_api::limits::{MAX_EVENTS, MAX_MESSAGE};
use freehold_guest_api::message::{Answer, ContainerRef, Empty, Event, Exited, Happening, Reply, Request};
use freehold_guest_api::{Frame, Kind};
use prost::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything the agent knows.
pub struct Agent {
    /// To the shim.
    pub port: Port,
    /// Open streams.
    pub streams: Streams,
    /// Containers by id.
    pub containers: BTreeMap<String, Container>,
    /// Volumes by id.
    pub volumes: Volumes,
    /// Disks in use.
    pub disks: Disks,
    /// The agent's own pid namespace.
    pub own_pids: OwnedFd,
    /// The pod's shared pid namespace, if it has one.
    pub shared_pids: Option<OwnedFd>,
    /// The pod's user namespace, if it has one.
    pub user: Option<UserNamespace>,
    /// How far the machine has come.
    pub stage: Stage,
    /// Power off once everything is written.
    pub stopping: bool,
    signals: File,
    message: Vec<u8>,
}

/// Who is behind a descriptor in the poll set.
enum Source {
    Port,
    Signals,
    Memory(String),
    Stream(u32),
}

impl Agent {
    /// Connects to the shim.
    pub fn connect() -> Result<Agent> {
        Agent::on(Port::connect()?)
    }

    /// Goes on where the agent of a template's clone executed itself anew: over its port, with the answer that it owes.
    pub fn awake(port: RawFd, request: u64) -> Result<Agent> {
        let mut agent = Agent::on(Port::resume(port)?)?;
        agent.port.reply(&Reply { id: request, answer: Some(Answer::Done(Empty {})) }.encode_to_vec());
        agent.port.flush()?;
        Ok(agent)
    }

    fn on(port: Port) -> Result<Agent> {
        Ok(Agent {
            signals: File::from(sys::child_signals().step("watch for ended processes")?),
            own_pids: sys::open("/proc/self/ns/pid", libc::O_RDONLY).step("open the agent's pid namespace")?,
            port,
            streams: Streams::default(),
            containers: BTreeMap::new(),
            volumes: Volumes::new(),
            disks: Disks::default(),
            shared_pids: None,
            user: None,
            stage: Stage::Fresh,
            stopping: false,
            message: Vec::new(),
        })
    }

    /// Serves until the shim asks for the end.
    pub fn serve(mut self) -> Result<()> {
        while !self.stopping || self.port.wants_write() {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let (mut fds, sources) = self.interests();
        sys::poll(&mut fds, -1).step("poll")?;
        let mut memory = Vec::new();
        for (fd, source) in fds.iter().zip(sources).filter(|(fd, _)| fd.revents != 0) {
            match source {
                Source::Port if fd.revents & libc::POLLIN != 0 => {
                    for frame in self.port.read()? {
                        self.frame(frame)?;
                    }
                }
                Source::Port if fd.revents & libc::POLLHUP != 0 => {
                    return Err(Failure::with(libc::ECONNRESET, "the shim has closed the port"));
                }
                Source::Port => {}
                // What is read does not matter: several ends may come as one signal.
                Source::Signals => drop(self.signals.read(&mut [0; 1024])),
                Source::Memory(container) => memory.push(container),
                Source::Stream(number) if fd.events & libc::POLLOUT != 0 => self.streams.write(number, &mut self.port),
                Source::Stream(number) => drop(self.streams.read(number, &mut self.port, false)),
            }
        }
        for container in memory {
            self.tell_memory(&container);
        }
        self.reap();
        self.tell_ends();
        self.port.flush()
    }

    fn interests(&self) -> (Vec<libc::pollfd>, Vec<Source>) {
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        let mut add = |fd, events, source| {
            fds.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        let write = if self.port.wants_write() { libc::POLLOUT } else { 0 };
        add(self.port.fd(), libc::POLLIN | write, Source::Port);
        add(self.signals.as_raw_fd(), libc::POLLIN, Source::Signals);
        for (id, container) in &self.containers {
            if let Some(file) = &container.memory_events {
                add(file.as_raw_fd(), libc::POLLPRI, Source::Memory(id.clone()));
            }
        }
        for (number, fd, events) in self.streams.interests(self.port.has_room()) {
            add(fd, events, Source::Stream(number));
        }
        (fds, sources)
    }

    fn frame(&mut self, frame: Frame) -> Result<()> {
        match frame.kind {
            Kind::Request => {
                if self.message.len() + frame.payload.len() > MAX_MESSAGE {
                    return Err(Failure::with(libc::EPROTO, format!("the shim sent a message over {MAX_MESSAGE} bytes")));
                }
                self.message.extend_from_slice(&frame.payload);
                if frame.flags == 0 {
                    let bytes = std::mem::take(&mut self.message);
                    let request = Request::decode(bytes.as_slice())
                        .map_err(|e| Failure::with(libc::EPROTO, format!("the shim sent no request: {e}")))?;
                    self.request(request);
                }
            }
            Kind::Data => self.streams.receive(frame.stream, &frame.payload, &mut self.port),
            Kind::Eof => self.streams.end(frame.stream, &mut self.port),
            Kind::Reset => self.streams.reset(frame.stream),
            Kind::Credit => {
                let bytes = frame.payload.first_chunk::<4>().copied().unwrap_or_default();
                self.streams.credit(frame.stream, u32::from_le_bytes(bytes));
            }
            Kind::Reply | Kind::Event => return Err(Failure::with(libc::EPROTO, "the shim sent what only agents send")),
        }
        Ok(())
    }

    fn request(&mut self, request: Request) {
        let answer = match request.call {
            Some(call) => self.answer(request.id, call),
            None => Err(Failure::refuse("a request without a call: the shim is newer than the guest")),
        };
        let answer = Some(answer.unwrap_or_else(|failure| Answer::Error(failure.into())));
        self.port.reply(&Reply { id: request.id, answer }.encode_to_vec());
    }

    /// Notes ended children. Orphans of the guest are reaped with them and belong to nobody.
    fn reap(&mut self) {
        while self.port.events < MAX_EVENTS
            && let Some((pid, status)) = sys::reap()
        {
            let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
            for container in self.containers.values_mut() {
                let found = container.processes.iter_mut().find(|(_, p)| p.pid == pid && p.ended.is_none());
                if let Some((exec_id, process)) = found {
                    process.ended = Some((status, at));
                    if exec_id.is_empty() {
                        // With a pid namespace of its own the kernel has done so already.
                        let _ = container.cgroup.kill();
                    }
                }
            }
        }
    }

    /// Takes the rest of ended processes' output, then tells their end.
    fn tell_ends(&mut self) {
        let ids: Vec<String> = self.containers.keys().cloned().collect();
        for id in ids {
            let Some(container) = self.containers.get_mut(&id) else { continue };
            let mut events = Vec::new();
            for (exec_id, process) in &mut container.processes {
                let Some((status, at_ns)) = process.ended.filter(|_| !process.told) else { continue };
                self.streams.close_input(process.input, &mut self.port);
                for &number in &process.outputs {
                    while self.streams.read(number, &mut self.port, true) {}
                }
                if process.outputs.iter().all(|&number| !self.streams.is_open(number)) {
                    process.told = true;
                    let (container, exec_id) = (id.clone(), exec_id.clone());
                    events.push(Happening::Exited(Exited { container, exec_id, status, at_ns }));
                }
            }
            if !events.is_empty() {
                self.tell_memory(&id);
            }
            for happening in events {
                self.port.event(&Event { happening: Some(happening) }.encode_to_vec());
            }
        }
    }

    fn tell_memory(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Some(file) = &mut container.memory_events {
            // kernfs reports a change until the file is read anew from its start.
            let _ = std::io::Seek::rewind(file).and_then(|()| file.read_to_end(&mut Vec::new()));
        }
        if container.cgroup.new_oom_kills() {
            let happening = Some(Happening::OutOfMemory(ContainerRef { container: id.to_owned() }));
            self.port.event(&Event { happening }.encode_to_vec());
        }
    }
}
