//! Which versions of the bundle a node keeps: the current one, and those that something on the node still needs.
//!
//! Input: the folders of versions, the node's processes, the handlers' files, containerd's folders of tasks. Output: what
//! is unneeded is removed, and the rest is named for the status. It stands apart from [`crate::bundle`], which only adds. A shim
//! needs its version as long as it lives (QEMU, the kernel, mkfs.erofs), and containerd runs the shim's file once more to
//! clean up after a dead one. Whatever can't be read keeps everything: a full disk is seen, a pod without its shim is lost.

use crate::containerd;
use crate::handler;
use crate::register::{below, read};
use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Start of the name of a folder that is being removed: half of it must never be taken for a version.
const REMOVED: &str = ".old-";
/// Below containerd's state: a folder a namespace, in it one a task.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Where containerd (1.6 and later) notes the shim of a task.
const SHIM: &str = "shim-binary-path";

/// A file, whatever it is called and from whichever root it is seen: device and inode.
type Identity = (u64, u64);

/// Removes what nothing needs. What is still in use beside the current version comes back, in order.
/// Only one node agent runs on a node, so a half-made folder is nobody's work of now.
pub fn tidy(root: &Path, processes: &Path, current: &str) -> anyhow::Result<Vec<String>> {
    let folder = below(root, &handler::bundle_path(""));
    let (versions, halves): (Vec<String>, Vec<String>) =
        entries(&folder)?.iter().map(|path| name(path)).partition(|name| !name.starts_with('.'));
    let mut used = BTreeSet::from([current.to_owned()]);
    used.extend(run_from(processes, &folder, &versions)?);
    used.extend(handlers(&below(root, &format!("{}/handlers", handler::ROOT)))?);
    let state = containerd::state(&read(&below(root, containerd::MAIN_PATH))?);
    used.extend(tasks(&below(root, &state).join(TASKS))?);
    for half in halves {
        remove(&folder.join(half))?;
    }
    let (kept, unneeded): (Vec<String>, Vec<String>) = versions.into_iter().partition(|version| used.contains(version));
    for version in unneeded {
        let removed = folder.join(format!("{REMOVED}{version}"));
        fs::rename(folder.join(&version), &removed).with_context(|| format!("could not rename version {version}"))?;
        remove(&removed)?;
        tracing::info!(version, "a version that nothing uses any more was removed");
    }
    Ok(kept.into_iter().filter(|version| version != current).collect())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("could not remove {}", folder.display()))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a folder, in order; nothing if it is not there, or no folder.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let gone = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let list = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = match list() {
        Err(error) if gone(&error) => Vec::new(),
        other => other.with_context(|| format!("could not list {}", folder.display()))?,
    };
    paths.sort();
    Ok(paths)
}

/// Versions of which a process runs a file. By its identity: QEMU sees the bundle under another root.
fn run_from(processes: &Path, folder: &Path, versions: &[String]) -> anyhow::Result<BTreeSet<String>> {
    let mut files = BTreeMap::new();
    for version in versions {
        identities(&folder.join(version), version, &mut files)?;
    }
    let mut used = BTreeSet::new();
    for process in entries(processes)? {
        if !name(&process).bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        match fs::metadata(process.join("exe")) {
            Ok(file) => used.extend(files.get(&(file.dev(), file.ino())).cloned()),
            // It ended meanwhile, or is a thread of the kernel.
            Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("could not see what {} runs", process.display())),
        }
    }
    Ok(used)
}

/// "No such process": it ended between two calls.
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

fn identities(folder: &Path, version: &str, files: &mut BTreeMap<Identity, String>) -> anyhow::Result<()> {
    for path in entries(folder)? {
        let about = path.symlink_metadata().with_context(|| format!("could not look at {}", path.display()))?;
        if about.is_dir() {
            identities(&path, version, files)?;
        } else {
            files.insert((about.dev(), about.ino()), version.to_owned());
        }
    }
    Ok(())
}

