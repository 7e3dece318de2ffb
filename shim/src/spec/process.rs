//! A process of a spec: identity, capabilities, limits.

use freehold_guest_api::message::{Capabilities, Rlimit, StartProcess};
use serde::Deserialize;

use super::SpecError;

/// Capabilities by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// Resource limits by number (x86-64).
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// `process`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// A terminal.
    pub terminal: bool,
    /// Its first size.
    pub console_size: Option<Size>,
    /// Identity.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Capability sets.
    pub capabilities: Option<Sets>,
    /// Resource limits.
    pub rlimits: Vec<Limit>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// OOM score adjustment.
    pub oom_score_adj: i32,
    /// Profile of the host's AppArmor.
    pub apparmor_profile: String,
    /// Label of the host's SELinux.
    pub selinux_label: String,
}

/// What container runtimes set by themselves on a host with AppArmor: the guest, which has none, goes without.
const DEFAULT_APPARMOR: [&str; 5] = ["", "unconfined", "cri-containerd.apparmor.d", "containerd-default", "crio-default"];
/// Types that container runtimes set by themselves on a host with SELinux.
const DEFAULT_SELINUX: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "spc_t"];

/// A terminal's size.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Size {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// `user`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mask.
    pub umask: Option<u32>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// `capabilities`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sets {
    bounding: Vec<String>,
    effective: Vec<String>,
    permitted: Vec<String>,
    inheritable: Vec<String>,
    ambient: Vec<String>,
}

/// A resource limit.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Limit {
    #[serde(rename = "type")]
    kind: String,
    soft: u64,
    hard: u64,
}

impl Process {
    /// The request that starts it, under a compiled seccomp filter. Streams are the caller's to choose.
    ///
    /// # Errors
    /// If a capability or a resource limit is not known, or a profile is asked for that guests don't have.
    pub fn to_start(&self, container: &str, exec_id: &str, seccomp: Vec<u8>) -> Result<StartProcess, SpecError> {
        self.refuse_labels()?;
        let sets = self.capabilities.clone().unwrap_or_default();
        let size = self.console_size.unwrap_or_default();
        Ok(StartProcess {
            container: container.to_owned(),
            exec_id: exec_id.to_owned(),
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: if self.cwd.is_empty() { "/".into() } else { self.cwd.clone() },
            uid: self.user.uid,
            gid: self.user.gid,
            groups: self.user.additional_gids.clone(),
            umask: self.user.umask,
            capabilities: Some(Capabilities {
                bounding: mask(&sets.bounding)?,
                effective: mask(&sets.effective)?,
                permitted: mask(&sets.permitted)?,
                inheritable: mask(&sets.inheritable)?,
                ambient: mask(&sets.ambient)?,
            }),
            rlimits: self.rlimits.iter().map(limit).collect::<Result<_, _>>()?,
            no_new_privileges: self.no_new_privileges,
            oom_score_adj: self.oom_score_adj,
            terminal: self.terminal,
            columns: size.width,
            rows: size.height,
            seccomp,
            ..StartProcess::default()
        })
    }
}

impl Process {
    fn refuse_labels(&self) -> Result<(), SpecError> {
        if !DEFAULT_APPARMOR.contains(&self.apparmor_profile.as_str()) {
            return Err(SpecError::Unsupported {
                what: "an AppArmor profile of the node",
                remedy: "guests have no AppArmor: remove appArmorProfile or say RuntimeDefault; the machine keeps the pod apart",
            });
        }
        if !DEFAULT_SELINUX.contains(&self.selinux_label.split(':').nth(2).unwrap_or_default()) {
            return Err(SpecError::Unsupported {
                what: "an SELinux type of its own",
                remedy: "guests have no SELinux: remove seLinuxOptions; the machine keeps the pod apart",
            });
        }
        Ok(())
    }
}

fn mask(names: &[String]) -> Result<u64, SpecError> {
    names.iter().try_fold(0, |mask, name| Ok(mask | 1 << number("the capability", "CAP_", name, &CAPABILITIES)?))
}

fn limit(limit: &Limit) -> Result<Rlimit, SpecError> {
    let resource = number("the resource limit", "RLIMIT_", &limit.kind, &RLIMITS)?;
    Ok(Rlimit { resource, soft: limit.soft, hard: limit.hard })
}

fn number(what: &'static str, prefix: &str, name: &str, names: &[&str]) -> Result<u32, SpecError> {
    let found = name.strip_prefix(prefix).and_then(|short| names.iter().position(|known| *known == short));
    found.and_then(|n| u32::try_from(n).ok()).ok_or_else(|| SpecError::Unknown { what, value: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_taken_over() {
        let process: Process = serde_json::from_str(
            r#"{"args":["a","b"],"cwd":"/x","user":{"uid":7,"gid":8,"additionalGids":[9]},"noNewPrivileges":true,
                "capabilities":{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"]},
                "rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}]}"#,
        )
        .unwrap();
        let start = process.to_start("c", "e", Vec::new()).unwrap();
        assert_eq!((start.uid, start.gid, start.groups, start.cwd.as_str()), (7, 8, vec![9], "/x"));
        assert_eq!(start.capabilities.unwrap().bounding, 1 | 1 << 40);
        assert_eq!(start.rlimits, [Rlimit { resource: 7, soft: 1, hard: 2 }]);
        assert!(start.no_new_privileges && !start.terminal);
    }

    #[test]
    fn what_runtimes_set_by_themselves_is_passed_over() {
        for text in
            [r#"{"apparmorProfile":"cri-containerd.apparmor.d"}"#, r#"{"selinuxLabel":"system_u:system_r:container_t:s0:c1,c2"}"#]
        {
            let process: Process = serde_json::from_str(text).unwrap();
            assert!(process.to_start("c", "", Vec::new()).is_ok(), "{text}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        for text in [
            r#"{"capabilities":{"effective":["CAP_MAGIC"]}}"#,
            r#"{"capabilities":{"effective":["CHOWN"]}}"#,
            r#"{"rlimits":[{"type":"RLIMIT_X","soft":1,"hard":2}]}"#,
            r#"{"apparmorProfile":"my-profile"}"#,
            r#"{"selinuxLabel":"system_u:system_r:my_t:s0"}"#,
        ] {
            let process: Process = serde_json::from_str(text).unwrap();
            assert!(process.to_start("c", "", Vec::new()).is_err(), "{text}");
        }
    }
}
