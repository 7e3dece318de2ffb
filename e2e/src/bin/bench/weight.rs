//! What pods weigh on their node: proportional memory and processor time of their shims and of all below these.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;

use super::{Kind, node};

/// How long pods are watched at rest: at 100 ticks a second and five pods, a thousandth of a processor is ten of them.
const REST: Duration = Duration::from_secs(20);
/// The kernel's clock ticks a second, as /proc/PID/stat counts (USER_HZ on every Linux).
const TICKS: f64 = 100.0;

/// Memory in MiB and processors at rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weight {
    /// Of the shims themselves.
    pub shim_mib: f64,
    /// Of all below them: on runc the pause container and the container, else the supervisor and QEMU with the guest in it.
    pub below_mib: f64,
    /// Of both.
    pub processors: f64,
}

/// A process as the node lists it.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    pid: u32,
    parent: u32,
    ticks: f64,
    pss_kib: f64,
    program: String,
}

/// Weighs all pods of a kind that there are.
///
/// # Errors
/// If the node can't be asked, or no pod of the kind is there.
pub async fn weigh(kind: &Kind) -> anyhow::Result<Weight> {
    let (shim_kib, below_kib, before) = sums(&list()?, kind.shim);
    ensure!(shim_kib > 0.0 && below_kib > 0.0, "no pod on {} is there to be weighed", kind.name);
    tokio::time::sleep(REST).await;
    let (_, _, after) = sums(&list()?, kind.shim);
    let processors = (after - before) / TICKS / REST.as_secs_f64();
    Ok(Weight { shim_mib: shim_kib / 1024.0, below_mib: below_kib / 1024.0, processors })
}

fn list() -> anyhow::Result<Vec<Process>> {
    // pid, parent, ticks of user and kernel, PSS, program. Whatever ends meanwhile has no line.
    let script = r#"
        for p in /proc/[0-9]*; do
            read -r line <"$p/stat" || continue
            rest=${line##*) }; set -- $rest
            echo "${p#/proc/} $2 $((${12} + ${13})) $(sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' "$p/smaps_rollup") $(tr '\0' ' ' <"$p/cmdline" | cut -d' ' -f1)"
        done 2>/dev/null"#;
    Ok(node(&["bash", "-c", script])?.lines().filter_map(read).collect())
}

fn read(line: &str) -> Option<Process> {
    let mut words = line.split_whitespace();
    let mut next = || words.next();
    let (pid, parent, ticks) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    let (pss_kib, program) = (next()?.parse().ok()?, next()?.to_owned());
    Some(Process { pid, parent, ticks, pss_kib, program })
}

/// KiB of the shims, KiB of all below them, and clock ticks of both so far.
fn sums(all: &[Process], shim: &str) -> (f64, f64, f64) {
    let shims: BTreeSet<u32> = all.iter().filter(|process| process.program.ends_with(shim)).map(|process| process.pid).collect();
    let mut ours = shims.clone();
    loop {
        let more: Vec<u32> =
            all.iter().filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid)).map(|process| process.pid).collect();
        if more.is_empty() {
            break;
        }
        ours.extend(more);
    }
    let mut sums = (0.0, 0.0, 0.0);
    for process in all.iter().filter(|process| ours.contains(&process.pid)) {
        *(if shims.contains(&process.pid) { &mut sums.0 } else { &mut sums.1 }) += process.pss_kib;
        sums.2 += process.ticks;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_and_all_below_it_are_weighed() {
        let text = "1 0 50 900 init\n7 1 10 300 /opt/x/shim-one\n8 7 1 20 supervisor\n9 8 30 4000 /qemu/ld.so\n10 1 5 70 other\n11 2 3\n12 8 4 5000 \n";
        let all: Vec<Process> = text.lines().filter_map(read).collect();
        assert_eq!(all.len(), 5, "a kernel's thread has neither memory nor program: {all:?}");
        assert_eq!(sums(&all, "shim-one"), (300.0, 4020.0, 41.0));
        assert_eq!(sums(&all, "shim-two"), (0.0, 0.0, 0.0));
    }
}
