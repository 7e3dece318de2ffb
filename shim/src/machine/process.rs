//! QEMU's process: started confined with three sockets, ended with the shim.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::command::{self, Base, Shape, host_khz};
use super::console::Console;
use super::memory;
use super::qmp::{Qmp, QmpError};
use crate::config::{Acceleration, Bundle, Config};
use crate::confine::launch::{self, Place};
use crate::confine::uid;

/// Most virtual CPUs of a machine: the guest kernel's NR_CPUS.
const MAX_CPUS: usize = 16;

/// Time for QEMU's end to be seen after the connection to it or to its guest was lost.
pub const END_TIME: Duration = Duration::from_millis(500);

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket or a thread could not be made.
    #[error("can't prepare a virtual machine: {0}")]
    Prepare(#[from] std::io::Error),
    /// There is no hardware virtualisation.
    #[error(
        "the node has no usable /dev/kvm ({0}): enable virtualisation in its firmware (or nested virtualisation below it) and load kvm_intel or \
         kvm_amd, or accept slow emulation with spec.microVM.emulation: Allow of the SandboxRuntime"
    )]
    Kvm(std::io::Error),
    /// There is no user for it.
    #[error("can't take a user for a virtual machine in {folder}: {0}", folder = uid::FOLDER)]
    User(std::io::Error),
    /// QEMU could not be run.
    #[error("can't run QEMU: {0:#}")]
    Run(anyhow::Error),
    /// QEMU ran but did not answer.
    #[error("the virtual machine did not start: {cause}; its last words: {console}")]
    Qmp {
        /// What failed.
        cause: QmpError,
        /// The end of console and messages.
        console: String,
    },
    /// QEMU ended before its guest's agent answered.
    #[error("the virtual machine ended while booting: {how}{hint}; its last words: {console}", hint = hint(how))]
    Ended {
        /// How it ended.
        how: String,
        /// The end of console and messages.
        console: String,
    },
}

impl StartError {
    /// QEMU gave itself up, by an assertion of its own (abort(3)). Version 10.0 does so under emulation in one of some hundreds of boots:
    /// `iotlb_to_section` of its `system/physmem.c` finds a map of memory that another thread has just replaced. The next try goes well.
    pub fn is_abort(&self) -> bool {
        matches!(self, StartError::Ended { how, .. } if how == "killed by signal 6")
    }
}

/// Nobody but the kernel kills a booting machine, and it does so for memory.
fn hint(how: &str) -> &'static str {
    let memory = "; is the memory limit too small? A pod's RuntimeClass.overhead must cover the machine itself, the node agent's limit a template's";
    if how.ends_with("signal 9") { memory } else { "" }
}

/// How large a machine is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Memory that it begins with, in MiB.
    pub base_mib: u64,
    /// Memory that it may grow by, in MiB.
    pub room_mib: u64,
    /// Virtual processors.
    pub cpus: usize,
}

/// How large machines of this handler are on this node.
pub fn size(config: &Config) -> Size {
    let host = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory::host_mib(&text)).unwrap_or(1024);
    let (base_mib, room_mib) = memory::boot_and_room(u64::from(config.default_memory_mib), host);
    Size { base_mib, room_mib, cpus: std::thread::available_parallelism().map_or(1, usize::from).min(MAX_CPUS) }
}

/// A running QEMU; dropping it ends the process.
#[derive(Debug)]
pub struct Machine {
    /// Its control socket.
    pub qmp: Qmp,
    /// Its last words.
    pub console: Arc<Console>,
    /// QEMU's pid.
    pub pid: u32,
    /// Pid of its supervisor, whose end ends it: the task pid that containerd sees.
    pub supervisor: u32,
    /// Memory it booted with, in MiB.
    pub base_mib: u64,
    /// Memory it may grow by, in MiB.
    pub room_mib: u64,
    /// The user that it runs as.
    pub uid: u32,
    pidfd: OwnedFd,
    ended: watch::Receiver<Option<String>>,
    given_up: OnceLock<String>,
}

