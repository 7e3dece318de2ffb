//! System calls that std lacks, each wrapped once, so that every `unsafe` of the agent's set-up work is in this file.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Turns the C convention into a Result.
pub fn check(ret: impl Into<i64>) -> Result<i64> {
    let ret = ret.into();
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// A path for the kernel.
pub fn cstr(path: impl AsRef<Path>) -> Result<CString> {
    CString::new(path.as_ref().as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the caller has just got this descriptor from the kernel and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// mount(2).
pub fn mount(source: &str, target: impl AsRef<Path>, fs_type: &str, flags: u64, data: &str) -> Result<()> {
    let (source, target, fs_type, data) = (cstr(source)?, cstr(target)?, cstr(fs_type)?, cstr(data)?);
    let (source, target, fs_type) = (source.as_ptr(), target.as_ptr(), fs_type.as_ptr());
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    check(unsafe { libc::mount(source, target, fs_type, flags as libc::c_ulong, data.as_ptr().cast()) }).map(drop)
}

/// umount2(2) with MNT_DETACH or other flags.
pub fn unmount(target: impl AsRef<Path>, flags: i32) -> Result<()> {
    let target = cstr(target)?;
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), flags) }).map(drop)
}

/// chroot(2).
pub fn chroot(path: &str) -> Result<()> {
    std::os::unix::fs::chroot(path)
}

/// pivot_root(".", "."): the old root lies over the new one afterwards and is detached by the caller.
pub fn pivot_here() -> Result<()> {
    // SAFETY: both arguments are static NUL-terminated strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// fchdir(2).
pub fn chdir_to(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the descriptor is open, it is borrowed.
    check(unsafe { libc::fchdir(fd.as_raw_fd()) }).map(drop)
}

/// openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS: `path` never leaves `root`, whatever its links say.
pub fn open_in_root(root: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    // SAFETY: open_how is plain integers, for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let size = std::mem::size_of::<libc::open_how>();
    // SAFETY: path is NUL-terminated, how is a valid open_how of the given size; both outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size) };
    check(fd).map(owned)
}

/// open(2) of a path of the agent's own, not of a container's.
pub fn open(path: impl AsRef<Path>, flags: i32) -> Result<OwnedFd> {
    let path = cstr(path)?;
    // SAFETY: path is NUL-terminated and outlives the call.
    check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }).map(owned)
}

/// mkdirat(2) of one component.
pub fn mkdir_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: name is NUL-terminated and outlives the call, dir is borrowed.
    check(unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

/// mknodat(2) of one component.
pub fn mknod_at(dir: BorrowedFd<'_>, name: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: name is NUL-terminated and outlives the call, dir is borrowed.
    check(unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device as libc::dev_t) }).map(drop)
}

/// symlinkat(2) of one component.
pub fn symlink_at(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call, dir is borrowed.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
}

/// fchownat(2) and fchmodat(2) of one component that the caller has just made.
pub fn own_at(dir: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32, mode: u32) -> Result<()> {
    // SAFETY: name is NUL-terminated and outlives the call, dir is borrowed.
    check(unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) })?;
    // SAFETY: as above.
    check(unsafe { libc::fchmodat(dir.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;

/// A detached copy of the mount at `source`, with what is mounted below it if `recursive`.
pub fn clone_mount(source: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let deep = if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32 | deep;
    // SAFETY: the string is static, the descriptor is borrowed.
    check(unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) }).map(owned)
}

/// Attaches a detached mount at the place that `target` is open on.
pub fn attach_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, empty) = (tree.as_raw_fd(), target.as_raw_fd(), c"".as_ptr());
    // SAFETY: the strings are static, the descriptors are borrowed.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) }).map(drop)
}

/// mount_setattr(2): sets MOUNT_ATTR_* on the mount that `fd` is the root of.
pub fn set_mount_attributes(fd: BorrowedFd<'_>, set: u64, recursive: bool) -> Result<()> {
    let attributes = [set, 0u64, 0, 0];
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let size = std::mem::size_of_val(&attributes);
    // SAFETY: attributes has the layout of struct mount_attr (four u64: set, clear, propagation, userns) and its size.
    let ret = unsafe { libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), c"".as_ptr(), flags, attributes.as_ptr(), size) };
    check(ret).map(drop)
}

