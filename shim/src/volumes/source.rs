//! What a bind mount of a container's spec is, by its path: a file or volume that the kubelet or containerd prepared for
//! this very pod, or something of the host, which a machine does not get.

use std::path::{Path, PathBuf};

use crate::mountinfo;

/// A mount's source.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// One file, copied; `write_back`: copied back before the container's end is told (termination log).
    File {
        /// It is a termination log.
        write_back: bool,
    },
    /// A folder of a configMap, secret, projected or downwardAPI volume: copied, and again whenever it changes.
    Tree,
    /// An emptyDir.
    EmptyDir,
    /// A part of the volume of this name, bind-mounted by the kubelet.
    SubPath {
        /// The volume's name.
        volume: String,
    },
    /// The pod's /dev/shm.
    Shm,
    /// Files of the node: a hostPath, or a volume of any other kind as the kubelet or containerd has mounted it.
    Files,
}

/// Which pod it is.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// The kubelet's folder of the pod; empty for a container without a pod.
    pub pod: PathBuf,
    /// containerd's id of the sandbox.
    pub sandbox: String,
}

/// Kinds of volumes whose files are copied.
pub const TREES: [&str; 4] =
    ["kubernetes.io~configmap", "kubernetes.io~secret", "kubernetes.io~projected", "kubernetes.io~downward-api"];
/// The kind of an emptyDir.
pub const EMPTY_DIR: &str = "kubernetes.io~empty-dir";

/// Tells what a source is.
///
/// # Errors
/// The reason why a machine does not get it, for people.
pub fn classify(source: &Path, owner: &Owner) -> Result<Source, &'static str> {
    if let Some(found) = of_sandbox(source, owner) {
        return Ok(found);
    }
    let within = (!owner.pod.as_os_str().is_empty()).then(|| source.strip_prefix(&owner.pod).ok()).flatten();
    let Some(below) = within else { return of_node(source) };
    let parts: Vec<&str> = below.iter().map(|part| part.to_str().unwrap_or_default()).collect();
    match parts.as_slice() {
        ["etc-hosts"] => Ok(Source::File { write_back: false }),
        ["containers", _, _] => Ok(Source::File { write_back: true }),
        ["volumes", kind, _] if TREES.contains(kind) => Ok(Source::Tree),
        ["volumes", EMPTY_DIR, _] => Ok(Source::EmptyDir),
        ["volume-subpaths", volume, _, _] => Ok(Source::SubPath { volume: (*volume).to_owned() }),
        ["volumes", _, _, ..] => Ok(Source::Files),
        _ => Err("it is not known what this folder of the kubelet is"),
    }
}

/// A path of the node, which whoever may admit pods has let through: Freehold's own policies let no tenant name one.
fn of_node(source: &Path) -> Result<Source, &'static str> {
    let first = source.iter().nth(1).and_then(|part| part.to_str()).unwrap_or_default();
    match first {
        "" => Err("it is the root of the node"),
        "proc" | "sys" | "dev" => Err("it is a part of the node's kernel (hostPath); a virtual machine has a kernel of its own"),
        _ => Ok(Source::Files),
    }
}

/// The container runtime's files of the sandbox, `…/sandboxes/ID/NAME` of containerd and `…/ID/userdata/NAME` of CRI-O, and CRI-O's of a
/// container.
fn of_sandbox(source: &Path, owner: &Owner) -> Option<Source> {
    let parts: Vec<&str> = source.iter().rev().take(3).map(|part| part.to_str().unwrap_or_default()).collect();
    match parts.as_slice() {
        ["shm", id, "sandboxes"] | ["shm", "userdata", id] if *id == owner.sandbox => Some(Source::Shm),
        ["hosts" | "hostname" | "resolv.conf", id, "sandboxes"] | ["hostname" | "resolv.conf", "userdata", id]
            if *id == owner.sandbox =>
        {
            Some(Source::File { write_back: false })
        }
        [".containerenv" | "passwd" | "group", "userdata", _] => Some(Source::File { write_back: false }),
        _ => None,
    }
}

/// The path inside a volume that the kubelet bind-mounted at `point`, by the text of /proc/self/mountinfo: what follows
/// the volume's folder in the mount's root, or all of it where the volume is a file system of its own.
pub fn sub_path(mountinfo: &str, point: &Path, kind: &str, volume: &str) -> Option<String> {
    let mount = mountinfo::read(mountinfo).filter(|mount| Path::new(&mount.point) == point).last()?; // it covers those before
    let marker = format!("/{kind}/{volume}/");
    let below = mount.root.split_once(&marker).map_or(mount.root.as_str(), |(_, below)| below);
    Some(below.trim_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "/var/lib/kubelet/pods/u";

    #[test]
    fn sources_are_the_pods_own_or_refused() {
        let owner = Owner { pod: POD.into(), sandbox: "s".into() };
        let file = |write_back| Some(Source::File { write_back });
        for (path, expect) in [
            ("/var/lib/kubelet/pods/u/etc-hosts", file(false)),
            ("/var/lib/kubelet/pods/u/containers/main/1a2b", file(true)),
            ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~projected/kube-api-access-x", Some(Source::Tree)),
            ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/tmp", Some(Source::EmptyDir)),
            ("/var/lib/kubelet/pods/u/volume-subpaths/conf/main/0", Some(Source::SubPath { volume: "conf".into() })),
            ("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/s/resolv.conf", file(false)),
            ("/run/containerd/io.containerd.grpc.v1.cri/sandboxes/s/shm", Some(Source::Shm)),
            ("/run/containers/storage/overlay-containers/s/userdata/shm", Some(Source::Shm)),
            ("/run/containers/storage/overlay-containers/other/userdata/shm", Some(Source::Files)),
            ("/run/containers/storage/overlay-containers/c/userdata/.containerenv", file(false)),
            ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/pvc/mount", Some(Source::Files)),
            ("/var/lib/kubelet/pods/u/volumes/kubernetes.io~local-volume/pv", Some(Source::Files)),
            ("/var/lib/kubelet/pods/u/volumes", None),
            ("/var/lib/kubelet/pods/u", None),
            ("/srv/data", Some(Source::Files)),
            ("/proc/sys", None),
            ("/sys", None),
            ("/dev/sda", None),
            ("/", None),
        ] {
            assert_eq!(classify(Path::new(path), &owner).ok(), expect, "{path}");
        }
        assert_eq!(classify(Path::new("/srv/data"), &Owner::default()), Ok(Source::Files));
        assert!(classify(Path::new("/proc"), &Owner::default()).unwrap_err().contains("hostPath"));
    }

    #[test]
    fn a_sub_path_is_read_from_its_mount() {
        let mounts = "1 2 0:1 /var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/tmp/a\\040b/c /p/0 rw - ext4 /dev/x rw\n\
                      1 2 0:2 /deep /p/1 rw - tmpfs tmpfs rw\n";
        let of = |point| sub_path(mounts, Path::new(point), EMPTY_DIR, "tmp");
        assert_eq!(of("/p/0").as_deref(), Some("a b/c"));
        assert_eq!(of("/p/1").as_deref(), Some("deep"));
        assert_eq!(of("/p/2"), None);
    }
}
