//! What a new process does between fork and exec: namespaces, mounts, root, identity.
//!
//! A failure goes to the agent through the status pipe as an errno and words; the pipe closes at exec, which says that all
//! went well. The order of the identity steps is the kernel's: what needs privileges first, privileges last.

use crate::fail::{Failure, Result, Step};
use crate::mounts;
use crate::sys;
use crate::user::{self, UserNamespace};
use freehold_guest_api::message::{CreateContainer, Rlimit, StartProcess};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// First byte in the status pipe: a terminal, followed by the number of its master as four bytes.
pub const TERMINAL: u8 = b'T';
/// First byte in the status pipe: a failure, followed by errno as four bytes and the words.
pub const FAILED: u8 = b'E';
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_UMASK: u32 = 0o22;
const LAST_CAPABILITY: u64 = 63;

/// How the process comes into its container.
pub enum Entry<'a> {
    /// As its init: makes mounts below the root and pivots.
    Init {
        /// The container.
        spec: &'a CreateContainer,
        /// Where its root is mounted.
        root: PathBuf,
        /// Where the volumes are.
        volumes: &'a BTreeMap<String, PathBuf>,
    },
    /// Beside its init, whose pidfd this is.
    Exec(&'a OwnedFd),
}

/// Everything a new process needs.
pub struct Plan<'a> {
    /// What to start.
    pub start: &'a StartProcess,
    /// Where.
    pub entry: Entry<'a>,
    /// cgroup.procs of the container, opened by the agent: what may be written there is judged by its rights.
    pub cgroup: File,
    /// It is in the pod's user namespace, and [`prepare_mapped`] was done.
    pub mapped: bool,
    /// stdin, stdout and stderr unless there is a terminal.
    pub stdio: Option<[OwnedFd; 3]>,
    /// To the agent.
    pub status: File,
    /// From the agent: a byte once it has the terminal.
    pub go_on: File,
}

/// Becomes the process; never returns.
pub fn run(mut plan: Plan<'_>) -> ! {
    let failure = match become_process(&mut plan) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let mut bytes = vec![FAILED];
    bytes.extend_from_slice(&failure.errno.to_le_bytes());
    bytes.extend_from_slice(failure.message.as_bytes());
    // If the agent does not listen, there is nobody else to tell.
    let _ = plan.status.write_all(&bytes);
    sys::exit_now(127)
}

fn become_process(plan: &mut Plan<'_>) -> Result<std::convert::Infallible> {
    let start = plan.start;
    sys::default_signals();
    if plan.mapped {
        user::become_root()?;
    } else {
        set_oom_score(start)?;
    }
    plan.cgroup.write_all(b"0").step("join the container's cgroup")?;
    match &plan.entry {
        Entry::Init { spec, root, volumes } => enter_root(spec, root, volumes, cwd(start))?,
        Entry::Exec(init) => {
            sys::enter(init.as_fd(), libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP).step("enter the container's namespaces")?;
        }
    }
    set_stdio(plan)?;
    set_limits(&start.rlimits)?;
    if start.cwd.is_empty() || !Path::new(&start.cwd).is_dir() {
        fs::create_dir_all(cwd(start)).step(format!("make the working directory {:?}", start.cwd))?;
    }
    std::env::set_current_dir(cwd(start)).step(format!("enter the working directory {:?}", start.cwd))?;
    let program = strings(&start.args, "argument")?;
    let env = crate::environment::whole(&start.env, start.uid);
    let places = start.args.first().map(|program| candidates(program, &env)).unwrap_or_default();
    let env = strings(&env, "environment")?;
    drop_privileges(start)?;
    Err(execute(start, &places, &program, &env))
}

fn set_oom_score(start: &StartProcess) -> Result<()> {
    fs::write("/proc/self/oom_score_adj", start.oom_score_adj.to_string()).step("set oom_score_adj")
}

/// What root of a user namespace may not do, done before it is entered: less of a score, higher limits, pipes that the agent has made.
pub fn prepare_mapped(start: &StartProcess, stdio: Option<&[OwnedFd; 3]>, user: &UserNamespace) -> Result<()> {
    set_oom_score(start)?;
    // The soft ones hold from when the process's files are open.
    let hard = |limit: &Rlimit| {
        let soft = sys::soft_limit(limit.resource)?.min(limit.hard);
        sys::set_limit(limit.resource, soft, limit.hard)
    };
    start.rlimits.iter().try_for_each(hard).step("set hard resource limits")?;
    let (uid, gid) = (user.outside(start.uid)?, user.outside(0)?);
    stdio.into_iter().flatten().try_for_each(|fd| own_pipe(fd, uid, Some(gid)))
}

