//! From a container's OCI spec to the agent's requests: pure functions over plain data, tested as tables.
//!
//! Input: `config.json` of a bundle, which containerd wrote and a tenant chose much of. What a VM can't give (namespaces of
//! the host) is refused by name; what the guest must not see of the host (cgroup paths, devices) is left out.

pub mod mounts;
pub mod process;
pub mod seccomp;
mod syscalls;
mod whose;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use freehold_guest_api::limits::{FIRST_USER_ID, MAX_USER_IDS};
use freehold_guest_api::message::{self, CreateContainer, KeyValue, Resources, Rootfs, UserIds};
use serde::Deserialize;

/// Largest config.json in bytes; real ones have some 20 KiB.
const MAX_SPEC: u64 = 4 * 1024 * 1024;

/// Why a spec is not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// It can't be read.
    #[error("can't read the container's spec {path}: {reason}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A namespace of the host is asked for.
    #[error(
        "a virtual machine can't share the host's {0} namespace: remove the pod's host{0} field, or use the node's own runtime"
    )]
    HostNamespace(String),
    /// Something that this version lacks.
    #[error("a container in a virtual machine can't have {what} in this version: {remedy}")]
    Unsupported {
        /// What is asked for.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A mount is of no kind that a VM can have.
    #[error("the mount {destination} ({source_path}) can't be given to a virtual machine: {reason}")]
    Mount {
        /// Where in the container.
        destination: String,
        /// What on the host.
        source_path: String,
        /// Why.
        reason: &'static str,
    },
    /// A value is not known.
    #[error("{what} {value} is not known")]
    Unknown {
        /// What kind of value.
        what: &'static str,
        /// Which.
        value: String,
    },
}

/// What is read of a spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The first process.
    pub process: process::Process,
    /// The root.
    pub root: Root,
    /// Host name.
    pub hostname: String,
    /// Mounts in order.
    pub mounts: Vec<mounts::Mount>,
    /// The container runtime's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Linux.
    pub linux: Linux,
}

/// `root`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Where it is, absolute or below the bundle.
    pub path: PathBuf,
    /// Show it read-only.
    pub readonly: bool,
}

/// `linux`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linux {
    /// Paths shown empty.
    pub masked_paths: Vec<String>,
    /// Paths made read-only.
    pub readonly_paths: Vec<String>,
    /// Limits.
    pub resources: SpecResources,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// Where the container's processes would be on the host.
    pub cgroups_path: String,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// User ids of a user namespace.
    pub uid_mappings: Vec<IdMapping>,
    /// Its group ids.
    pub gid_mappings: Vec<IdMapping>,
    /// Which system calls its processes may make.
    pub seccomp: Option<seccomp::Seccomp>,
}

/// A range of ids of a user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// First id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id on the node.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

impl IdMapping {
    fn is_usual(self) -> bool {
        let count = (1..=MAX_USER_IDS).contains(&self.size) && self.host_id.checked_add(self.size).is_some();
        self.container_id == 0 && self.host_id >= FIRST_USER_ID && count
    }
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    /// Where in the container.
    pub path: String,
    /// `b` for a block device.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its number.
    pub major: i64,
    /// Its number.
    pub minor: i64,
    /// Permission bits.
    pub file_mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A rule of the container's device cgroup.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DeviceRule {
    allow: bool,
    #[serde(rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    access: String,
}

/// A namespace.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Path of one to join.
    pub path: String,
}

/// `linux.resources`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SpecResources {
    memory: Memory,
    cpu: Cpu,
    pids: Pids,
    devices: Vec<DeviceRule>,
    /// Files of cgroup v2, which the kubelet names on nodes that have it.
    unified: BTreeMap<String, String>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
}
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Pids {
    limit: Option<i64>,
}

/// The one of cgroup v2's files that is taken over. `memory.swap.max` means nothing where there is no swap. `memory.min` and `memory.high`
/// (the kubelet's MemoryQoS) keep a node's memory for its pods, and the machine's own size does that. `cpuset.cpus` counts the node's
/// processors; those of a machine are others.
const OOM_GROUP: &str = "memory.oom.group";

impl SpecResources {
    /// As the agent takes them.
    pub fn to_guest(&self) -> Resources {
        Resources {
            memory: self.memory.limit.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            cpu_quota: self.cpu.quota.filter(|&n| n > 0).unwrap_or(0),
            cpu_period: self.cpu.period.unwrap_or(0),
            cpu_shares: self.cpu.shares.unwrap_or(0),
            pids: self.pids.limit.filter(|&n| n > 0).unwrap_or(0),
            oom_group: self.unified.get(OOM_GROUP).is_some_and(|value| value == "1"),
        }
    }

