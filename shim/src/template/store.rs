//! The folder of templates: opened, wanted, used, removed, bounded.
//!
//! A template appears by rename when it is whole, is never written again, and may be removed at any time: clones hold its memory by
//! their own mapping. QEMU's user reads it by the file's mode, so the folder above is what keeps others out.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::map::is_name;
use crate::machine::command::Pieces;

/// Folder of the tenants for which a template is wanted.
const WANTED: &str = "wanted";
/// Most tenants that may want one; more have to ask again.
const MAX_WANTED: usize = 256;
/// What a template is known by.
const SEAL: &str = "seal.json";
/// Mode of a template's files: nobody writes them any more.
const SEALED: u32 = 0o444;
/// Largest state that is read, in bytes; a real one has about 400 KiB.
const MAX_STATE: u64 = 64 * 1024 * 1024;

/// What is checked before a template is used. The memory is not read for it: it is large, and root's alone.
#[derive(Debug, Serialize, Deserialize)]
struct Seal {
    memory_bytes: u64,
    state_sha256: String,
}

/// Files of a template in a folder.
pub fn pieces(folder: &Path) -> Pieces {
    Pieces { memory: folder.join("memory"), state: folder.join("state") }
}

/// Seals the files of a new template in their folder.
///
/// # Errors
/// If a file can't be read or closed.
pub fn seal(folder: &Path) -> io::Result<()> {
    let pieces = pieces(folder);
    for path in [&pieces.memory, &pieces.state] {
        std::os::unix::fs::chown(path, Some(0), Some(0))?;
        fs::set_permissions(path, Permissions::from_mode(SEALED))?;
        File::open(path)?.sync_all()?;
    }
    let seal = Seal { memory_bytes: fs::metadata(&pieces.memory)?.len(), state_sha256: digest(&pieces.state)? };
    let path = folder.join(SEAL);
    fs::write(&path, serde_json::to_vec(&seal)?)?;
    File::open(&path)?.sync_all()?;
    File::open(folder)?.sync_all()
}

/// A template's files, if they are as they were sealed; notes the use. In words why not.
///
/// # Errors
/// If there is none of this key, or it is damaged.
pub fn open(folder: &Path, key: &str) -> Result<Pieces, String> {
    let folder = folder.join(key);
    let text = match fs::read(folder.join(SEAL)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("there is no template of the tenant yet".into()),
        text => text.map_err(|error| format!("can't read the template's seal: {error}"))?,
    };
    let seal: Seal = serde_json::from_slice(&text).map_err(|error| format!("the template's seal is damaged: {error}"))?;
    let pieces = pieces(&folder);
    check(&pieces, &seal).map_err(|reason| format!("the template {} is damaged: {reason}", folder.display()))?;
    let _ = File::open(folder.join(SEAL)).and_then(|file| file.set_modified(SystemTime::now())); // only the order of removal
    Ok(pieces)
}

fn check(pieces: &Pieces, seal: &Seal) -> Result<(), String> {
    for path in [&pieces.memory, &pieces.state] {
        let about = fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !about.is_file() || about.uid() != owner() || about.mode() & 0o7777 != SEALED {
            return Err(format!("{} is not a sealed file of root's", path.display()));
        }
    }
    let length = fs::metadata(&pieces.memory).map_err(|error| error.to_string())?.len();
    if length != seal.memory_bytes {
        return Err(format!("its memory has {length} bytes, not {}", seal.memory_bytes));
    }
    let found = digest(&pieces.state).map_err(|error| error.to_string())?;
    if found == seal.state_sha256 { Ok(()) } else { Err("its state is not what was sealed".into()) }
}

/// Root, or whoever runs the tests.
fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn digest(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut io::Read::take(File::open(path)?, MAX_STATE), &mut digest)?;
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Notes that a tenant wants a template. A failure only means that pods go on booting cold.
pub fn want(folder: &Path, tenant: &str) {
    let wanted = folder.join(WANTED);
    if wanted_by(folder).len() < MAX_WANTED {
        // One that is there already keeps its time.
        let _ = fs::create_dir_all(&wanted).and_then(|()| File::create_new(wanted.join(tenant)));
    }
}

