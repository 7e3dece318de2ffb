//! The first request: entropy, clock, host name, kernel parameters, /dev/shm.

use crate::fail::{Failure, Result, Step};
use crate::mounts::SHM;
use crate::sys;
use crate::user::{self, UserNamespace};
use freehold_guest_api::limits::VERSION;
use freehold_guest_api::message::{Configure, Ready};
use std::fs;

/// Bytes of entropy that are enough for the kernel's generator and not too many for its ioctl.
const ENTROPY: std::ops::RangeInclusive<usize> = 32..=512;
const MAX_HOSTNAME: usize = 63;

/// Does it; with the pod's user namespace, if it is to have one.
pub fn configure(configure: &Configure) -> Result<(Ready, Option<UserNamespace>)> {
    if configure.version != VERSION {
        let theirs = configure.version;
        return Err(Failure::refuse(format!("the shim speaks version {theirs}, this guest {VERSION}: bundle is mixed up")));
    }
    reseed(&configure.entropy, configure.realtime_ns)?;
    if configure.hostname.len() > MAX_HOSTNAME {
        return Err(Failure::refuse(format!("host name of {} bytes, at most {MAX_HOSTNAME}", configure.hostname.len())));
    }
    // Before anything that is set in a namespace.
    let user = configure.user_ids.map(UserNamespace::make).transpose()?;
    sys::set_hostname(&configure.hostname).step("set the host name")?;
    for parameter in &configure.sysctls {
        let path = sysctl_path(&parameter.key)?;
        let write = || fs::write(&path, &parameter.value);
        let written = match (write(), &user) {
            (Err(error), Some(user)) if error.kind() == std::io::ErrorKind::PermissionDenied => user.as_root(write)?,
            (written, _) => written,
        };
        written.step(format!("set kernel parameter {}", parameter.key))?;
    }
    let size = if configure.shm_bytes == 0 { "50%".to_owned() } else { configure.shm_bytes.to_string() };
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let root = user::root(user.as_ref());
    sys::mount("shm", SHM, "tmpfs", flags, &format!("mode=1777,size={size},uid={root},gid={root}")).step("mount /dev/shm")?;
    let read = |path: &str| fs::read_to_string(path).step(format!("read {path}"));
    let ready = Ready {
        kernel_release: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        memory_bytes: total_memory(&read("/proc/meminfo")?),
    };
    Ok((ready, user))
}

/// Seeds the kernel's generator and sets the clock.
pub fn reseed(entropy: &[u8], realtime_ns: u64) -> Result<()> {
    if !ENTROPY.contains(&entropy.len()) {
        let len = entropy.len();
        return Err(Failure::refuse(format!("{len} bytes of entropy, must be {} to {}", ENTROPY.start(), ENTROPY.end())));
    }
    sys::add_entropy(entropy).step("seed the random pool")?;
    sys::set_clock(realtime_ns).step("set the clock")
}

/// `net.ipv4.ip_forward` as a file; as sysctl(8), a name with slashes may have dots in its parts.
fn sysctl_path(key: &str) -> Result<String> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    if path.is_empty() || path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Failure::refuse(format!("kernel parameter {key:?} is not a name")));
    }
    Ok(format!("/proc/sys/{path}"))
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stay_below_proc_sys() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/x").unwrap(), "/proc/sys/net/ipv4/conf/eth0.1/x");
        for bad in ["", "..", "/etc/passwd", "a/../../b", "a..b"] {
            assert!(sysctl_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn memory() {
        assert_eq!(total_memory("MemTotal:         100 kB\nMemFree: 1 kB\n"), 102_400);
    }
}