    /// `old` with what is named here changed.
    pub fn over(&self, old: &Resources) -> Resources {
        let new = self.to_guest();
        Resources {
            memory: if self.memory.limit.is_some() { new.memory } else { old.memory },
            cpu_quota: if self.cpu.quota.is_some() { new.cpu_quota } else { old.cpu_quota },
            cpu_period: if self.cpu.period.is_some() { new.cpu_period } else { old.cpu_period },
            cpu_shares: if self.cpu.shares.is_some() { new.cpu_shares } else { old.cpu_shares },
            pids: if self.pids.limit.is_some() { new.pids } else { old.pids },
            oom_group: if self.unified.contains_key(OOM_GROUP) { new.oom_group } else { old.oom_group },
        }
    }
}

/// Reads a bundle's spec.
///
/// # Errors
/// If it is missing, too large or no spec.
pub fn read(bundle: &Path) -> Result<Spec, SpecError> {
    let path = bundle.join("config.json");
    let failed = |reason: String| SpecError::Read { path: path.display().to_string(), reason };
    let size = std::fs::metadata(&path).map_err(|e| failed(e.to_string()))?.len();
    if size > MAX_SPEC {
        return Err(failed(format!("it has {size} bytes, at most {MAX_SPEC} are read")));
    }
    let bytes = std::fs::read(&path).map_err(|e| failed(e.to_string()))?;
    let spec: Spec = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    whose::refuse_two(&spec.annotations).map(|()| spec)
}

impl Spec {
    /// Refuses namespaces of the host. Network, IPC and UTS of a pod's container are joined by path, which is the pod's;
    /// in a sandbox (or alone) a missing one means the host's.
    ///
    /// # Errors
    /// For the first namespace that is the host's.
    pub fn refuse_host_namespaces(&self, alone: bool) -> Result<(), SpecError> {
        let kinds: &[(&str, &str)] =
            if alone { &[("network", "Network"), ("ipc", "IPC"), ("pid", "PID")] } else { &[("mount", "mount")] };
        for (kind, name) in kinds {
            if !self.linux.namespaces.iter().any(|namespace| namespace.kind == *kind) {
                return Err(SpecError::HostNamespace((*name).to_owned()));
            }
        }
        Ok(())
    }

    /// Kernel parameters for the guest.
    pub fn sysctls(&self) -> Vec<KeyValue> {
        self.linux.sysctl.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect()
    }

    /// The network namespace that CNI has filled; `None` for an empty one of its own.
    pub fn network(&self) -> Option<PathBuf> {
        let namespace = self.linux.namespaces.iter().find(|namespace| namespace.kind == "network")?;
        (!namespace.path.is_empty()).then(|| PathBuf::from(&namespace.path))
    }

    /// What becomes of each mount.
    ///
    /// # Errors
    /// For the first that is of no kind that a VM can have.
    pub fn planned(&self) -> Result<Vec<mounts::Planned>, SpecError> {
        self.mounts.iter().map(|mount| self.refuse_other_mapping(mount).and_then(|()| mounts::plan(mount))).collect()
    }

    fn refuse_other_mapping(&self, mount: &mounts::Mount) -> Result<(), SpecError> {
        let (ours, its) = ((&self.linux.uid_mappings, &self.linux.gid_mappings), (&mount.uid_mappings, &mount.gid_mappings));
        if its.0.is_empty() && its.1.is_empty() || its == ours {
            return Ok(());
        }
        let (destination, source_path) = (mount.destination.clone(), mount.source.clone());
        Err(SpecError::Mount {
            destination,
            source_path,
            reason: "its ids are mapped otherwise than those of the pod's user namespace",
        })
    }

    /// Refuses what this version can't give a container in a VM.
    ///
    /// # Errors
    /// For the first such thing.
    pub fn refuse_unsupported(&self) -> Result<(), SpecError> {
        let refusals = [
            (
                self.linux.devices.iter().any(|device| device.kind != "b"),
                "a device of the node that is no block volume",
                "remove devices from the pod, or privileged on a node that hands them out",
            ),
            (
                self.user_ids()?.is_some() && !self.linux.devices.is_empty(),
                "a block volume together with a user namespace",
                "remove volumeDevices or hostUsers: false",
            ),
        ];
        match refusals.into_iter().find(|(is, ..)| *is) {
            Some((_, what, remedy)) => Err(SpecError::Unsupported { what, remedy }),
            None => Ok(()),
        }
    }

