//! The mounts of a spec, each of a known kind or refused.
//!
//! File systems of the kernel are mounted by the guest. /dev/shm is the guest's own tmpfs. Binds are carried by `volumes`,
//! or refused there: a container that silently lacks a volume is worse than one that does not start.

use freehold_guest_api::message;
use serde::Deserialize;

use super::{IdMapping, SpecError};

/// A mount of a spec.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
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
    /// User ids that files are shown with in a user namespace; none: with those that they have on the node.
    #[serde(rename = "uidMappings")]
    pub uid_mappings: Vec<IdMapping>,
    /// Their group ids.
    #[serde(rename = "gidMappings")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// The container may only read it.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// How a mount comes into the guest.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// The guest mounts it.
    Guest(message::Mount),
    /// Something of the host, to be carried into the guest or refused.
    Bind(Mount),
}

/// What becomes of a mount.
///
/// # Errors
/// If it is of no kind that a VM can have.
pub fn plan(mount: &Mount) -> Result<Planned, SpecError> {
    let refused = |reason| SpecError::Mount { destination: mount.destination.clone(), source_path: mount.source.clone(), reason };
    let of = |fs_type: &str, options: Vec<String>| {
        Ok(Planned::Guest(message::Mount {
            destination: mount.destination.clone(),
            volume: String::new(),
            sub_path: String::new(),
            fs_type: fs_type.to_owned(),
            options,
        }))
    };
    let bind = mount.kind == "bind"
        || (mount.kind.is_empty() || mount.kind == "none") && mount.options.iter().any(|o| o == "bind" || o == "rbind");
    if bind {
        return Ok(Planned::Bind(mount.clone()));
    }
    if mount.destination == "/dev/shm" {
        let options = ["nosuid", "noexec", "nodev", "mode=1777"].map(String::from).to_vec();
        return of("tmpfs", options);
    }
    match mount.kind.as_str() {
        "proc" | "sysfs" | "tmpfs" | "mqueue" | "devpts" => of(&mount.kind, mount.options.clone()),
        "cgroup" | "cgroup2" => of("cgroup2", mount.options.clone()),
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
            ("tmpfs", "/dev/shm", Ok("tmpfs")),
            ("bind", "/etc/hosts", Ok("bind")),
            ("nfs", "/data", Err("not known")),
            ("", "/data", Err("not known")),
        ] {
            let mount = Mount { destination: destination.into(), kind: kind.into(), source: "/s".into(), ..Mount::default() };
            match (plan(&mount), expect) {
                (Ok(Planned::Guest(found)), Ok(expect)) => assert_eq!(found.fs_type, expect),
                (Ok(Planned::Bind(_)), Ok(expect)) => assert_eq!("bind", expect),
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (found, expect) => panic!("{kind}: {found:?}, not {expect:?}"),
            }
        }
    }
}
