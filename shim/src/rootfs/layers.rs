//! Image layers as erofs files, each made once a node and only ever opened read-only.
//!
//! A layer is known by its folder's path, device, inode and birth time: containerd reuses a snapshot's number and the
//! file system may reuse an inode, but a new folder has a new birth time. A file appears by rename when it is whole.
//! The converter runs confined.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FlockOperation, StatxFlags};
use sha2::{Digest, Sha256};

use crate::config::{Bundle, Config};
use crate::confine::privileges::Limits;
use crate::confine::view::{Item, With};
use crate::confine::{Plan, launch};

/// Part of every key: a change of the converter or its options makes new files.
const CONVERTER: &str = "erofs-1";

/// Birth times are cut to the kernel's tick (10 ms at most), so a folder made in the same tick at the same path and inode
/// would have the same key. A file is published only this long after its key was read: whatever folder comes later is in a
/// later tick.
const BIRTH_TICK: Duration = Duration::from_millis(20);

/// Capabilities of capabilities(7), as bits.
const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_ADMIN: u64 = 1 << 21;
/// Address space of the converter: it holds an inode for each file of the layer, about 1 KiB, and buffers.
const CONVERTER_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Processor time of the converter: it takes about 8 s for 500 MB.
const CONVERTER_SECONDS: u64 = 600;

/// Free bytes below which a file system counts as full.
const NO_ROOM: u64 = 256 * 1024;
/// Looks in a row, a second apart, after which a converter is given up: on a full file system, and one that writes nothing, which one
/// that reads a large tree on a slow disk does for a while.
const FULL_LOOKS: u32 = 2;
const STILL_LOOKS: u32 = 600;

/// Why a layer is not there.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file or folder could not be used.
    #[error("can't {step} for image layer {layer}: {cause}{hint}", hint = crate::if_full(.cause))]
    File {
        /// What was done.
        step: &'static str,
        /// Which layer.
        layer: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The converter failed.
    #[error("can't convert image layer {layer}: mkfs.erofs ended with {status}: {words}{hint}", hint = if_full(.words))]
    Converter {
        /// Which layer.
        layer: PathBuf,
        /// How it ended.
        status: String,
        /// Its last words.
        words: String,
    },
}

/// What the converter says of a full disk is the C library's text; it has no other way.
fn if_full(words: &str) -> &'static str {
    if words.contains("No space left") { crate::if_full(&io::ErrorKind::StorageFull.into()) } else { "" }
}

