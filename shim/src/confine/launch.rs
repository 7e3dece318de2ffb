//! The shim's side: a thread that starts a supervisor, places it, hands it its plan, and waits for its end.
//!
//! A thread of its own, because what it asks of the kernel is bound to it: the pid namespace of its children, and the signal
//! that they get when it ends. An async runtime ends its threads as it likes.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::{Errno, FdFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;
use tokio::sync::{oneshot, watch};

use super::supervisor::{READY, STARTED};
use super::{NOT_CONFINED, Plan};

/// Time for each of the supervisor's answers, on a busy node.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Bytes of a program's messages that are kept.
const MAX_WORDS: u64 = 4096;

/// Time between two questions whether a program that is waited for can still come to its end.
const LOOK: Duration = Duration::from_secs(1);

/// Called with the supervisor's pid before it does anything: whatever holds for it holds for its program.
pub type Place = Box<dyn FnOnce(u32) -> anyhow::Result<()> + Send>;

/// A program that runs confined.
#[derive(Debug)]
pub struct Confined {
    /// Pid of its supervisor on the node.
    pub supervisor: u32,
    /// Its own pid on the node.
    pub pid: u32,
    /// Its supervisor: a signal to it ends all.
    pub pidfd: OwnedFd,
    /// Standard error of both.
    pub messages: OwnedFd,
    /// How it ended, once it has.
    pub ended: watch::Receiver<Option<String>>,
}

/// Starts a plan. The descriptors are those that it keeps and holds; the guard is dropped once all has ended.
///
/// # Errors
/// If a step fails; the supervisor's words are in it.
pub async fn launch<G: Send + 'static>(plan: Plan, inherited: Vec<OwnedFd>, place: Place, guard: G) -> anyhow::Result<Confined> {
    let (started_to, started) = oneshot::channel();
    let (ended_to, ended) = watch::channel(None);
    std::thread::Builder::new().name("keeper".into()).spawn(move || match start(&plan, inherited, place) {
        Err(error) => drop(started_to.send(Err(error))),
        Ok((mut child, pid)) => {
            let parts = parts(&mut child);
            let _ = started_to.send(parts.map(|(pidfd, messages)| (child.id(), pid, pidfd, messages)));
            let how = child.wait().map_or_else(|error| format!("can't be waited for: {error}"), how);
            drop(guard);
            let _ = ended_to.send(Some(how));
        }
    })?;
    let (supervisor, pid, pidfd, messages) = started.await.context("the thread that starts programs ended")??;
    Ok(Confined { supervisor, pid, pidfd, messages, ended })
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ended {
    /// In words.
    pub how: String,
    /// It ended with status 0.
    pub success: bool,
    /// The beginning of its standard error, made safe to print.
    pub words: String,
}

/// Runs a plan to its end, or kills it once it is hopeless, which is asked every [`LOOK`]; blocks.
///
/// # Errors
/// If it can't be started.
pub fn run(plan: &Plan, mut is_hopeless: impl FnMut() -> bool) -> anyhow::Result<Ended> {
    let (started_to, started) = mpsc::channel();
    let work = move || -> anyhow::Result<Ended> {
        let (mut child, _) = start(plan, Vec::new(), Box::new(|_| Ok(())))?;
        let (pidfd, messages) = parts(&mut child)?;
        let _ = started_to.send(pidfd);
        let (mut words, mut messages) = (Vec::new(), File::from(messages));
        (&mut messages).take(MAX_WORDS).read_to_end(&mut words)?;
        std::io::copy(&mut messages, &mut std::io::sink())?; // or it would wait for somebody to read
        let status = child.wait()?;
        Ok(Ended { how: how(status), success: status.success(), words: crate::printable(&String::from_utf8_lossy(&words)) })
    };
    std::thread::scope(|scope| {
        // The pid namespace of its children stays with a thread, which then can start no other.
        let worker = scope.spawn(work);
        // Nothing comes if it could not be started.
        for pidfd in started {
            let look = Timespec::try_from(LOOK)?;
            while matches!(rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&look)), Ok(0) | Err(Errno::INTR))
            {
                if is_hopeless() {
                    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL); // ESRCH: it has just ended
                }
            }
        }
        worker.join().map_err(|_| anyhow::anyhow!("the thread that starts programs failed"))?
    })
}