fn set_limits(limits: &[Rlimit]) -> Result<()> {
    let set = |limit: &Rlimit| {
        sys::set_limit(limit.resource, limit.soft, limit.hard).step(format!("set resource limit {}", limit.resource))
    };
    limits.iter().try_for_each(set)
}

fn cwd(start: &StartProcess) -> &str {
    if start.cwd.is_empty() { "/" } else { &start.cwd }
}

fn enter_root(spec: &CreateContainer, path: &Path, volumes: &BTreeMap<String, PathBuf>, cwd: &str) -> Result<()> {
    sys::unshare(libc::CLONE_NEWCGROUP).step("make the cgroup namespace")?;
    sys::mount("", "/", "", libc::MS_REC | libc::MS_PRIVATE, "").step("make mounts private")?;
    let root = own_root(path)?;
    let root = root.as_fd();
    for mount in &spec.mounts {
        mounts::mount(root, mount, volumes)?;
    }
    mounts::make_nodes(root)?;
    for device in &spec.devices {
        mounts::make_device(root, device, volumes)?;
    }
    for path in &spec.readonly_paths {
        mounts::make_readonly(root, path)?;
    }
    for path in &spec.masked_paths {
        mounts::mask(root, path)?;
    }
    // Before the root is read-only; a directory that is not there after that is one of a path with "..".
    if !cwd.split('/').any(|part| part == "..") {
        crate::paths::make_dirs(root, cwd).step(format!("make the working directory {cwd:?}"))?;
    }
    if spec.rootfs.as_ref().is_some_and(|rootfs| rootfs.readonly) {
        sys::set_mount_attributes(root, 1, false).step("make the root read-only")?;
    }
    sys::chdir_to(root).step("enter the container's root")?;
    sys::pivot_here().step("change root to the container's")?;
    sys::unmount(".", libc::MNT_DETACH).step("leave the guest's root")?;
    std::env::set_current_dir("/").step("enter /")
}

/// The root as a mount of this namespace's own: in a user namespace one that came with its mounts can't become the root.
fn own_root(path: &Path) -> Result<OwnedFd> {
    let what = "open the container's root";
    let open = || sys::open(path, libc::O_PATH | libc::O_DIRECTORY).step(what);
    let place = open()?;
    let tree = sys::clone_mount(place.as_fd(), false).step(what)?;
    sys::attach_mount(tree.as_fd(), place.as_fd()).step(what)?;
    open()
}

fn set_stdio(plan: &mut Plan<'_>) -> Result<()> {
    let start = plan.start;
    let terminal = plan.stdio.is_none();
    let fds = match plan.stdio.take() {
        Some(fds) => fds,
        None => open_terminal(start, &mut plan.status, &mut plan.go_on)?,
    };
    for (number, fd) in fds.iter().enumerate() {
        own_pipe(fd, start.uid, None)?;
        sys::dup_to(fd.as_raw_fd(), number as i32).step("set stdio")?;
    }
    sys::close_rest_on_exec().step("close the agent's files")?;
    sys::new_session(terminal).step("make a session")
}

/// A program without root opens its streams by name too (`error_log /dev/stderr`): a pipe is its user's then, as with runc.
fn own_pipe(fd: &OwnedFd, uid: u32, gid: Option<u32>) -> Result<()> {
    let file = File::from(fd.try_clone().step("copy a stream")?);
    if file.metadata().step("look at a stream")?.file_type().is_fifo() {
        std::os::unix::fs::fchown(&file, Some(uid), gid).step("own a stream")?;
    }
    Ok(())
}