/// Versions that handlers' files name: a handler that is registered under another name may still start pods.
fn handlers(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut named = BTreeSet::new();
    for path in entries(folder)? {
        if path.extension().is_some_and(|extension| extension == "toml") {
            let table: toml::Table =
                read(&path)?.parse().with_context(|| format!("{} is not a handler's file", path.display()))?;
            named.extend(table.get("bundle").and_then(toml::Value::as_str).and_then(version_of));
        }
    }
    Ok(named)
}

/// Versions whose shim containerd would run to clean up after a task.
fn tasks(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut named = BTreeSet::new();
    for namespace in entries(folder)? {
        for task in entries(&namespace)? {
            named.extend(version_of(&read(&task.join(SHIM))?));
        }
    }
    Ok(named)
}

/// The version that a path on the node leads into.
fn version_of(path: &str) -> Option<String> {
    let below = path.strip_prefix(&handler::bundle_path(""))?;
    below.split('/').next().filter(|version| !version.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A node with five versions: each but `idle` has one reason to stay. And two halves of folders.
    fn node(test: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("freehold-versions-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for version in ["current", "run", "handled", "tasked", "idle", ".new-broken", ".old-half"] {
            let file = root.join("opt/freehold/versions").join(version).join("bin/shim");
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, version).unwrap();
        }
        let put = |path: &str, text: &str| {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        };
        put("opt/freehold/handlers/other.toml", "version = 1\nbundle = \"/opt/freehold/versions/handled\"\n");
        put("state/io.containerd.runtime.v2.task/k8s.io/a/shim-binary-path", "/opt/freehold/versions/tasked/bin/shim");
        put("state/io.containerd.runtime.v2.task/k8s.io/b/shim-binary-path", "/usr/bin/containerd-shim-runc-v2");
        put("state/io.containerd.runtime.v2.task/k8s.io/c/config.json", "{}");
        put("etc/containerd/config.toml", "version = 2\nstate = '/state'\n");
        // A process under another root, by another name of the same file; one of no version; what is no process.
        fs::create_dir_all(root.join("proc/7")).unwrap();
        fs::create_dir_all(root.join("proc/8")).unwrap();
        fs::create_dir_all(root.join("proc/sys")).unwrap();
        fs::hard_link(root.join("opt/freehold/versions/run/bin/shim"), root.join("moved")).unwrap();
        symlink(root.join("moved"), root.join("proc/7/exe")).unwrap();
        symlink("/nowhere", root.join("proc/8/exe")).unwrap();
        root
    }

    fn left(root: &Path) -> Vec<String> {
        entries(&root.join("opt/freehold/versions")).unwrap().iter().map(|path| name(path)).collect()
    }

    #[test]
    fn what_nothing_needs_goes_and_all_else_stays() {
        let root = node("tidy");
        let used = tidy(&root, &root.join("proc"), "current").unwrap();
        assert_eq!(used, ["handled", "run", "tasked"]);
        assert_eq!(left(&root), ["current", "handled", "run", "tasked"]);
        // Each reason gone, its version goes too.
        fs::remove_dir_all(root.join("proc/7")).unwrap();
        fs::remove_dir_all(root.join("state")).unwrap();
        assert_eq!(tidy(&root, &root.join("proc"), "current").unwrap(), ["handled"]);
        assert_eq!(left(&root), ["current", "handled"]);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_cannot_be_read_keeps_everything() {
        let root = node("unread");
        fs::write(root.join("opt/freehold/handlers/other.toml"), "= no TOML").unwrap();
        let error = tidy(&root, &root.join("proc"), "current").unwrap_err().to_string();
        assert!(error.contains("other.toml"), "{error}");
        assert_eq!(left(&root).len(), 7);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_node_without_containerds_folders_is_tidied_too() {
        let root = node("bare");
        fs::remove_dir_all(root.join("etc")).unwrap();
        assert_eq!(tidy(&root, &root.join("none"), "current").unwrap(), ["handled"]);
        fs::remove_dir_all(&root).unwrap();
    }
}
