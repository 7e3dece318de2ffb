//! Calls of the kernel that no confined program has a use for, refused by a filter of ours below any that it sets itself.
//!
//! They are those that make or enter namespaces and mounts, load code into the kernel, look into other processes, or have a
//! history of flaws out of all proportion to their use here. What is not named is allowed: the programs are QEMU, whose own
//! filter is stricter, and the layer converter, which keeps a capability that is only safe without these.

use std::io;

/// Refused with EPERM.
const REFUSED: [i64; 53] = [
    // mounts
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    // namespaces, and files by handles that no root holds back
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // code in the kernel
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // the node as a whole
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
    // keys
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];
/// Flags of clone that make namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
/// AUDIT_ARCH_X86_64 of linux/audit.h.
const ARCH: u32 = 0xc000_003e;
/// Numbers from here on are the x32 interface's.
const X32: u32 = 0x4000_0000;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

fn load(offset: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}
/// Skips the next instruction unless the test holds.
fn unless(test: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: 0, jf: 1, k: value }
}
fn answer(value: u32) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: value }
}
fn errno(number: i32) -> libc::sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | number.unsigned_abs())
}

/// The filter, as the kernel takes it.
fn program() -> Vec<libc::sock_filter> {
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let mut out = vec![load(ARCHITECTURE)];
    // Another architecture has other numbers: skip the kill if it is this one.
    out.push(libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 1, jf: 0, k: ARCH });
    out.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    out.push(load(NUMBER));
    out.extend([unless(libc::BPF_JGE, X32), errno(libc::EPERM)]);
    for number in REFUSED {
        out.extend([unless(libc::BPF_JEQ, number as u32), errno(libc::EPERM)]);
    }
    // Its flags are in memory, where a filter can't look; the C library then uses clone.
    out.extend([unless(libc::BPF_JEQ, libc::SYS_clone3 as u32), errno(libc::ENOSYS)]);
    // Skip to the end unless it is clone.
    out.push(libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 3,
        k: libc::SYS_clone as u32,
    });
    out.extend([load(FIRST_ARGUMENT), unless(libc::BPF_JSET, NAMESPACES as u32), errno(libc::EPERM), allow]);
    out
}

/// Sets the filter for this thread and whatever it becomes. No-new-privileges must be set.
///
/// # Errors
/// If the kernel has no filters.
pub fn set() -> io::Result<()> {
    let program = program();
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions at `filter`, which live until after the call, and keeps a copy.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do: the few instructions that are used here.
    fn verdict(arch: u32, number: u32, argument: u32) -> u32 {
        let (program, mut at, mut value) = (program(), 0usize, 0u32);
        loop {
            let one = program[at];
            at += 1;
            let code = u32::from(one.code);
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                value = match one.k {
                    NUMBER => number,
                    ARCHITECTURE => arch,
                    _ => argument,
                };
            } else if code & 7 == libc::BPF_RET {
                return one.k;
            } else {
                let holds = match code & 0xf0 {
                    libc::BPF_JEQ => value == one.k,
                    libc::BPF_JGE => value >= one.k,
                    _ => value & one.k != 0,
                };
                at += usize::from(if holds { one.jt } else { one.jf });
            }
        }
    }

    #[test]
    fn the_refused_are_refused_and_the_rest_is_allowed() {
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        for (arch, number, argument, expect) in [
            (ARCH, libc::SYS_read, 0, libc::SECCOMP_RET_ALLOW),
            (ARCH, libc::SYS_execve, 0, libc::SECCOMP_RET_ALLOW),
            (ARCH, libc::SYS_mount, 0, refused),
            (ARCH, libc::SYS_keyctl, 0, refused),
            (ARCH, libc::SYS_clone, libc::CLONE_THREAD as u32, libc::SECCOMP_RET_ALLOW),
            (ARCH, libc::SYS_clone, libc::CLONE_NEWUSER as u32, refused),
            (ARCH, libc::SYS_clone3, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            (ARCH, i64::from(X32) | libc::SYS_mount, 0, refused),
            (0x4000_0003, 21, 0, libc::SECCOMP_RET_KILL_PROCESS),
        ] {
            assert_eq!(verdict(arch, number as u32, argument), expect, "{arch:x} {number}");
        }
    }

    #[test]
    fn the_kernel_takes_it() {
        let refused = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            set().unwrap();
            // SAFETY: no namespace is parted with whose loss could matter: the call is refused, or the thread ends.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUTS) }
        });
        assert_eq!(refused.join().unwrap(), Err(rustix::io::Errno::PERM));
    }
}