    /// The ids of the pod's user namespace, from 0 on; `None`: the pod has none.
    ///
    /// # Errors
    /// If they are not one range from 0 on, the same for users and groups, as the kubelet gives it.
    pub fn user_ids(&self) -> Result<Option<UserIds>, SpecError> {
        let (users, groups) = (self.linux.uid_mappings.as_slice(), self.linux.gid_mappings.as_slice());
        match users {
            [] if groups.is_empty() => Ok(None),
            [map] if users == groups && map.is_usual() => Ok(Some(UserIds { first: map.host_id, count: map.size })),
            _ => Err(SpecError::Unsupported {
                what: "ids mapped in several ranges, not from 0 on, to the node's own, or otherwise for groups than for users",
                remedy: "map 0 and those after it, at most 1073741824 for both, to 65536 or higher",
            }),
        }
    }

    /// The seccomp filter of all its processes, compiled; empty: none.
    ///
    /// # Errors
    /// If the profile is not understood.
    pub fn seccomp(&self) -> Result<Vec<u8>, SpecError> {
        self.linux.seccomp.as_ref().map_or(Ok(Vec::new()), seccomp::Seccomp::compile)
    }

    /// Whether a block device may be written to: so say the rules that name it, if any does.
    pub fn may_write(&self, device: &Device) -> bool {
        let of = |rule: &&DeviceRule| {
            rule.allow && rule.kind == device.kind && rule.major == Some(device.major) && rule.minor == Some(device.minor)
        };
        let mut rules = self.linux.resources.devices.iter().filter(of).peekable();
        rules.peek().is_none() || rules.any(|rule| rule.access.contains('w'))
    }

    /// Its processes are among others': those of the whole pod, or of one container of it. The path does not tell which,
    /// because all of a machine's tasks have one pid on the host.
    pub fn joins_pids(&self) -> bool {
        self.linux.namespaces.iter().any(|namespace| namespace.kind == "pid" && !namespace.path.is_empty())
    }

