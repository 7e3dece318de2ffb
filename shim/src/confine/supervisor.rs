//! The supervisor: what this program does when it is started as `supervise`, as the first process of a pid namespace.
//!
//! It has one thread and never an async runtime. See [`super`] for who says what; every failure is a line on standard error
//! and the status [`NOT_CONFINED`].

use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context, bail};
use rustix::io::FdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{MAX_PLAN, NOT_CONFINED, Plan, privileges, view};

/// Says that the supervisor asked to die with the shim.
pub const READY: u8 = b'r';
/// Comes with the pidfd of the program.
pub const STARTED: u8 = b's';

/// Runs a plan that comes over descriptor `control`; ends as the program ended.
pub fn run(control: &str) -> ExitCode {
    match supervise(control) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("it could not be confined: {error:#}");
            ExitCode::from(NOT_CONFINED as u8)
        }
    }
}

fn supervise(control: &str) -> anyhow::Result<u8> {
    let number: RawFd = control.parse().context("supervise needs the number of a descriptor")?;
    if rustix::process::getpid() != Pid::INIT {
        bail!("this action is for the shim alone, which makes a pid namespace for it");
    }
    // SAFETY: the shim started this program with a socket at this number for it alone; nothing else here knows it.
    let control = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&control, FdFlags::CLOEXEC)?;
    let mut control = UnixStream::from(control);
    // If the shim died before this process asked to die with it, nobody reads this and no plan comes.
    control.write_all(&[READY])?;
    let mut text = Vec::new();
    (&mut control).take(MAX_PLAN as u64).read_to_end(&mut text)?;
    let plan: Plan = serde_json::from_slice(&text).context("the plan can't be read: the shim has ended")?;
    let mut child = start(&plan).context("its view, rights or program")?;
    // The program's descriptors must end with the program: the shim waits for their other ends.
    for &number in &plan.keep {
        // SAFETY: the shim passed this descriptor for the program, which has inherited it; nothing else here uses it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the program has no pid")?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("hold the program")?;
    tell(&control, pidfd.as_fd()).context("tell the shim")?;
    drop((pidfd, control));
    if let Some(network) = plan.network {
        // SAFETY: the shim passed this descriptor among those that are held, and nothing here closes it.
        let network = unsafe { BorrowedFd::borrow_raw(network) };
        rustix::thread::move_into_link_name_space(network, Some(LinkNameSpaceType::Network))
            .context("enter the pod's network")?;
    }
    privileges::lay_down(0, 0).context("lay rights down")?;
    end(&mut child)
}

fn start(plan: &Plan) -> anyhow::Result<Child> {
    for &number in &plan.hold {
        // SAFETY: the shim passed this descriptor and nothing here closes it.
        rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    }
    let apart =
        UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    // SAFETY: no descriptor or memory of another thread is parted with: this process has one thread, and FILES is not asked for.
    unsafe { rustix::thread::unshare_unsafe(apart) }.context("part from the node's namespaces")?;
    view::enter(&plan.over, &plan.view)?;
    let (program, arguments) = plan.command.split_first().context("the plan names no program")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(plan.environment.iter().cloned()).current_dir("/");
    let (uid, capabilities, limits) = (plan.uid, plan.capabilities, plan.limits);
    // SAFETY: this process has one thread, so no lock is held by another when it forks.
    unsafe {
        command.pre_exec(move || {
            privileges::limit(&limits)?;
            privileges::lay_down(uid, capabilities)?;
            // After the change of user, which clears it. The namespace ends with its first process; this is a second way.
            Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
        });
    }
    command.spawn().with_context(|| format!("can't run {program} as user {uid}; is the bundle whole?"))
}

fn tell(control: &UnixStream, pidfd: BorrowedFd<'_>) -> std::io::Result<()> {
    let fds = [pidfd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    beside.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(control, &[std::io::IoSlice::new(&[STARTED])], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the program and gives the status that says how it ended, as a shell would.
fn end(child: &mut Child) -> anyhow::Result<u8> {
    let status = child.wait()?;
    let signal = status.signal().map(|signal| 128 + signal);
    Ok(u8::try_from(status.code().or(signal).unwrap_or(NOT_CONFINED)).unwrap_or(u8::MAX))
}