/// mount_setattr(2): shows a detached mount with the ids that a user namespace maps its own to.
pub fn map_mount(fd: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let attributes = [MOUNT_ATTR_IDMAP, 0, 0, namespace.as_raw_fd() as u64];
    let size = std::mem::size_of_val(&attributes);
    let (place, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
    // SAFETY: as in [`set_mount_attributes`]; both descriptors are borrowed.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd.as_raw_fd(), place, flags, attributes.as_ptr(), size) }).map(drop)
}

/// What a fork returns.
pub enum Forked {
    /// In the child.
    Child,
    /// In the parent: the child's pid.
    Parent(i32),
}

/// clone(2) without a new stack, that is fork(2) with namespace flags.
///
/// The agent has one thread, so that the child may allocate and lock as it likes.
pub fn fork(namespaces: i32) -> Result<Forked> {
    let flags = (namespaces | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: no CLONE_VM and no stack: the child has its own copy of everything. No other thread exists that could hold
    // a lock in the copy.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) })?;
    Ok(if pid == 0 { Forked::Child } else { Forked::Parent(pid as i32) })
}

/// unshare(2).
pub fn unshare(namespaces: i32) -> Result<()> {
    // SAFETY: takes an integer only.
    check(unsafe { libc::unshare(namespaces) }).map(drop)
}

/// setns(2).
pub fn enter(namespace: BorrowedFd<'_>, kind: i32) -> Result<()> {
    // SAFETY: takes integers only, the descriptor is borrowed.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// pidfd_open(2).
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(owned)
}

/// pidfd_getfd(2): a copy of another process's descriptor.
pub fn copy_fd(pidfd: BorrowedFd<'_>, fd: i32) -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) }).map(owned)
}

/// pipe2(2) with O_CLOEXEC: read end, write end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    // SAFETY: fds has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((owned(fds[0].into()), owned(fds[1].into())))
}

/// Makes reads and writes on this descriptor return EAGAIN rather than wait.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers only.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: takes integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags as i32 | libc::O_NONBLOCK) }).map(drop)
}

/// kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// waitpid(-1, WNOHANG): one ended child and its status as a shell would say it, if there is one.
pub fn reap() -> Option<(i32, u32)> {
    let mut status = 0;
    // SAFETY: status is valid for writing.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, exit_status(status)))
}

/// Exit code, or 128 + signal.
pub fn exit_status(status: i32) -> u32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) as u32 } else { libc::WEXITSTATUS(status) as u32 }
}

/// A descriptor that becomes readable when a child ends; the signal itself is blocked from here on.
pub fn child_signals() -> Result<OwnedFd> {
    // SAFETY: sigset_t is plain data that sigemptyset initialises; all pointers are valid for the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)).map(owned)
    }
}

/// Signals as a fresh program expects them: all default, none blocked. (Rust ignores SIGPIPE, the agent blocks SIGCHLD.)
pub fn default_signals() {
    // SAFETY: sigset_t is plain data that sigemptyset initialises; SIG_DFL is a valid disposition.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for ever without zombies: the init of a pid namespace shared by a pod's containers.
pub fn pause_for_ever() -> ! {
    // SAFETY: SIG_IGN is a valid disposition; pause takes nothing.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        loop {
            libc::pause();
        }
    }
}

/// Ends the process without running anything of the agent's.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// prctl(2) with two arguments.
pub fn prctl(option: i32, argument: u64) -> Result<()> {
    // SAFETY: the options used take integers, not pointers.
    check(unsafe { libc::prctl(option, argument as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) })
        .map(drop)
}

/// Raises a capability in the ambient set.
pub fn raise_ambient(capability: u64) -> Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    let zero: libc::c_ulong = 0;
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability as libc::c_ulong, zero, zero) }).map(drop)
}

/// capset(2) of the calling process, version 3 (64 bits).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let half = |shift: u32| [(effective >> shift) as u32, (permitted >> shift) as u32, (inheritable >> shift) as u32];
    let data = [half(0), half(32)];
    // SAFETY: header and data have the layout of __user_cap_header_struct and two __user_cap_data_struct.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// Groups, group and user of the calling process, in the only order that works.
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and length are the slice's.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Effective user of the calling process alone; who was root before can come back.
pub fn set_effective_user(uid: u32) -> Result<()> {
    // SAFETY: takes integers only; -1 leaves an id as it is.
    check(unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) }).map(drop)
}

/// A resource limit of the calling process.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: limit has the layout of struct rlimit64; no old limit is asked for.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null_mut::<u64>()) }).map(drop)
}

/// The soft limit of the calling process.
pub fn soft_limit(resource: u32) -> Result<u64> {
    let mut limit = [0u64; 2];
    // SAFETY: limit has the layout of struct rlimit64; no new limit is given.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u64>(), limit.as_mut_ptr()) })?;
    Ok(limit[0])
}

/// Installs a classic BPF program (8 bytes an instruction) as the seccomp filter.
pub fn set_seccomp(program: &[u8]) -> Result<()> {
    let mut filter: Vec<libc::sock_filter> = program
        .chunks_exact(8)
        .map(|i| libc::sock_filter {
            code: u16::from_ne_bytes([i[0], i[1]]),
            jt: i[2],
            jf: i[3],
            k: u32::from_ne_bytes([i[4], i[5], i[6], i[7]]),
        })
        .collect();
    let Ok(len) = u16::try_from(filter.len()) else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
    let fprog = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: fprog points to len instructions that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) }).map(drop)
}

/// dup2(2).
pub fn dup_to(fd: RawFd, number: RawFd) -> Result<()> {
    // SAFETY: takes integers only; the numbers replaced are the child's own stdio.
    check(unsafe { libc::dup2(fd, number) }).map(drop)
}

