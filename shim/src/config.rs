//! The shim's configuration: one TOML file a handler, written by the runtime installer, read once at the sandbox's start.
//!
//! What the node can do (the acceleration) is proved by the installer's canary and written here; the shim never probes.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::confine::uid::COUNT;

/// Version of the file's format.
pub const VERSION: u32 = 1;
/// Largest configuration file in bytes; a real one has about 300.
const MAX_BYTES: u64 = 64 * 1024;
/// Least memory of a VM in MiB: the kernel and the agent boot with it.
pub const MIN_MEMORY_MIB: u32 = 64;
/// People and services have lower ones.
const LEAST_UID: u32 = 65_536;

/// How guest code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own translation: slow, needs nothing.
    Tcg,
}

impl Acceleration {
    /// As written in the file and in the canary's answer.
    pub fn name(self) -> &'static str {
        match self {
            Acceleration::Kvm => "kvm",
            Acceleration::Tcg => "tcg",
        }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// [`VERSION`].
    pub version: u32,
    /// Folder of the unpacked bundle.
    pub bundle: PathBuf,
    /// How guest code is run.
    pub acceleration: Acceleration,
    /// Memory of a pod without limits, in MiB.
    pub default_memory_mib: u32,
    /// Folder of converted image layers.
    pub layer_cache: PathBuf,
    /// Bytes that the layer cache may hold.
    pub layer_cache_max_bytes: u64,
    /// Folder of tenants' templates; without it every machine boots cold.
    #[serde(default)]
    pub templates: Option<PathBuf>,
    /// Bytes that templates may take on the disk.
    #[serde(default = "templates_max_bytes")]
    pub templates_max_bytes: u64,
    /// The kubelet's root folder, below which a pod's volumes are.
    #[serde(default = "kubelet_root")]
    pub kubelet_root: PathBuf,
    /// First of the [`crate::confine::uid::COUNT`] users that machines run as; nobody else may use them.
    #[serde(default = "first_uid")]
    pub first_uid: u32,
}

/// Above what systemd gives to containers and below what it keeps (systemd's UIDS-GIDS page), far from the kubelet's
/// user namespaces.
fn first_uid() -> u32 {
    0x7000_0000
}

/// About 19 templates of the usual 53 MiB.
fn templates_max_bytes() -> u64 {
    1024 * 1024 * 1024
}

fn kubelet_root() -> PathBuf {
    "/var/lib/kubelet".into()
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the handler's configuration {path}: {cause}; the runtime installer writes it")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the handler's configuration {path} is wrong: {reason}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Reads and checks the file.
///
/// # Errors
/// If it can't be read, parsed, or has a value out of bounds.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read = |cause| ConfigError::Read { path: path.to_owned(), cause };
    let wrong = |reason: String| ConfigError::Wrong { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_BYTES {
        return Err(wrong(format!("it is larger than {MAX_BYTES} bytes")));
    }
    parse(&std::fs::read_to_string(path).map_err(read)?).map_err(wrong)
}

fn parse(text: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
    if config.version != VERSION {
        return Err(format!("version is {}, this shim reads version {VERSION}", config.version));
    }
    if config.default_memory_mib < MIN_MEMORY_MIB {
        return Err(format!("default_memory_mib is {}, at least {MIN_MEMORY_MIB} are needed", config.default_memory_mib));
    }
    let last = config.first_uid.checked_add(COUNT);
    if config.first_uid < LEAST_UID || last.is_none() {
        return Err(format!("first_uid is {}, it must leave {COUNT} users from {LEAST_UID} on", config.first_uid));
    }
    let paths = [("bundle", &config.bundle), ("layer_cache", &config.layer_cache), ("kubelet_root", &config.kubelet_root)];
    for (name, path) in paths.into_iter().chain(config.templates.iter().map(|path| ("templates", path))) {
        if !path.is_absolute() || path.to_string_lossy().contains(',') {
            return Err(format!("{name} must be an absolute path without commas"));
        }
    }
    Ok(config)
}

/// Files of a bundle.
#[derive(Debug, Clone)]
pub struct Bundle(pub PathBuf);

impl Bundle {
    fn join(&self, below: &str) -> String {
        self.0.join(below).to_string_lossy().into_owned()
    }
    /// The dynamic loader that every program of the bundle is started through.
    pub fn loader(&self) -> String {
        self.join("qemu/lib/ld-linux-x86-64.so.2")
    }
    /// Libraries of every program of the bundle.
    pub fn libraries(&self) -> String {
        self.join("qemu/lib")
    }
    /// The shim itself.
    pub fn shim(&self) -> PathBuf {
        self.0.join("bin/containerd-shim-freehold-v2")
    }
    /// QEMU's loadable modules.
    pub fn modules(&self) -> String {
        self.join("qemu/lib/modules")
    }
    /// The QEMU binary.
    pub fn qemu(&self) -> String {
        self.join("qemu/bin/qemu-system-x86_64")
    }
    /// Firmware.
    pub fn firmware(&self) -> String {
        self.join("qemu/share")
    }
    /// The layer converter.
    pub fn mkfs_erofs(&self) -> String {
        self.join("erofs/bin/mkfs.erofs")
    }
    /// The guest's kernel.
    pub fn kernel(&self) -> String {
        self.join("guest/vmlinux")
    }
    /// The guest's first file system, with the agent.
    pub fn initrd(&self) -> String {
        self.join("guest/initrd.lz4")
    }
    /// Template of a disk for what a container changes.
    pub fn scratch(&self) -> PathBuf {
        self.0.join("guest/scratch.ext4")
    }
    /// Template of an emptyDir's disk, which outlives its machine and has a journal.
    pub fn volume(&self) -> PathBuf {
        self.0.join("guest/volume.ext4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
bundle = "/opt/freehold/versions/1"
acceleration = "tcg"
default_memory_mib = 256
layer_cache = "/var/lib/freehold/layers"
layer_cache_max_bytes = 8589934592
"#;

    #[test]
    fn a_good_file_is_read() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.acceleration, Acceleration::Tcg);
        assert_eq!(Bundle(config.bundle).kernel(), "/opt/freehold/versions/1/guest/vmlinux");
    }

    #[test]
    fn wrong_files_say_why() {
        for (from, to, expect) in [
            ("version = 1", "version = 2", "version is 2"),
            ("256", "32", "at least 64"),
            ("version = 1", "version = 1\nfirst_uid = 0", "first_uid is 0"),
            ("version = 1", "version = 1\nfirst_uid = 4294967295", "first_uid is"),
            ("\"tcg\"", "\"magic\"", "unknown variant"),
            ("\"/opt", "\"opt", "bundle must be an absolute path"),
            ("version = 1", "version = 1\nspeed = 3", "unknown field"),
            ("version = 1", "version = 1\ntemplates = \"here\"", "templates must be an absolute path"),
        ] {
            let error = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expect), "{to}: {error}");
        }
    }
}
