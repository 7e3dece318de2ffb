//! What a template depends on, as one name. A pure function.
//!
//! If any of it is another one the clone would not be what the machine would be, or would be another tenant's: so it is another
//! template. Two tenants never share one, although no pod's data is in it: clones of one have the same kernel addresses.

use sha2::{Digest, Sha256};

/// Counted up when a template would be made otherwise of the same parts.
const FORMAT: &[u8] = b"template 1";

/// What goes into it.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    /// UID of the tenant.
    pub tenant: &'a str,
    /// The bundle's list of digests: kernel, guest, QEMU, firmware, and the shim that knows the machine's shape.
    pub manifest: &'a [u8],
    /// The node's boot: with it may change what a processor offers, and its clock.
    pub boot: &'a [u8],
    /// Text of /proc/cpuinfo.
    pub processor: &'a [u8],
    /// QEMU's arguments: accelerator, processor model, sizes, devices and their flags.
    pub arguments: &'a [String],
}

/// The name: 32 hexadecimal digits.
pub fn of(parts: &Parts<'_>) -> String {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes()); // or the end of one could be the beginning of the next
        digest.update(bytes);
    };
    add(FORMAT);
    add(parts.tenant.as_bytes());
    add(parts.manifest);
    add(parts.boot);
    add(model(parts.processor).as_bytes());
    for argument in parts.arguments {
        add(argument.as_bytes());
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What of /proc/cpuinfo says which processor it is; the rest changes from moment to moment.
fn model(cpuinfo: &[u8]) -> String {
    let text = String::from_utf8_lossy(cpuinfo);
    let first = text.split("\n\n").next().unwrap_or_default();
    let lasting = ["vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags", "bugs"];
    let lines = first.lines().filter(|line| line.split_once(':').is_some_and(|(name, _)| lasting.contains(&name.trim())));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: &str = "processor\t: 0\nmodel name\t: X\ncpu MHz\t: 2500.1\nflags\t: a b\n\nprocessor\t: 1\nmodel name\t: X\n";

    #[test]
    fn every_part_counts_and_nothing_else() {
        let arguments = ["-accel".to_owned(), "tcg".to_owned()];
        let parts = Parts { tenant: "a", manifest: b"m", boot: b"b", processor: CPU.as_bytes(), arguments: &arguments };
        let key = of(&parts);
        assert_eq!(key.len(), 32);
        let other = CPU.replace("a b", "a b c");
        let joined = ["-acceltcg".to_owned()];
        for changed in [
            Parts { tenant: "b", ..parts.clone() },
            Parts { manifest: b"n", ..parts.clone() },
            Parts { boot: b"c", ..parts.clone() },
            Parts { processor: other.as_bytes(), ..parts.clone() },
            Parts { arguments: &joined, ..parts.clone() },
        ] {
            assert_ne!(of(&changed), key, "{changed:?}");
        }
        let slower = CPU.replace("2500.1", "1200.7");
        assert_eq!(of(&Parts { processor: slower.as_bytes(), ..parts.clone() }), key, "the clock of the moment");
    }
}
