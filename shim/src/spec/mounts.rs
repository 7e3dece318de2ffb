//! The mounts of a spec, each of a known kind or refused.
//!
//! File systems of the kernel are mounted by the guest. /dev/shm is the guest's own tmpfs. Binds of host files and folders
//! (the kubelet's hosts, hostname, resolv.conf, termination log, and every volume) are refused here until volumes are
//! carried into the guest: a container that silently lacks a volume is worse than one that does not start.

use freehold_guest_api::message;
use serde::Deserialize;

use super::SpecError;

/// A mount of a spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where.
    pub destination: String,
    /// File system.
    #[serde(rename = "type")]
    pub kind: String,
    /// What.
    pub source: String,
    /// Options.
    pub options: Vec<String>,
}

/// The agent's mount; `None` for one that the guest has by itself.
///
/// # Errors
/// If it is of no kind that a VM can have.
pub fn convert(mount: &Mount) -> Result<Option<message::Mount>, SpecError> {
    let refused = |reason| SpecError::Mount { destination: mount.destination.clone(), source_path: mount.source.clone(), reason };
    let of = |fs_type: &str, options: Vec<String>| {
        Ok(Some(message::Mount {
            destination: mount.destination.clone(),
            volume: String::new(),
            sub_path: String::new(),
            fs_type: fs_type.to_owned(),
            options,
        }))
    };
    if mount.destination == "/dev/shm" {
        let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(String::from).to_vec();
        return of("tmpfs", options);
    }
    match mount.kind.as_str() {
        "proc" | "sysfs" | "tmpfs" | "mqueue" | "devpts" => of(&mount.kind, mount.options.clone()),
        "cgroup" | "cgroup2" => of("cgroup2", mount.options.clone()),
        "bind" | "" if mount.options.iter().any(|o| o == "bind" || o == "rbind") || mount.kind == "bind" => {
            Err(refused("this version has no volumes and no files of the kubelet in virtual machines"))
        }
        _ => Err(refused("its file system type is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_have_a_kind_or_are_refused() {
        for (kind, destination, expect) in [
            ("proc", "/proc", Ok("proc")),
            ("cgroup", "/sys/fs/cgroup", Ok("cgroup2")),
            ("cgroup2", "/sys/fs/cgroup", Ok("cgroup2")),
            ("bind", "/dev/shm", Ok("tmpfs")),
            ("bind", "/etc/hosts", Err("no volumes")),
            ("nfs", "/data", Err("not known")),
            ("", "/data", Err("not known")),
        ] {
            let mount = Mount { destination: destination.into(), kind: kind.into(), source: "/s".into(), options: Vec::new() };
            match (convert(&mount), expect) {
                (Ok(Some(found)), Ok(expect)) => assert_eq!(found.fs_type, expect),
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (found, expect) => panic!("{kind}: {found:?}, not {expect:?}"),
            }
        }
    }
}
