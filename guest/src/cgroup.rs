//! cgroups of containers: limits, figures, freezing, killing.

use crate::fail::{Failure, Result, Step};
use freehold_guest_api::message::{Resources, Stats};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Where the agent has mounted cgroup2.
pub const MOUNT: &str = "/sys/fs/cgroup";
const PODS: &str = "/sys/fs/cgroup/containers";
/// The kernel's default period, which `cpu.max` needs if the shim names none.
const PERIOD_US: u64 = 100_000;
/// Levels and number of cgroups that a container may make: the agent goes through all of them.
const MAX_DEPTH: u32 = 32;
const MAX_DESCENDANTS: u32 = 4096;

/// A container's cgroup.
pub struct Cgroup {
    path: PathBuf,
    oom_kills: u64,
}

/// Turns on the controllers that the kernel has, for containers below [`PODS`].
pub fn prepare() -> Result<()> {
    fs::create_dir_all(PODS).step("make the containers' cgroup")?;
    let have = fs::read_to_string(Path::new(MOUNT).join("cgroup.controllers")).step("read cgroup.controllers")?;
    for controller in have.split_whitespace() {
        for parent in [MOUNT, PODS] {
            // One that can't be delegated is simply not there for containers.
            let _ = fs::write(Path::new(parent).join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

/// cgroup v1 shares (2 to 262144) as a cpu.weight (1 to 10000), by Kubernetes' formula.
pub fn weight_of_shares(shares: u64) -> u64 {
    1 + ((shares.clamp(2, 262_144) - 2) * 9999) / 262_142
}

fn or_max(value: u64) -> String {
    if value == 0 { "max".to_owned() } else { value.to_string() }
}

/// Names and contents of the files that say `resources`.
pub fn files(resources: &Resources) -> Vec<(&'static str, String)> {
    let period = if resources.cpu_period == 0 { PERIOD_US } else { resources.cpu_period };
    let quota = or_max(u64::try_from(resources.cpu_quota).unwrap_or(0));
    let mut files = vec![
        ("memory.max", or_max(resources.memory)),
        ("memory.oom.group", u8::from(resources.oom_group).to_string()),
        ("cpu.max", format!("{quota} {period}")),
        ("pids.max", or_max(u64::try_from(resources.pids).unwrap_or(0))),
    ];
    if resources.cpu_shares != 0 {
        files.push(("cpu.weight", weight_of_shares(resources.cpu_shares).to_string()));
    }
    files
}

impl Cgroup {
    /// Makes the cgroup with its limits. Root of the pod, which is `owner` in the guest, may make cgroups of its own in it (cgroups(7), "Cgroup
    /// delegation"); its limits stay the guest's.
    pub fn create(container: &str, resources: &Resources, owner: u32) -> Result<Cgroup> {
        let path = Path::new(PODS).join(container);
        fs::create_dir(&path).step(format!("make the cgroup of container {container}"))?;
        let cgroup = Cgroup { path, oom_kills: 0 };
        cgroup
            .bound()
            .and_then(|()| cgroup.give(owner))
            .and_then(|()| cgroup.update(resources))
            .inspect_err(|_| cgroup.remove())?;
        Ok(cgroup)
    }
    fn bound(&self) -> Result<()> {
        for (file, most) in [("cgroup.max.depth", MAX_DEPTH), ("cgroup.max.descendants", MAX_DESCENDANTS)] {
            fs::write(self.path.join(file), most.to_string()).step(format!("write {file}"))?;
        }
        Ok(())
    }
    fn give(&self, owner: u32) -> Result<()> {
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let path = self.path.join(file);
            std::os::unix::fs::chown(&path, Some(owner), Some(owner)).step(format!("give {} to the pod", path.display()))?;
        }
        Ok(())
    }
    /// New limits.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        for (file, content) in files(resources) {
            fs::write(self.path.join(file), &content).step(format!("write {content:?} to {file} of the container"))?;
        }
        Ok(())
    }
    /// The file by which a process joins it.
    pub fn procs(&self) -> Result<File> {
        File::options().write(true).open(self.path.join("cgroup.procs")).step("open the container's cgroup")
    }
    /// The file by which a process joins the container's first process, which may be in a cgroup of its own making: then there can be none in
    /// the container's own (cgroups(7), "no internal processes").
    pub fn procs_beside(&self, first: i32) -> Result<File> {
        let text =
            fs::read_to_string(format!("/proc/{first}/cgroup")).step("find the cgroup of the container's first process")?;
        let place = below(&text).filter(|place| place.starts_with(&self.path) && *place != self.path);
        match place.map(|place| File::options().write(true).open(place.join("cgroup.procs"))) {
            Some(Ok(file)) => Ok(file),
            // It has moved or ended meanwhile.
            _ => self.procs(),
        }
    }
    /// Kills all processes.
    pub fn kill(&self) -> Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1").step("kill the container's processes")
    }
    /// Stops all processes, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        fs::write(self.path.join("cgroup.freeze"), if frozen { "1" } else { "0" }).step("freeze the container")
    }
    /// Removes the empty cgroup, with those that the container made below it.
    pub fn remove(&self) {
        remove_tree(&self.path);
    }
    /// All processes, those in cgroups below included.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let mut pids = Vec::new();
        collect_pids(&self.path, &mut pids).step("read the container's processes")?;
        Ok(pids)
    }
    /// Opens memory.events, which polls as POLLPRI when it changes.
    pub fn memory_events(&self) -> Option<File> {
        File::open(self.path.join("memory.events")).ok()
    }
    /// Whether a process was killed for memory since the last call.
    pub fn new_oom_kills(&mut self) -> bool {
        let kills = field(&self.read("memory.events"), "oom_kill");
        let more = kills > self.oom_kills;
        self.oom_kills = kills;
        more
    }
    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }
    /// Figures; a file that the kernel does not have counts 0.
    pub fn stats(&self) -> Result<Stats> {
        if !self.path.exists() {
            return Err(Failure::with(libc::ENOENT, "the container's cgroup is gone"));
        }
        let number = |file: &str| self.read(file).trim().parse().unwrap_or(0);
        let (cpu, memory, events) = (self.read("cpu.stat"), self.read("memory.stat"), self.read("memory.events"));
        Ok(Stats {
            cpu_usage_us: field(&cpu, "usage_usec"),
            cpu_user_us: field(&cpu, "user_usec"),
            cpu_system_us: field(&cpu, "system_usec"),
            memory_bytes: number("memory.current"),
            inactive_file_bytes: field(&memory, "inactive_file"),
            memory_limit_bytes: number("memory.max"),
            pids: number("pids.current"),
            oom_kills: field(&events, "oom_kill"),
            anon_bytes: field(&memory, "anon"),
            page_faults: field(&memory, "pgfault"),
            major_page_faults: field(&memory, "pgmajfault"),
        })
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The folder of the cgroup that /proc/PID/cgroup names.
fn below(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| Path::new(MOUNT).join(path))
}

