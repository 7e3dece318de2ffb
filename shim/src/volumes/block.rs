//! Block volumes (volumeDevices): a block device of the node becomes a disk of the machine.
//!
//! The kubelet has attached the device for this pod and the spec names it by number; its node is looked up in /sys, opened
//! here and handed to QEMU by descriptor, so QEMU needs no right to it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use freehold_guest_api::message::{AddVolume, Call, Device, Medium};

use crate::spec::{self, Spec};
use crate::task::sandbox::Sandbox;

/// Mode of a device without one of its own.
const MODE: u32 = 0o660;

/// Gives the machine every block device of a container; what the agent makes of them.
///
/// # Errors
/// If a device can't be opened or plugged; the message names its path in the container.
pub async fn carry(sandbox: &Sandbox, spec: &Spec) -> anyhow::Result<Vec<Device>> {
    let mut devices = Vec::new();
    for device in &spec.linux.devices {
        let named = || format!("the block volume {} can't be given to the virtual machine", device.path);
        let volume = one(sandbox, device, spec.may_write(device)).await.with_context(named)?;
        let mode = device.file_mode.unwrap_or(MODE);
        let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
        devices.push(Device { path: device.path.clone(), volume, mode, uid, gid });
    }
    Ok(devices)
}

async fn one(sandbox: &Sandbox, device: &spec::Device, writable: bool) -> anyhow::Result<String> {
    let number = format!("{}:{}", device.major, device.minor);
    // One that a container may only read is a disk of its own: what QEMU opened for writing can be written.
    let key = PathBuf::from(format!("/dev/block/{number}/{writable}"));
    super::ensure(sandbox, &key, async |id| {
        let file = open(device, &number, writable)?;
        let disk = sandbox.block(&file, writable).await?;
        let add = AddVolume { volume: id, mode: MODE, uid: 0, gid: 0, medium: Some(Medium::Block(disk)), ..AddVolume::default() };
        sandbox.agent.command("AddVolume", Call::AddVolume(add)).await?;
        Ok(None)
    })
    .await
}

fn open(device: &spec::Device, number: &str, writable: bool) -> anyhow::Result<File> {
    let uevent = std::fs::read_to_string(format!("/sys/dev/block/{number}/uevent"));
    let uevent = uevent.with_context(|| format!("the node has no block device {number}"))?;
    let name = name(&uevent).with_context(|| format!("the node's block device {number} has no name"))?;
    let path = Path::new("/dev").join(name);
    let file = OpenOptions::new().read(true).write(writable).open(&path);
    let file = file.with_context(|| format!("can't open {}", path.display()))?;
    let metadata = file.metadata()?;
    let found = (i64::from(rustix::fs::major(metadata.rdev())), i64::from(rustix::fs::minor(metadata.rdev())));
    if !metadata.file_type().is_block_device() || found != (device.major, device.minor) {
        bail!("{} is not the block device {number}", path.display());
    }
    Ok(file)
}

/// The name below /dev that the kernel tells; it may lie in a folder, but nowhere else.
fn name(uevent: &str) -> Option<&str> {
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (plain && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_dev() {
        for (uevent, expect) in [
            ("MAJOR=7\nMINOR=0\nDEVNAME=loop0\nDEVTYPE=disk\n", Some("loop0")),
            ("DEVNAME=mapper/x\n", Some("mapper/x")),
            ("DEVNAME=../etc/shadow\n", None),
            ("DEVNAME=/etc/shadow\n", None),
            ("DEVNAME=\n", None),
            ("MAJOR=7\n", None),
        ] {
            assert_eq!(name(uevent), expect, "{uevent}");
        }
    }
}
