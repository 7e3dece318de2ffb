//! A container's figures in containerd's terms. cgroup v2's are sent whatever the host has: the guest has v2.

use containerd_shim_protos::cgroups_v2::metrics::{CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use freehold_guest_api::message::Stats;

/// Packs a container's figures.
pub fn pack(stats: &Stats) -> Any {
    let metrics = Metrics {
        pids: MessageField::some(PidsStat { current: stats.pids, ..PidsStat::default() }),
        cpu: MessageField::some(CPUStat {
            usage_usec: stats.cpu_usage_us,
            user_usec: stats.cpu_user_us,
            system_usec: stats.cpu_system_us,
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: stats.memory_bytes,
            usage_limit: if stats.memory_limit_bytes == 0 { u64::MAX } else { stats.memory_limit_bytes },
            inactive_file: stats.inactive_file_bytes,
            anon: stats.anon_bytes,
            pgfault: stats.page_faults,
            pgmajfault: stats.major_page_faults,
            ..MemoryStat::default()
        }),
        memory_events: MessageField::some(MemoryEvents { oom_kill: stats.oom_kills, ..MemoryEvents::default() }),
        ..Metrics::default()
    };
    let value = metrics.write_to_bytes().unwrap_or_default(); // fails only for required fields, which proto3 has none of
    Any { type_url: "io.containerd.cgroups.v2.Metrics".into(), value, ..Any::default() }
}

/// The machine's own figures, from QEMU's process: the sandbox has no cgroup in the guest.
pub fn of_machine(pid: u32) -> Stats {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second();
    let (user, system) = times(&read("stat"));
    let us = |n: u64| n.saturating_mul(1_000_000) / ticks.max(1);
    let pages = resident(&read("statm"));
    Stats {
        cpu_usage_us: us(user + system),
        cpu_user_us: us(user),
        cpu_system_us: us(system),
        memory_bytes: pages * rustix::param::page_size() as u64,
        anon_bytes: pages * rustix::param::page_size() as u64,
        pids: 1,
        ..Stats::default()
    }
}

/// utime and stime of /proc/PID/stat, in ticks.
fn times(stat: &str) -> (u64, u64) {
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// Resident pages of /proc/PID/statm.
fn resident(statm: &str) -> u64 {
    statm.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_packed() {
        let any = pack(&Stats { cpu_usage_us: 5, memory_bytes: 7, ..Stats::default() });
        let metrics = Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((metrics.cpu.usage_usec, metrics.memory.usage, metrics.memory.usage_limit), (5, 7, u64::MAX));
    }

    #[test]
    fn a_process_is_read() {
        assert_eq!(times("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 50 0"), (100, 50));
        assert_eq!(times(""), (0, 0));
        assert_eq!(resident("10 4 2"), 4);
        assert!(of_machine(std::process::id()).memory_bytes > 0);
    }
}
