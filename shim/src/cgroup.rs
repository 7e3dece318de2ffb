//! QEMU's place in the pod's cgroup, where the kubelet's figures, limits and out-of-memory order find it.
//!
//! It is the cgroup that the sandbox's spec names: a leaf below the pod's, as a sandbox process of runc would have. On
//! version 1 the machine joins the CPU controllers only after it has booted: a CPU limit makes a booting guest miss its
//! clock. On version 2 there is one hierarchy, so it is limited from the start.

use std::io;
use std::path::{Path, PathBuf};

use crate::mountinfo;

/// Controllers of version 1 that are joined; cpuset is not: a new one there has no processors until it is told.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "blkio", "cpu", "cpuacct"];

/// A cgroup to be made and joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its folder.
    pub folder: PathBuf,
    /// Joined after the machine has booted.
    pub late: bool,
}

/// Where the cgroup of a spec is, by the text of /proc/self/mountinfo.
pub fn places(cgroups_path: &str, mountinfo: &str) -> Vec<Place> {
    let below = relative(cgroups_path);
    if below.as_os_str().is_empty() {
        return Vec::new();
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for mount in mountinfo::read(mountinfo) {
        let folder = Path::new(&mount.point).join(&below);
        match mount.kind {
            "cgroup" => {
                let has = |name: &&str| mount.options().any(|option| option == *name);
                if let Some(name) = CONTROLLERS.iter().find(|name| has(name)) {
                    first.push(Place { folder, late: name.starts_with("cpu") });
                }
            }
            "cgroup2" => second.push(Place { folder, late: false }),
            _ => {}
        }
    }
    // A hybrid host keeps version 2 without controllers beside version 1.
    if first.is_empty() { second } else { first }
}

/// The path below a hierarchy: as it is, or expanded from systemd's `slice:prefix:name`.
fn relative(cgroups_path: &str) -> PathBuf {
    let parts: Vec<&str> = cgroups_path.split(':').collect();
    let path = match parts.as_slice() {
        [slice, prefix, name] => slices(slice).join(format!("{prefix}-{name}.scope")),
        _ => PathBuf::from(cgroups_path.trim_start_matches('/')),
    };
    if path.components().all(|part| matches!(part, std::path::Component::Normal(_))) { path } else { PathBuf::new() }
}

/// `a-b-c.slice` lies in `a-b.slice`, which lies in `a.slice`.
fn slices(slice: &str) -> PathBuf {
    let (mut path, mut name) = (PathBuf::new(), String::new());
    for part in slice.trim_end_matches(".slice").split('-').filter(|part| !part.is_empty()) {
        name = if name.is_empty() { part.to_owned() } else { format!("{name}-{part}") };
        path.push(format!("{name}.slice"));
    }
    path
}

/// Makes the places and moves the process into them.
///
/// # Errors
/// If a folder can't be made or joined.
pub fn join<'a>(places: impl IntoIterator<Item = &'a Place>, pid: u32) -> io::Result<()> {
    for place in places {
        std::fs::create_dir_all(&place.folder)?;
        std::fs::write(place.folder.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

/// Whether the host's kernel has killed something in one of the places for want of memory, the pod's own or the node's.
pub fn starved(places: &[Place]) -> bool {
    let killed =
        |file| places.iter().any(|place| std::fs::read_to_string(place.folder.join(file)).is_ok_and(|text| kills(&text) > 0));
    killed("memory.oom_control") || killed("memory.events") // of version 1 and of version 2
}

fn kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Sets how soon the host's kernel kills the machine when the node is out of memory. Lowering it may not be permitted,
/// then the shim's own value, which it inherited, stays.
pub fn oom_score(pid: u32, score: i32) {
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()) {
        tracing::debug!(pid, score, %error, "oom_score_adj was not set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "30 1 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
                      31 1 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 1 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      33 1 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      34 1 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const V2: &str = "30 1 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn kills_for_want_of_memory_are_found_in_either_version() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(kills("low 0\nmax 9\noom 3\noom_kill 0\noom_group_kill 0\n"), 0);
        assert_eq!(kills(""), 0);
        assert!(!starved(&[Place { folder: "/nowhere".into(), late: false }]));
    }

    #[test]
    fn a_spec_names_its_place() {
        let of =
            |path, mounts| places(path, mounts).into_iter().map(|p| (p.folder.display().to_string(), p.late)).collect::<Vec<_>>();
        assert_eq!(
            of("/kubepods/podx/s", V1),
            [
                ("/sys/fs/cgroup/memory/kubepods/podx/s".to_owned(), false),
                ("/sys/fs/cgroup/cpu,cpuacct/kubepods/podx/s".to_owned(), true)
            ]
        );
        assert_eq!(of("/kubepods/podx/s", V2), [("/sys/fs/cgroup/kubepods/podx/s".to_owned(), false)]);
        assert_eq!(
            of("kubepods-burstable-podx.slice:cri-containerd:s", V2),
            [(
                "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/cri-containerd-s.scope"
                    .to_owned(),
                false
            )]
        );
        for path in ["", "/", "/a/../b"] {
            assert!(of(path, V2).is_empty(), "{path}");
        }
    }
}