/// Closes every descriptor from 3 on at exec.
pub fn close_rest_on_exec() -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> Result<()> {
    // SAFETY: takes integers only; the caller never touches an owner of one of these again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// setsid(2), then the controlling terminal is the one on descriptor 0 if `terminal`.
pub fn new_session(terminal: bool) -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() })?;
    if terminal {
        // SAFETY: TIOCSCTTY takes an integer.
        check(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) })?;
    }
    Ok(())
}

/// Unlocks the other side of a pty master and gives its number below /dev/pts.
pub fn unlock_pty(master: BorrowedFd<'_>) -> Result<i32> {
    let (unlock, mut number) = (0i32, 0i32);
    // SAFETY: TIOCSPTLCK reads an int, TIOCGPTN writes one; both live here.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock) })?;
    // SAFETY: as above.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) })?;
    Ok(number)
}

/// Size of a terminal.
pub fn set_terminal_size(fd: BorrowedFd<'_>, columns: u32, rows: u32) -> Result<()> {
    let clip = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let size = libc::winsize { ws_row: clip(rows), ws_col: clip(columns), ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize that outlives the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) }).map(drop)
}

/// execve(2); returns only if it failed.
pub fn exec(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers =
        |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const libc::c_char>>();
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// poll(2); an interrupted wait is no event.
pub fn poll(fds: &mut [libc::pollfd], timeout_ms: i32) -> Result<()> {
    // SAFETY: pointer and length are the slice's.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other.map(drop),
    }
}

/// Sets the clock to nanoseconds since 1970.
pub fn set_clock(realtime_ns: u64) -> Result<()> {
    let seconds = (realtime_ns / 1_000_000_000) as _;
    let time = libc::timespec { tv_sec: seconds, tv_nsec: (realtime_ns % 1_000_000_000) as _ };
    // SAFETY: time outlives the call.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(drop)
}

/// Makes up for microseconds without ever turning time around.
pub fn slew_clock(by_us: i64) -> Result<()> {
    // SAFETY: a timex is plain numbers, for which zeros are valid.
    let mut change: libc::timex = unsafe { std::mem::zeroed() };
    change.modes = libc::ADJ_OFFSET_SINGLESHOT as _;
    change.offset = by_us as _;
    // SAFETY: the pointer is to a whole timex that outlives the call.
    check(unsafe { libc::adjtimex(&raw mut change) }).map(drop)
}

/// sethostname(2).
pub fn set_hostname(name: &str) -> Result<()> {
    // SAFETY: pointer and length are the string's.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len() as _) }).map(drop)
}

/// Credits `entropy` to the kernel's random pool and makes it draw a new key from it at once.
pub fn add_entropy(entropy: &[u8]) -> Result<()> {
    const RNDADDENTROPY: u32 = 0x4008_5203;
    const RNDRESEEDCRNG: u32 = 0x5207;
    let random = File::options().write(true).open("/dev/urandom")?;
    let bits = (entropy.len() * 8) as i32;
    let mut info = Vec::with_capacity(8 + entropy.len());
    info.extend_from_slice(&bits.to_ne_bytes());
    info.extend_from_slice(&(entropy.len() as i32).to_ne_bytes());
    info.extend_from_slice(entropy);
    // SAFETY: info has the layout of struct rand_pool_info with its buffer; the kernel reads as much as buf_size says.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, info.as_ptr()) })?;
    // SAFETY: takes no argument.
    check(unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _, 0) }).map(drop)
}

/// A descriptor that an earlier image of this process left open for this one; closed on the next exec.
pub fn adopt(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: takes integers only; fails if it is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(owned(fd.into()))
}

/// Lets a descriptor live through exec.
pub fn keep_on_exec(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) }).map(drop)
}

/// Flushes all disks.
pub fn sync() {
    // SAFETY: takes nothing and can't fail.
    unsafe { libc::sync() }
}

/// Switches the machine off.
pub fn power_off() -> Result<()> {
    // SAFETY: takes an integer only.
    check(unsafe { libc::reboot(libc::RB_POWER_OFF) }).map(drop)
}

/// Ends one or both directions of a connection; one that is over already needs nothing.
pub fn shutdown(socket: &File, how: i32) {
    // SAFETY: takes integers only.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

/// if_nametoindex(3): the number of an interface of the agent's present network.
pub fn interface(name: &str) -> Result<u32> {
    let name = cstr(name)?;
    // SAFETY: the pointer is a NUL-terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// An rtnetlink socket.
pub fn netlink_socket() -> Result<OwnedFd> {
    // SAFETY: takes integers only.
    check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) }).map(owned)
}

/// Closes every descriptor of a child that will not use any of the agent's values again.
pub fn close_all() -> Result<()> {
    // SAFETY: takes integers only; the caller never touches an owner of a descriptor again.
    check(unsafe { libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0) }).map(drop)
}