/// Opens a layer's erofs file, made now if it is not there. Takes time: call it off the async threads.
///
/// # Errors
/// If the layer can't be read or converted, or the cache can't be written.
pub fn open(config: &Config, layer: &Path) -> Result<(String, File), LayerError> {
    let failed = |step| move |cause: io::Error| LayerError::File { step, layer: layer.to_owned(), cause };
    let key = key(layer).map_err(failed("identify the folder"))?;
    let cache = &config.layer_cache;
    std::fs::create_dir_all(cache).map_err(failed("make the cache"))?;
    std::fs::set_permissions(cache, PermissionsExt::from_mode(0o700)).map_err(failed("close the cache to others"))?;
    let path = cache.join(format!("{key}.erofs"));
    if let Ok(file) = File::open(&path) {
        return Ok((key, file));
    }
    let lock = File::create(cache.join(format!("{key}.lock"))).map_err(failed("open the lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed("take the lock")(e.into()))?;
    if let Ok(file) = File::open(&path) {
        return Ok((key, file)); // another shim made it while this one waited
    }
    std::thread::sleep(BIRTH_TICK);
    let temporary = cache.join(format!("{key}.tmp"));
    let unfinished = || UNFINISHED.lock().expect("nothing panics under this lock");
    unfinished().push(temporary.clone());
    let converted = convert(config, layer, &temporary);
    unfinished().retain(|path| *path != temporary);
    converted?;
    let file = File::open(&temporary).map_err(failed("open the new file"))?;
    file.set_permissions(PermissionsExt::from_mode(0o400)).map_err(failed("seal the new file"))?;
    file.sync_all().map_err(failed("sync the new file"))?;
    std::fs::rename(&temporary, &path).map_err(failed("publish the new file"))?;
    bound(cache, config.layer_cache_max_bytes, &path);
    Ok((key, file))
}

fn convert(config: &Config, layer: &Path, target: &Path) -> Result<(), LayerError> {
    let bundle = Bundle(config.bundle.clone());
    let failed = |cause| LayerError::File { step: "run mkfs.erofs", layer: layer.to_owned(), cause };
    let _ = std::fs::remove_file(target); // left by a shim that was killed
    let mut growth = Growth::of(File::create_new(target).map_err(failed)?);
    let ended = launch::run(&plan(&bundle, layer, target, config.layer_cache_max_bytes), || growth.is_over());
    let ended = ended.map_err(|error| failed(io::Error::other(format!("{error:#}"))))?;
    if ended.success {
        return Ok(());
    }
    let _ = std::fs::remove_file(target);
    if let Some(cause) = growth.why() {
        return Err(failed(cause));
    }
    Err(LayerError::Converter { layer: layer.to_owned(), status: ended.how, words: ended.words })
}

/// A converter's file, looked at each second: mkfs.erofs 1.8 writes in a second thread, and when a write of that one fails,
/// the first may wait for it for ever.
struct Growth {
    file: File,
    /// When it was last written, as far as its file system tells.
    written: Option<SystemTime>,
    /// Looks in a row at which its file system had no room, and at which nothing new was written.
    full: u32,
    still: u32,
}

impl Growth {
    fn of(file: File) -> Self {
        Self { file, written: None, full: 0, still: 0 }
    }

    /// Whether it can't be expected to become whole any more.
    fn is_over(&mut self) -> bool {
        let has_room = rustix::fs::fstatvfs(&self.file).is_ok_and(|has| has.f_bfree.saturating_mul(has.f_frsize) >= NO_ROOM);
        self.full = if has_room { 0 } else { self.full + 1 };
        let written = self.file.metadata().and_then(|now| now.modified()).ok();
        self.still = if written == self.written { self.still + 1 } else { 0 };
        self.written = written;
        self.why().is_some()
    }

    fn why(&self) -> Option<io::Error> {
        if self.full >= FULL_LOOKS {
            return Some(rustix::io::Errno::NOSPC.into());
        }
        let still = || io::Error::new(io::ErrorKind::TimedOut, format!("it wrote nothing for {STILL_LOOKS} s"));
        (self.still >= STILL_LOOKS).then(still)
    }
}

/// The converter reads a tree that a tenant chose: it sees that tree, the new file and its own program, and may read any
/// file and the attributes that overlayfs keeps, which only these two capabilities allow.
fn plan(bundle: &Bundle, layer: &Path, target: &Path, max_bytes: u64) -> Plan {
    let inside = Bundle("/bundle".into());
    let bind = |from: &Path, to: &str, with| Item::Bind { from: from.to_owned(), to: to.into(), with };
    let command = [&inside.loader(), "--library-path", &inside.libraries(), &inside.mkfs_erofs(), "--quiet", "/target", "/layer"];
    Plan {
        uid: 0,
        over: bundle.0.clone(),
        view: vec![
            bind(Path::new(&bundle.libraries()), "bundle/qemu/lib", With::Run),
            bind(&bundle.0.join("erofs"), "bundle/erofs", With::Run),
            bind(layer, "layer", With::Nothing),
            bind(target, "target", With::Write),
        ],
        command: command.map(str::to_owned).into(),
        environment: Vec::new(),
        keep: Vec::new(),
        hold: Vec::new(),
        network: None,
        capabilities: DAC_READ_SEARCH | SYS_ADMIN,
        limits: Limits {
            descriptors: 1024,
            threads: 64,
            file_bytes: Some(max_bytes),
            address_bytes: Some(CONVERTER_BYTES),
            cpu_seconds: Some(CONVERTER_SECONDS),
        },
    }
}

/// Files of this shim's converters that run.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what this shim's converters have not finished: they end with the shim, which ends now.
pub fn abandon() {
    for path in UNFINISHED.lock().expect("nothing panics under this lock").drain(..) {
        let _ = std::fs::remove_file(path);
    }
}

/// Removes what converters have left that died with their shim: whoever converts holds the lock beside its file.
pub fn sweep(cache: &Path) {
    let Ok(entries) = std::fs::read_dir(cache) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "tmp")) {
        let Ok(lock) = File::create(path.with_extension("lock")) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_file(&path); // or another sweep was first
        }
    }
}

