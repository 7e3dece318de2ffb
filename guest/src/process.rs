//! Starts processes from the agent's side, and what it knows of them until they are deleted.

use crate::child::{self, Entry, FAILED, Plan, TERMINAL};
use crate::fail::{Failure, Result, Step};
use crate::streams::{End, Streams};
use crate::sys::{self, Forked};
use crate::user::UserNamespace;
use freehold_guest_api::message::StartProcess;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Words of a failure that a child may send.
const MAX_WORDS: u64 = 8192;

/// A process: a container's init or an exec.
pub struct Process {
    /// Its pid in the guest.
    pub pid: i32,
    /// Stream to it, 0: none.
    pub input: u32,
    /// Streams from it.
    pub outputs: Vec<u32>,
    /// Its terminal, for its size.
    pub terminal: Option<File>,
    /// Exit status and time, once it has ended.
    pub ended: Option<(u32, u64)>,
    /// Its end was told.
    pub told: bool,
}

/// The pid namespace to start in.
pub enum PidNamespace<'a> {
    /// A new one.
    New,
    /// An existing one: the pod's shared one, or that of the container's init; with the agent's own to come back to.
    Existing(&'a OwnedFd, &'a OwnedFd),
}

impl PidNamespace<'_> {
    fn enter(&self) -> Result<()> {
        let PidNamespace::Existing(target, _) = self else { return Ok(()) };
        sys::enter(target.as_fd(), libc::CLONE_NEWPID).step("enter the pid namespace")
    }

    fn leave(&self) -> Result<()> {
        let PidNamespace::Existing(_, own) = self else { return Ok(()) };
        sys::enter(own.as_fd(), libc::CLONE_NEWPID).step("return to the agent's pid namespace")
    }
}

/// Starts a process and waits until it has called exec, or says why it did not.
pub fn start(
    start: &StartProcess,
    entry: Entry<'_>,
    cgroup: File,
    pids: &PidNamespace<'_>,
    user: Option<&UserNamespace>,
    streams: &mut Streams,
) -> Result<Process> {
    let outputs: Vec<u32> =
        [start.stdout, if start.terminal { 0 } else { start.stderr }].into_iter().filter(|s| *s != 0).collect();
    let mut numbers = outputs.clone();
    numbers.extend([start.stdin].into_iter().filter(|s| *s != 0));
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair[0] == pair[1]) || numbers.iter().any(|n| !streams.is_free(*n)) {
        return Err(Failure::refuse(format!("streams {numbers:?}: one is in use or too many are open")));
    }
    let (child_stdio, ours) = if start.terminal { (None, Ours::default()) } else { stdio(start)? };
    let (status, status_child) = sys::pipe().step("make a pipe")?;
    let (go_on_child, go_on) = sys::pipe().step("make a pipe")?;
    let is_init = matches!(entry, Entry::Init { .. });
    let mut namespaces = if is_init { libc::CLONE_NEWNS } else { 0 };
    if matches!(pids, PidNamespace::New) {
        namespaces |= libc::CLONE_NEWPID;
    }
    let forked = match user {
        None => pids.enter().and_then(|()| sys::fork(namespaces).step("fork")),
        Some(user) => user.fork(namespaces, || {
            child::prepare_mapped(start, child_stdio.as_ref(), user)?;
            pids.enter()
        }),
    };
    if let Ok(Forked::Child) = forked {
        let (status, go_on) = (File::from(status_child), File::from(go_on_child));
        child::run(Plan { start, entry, cgroup, mapped: user.is_some(), stdio: child_stdio, status, go_on });
    }
    if user.is_none() {
        pids.leave()?;
    }
    let Forked::Parent(pid) = forked? else { return Err(Failure::refuse("unreachable: child returned")) };
    drop((child_stdio, status_child, go_on_child, cgroup));
    let terminal = await_exec(File::from(status), File::from(go_on), pid)?;
    let Ours { stdin, stdout, stderr } = match &terminal {
        Some(master) => {
            let copy = || master.try_clone().step("copy the terminal").map(Some);
            Ours { stdin: copy()?, stdout: copy()?, stderr: None }
        }
        None => ours,
    };
    for (number, file) in [(start.stdout, stdout), (start.stderr, stderr)] {
        if let Some(file) = file.filter(|_| number != 0) {
            sys::set_nonblocking(file.as_fd()).step("make output non-blocking")?;
            streams.open_output(number, file);
        }
    }
    if let Some(file) = stdin.filter(|_| start.stdin != 0) {
        sys::set_nonblocking(file.as_fd()).step("make input non-blocking")?;
        let end = if start.terminal { End::Keep } else { End::Close };
        streams.open_input(start.stdin, file, end);
    }
    Ok(Process { pid, input: start.stdin, outputs, terminal, ended: None, told: false })
}

#[derive(Default)]
struct Ours {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
}

/// Pipes, or /dev/null where there is no stream.
fn stdio(start: &StartProcess) -> Result<(Option<[OwnedFd; 3]>, Ours)> {
    let null = || sys::open("/dev/null", libc::O_RDWR).step("open /dev/null").map(|fd| (fd, None));
    let output = |number: u32| match number {
        0 => null(),
        _ => sys::pipe().step("make a pipe").map(|(read, write)| (write, Some(File::from(read)))),
    };
    let (child_in, stdin) = match start.stdin {
        0 => null()?,
        _ => sys::pipe().step("make a pipe").map(|(read, write)| (read, Some(File::from(write))))?,
    };
    let ((child_out, stdout), (child_err, stderr)) = (output(start.stdout)?, output(start.stderr)?);
    Ok((Some([child_in, child_out, child_err]), Ours { stdin, stdout, stderr }))
}

/// Reads the status pipe until exec closes it.
fn await_exec(mut status: File, mut go_on: File, pid: i32) -> Result<Option<File>> {
    let mut terminal = None;
    loop {
        let mut first = [0];
        if status.read(&mut first).step("wait for exec")? == 0 {
            return Ok(terminal);
        }
        let mut number = [0; 4];
        status.read_exact(&mut number).step("wait for exec")?;
        let number = i32::from_le_bytes(number);
        match first[0] {
            TERMINAL => {
                let pidfd = sys::pidfd(pid).step("open the new process")?;
                terminal = Some(File::from(sys::copy_fd(pidfd.as_fd(), number).step("take the terminal")?));
                go_on.write_all(&[0]).step("let the process go on")?;
            }
            FAILED => {
                let mut words = Vec::new();
                status.take(MAX_WORDS).read_to_end(&mut words).step("read why the process failed")?;
                return Err(Failure::with(number, String::from_utf8_lossy(&words).into_owned()));
            }
            _ => return Err(Failure::with(libc::EPROTO, "the new process sent nonsense")),
        }
    }
}