impl Machine {
    /// Starts QEMU; the guest boots meanwhile, or waits for [`super::migration::resume`]. Also gives the agent's end of the port. `place` is called with the
    /// supervisor's pid and the machine's user, before anything of a tenant runs. `network` is the pod's namespace, which
    /// the supervisor enters, and QEMU does not.
    ///
    /// # Errors
    /// If QEMU can't be run or does not answer.
    pub async fn start(
        config: &Config,
        base: Base,
        network: Option<OwnedFd>,
        place: impl FnOnce(u32, u32) -> anyhow::Result<()> + Send + 'static,
    ) -> Result<(Machine, UnixStream), StartError> {
        let size = size(config);
        let user = uid::take(Path::new(uid::FOLDER), config.first_uid).map_err(StartError::User)?;
        let (agent, agent_there) = pair()?;
        let (qmp, qmp_there) = pair()?;
        let (serial, serial_there) = pair()?;
        let kvm = match config.acceleration {
            Acceleration::Kvm => {
                Some(OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/kvm").map_err(StartError::Kvm)?))
            }
            Acceleration::Tcg => None,
        };
        let shape = Shape {
            bundle: &Bundle(command::BUNDLE.into()),
            acceleration: config.acceleration,
            base,
            base_mib: size.base_mib,
            growth_mib: size.room_mib,
            cpus: size.cpus,
            host_khz: std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| host_khz(&text)),
            agent_fd: agent_there.as_raw_fd(),
            qmp_fd: qmp_there.as_raw_fd(),
            serial_fd: serial_there.as_raw_fd(),
            kvm_fd: kvm.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        };
        let lock = OwnedFd::from(user.lock.try_clone()?);
        let mut plan = command::plan(&Bundle(config.bundle.clone()), &shape, user.uid);
        plan.network = network.as_ref().map(AsRawFd::as_raw_fd);
        plan.hold = [lock.as_raw_fd()].into_iter().chain(plan.network).collect();
        let inherited = [agent_there, qmp_there, serial_there, lock].into_iter().chain(kvm).chain(network).collect();
        let uid = user.uid;
        let place: Place = Box::new(move |pid| place(pid, uid));
        let confined = launch::launch(plan, inherited, place, user).await.map_err(StartError::Run)?;

        let console = Arc::new(Console::default());
        console.follow(serial);
        console.follow(tokio::net::unix::pipe::Receiver::from_owned_fd(confined.messages)?);
        let pidfd = confined.pidfd;
        let qmp = match Qmp::connect(qmp).await {
            Ok(qmp) => qmp,
            Err(cause) => {
                if let Ok(how) = tokio::time::timeout(END_TIME, end_of(confined.ended)).await {
                    return Err(StartError::Ended { how, console: console.tail() });
                }
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                tokio::task::yield_now().await; // lets the readers take what lies in the pipes
                return Err(StartError::Qmp { cause, console: console.tail() });
            }
        };
        let (pid, supervisor, ended) = (confined.pid, confined.supervisor, confined.ended);
        let Size { base_mib, room_mib, .. } = size;
        let given_up = OnceLock::new();
        Ok((Machine { qmp, console, pid, supervisor, base_mib, room_mib, uid, pidfd, ended, given_up }, agent))
    }

    /// Ends it at once; idempotent.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL); // ESRCH: it has ended
    }

    /// Ends it at once, for a reason that its containers' status then gives.
    pub fn give_up(&self, why: String) {
        let _ = self.given_up.set(why); // the first reason is the one
        self.kill();
    }

    /// Why it was given up, if it was.
    pub fn given_up(&self) -> Option<String> {
        self.given_up.get().cloned()
    }

    /// What ends it at once, wherever it is called.
    ///
    /// # Errors
    /// If no descriptor is left.
    pub fn killer(&self) -> std::io::Result<impl FnOnce() + Send + 'static> {
        let pidfd = self.pidfd.try_clone()?;
        Ok(move || {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL); // ESRCH: it has ended
        })
    }

    /// Its end, while it was booting.
    pub fn ended(&self, how: String) -> StartError {
        StartError::Ended { how, console: self.console.tail() }
    }

    /// Waits for its end; says how it ended.
    pub async fn wait(&self) -> String {
        end_of(self.ended.clone()).await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn end_of(mut ended: watch::Receiver<Option<String>>) -> String {
    match ended.wait_for(Option::is_some).await {
        Ok(value) => value.clone().unwrap_or_default(),
        Err(_) => "its watcher ended".into(),
    }
}

/// A socket pair: ours for the runtime, theirs to be inherited.
fn pair() -> std::io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let ours = std::os::unix::net::UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_machine_hints_at_its_memory() {
        let ended = |how: &str| StartError::Ended { how: how.into(), console: "x".into() };
        assert!(ended("killed by signal 9").to_string().contains("RuntimeClass.overhead"));
        assert_eq!(
            ended("exit status: 1").to_string(),
            "the virtual machine ended while booting: exit status: 1; its last words: x"
        );
        assert!(ended("killed by signal 6").is_abort() && !ended("killed by signal 9").is_abort());
    }
}
