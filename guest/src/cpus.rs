//! Hot-added CPUs: the kernel finds them, somebody has to switch them on. There is no udev here.

use std::fs;

/// Switches on every CPU that is there.
pub fn bring_up() {
    for entry in fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten() {
        let online = entry.path().join("online");
        if fs::read_to_string(&online).is_ok_and(|state| state.trim() == "0") {
            // A CPU that does not start leaves the container with fewer; the kernel's log says why.
            let _ = fs::write(&online, "1");
        }
    }
}