/// What the layer is known by.
fn key(layer: &Path) -> io::Result<String> {
    let path = layer.canonicalize()?;
    let flags = StatxFlags::INO | StatxFlags::BTIME;
    let stat = rustix::fs::statx(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW, flags)?;
    if stat.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return Err(io::Error::other(
            "its file system keeps no birth times, so a reused folder can't be told from the one before",
        ));
    }
    let text = format!(
        "{CONVERTER}\0{}\0{}:{}\0{}\0{}.{}",
        path.display(),
        stat.stx_dev_major,
        stat.stx_dev_minor,
        stat.stx_ino,
        stat.stx_btime.tv_sec,
        stat.stx_btime.tv_nsec
    );
    Ok(Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes the oldest files beyond the bound, but never `keep`. Machines hold theirs open, so nothing is taken from one.
fn bound(cache: &Path, max_bytes: u64, keep: &Path) {
    let Ok(entries) = std::fs::read_dir(cache) else { return };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "erofs") && entry.path() != keep)
        .filter_map(|entry| entry.metadata().ok().map(|m| (m.accessed().or(m.modified()).ok(), m.len(), entry.path())))
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, size, _)| size).sum::<u64>() + std::fs::metadata(keep).map_or(0, |m| m.len());
    for (_, size, path) in files {
        if total <= max_bytes {
            return;
        }
        if std::fs::remove_file(&path).is_ok() {
            total -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_at_an_old_path_is_another_layer_and_the_cache_is_bounded() {
        let folder = std::env::temp_dir().join(format!("freehold-layers-{}", std::process::id()));
        let layer = folder.join("42");
        std::fs::create_dir_all(&layer).unwrap();
        let first = key(&layer).unwrap();
        assert_eq!(first, key(&layer).unwrap());
        std::thread::sleep(BIRTH_TICK);
        std::fs::remove_dir(&layer).unwrap();
        std::fs::create_dir(&layer).unwrap();
        assert_ne!(first, key(&layer).unwrap());
        for name in ["a", "b", "c"] {
            std::fs::write(folder.join(format!("{name}.erofs")), [0; 100]).unwrap();
        }
        bound(&folder, 200, &folder.join("a.erofs"));
        assert!(folder.join("a.erofs").exists());
        let left = std::fs::read_dir(&folder).unwrap().flatten().filter(|e| e.path().is_file()).count();
        assert_eq!(left, 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_nobody_writes_any_more_is_given_up() {
        let path = std::env::temp_dir().join(format!("freehold-growth-{}", std::process::id()));
        let mut growth = Growth::of(File::create(&path).unwrap());
        assert!((0..=STILL_LOOKS / 2).all(|_| !growth.is_over()));
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!((0..STILL_LOOKS).all(|_| !growth.is_over()), "it was written, and is given up");
        assert!(growth.is_over() && growth.why().unwrap().to_string().contains("600 s"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_a_dead_converter_left_is_swept_and_a_living_ones_is_not() {
        let folder = std::env::temp_dir().join(format!("freehold-sweep-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["dead.tmp", "busy.tmp", "whole.erofs"] {
            std::fs::write(folder.join(name), []).unwrap();
        }
        let busy = File::create(folder.join("busy.lock")).unwrap();
        rustix::fs::flock(&busy, FlockOperation::LockExclusive).unwrap();
        sweep(&folder);
        let left = ["dead.tmp", "busy.tmp", "whole.erofs"].map(|name| folder.join(name).exists());
        assert_eq!(left, [false, true, true]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
