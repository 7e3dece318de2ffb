//! Whether packets between pods on one bridge pass the table at all: the kernel shows them only if br_netfilter is loaded
//! and told so.

use std::collections::BTreeSet;
use std::path::Path;

/// What says whether the kernel shows bridged packets, a file a family.
const SWITCHES: [&str; 2] = ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];

/// Why bridged packets are not seen; `None` if they are, or if no pod is behind a bridge.
pub fn blind(links: &BTreeSet<String>) -> Option<String> {
    let bridge = links.iter().find(|link| Path::new("/sys/class/net").join(link).join("bridge").exists())?;
    let off = SWITCHES.iter().find(|switch| !std::fs::read_to_string(switch).is_ok_and(|text| text.trim() == "1"))?;
    Some(format!("pods are behind the bridge {bridge}, and {off} is not 1; load br_netfilter on the node and set it"))
}