/// The tenants that want one, who has waited longest first.
pub fn wanted_by(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join(WANTED)).into_iter().flatten().flatten();
    let since = |entry: &fs::DirEntry| entry.metadata().and_then(|about| about.modified()).ok();
    let mut all: Vec<_> = entries
        .filter_map(|entry| Some((since(&entry), entry.file_name().into_string().ok()?)))
        .filter(|(_, name)| is_name(name))
        .collect();
    all.sort();
    all.into_iter().map(|(_, name)| name).collect()
}

/// The wish is fulfilled, or can't be.
pub fn unwant(folder: &Path, tenant: &str) {
    let _ = fs::remove_file(folder.join(WANTED).join(tenant));
}

/// Removes a template; clones live on.
pub fn remove(folder: &Path, key: &str) {
    let gone = folder.join(format!(".gone-{key}"));
    // By another name first: half of one must not be found under its own.
    let _ = fs::rename(folder.join(key), &gone);
    let _ = fs::remove_dir_all(gone);
}

/// A template as the bound sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// Its key.
    pub key: String,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was last used.
    pub used: SystemTime,
}

/// Templates to remove, the longest unused first, so that what stays has at most so many bytes. A pure function.
pub fn surplus(mut held: Vec<Held>, max_bytes: u64) -> Vec<String> {
    held.sort_by_key(|one| one.used);
    let mut bytes: u64 = held.iter().map(|one| one.bytes).sum();
    let mut out = Vec::new();
    for one in held {
        if bytes <= max_bytes {
            break;
        }
        bytes -= one.bytes;
        out.push(one.key);
    }
    out
}

/// Every template that is there.
pub fn held(folder: &Path) -> Vec<Held> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(seal) = fs::metadata(entry.path().join(SEAL)) else { continue };
        let (Ok(used), Ok(key)) = (seal.modified(), entry.file_name().into_string()) else { continue };
        if key.starts_with('.') {
            continue; // under way, or on its way out
        }
        let pieces = pieces(&entry.path());
        let bytes =
            [&pieces.memory, &pieces.state].iter().filter_map(|path| fs::metadata(path).ok()).map(|m| m.blocks() * 512).sum();
        out.push(Held { key, bytes, used });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("freehold-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("k")).unwrap();
        fs::write(folder.join("k/memory"), "memory").unwrap();
        fs::write(folder.join("k/state"), "state").unwrap();
        folder
    }

    fn rewrite(path: &Path, text: &str, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_sealed_template_is_opened_and_a_damaged_one_never() {
        if owner() != 0 {
            return; // sealing gives the files to root
        }
        let folder = folder("seal");
        assert_eq!(open(&folder, "k").unwrap_err(), "there is no template of the tenant yet");
        seal(&folder.join("k")).unwrap();
        let pieces = open(&folder, "k").unwrap();
        for (path, text, mode, reason) in [
            (&pieces.state, "stat3", SEALED, "not what was sealed"),
            (&pieces.memory, "memory and more", SEALED, "has 15 bytes"),
            (&pieces.memory, "memory", 0o644, "not a sealed file"),
        ] {
            let was = fs::read_to_string(path).unwrap();
            rewrite(path, text, mode);
            let error = open(&folder, "k").unwrap_err();
            assert!(error.contains(reason), "{error}");
            rewrite(path, &was, SEALED);
        }
        open(&folder, "k").unwrap();
        fs::write(folder.join("k").join(SEAL), "{").unwrap();
        assert!(open(&folder, "k").unwrap_err().contains("seal is damaged"));
        remove(&folder, "k");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn wishes_are_bounded_and_fulfilled() {
        let folder = folder("want");
        for n in 0..MAX_WANTED + 9 {
            want(&folder, &format!("t{n}"));
        }
        assert_eq!(wanted_by(&folder).len(), MAX_WANTED);
        unwant(&folder, "t0");
        assert!(!wanted_by(&folder).contains(&"t0".to_owned()));
        let waiting = folder.join(WANTED).join("t9");
        File::options().write(true).open(&waiting).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        want(&folder, "t9");
        assert_eq!(wanted_by(&folder)[0], "t9", "who asks again does not wait anew");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_longest_unused_go_first() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let held = |key: &str, used| Held { key: key.into(), bytes: 40, used: at(used) };
        let all = vec![held("young", 30), held("old", 10), held("middle", 20)];
        for (bound, gone) in
            [(120, &[][..]), (119, &["old"]), (80, &["old"]), (79, &["old", "middle"]), (0, &["old", "middle", "young"])]
        {
            assert_eq!(surplus(all.clone(), bound), gone, "{bound}");
        }
    }
}