fn collect_pids(path: &Path, pids: &mut Vec<u32>) -> std::io::Result<()> {
    pids.extend(fs::read_to_string(path.join("cgroup.procs"))?.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(path)?.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        collect_pids(&entry.path(), pids)?;
    }
    Ok(())
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        remove_tree(&entry.path());
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_cgroup() {
        for (text, expect) in [
            ("0::/containers/a\n", Some("/sys/fs/cgroup/containers/a")),
            ("1:cpu:/x\n0::/containers/a/init.scope\n", Some("/sys/fs/cgroup/containers/a/init.scope")),
            ("0::/\n", Some("/sys/fs/cgroup")),
            ("", None),
        ] {
            assert_eq!(below(text), expect.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn weights() {
        for (shares, weight) in [(0, 1), (2, 1), (102, 4), (1024, 39), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn limits_as_files() {
        let some = Resources { memory: 1 << 20, cpu_quota: 50_000, cpu_period: 0, cpu_shares: 1024, pids: 10, oom_group: true };
        let none = Resources { cpu_quota: -1, pids: -1, ..Resources::default() };
        let text = |r: &Resources| files(r).into_iter().map(|(f, c)| format!("{f}={c}")).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&some), "memory.max=1048576 memory.oom.group=1 cpu.max=50000 100000 pids.max=10 cpu.weight=39");
        assert_eq!(text(&none), "memory.max=max memory.oom.group=0 cpu.max=max 100000 pids.max=max");
    }

    #[test]
    fn fields_by_whole_name() {
        assert_eq!(field("oom 3\noom_kill 2\noom_group_kill 1\n", "oom_kill"), 2);
        assert_eq!(field("anon_thp 3\nanon 7\n", "anon"), 7);
        assert_eq!(field("", "anon"), 0);
    }
}
