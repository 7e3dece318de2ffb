//! Disks plugged into a running machine by descriptor: QEMU never opens a path of the node.
//!
//! Every disk is a LUN of SCSI target 0; the agent is told which LUN to scan for (bursts overflow the guest's event ring).
//! The format is always raw: a tenant's bytes are never asked what they are.

use std::os::fd::AsFd;
use std::time::Duration;

use freehold_guest_api::message::Disk;
use serde_json::json;

use super::qmp::{Qmp, QmpError};

/// The one SCSI target.
pub const TARGET: u32 = 0;
/// LUNs of a target; a pod of 128 containers with 100 layers each, most of them shared, stays below.
pub const MAX_LUNS: u32 = 2048;
/// Time for the guest to let go of a disk.
const UNPLUG_TIME: Duration = Duration::from_secs(10);

/// Plugs a disk.
///
/// # Errors
/// If QEMU refuses; what was done before is undone as far as it goes.
pub async fn plug(qmp: &Qmp, lun: u32, file: impl AsFd, writable: bool) -> Result<Disk, QmpError> {
    let set = fdset(lun);
    qmp.execute("add-fd", json!({ "fdset-id": set }), Some(file.as_fd())).await?;
    // QEMU has two drivers for what it opens: one for files, one for block devices.
    let driver = if is_device(&file) { "host_device" } else { "file" };
    let block = json!({
        "node-name": node(lun), "driver": "raw", "read-only": !writable,
        "file": { "driver": driver, "filename": format!("/dev/fdset/{set}"), "read-only": !writable,
                  "locking": "off", "discard": "unmap" },
    });
    if let Err(error) = qmp.execute("blockdev-add", block, None).await {
        let _ = qmp.execute("remove-fd", json!({ "fdset-id": set }), None).await;
        return Err(error);
    }
    // A full node is an error of the container's write, not a machine that stands still, which is QEMU's default.
    let device = json!({
        "driver": "scsi-hd", "id": device(lun), "bus": "scsi0.0", "drive": node(lun), "scsi-id": TARGET, "lun": lun,
        "werror": "report", "rerror": "report",
    });
    if let Err(error) = qmp.execute("device_add", device, None).await {
        release(qmp, lun).await;
        return Err(error);
    }
    Ok(Disk { target: TARGET, lun })
}

/// Unplugs a disk that the guest has unmounted.
///
/// # Errors
/// If QEMU refuses or the guest does not let go.
pub async fn unplug(qmp: &Qmp, lun: u32) -> Result<(), QmpError> {
    let mut events = qmp.events();
    qmp.execute("device_del", json!({ "id": device(lun) }), None).await?;
    let gone = async {
        while let Ok(event) = events.recv().await {
            if event["event"] == "DEVICE_DELETED" && event["data"]["device"] == json!(device(lun)) {
                return;
            }
        }
    };
    if tokio::time::timeout(UNPLUG_TIME, gone).await.is_err() {
        return Err(QmpError::Late { command: format!("device_del of disk {lun}") });
    }
    release(qmp, lun).await;
    Ok(())
}

async fn release(qmp: &Qmp, lun: u32) {
    // Both fail where the other end was never made; there is nothing else to do about it.
    let _ = qmp.execute("blockdev-del", json!({ "node-name": node(lun) }), None).await;
    let _ = qmp.execute("remove-fd", json!({ "fdset-id": fdset(lun) }), None).await;
}

fn is_device(file: &impl AsFd) -> bool {
    let kind = rustix::fs::fstat(file.as_fd()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    kind == Ok(rustix::fs::FileType::BlockDevice)
}
fn fdset(lun: u32) -> u32 {
    lun + 1
}
fn node(lun: u32) -> String {
    format!("disk{lun}")
}
fn device(lun: u32) -> String {
    format!("scsi-disk{lun}")
}
