//! The guest's initial file system: the agent as `/init`, in a cpio archive compressed with LZ4.
//!
//! Input is the static agent; output is what QEMU hands the kernel as initrd. The archive is written here, not by the
//! cpio tool, because a device node in it would otherwise need root on the machine that builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{digest_of, short, write_whole};
use crate::steps::{Steps, call};

/// Counted up when this module would make something else from the same input.
const FORMAT: &str = "initrd 1";

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Makes the initial file system unless the cache has it.
pub fn provide(steps: &mut Steps, cache: &Path, agent: &Path) -> anyhow::Result<PathBuf> {
    let init = fs::read(agent).with_context(|| format!("could not read {}", agent.display()))?;
    let folder = cache.join("initrd").join(short(&digest_of(&[FORMAT.as_bytes(), &init])));
    let initrd = folder.join("initrd.lz4");
    if !initrd.exists() {
        steps.run("make the guest's initial file system", || {
            fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
            let plain = folder.join("initrd.cpio");
            let compressed = folder.join("initrd.compressed");
            write_whole(&plain, &archive(&init))?;
            // The kernel reads only the legacy frame (-l).
            call(Command::new("lz4").args(["-l", "-9", "-q", "-f"]).arg(&plain).arg(&compressed))?;
            fs::remove_file(&plain).context("could not remove the uncompressed archive")?;
            fs::rename(&compressed, &initrd).context("could not put the initial file system into the cache")
        })?;
    }
    Ok(initrd)
}

/// The whole archive: `/init`, the console the kernel gives it, and folders to mount on.
fn archive(init: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut inode = 0;
    for name in ["dev", "proc", "run", "sys", "tmp"] {
        inode += 1;
        entry(&mut archive, inode, name, DIRECTORY, (0, 0), &[]);
    }
    entry(&mut archive, inode + 1, "dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    entry(&mut archive, inode + 2, "init", EXECUTABLE, (0, 0), init);
    entry(&mut archive, 0, "TRAILER!!!", 0, (0, 0), &[]);
    archive
}

/// One entry of the "newc" format: header of hexadecimal numbers, name and content, the latter two padded to 4 bytes.
fn entry(archive: &mut Vec<u8>, inode: u32, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
    let links = if mode == DIRECTORY { 2 } else { 1 };
    let size = u32::try_from(content.len()).expect("an initial file system below 4 GiB");
    let name_size = u32::try_from(name.len() + 1).expect("a short name");
    archive.extend_from_slice(b"070701");
    // inode, mode, owner, group, links, time, size, device (2), device of a node (2), size of the name, checksum
    for number in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(content);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_say_their_sizes() {
        let archive = archive(b"#!init");
        assert_eq!(archive.len() % 4, 0);
        let text = String::from_utf8_lossy(&archive);
        assert_eq!(text.matches("070701").count(), 8);
        let at = text.find("init\0").expect("the name of the init");
        let header = &text[at - 110..at];
        assert_eq!(&header[14..22], "000081ed", "a regular file, executable");
        assert_eq!(&header[54..62], "00000006", "six bytes of content");
        assert!(text.contains("TRAILER!!!\0"));
        let console = text.find("dev/console\0").expect("the console");
        assert_eq!(&text[console - 110..console][78..94], "0000000500000001", "device 5, 1");
    }
}