/// Opens a terminal of the container's own devpts, so that its name means something there.
fn open_terminal(start: &StartProcess, status: &mut File, go_on: &mut File) -> Result<[OwnedFd; 3]> {
    let master = sys::open("/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY).step("open /dev/pts/ptmx for a terminal")?;
    let number = sys::unlock_pty(master.as_fd()).step("unlock the terminal")?;
    if start.columns != 0 && start.rows != 0 {
        sys::set_terminal_size(master.as_fd(), start.columns, start.rows).step("size the terminal")?;
    }
    let side = sys::open(format!("/dev/pts/{number}"), libc::O_RDWR | libc::O_NOCTTY).step("open the terminal")?;
    std::os::unix::fs::fchown(&side, Some(start.uid), None).step("own the terminal")?;
    let mut message = vec![TERMINAL];
    message.extend_from_slice(&master.as_raw_fd().to_le_bytes());
    status.write_all(&message).step("hand the terminal over")?;
    go_on.read_exact(&mut [0]).step("wait for the agent to take the terminal")?;
    let copy = || side.try_clone().step("copy the terminal");
    Ok([copy()?, copy()?, copy()?])
}

fn drop_privileges(start: &StartProcess) -> Result<()> {
    sys::prctl(libc::PR_SET_KEEPCAPS, 1).step("keep capabilities")?;
    // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
    if !start.seccomp.is_empty() && !start.no_new_privileges {
        sys::set_seccomp(&start.seccomp).step("install the seccomp filter")?;
    }
    let sets = start.capabilities.unwrap_or_default();
    for capability in (0..=LAST_CAPABILITY).filter(|c| sets.bounding & (1 << c) == 0) {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability) {
            // The kernel knows fewer than 64.
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => {
                return Err(error).step(format!("drop capability {capability}"));
            }
            _ => {}
        }
    }
    sys::set_identity(start.uid, start.gid, &start.groups).step(format!("become user {}:{}", start.uid, start.gid))?;
    sys::set_capabilities(sets.effective, sets.permitted, sets.inheritable).step("set capabilities")?;
    for capability in (0..=LAST_CAPABILITY).filter(|c| sets.ambient & (1 << c) != 0) {
        sys::raise_ambient(capability).step(format!("raise ambient capability {capability}"))?;
    }
    // SAFETY: takes an integer only.
    unsafe { libc::umask(start.umask.unwrap_or(DEFAULT_UMASK) as libc::mode_t) };
    if start.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step("set no_new_privs")?;
        if !start.seccomp.is_empty() {
            sys::set_seccomp(&start.seccomp).step("install the seccomp filter")?;
        }
    }
    Ok(())
}

fn strings(list: &[String], what: &str) -> Result<Vec<CString>> {
    let each = |s: &String| CString::new(s.as_str()).map_err(|_| Failure::refuse(format!("{what} holds a NUL byte")));
    list.iter().map(each).collect()
}

/// Where a program may be: itself if it names a directory, else in each directory of PATH.
pub fn candidates(program: &str, env: &[String]) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':').map(|dir| format!("{}/{program}", if dir.is_empty() { "." } else { dir })).collect()
}

fn execute(start: &StartProcess, places: &[String], args: &[CString], env: &[CString]) -> Failure {
    let Some(program) = start.args.first().filter(|program| !program.is_empty()) else {
        return Failure::refuse("the process has no program to start");
    };
    let mut worst = libc::ENOENT;
    for place in places {
        let Ok(path) = CString::new(place.as_str()) else { continue };
        match sys::exec(&path, args, env).raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => worst = libc::EACCES,
            other => {
                worst = other;
                break;
            }
        }
    }
    let why = std::io::Error::from_raw_os_error(worst);
    let place = if program.contains('/') { "" } else { " in $PATH" };
    Failure::with(worst, format!("exec {program:?}{place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn a_process_has_the_limits_that_its_spec_names() {
        let limits = [
            Rlimit { resource: 7, soft: 123, hard: 456 },
            Rlimit { resource: 0, soft: 1000, hard: u64::MAX },
            Rlimit { resource: 3, soft: 8 << 20, hard: 16 << 20 },
        ];
        let mut command = Command::new("cat");
        command.arg("/proc/self/limits");
        // SAFETY: between fork and exec there is prlimit(2) and malloc, which glibc and musl keep usable in the child.
        unsafe { command.pre_exec(move || set_limits(&limits).map_err(|f| std::io::Error::from_raw_os_error(f.errno))) };
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        for (name, expect) in
            [("Max open files", "123 456"), ("Max cpu time", "1000 unlimited"), ("Max stack size", "8388608 16777216")]
        {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let found: Vec<_> = line.split_whitespace().take(2).collect();
            assert_eq!(found.join(" "), expect, "{name}");
        }
        // A soft limit above the hard one is the kernel's to refuse.
        assert!(set_limits(&[Rlimit { resource: 7, soft: 2, hard: 1 }]).is_err());
    }

    #[test]
    fn programs_are_looked_up_in_path() {
        let env = ["PATH=/a::/b".to_owned()];
        assert_eq!(candidates("x", &env), ["/a/x", "./x", "/b/x"]);
        assert_eq!(candidates("./x", &env), ["./x"]);
        assert_eq!(candidates("sh", &[]).last().unwrap(), "/bin/sh");
    }
}
