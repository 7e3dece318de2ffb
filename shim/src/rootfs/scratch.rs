//! A writable disk: a sparse copy of one of the bundle's ext4 templates, inside the snapshot's change folder or the emptyDir's, where
//! containerd's usage figures, the kubelet's eviction and the folder's removal find it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::SeekFrom;

/// Name in the change folder.
pub const NAME: &str = ".freehold-disk";
/// Bytes copied at a time.
const CHUNK: usize = 256 * 1024;

/// Makes the disk, or opens the one that a container before left there.
///
/// # Errors
/// If template or folder can't be read or written.
pub fn make(template: &Path, upper: &Path) -> io::Result<File> {
    let path = upper.join(NAME);
    // NOFOLLOW: what lies in a change folder may be a tenant's.
    let open = |create_new| {
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        OpenOptions::new().read(true).write(true).create_new(create_new).mode(0o600).custom_flags(no_follow).open(&path)
    };
    let target = match open(true) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return open(false),
        Err(error) => return Err(error),
    };
    let copied = File::open(template).and_then(|source| copy_sparse(&source, &target));
    if let Err(error) = copied {
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(target)
}

/// Copies only what is data.
fn copy_sparse(source: &File, target: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut buffer = vec![0u8; CHUNK];
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break, // only a hole is left
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let n = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            source.read_exact_at(&mut buffer[..n], at)?;
            target.write_all_at(&buffer[..n], at)?;
            at += n as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn holes_stay_holes_and_a_second_call_keeps_the_disk() {
        let folder = std::env::temp_dir().join(format!("freehold-scratch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let template = folder.join("template");
        let file = File::create(&template).unwrap();
        file.set_len(64 * 1024 * 1024).unwrap();
        file.write_all_at(b"middle", 32 * 1024 * 1024).unwrap();
        let disk = make(&template, &folder).unwrap();
        let mut found = [0u8; 6];
        disk.read_exact_at(&mut found, 32 * 1024 * 1024).unwrap();
        assert_eq!(&found, b"middle");
        assert_eq!(disk.metadata().unwrap().len(), 64 * 1024 * 1024);
        assert!(disk.metadata().unwrap().blocks() * 512 < 1024 * 1024);
        disk.write_all_at(b"kept", 0).unwrap();
        let again = make(&template, &folder).unwrap();
        let mut found = [0u8; 4];
        again.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(&found, b"kept");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
