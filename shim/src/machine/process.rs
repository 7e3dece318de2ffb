//! QEMU's process: started with three sockets, watched by the thread that started it, ended with the shim.
//!
//! One thread starts and waits for QEMU, because the kernel's parent-death signal follows the thread that forked, and an
//! async runtime ends its threads as it likes.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::command::{Shape, arguments, host_khz};
use super::console::Console;
use super::memory;
use super::qmp::{Qmp, QmpError};
use crate::config::{Bundle, Config};

/// Most virtual CPUs of a machine: the guest kernel's NR_CPUS.
const MAX_CPUS: usize = 16;

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket or a thread could not be made.
    #[error("can't prepare a virtual machine: {0}")]
    Prepare(#[from] std::io::Error),
    /// QEMU could not be run.
    #[error("can't run {program}: {cause}; is the bundle whole?")]
    Run {
        /// Which program.
        program: String,
        /// Why.
        cause: std::io::Error,
    },
    /// QEMU ran but did not answer.
    #[error("the virtual machine did not start: {cause}; its last words: {console}")]
    Qmp {
        /// What failed.
        cause: QmpError,
        /// The end of console and messages.
        console: String,
    },
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    /// Its control socket.
    pub qmp: Qmp,
    /// Its last words.
    pub console: Arc<Console>,
    /// QEMU's pid: the task pid that containerd sees.
    pub pid: u32,
    /// Memory it booted with, in MiB.
    pub base_mib: u64,
    /// Memory it may grow by, in MiB.
    pub room_mib: u64,
    pidfd: OwnedFd,
    ended: watch::Receiver<Option<String>>,
}

impl Machine {
    /// Starts QEMU; the guest boots meanwhile. Also gives the agent's end of the port.
    ///
    /// # Errors
    /// If QEMU can't be run or does not answer.
    pub async fn start(config: &Config) -> Result<(Machine, UnixStream), StartError> {
        let bundle = Bundle(config.bundle.clone());
        let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory::host_mib(&text)).unwrap_or(1024);
        let (base_mib, room_mib) = memory::boot_and_room(u64::from(config.default_memory_mib), host);
        let (agent, agent_there) = pair()?;
        let (qmp, qmp_there) = pair()?;
        let (serial, serial_there) = pair()?;
        let shape = Shape {
            bundle: &bundle,
            acceleration: config.acceleration,
            base_mib,
            growth_mib: room_mib,
            cpus: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CPUS),
            host_khz: std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| host_khz(&text)),
            agent_fd: agent_there.as_raw_fd(),
            qmp_fd: qmp_there.as_raw_fd(),
            serial_fd: serial_there.as_raw_fd(),
        };
        let mut command = Command::new(bundle.loader());
        command.args(arguments(&shape)).env_clear().env("QEMU_MODULE_DIR", bundle.modules()).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (pid, messages, ended) = keep(command, vec![agent_there, qmp_there, serial_there]).await?;

        let console = Arc::new(Console::default());
        console.follow(serial);
        console.follow(tokio::net::unix::pipe::Receiver::from_owned_fd(messages)?);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(std::io::Error::from)?;
        let qmp = match Qmp::connect(qmp).await {
            Ok(qmp) => qmp,
            Err(cause) => {
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                tokio::task::yield_now().await; // lets the readers take what lies in the pipes
                return Err(StartError::Qmp { cause, console: console.tail() });
            }
        };
        let pid = pid.as_raw_nonzero().get().unsigned_abs();
        Ok((Machine { qmp, console, pid, base_mib, room_mib, pidfd, ended }, agent))
    }

    /// Ends it at once; idempotent.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL); // ESRCH: it has ended
    }

    /// Waits for its end; says how it ended.
    pub async fn wait(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(value) => value.clone().unwrap_or_default(),
            Err(_) => "its watcher ended".into(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A socket pair: ours for the runtime, theirs to be inherited.
fn pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

type Kept = (Pid, OwnedFd, watch::Receiver<Option<String>>);

/// Starts the command on a thread of its own, which then waits for its end.
async fn keep(mut command: Command, inherited: Vec<OwnedFd>) -> Result<Kept, StartError> {
    let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only the system calls fcntl, prctl and getppid are made, on descriptors that
    // `inherited` keeps open until after the spawn; nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            for &number in &numbers {
                let fd = std::os::fd::BorrowedFd::borrow_raw(number);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::BrokenPipe.into()); // the shim died before the signal was asked for
            }
            Ok(())
        });
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let (started_to, started) = oneshot::channel();
    let (ended_to, ended) = watch::channel(None);
    std::thread::Builder::new().name("qemu-keeper".into()).spawn(move || {
        let result = command.spawn();
        drop(inherited);
        match result {
            Err(error) => drop(started_to.send(Err(error))),
            Ok(mut child) => {
                let messages = child.stderr.take().map(OwnedFd::from);
                let _ = started_to.send(Ok((child.id(), messages)));
                let how = match child.wait() {
                    Ok(status) => {
                        status.signal().map_or_else(|| status.to_string(), |signal| format!("killed by signal {signal}"))
                    }
                    Err(error) => format!("can't be waited for: {error}"),
                };
                let _ = ended_to.send(Some(how));
            }
        }
    })?;
    let (pid, messages) = started
        .await
        .map_err(|_| std::io::Error::other("the thread that starts QEMU ended"))?
        .map_err(|cause| StartError::Run { program, cause })?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| std::io::Error::other("QEMU has no pid"))?;
    let messages = messages.ok_or_else(|| std::io::Error::other("QEMU has no standard error"))?;
    Ok((pid, messages, ended))
}
