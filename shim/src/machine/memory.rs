//! How much memory a machine has: what it boots with, what it may grow to, and what its containers ask for.

use super::qmp::{Qmp, QmpError};

/// A machine boots with no more than this, in MiB; the rest is growth, which can be given back.
pub const BASE_MIB: u64 = 128;
/// Growth is cut to this, in MiB: virtio-mem's block and the guest's sub-block.
pub const STEP_MIB: u64 = 4;
/// No machine grows by more, in MiB.
pub const MAX_GROWTH_MIB: u64 = 64 * 1024;
const MIB: u64 = 1024 * 1024;

/// Memory at boot and the room for growth, both MiB, of a pod with this default on a host with so much memory.
pub fn boot_and_room(default_mib: u64, host_mib: u64) -> (u64, u64) {
    let base = default_mib.min(BASE_MIB);
    let room = host_mib.clamp(1024, MAX_GROWTH_MIB);
    (base, room / 128 * 128)
}

/// How far it must have grown, in MiB: the default, and on top of it every container's limit. The default stays the
/// guest's own: kernel, agent, page cache of the layers.
pub fn growth(default_mib: u64, base_mib: u64, room_mib: u64, limits: &[u64]) -> u64 {
    let asked = limits.iter().fold(0u64, |sum, limit| sum.saturating_add(limit.div_ceil(MIB)));
    let wanted = default_mib.saturating_add(asked).saturating_sub(base_mib);
    (wanted.div_ceil(STEP_MIB) * STEP_MIB).min(room_mib)
}

/// Host memory in MiB from the text of /proc/meminfo.
pub fn host_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

/// Asks the guest to grow or shrink; it follows in its own time (about 90 ms a GiB).
///
/// # Errors
/// If QEMU refuses.
pub async fn resize(qmp: &Qmp, growth_mib: u64) -> Result<(), QmpError> {
    let arguments = serde_json::json!({
        "path": "/machine/peripheral/memory0", "property": "requested-size", "value": growth_mib * MIB,
    });
    qmp.execute("qom-set", arguments, None).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_default_and_limits_within_the_room() {
        for (default, limits, expect) in [
            (256, vec![], 128),
            (64, vec![], 0),
            (256, vec![64 * MIB], 192),
            (256, vec![64 * MIB, MIB + 1], 196),
            (256, vec![u64::MAX], 1024),
        ] {
            assert_eq!(growth(default, BASE_MIB.min(default), 1024, &limits), expect, "{default} {limits:?}");
        }
    }

    #[test]
    fn room_follows_the_host() {
        assert_eq!(boot_and_room(256, 24_100), (128, 24_064));
        assert_eq!(boot_and_room(64, 100), (64, 1024));
        assert_eq!(host_mib("MemTotal:       24000000 kB\n"), Some(23_437));
    }
}