    /// The request that makes the container.
    pub fn to_create(&self, id: &str, rootfs: Rootfs, mounts: Vec<message::Mount>) -> CreateContainer {
        CreateContainer {
            container: id.to_owned(),
            rootfs: Some(Rootfs { readonly: self.root.readonly, ..rootfs }),
            mounts,
            masked_paths: self.linux.masked_paths.clone(),
            readonly_paths: self.linux.readonly_paths.clone(),
            resources: Some(self.linux.resources.to_guest()),
            devices: Vec::new(),
            privileged: false,
            share_pids: false,
            pids_of: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_path_says_that_processes_are_among_others() {
        let joins = |text| spec(text).joins_pids();
        assert!(joins(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]}}"#));
        assert!(!joins(r#"{"linux":{"namespaces":[{"type":"pid"}]}}"#));
    }

    #[test]
    fn host_namespaces_are_refused_by_name() {
        let sandbox = r#""annotations":{"io.kubernetes.cri.container-type":"sandbox"}"#;
        for (namespaces, expect) in [
            (r#"{"type":"ipc"},{"type":"pid"}"#, Some("hostNetwork")),
            (r#"{"type":"network"},{"type":"pid"}"#, Some("hostIPC")),
            (r#"{"type":"network"},{"type":"ipc"}"#, Some("hostPID")),
            (r#"{"type":"network"},{"type":"ipc"},{"type":"pid"}"#, None),
        ] {
            let spec = spec(&format!(r#"{{{sandbox},"linux":{{"namespaces":[{namespaces}]}}}}"#));
            match (spec.refuse_host_namespaces(true), expect) {
                (Err(error), Some(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                (result, expect) => assert!(result.is_ok() && expect.is_none(), "{namespaces}"),
            }
        }
    }

    #[test]
    fn what_is_missing_is_refused_with_a_remedy() {
        for (linux, expect) in [
            (r#"{"devices":[{"type":"c"}]}"#, Some("device")),
            (r#"{"devices":[{"type":"b","path":"/dev/x","major":7,"minor":0}]}"#, None),
            (r#"{"uidMappings":[MAP],"gidMappings":[MAP]}"#, None),
            (r#"{"uidMappings":[MAP],"gidMappings":[MAP],"devices":[{"type":"b"}]}"#, Some("user namespace")),
            (r#"{"namespaces":[{"type":"pid"},{"type":"ipc","path":"/proc/1/ns/ipc"}]}"#, None),
        ] {
            let linux = linux.replace("MAP", r#"{"containerID":0,"hostID":131072,"size":65536}"#);
            let result = spec(&format!(r#"{{"linux":{linux}}}"#)).refuse_unsupported();
            assert_eq!(result.is_err(), expect.is_some(), "{linux}");
            if let (Err(error), Some(expect)) = (result, expect) {
                assert!(error.to_string().contains(expect), "{error}");
            }
        }
    }

    #[test]
    fn ids_are_one_range_from_0_on() {
        let to = |host: u32, size: u32| format!(r#"{{"containerID":0,"hostID":{host},"size":{size}}}"#);
        let map = |first: u32, size: u32| format!(r#"{{"containerID":{first},"hostID":131072,"size":{size}}}"#);
        for (users, groups, expect) in [
            (String::new(), String::new(), Some(None)),
            (map(0, 65536), map(0, 65536), Some(Some(UserIds { first: 131_072, count: 65_536 }))),
            (map(0, 65536), to(65536, 65536), None),
            (to(0, 65536), to(0, 65536), None),
            (to(u32::MAX, 2), to(u32::MAX, 2), None),
            (map(0, 65536), String::new(), None),
            (map(0, 65536), map(0, 1), None),
            (map(1, 65536), map(1, 65536), None),
            (map(0, 0), map(0, 0), None),
            (map(0, u32::MAX), map(0, u32::MAX), None),
            (format!("{},{}", map(0, 1), map(1, 9)), format!("{},{}", map(0, 1), map(1, 9)), None),
        ] {
            let spec = spec(&format!(r#"{{"linux":{{"uidMappings":[{users}],"gidMappings":[{groups}]}}}}"#));
            assert_eq!(spec.user_ids().ok(), expect, "{users} {groups}");
        }
    }

    #[test]
    fn a_mounts_ids_are_mapped_as_the_pods_or_not_at_all() {
        const POD: &str = r#""uidMappings":[{"containerID":0,"hostID":131072,"size":65536}],"gidMappings":[{"containerID":0,"hostID":131072,"size":65536}]"#;
        let other = POD.replacen("131072", "196608", 1);
        for (mount, expect) in [("", true), (POD, true), (other.as_str(), false), (POD.split_once("],").unwrap().0, false)] {
            let mount = if mount.contains("gid") || mount.is_empty() { mount.to_owned() } else { format!("{mount}]") };
            let comma = if mount.is_empty() { "" } else { "," };
            let text =
                format!(r#"{{"linux":{{{POD}}},"mounts":[{{"destination":"/d","type":"bind","source":"/s"{comma}{mount}}}]}}"#);
            assert_eq!(spec(&text).planned().is_ok(), expect, "{mount}");
        }
    }

    #[test]
    fn a_block_volume_is_read_only_if_its_rules_say_so() {
        for (access, expect) in [("rwm", true), ("rm", false)] {
            let rules = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":7,"minor":1,"access":"ACCESS"}]"#;
            let spec = spec(&format!(r#"{{"linux":{{"resources":{{"devices":{}}}}}}}"#, rules.replace("ACCESS", access)));
            let device = Device { kind: "b".into(), major: 7, minor: 1, ..Device::default() };
            assert_eq!(spec.may_write(&device), expect, "{access}");
            assert!(spec.may_write(&Device { minor: 2, ..device }));
        }
    }

    #[test]
    fn limits_are_taken_over() {
        let spec = spec(
            r#"{"linux":{"resources":{"memory":{"limit":1048576},"cpu":{"shares":2,"quota":-1,"period":100000},"pids":{"limit":9},
                "unified":{"memory.oom.group":"1","memory.high":"9"}}}}"#,
        );
        let expect = Resources { memory: 1_048_576, cpu_quota: 0, cpu_period: 100_000, cpu_shares: 2, pids: 9, oom_group: true };
        assert_eq!(spec.linux.resources.to_guest(), expect);
        for (text, changed) in [
            (r#"{"cpu":{"quota":50000},"pids":{"limit":-1}}"#, Resources { cpu_quota: 50_000, pids: 0, ..expect }),
            (r#"{"unified":{"memory.min":"0"}}"#, expect),
            (r#"{"unified":{"memory.oom.group":"0"}}"#, Resources { oom_group: false, ..expect }),
        ] {
            let change: SpecResources = serde_json::from_str(text).unwrap();
            assert_eq!(change.over(&expect), changed, "{text}");
        }
    }
}