/// What holds a supervisor and what it says; one that can't be held is killed, as nobody would know of it.
fn parts(child: &mut Child) -> anyhow::Result<(OwnedFd, OwnedFd)> {
    let held = |child: &mut Child| -> anyhow::Result<_> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the supervisor has no pid")?;
        let messages = child.stderr.take().context("the supervisor has no standard error")?;
        Ok((rustix::process::pidfd_open(pid, PidfdFlags::empty())?, messages.into()))
    };
    held(child).inspect_err(|_| drop(child.kill()))
}

/// Starts supervisor and program, and gives the program's pid. An error has the supervisor's last words.
pub fn start(plan: &Plan, inherited: Vec<OwnedFd>, place: Place) -> anyhow::Result<(Child, u32)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = spawn(theirs, inherited).context("can't start a supervisor")?;
    match guide(&mut ours, plan, child.id(), place) {
        Ok(pid) => Ok((child, pid)),
        Err(error) => {
            let _ = child.kill();
            let mut words = String::new();
            let _ = child.wait();
            let _ = child.stderr.take().map(|mut messages| messages.read_to_string(&mut words));
            if words.is_empty() { Err(error) } else { Err(error.context(crate::printable(words.trim()))) }
        }
    }
}

fn spawn(control: UnixStream, inherited: Vec<OwnedFd>) -> anyhow::Result<Child> {
    let mut command = Command::new("/proc/self/exe"); // whatever became of the file
    command.arg0("freehold-supervisor").arg("supervise").arg(control.as_raw_fd().to_string()).env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).chain([control.as_raw_fd()]).collect();
    // SAFETY: between fork and exec only fcntl and prctl are called, on descriptors that are kept open here until after the
    // spawn; nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            for &number in &numbers {
                rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(number), FdFlags::empty())?;
            }
            // The parent is in another pid namespace, so getppid tells nothing: the supervisor's first word asks instead.
            Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
        });
    }
    // SAFETY: a pid namespace for this thread's children takes nothing from other threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }.context("can't make a pid namespace")?;
    Ok(command.spawn()?)
}

fn guide(control: &mut UnixStream, plan: &Plan, supervisor: u32, place: Place) -> anyhow::Result<u32> {
    control.set_read_timeout(Some(ANSWER_TIME))?;
    let mut word = [0];
    control.read_exact(&mut word).context("the supervisor did not get ready")?;
    if word != [READY] {
        bail!("the supervisor said something else than that it is ready");
    }
    place(supervisor)?;
    control.write_all(&serde_json::to_vec(plan)?)?;
    control.shutdown(std::net::Shutdown::Write)?;
    pid_of(&receive(control).context("the program was not started")?)
}

fn receive(control: &UnixStream) -> anyhow::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0];
    let mut parts = [std::io::IoSliceMut::new(&mut word)];
    let got = rustix::net::recvmsg(control, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes != 1 || word != [STARTED] {
        bail!("its supervisor ended");
    }
    let fds = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().context("no descriptor came")
}

/// The pid in this namespace of the process behind a pidfd (proc(5), fdinfo).
fn pid_of(pidfd: &OwnedFd) -> anyhow::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse::<i32>().ok());
    pid.and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0).context("the program ended at once")
}

/// How a program ended, by its supervisor's end.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(NOT_CONFINED), _) => "its supervisor gave up".into(),
        (Some(code @ 129..), _) => format!("killed by signal {}", code - 128),
        (None, Some(signal)) => format!("its supervisor was killed by signal {signal}"),
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_in_words() {
        for (raw, expect) in [
            (0, "exit status: 0"),
            (1 << 8, "exit status: 1"),
            (137 << 8, "killed by signal 9"),
            (9, "its supervisor was killed by signal 9"),
            (125 << 8, "its supervisor gave up"),
        ] {
            assert_eq!(how(ExitStatus::from_raw(raw)), expect);
        }
    }
}
