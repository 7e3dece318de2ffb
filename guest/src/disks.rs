//! Hot-added disks: scanned for exactly where the shim says, because a burst of events of virtio-scsi loses some.

use crate::fail::{Failure, Result, Step};
use crate::port::wait_for;
use freehold_guest_api::message::Disk;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a disk may take to appear after the scan, which itself waits for the device's answer.
const APPEAR: Duration = Duration::from_secs(10);
const MAX_TARGET: u32 = 255;
const MAX_LUN: u32 = 16383;

/// Disks in use, each with the number of its users (a layer may be shared by containers).
#[derive(Default)]
pub struct Disks {
    users: BTreeMap<(u32, u32), usize>,
}

impl Disks {
    /// Makes the disk appear and gives its device file.
    pub fn attach(&mut self, disk: Disk) -> Result<PathBuf> {
        let Disk { target, lun } = disk;
        if target > MAX_TARGET || lun > MAX_LUN {
            return Err(Failure::refuse(format!("disk {target}:{lun} is beyond {MAX_TARGET}:{MAX_LUN}")));
        }
        let host = host()?;
        if !device(&host, disk).exists() {
            let scan = Path::new("/sys/class/scsi_host").join(format!("host{host}")).join("scan");
            fs::write(&scan, format!("0 {target} {lun}")).step(format!("scan for disk {target}:{lun}"))?;
        }
        let node = wait_for(APPEAR, || {
            let name = fs::read_dir(device(&host, disk).join("block")).ok()?.flatten().next()?.file_name();
            // The node is there a moment before the disk can be opened (ENXIO): the kernel adds disks in that order.
            Some(Path::new("/dev").join(name)).filter(|path| fs::File::open(path).is_ok())
        });
        let node = node.ok_or_else(|| {
            Failure::with(libc::ENODEV, format!("disk {target}:{lun} did not appear in {APPEAR:?} after the scan"))
        })?;
        *self.users.entry((target, lun)).or_default() += 1;
        Ok(node)
    }

    /// Gives up one use; after the last one the guest forgets the disk, so that the shim can take it away.
    pub fn release(&mut self, disk: Disk) {
        let key = (disk.target, disk.lun);
        let Some(count) = self.users.get_mut(&key) else { return };
        *count -= 1;
        if *count == 0 {
            self.users.remove(&key);
            if let Ok(host) = host() {
                // A failure only means that the guest still knows the disk; the shim's own removal says so.
                let _ = fs::write(device(&host, disk).join("delete"), "1");
            }
        }
    }
}

fn device(host: &str, disk: Disk) -> PathBuf {
    PathBuf::from(format!("/sys/class/scsi_device/{host}:0:{}:{}/device", disk.target, disk.lun))
}

fn host() -> Result<String> {
    let entries = fs::read_dir("/sys/class/scsi_host").step("list SCSI controllers")?;
    let found = entries.flatten().find_map(|entry| {
        let driver = fs::read_to_string(entry.path().join("proc_name")).ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        (driver.trim() == "virtio_scsi").then(|| name.trim_start_matches("host").to_owned())
    });
    found.ok_or_else(|| Failure::with(libc::ENODEV, "the guest has no virtio-scsi controller"))
}
