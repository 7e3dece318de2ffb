//! Puts the bundle of the image into its own folder on the node, once and whole.
//!
//! Input: the bundle's folder in the image with its `manifest.json`. Output: `versions/<version>` on the node, which the
//! shim, QEMU and running VMs use. Every file is digested while it is copied into a temporary folder; only a complete and
//! equal copy gets its name. What is in a folder that has its name is never written again, because VMs run from it; only
//! links by handlers' names are added (see [`crate::handler::links`]).

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

/// Name of the bundle's list of files.
pub const MANIFEST: &str = "manifest.json";
/// Bytes of a manifest that are read at most; a bundle has some two hundred files.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Size of a writable disk's template. It is sparse: an empty one takes 300 KiB.
pub const DISK_BYTES: u64 = 16 << 30;
/// Templates of writable disks in the bundle's folder, with what mke2fs is told of each. Lazy: blocks that are not written stay holes, and
/// the guest initialises tables when it needs them. No disk grows, so none keeps 4 MiB for that.
///
/// What a container changes dies with its machine and has no journal. An emptyDir outlives its machine, and must be whole for the next
/// one, whose kernel replays the journal: ext4's smallest, which takes its 4 MiB as they are written.
pub const DISKS: [(&str, &[&str]); 2] = [
    ("guest/scratch.ext4", &["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard"]),
    (
        "guest/volume.ext4",
        &["-O", "has_journal,^resize_inode", "-J", "size=4", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"],
    ),
];
/// Bytes copied at once.
const CHUNK: usize = 256 * 1024;

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    /// Digest of all files, used as the folder's name.
    pub version: String,
    /// Path below the bundle to what lies there.
    pub files: BTreeMap<String, File>,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct File {
    /// Hexadecimal SHA-256.
    pub sha256: String,
    /// Whether it is run.
    pub executable: bool,
}

/// A bundle that was not installed, and why.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file operation failed.
    #[error("could not {step} {path}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The manifest does not parse or names something it must not.
    #[error("the bundle's {MANIFEST} is not usable: {0}; the image is damaged, pull it again")]
    Manifest(String),
    /// A file is not the one that was listed.
    #[error("{path} has SHA-256 {found}, the manifest says {expected}; the image is damaged, pull it again")]
    Digest {
        /// Which file.
        path: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A writable disk could not be made.
    #[error("mke2fs could not make the template of a writable disk: {0}")]
    Disk(String),
}

fn at<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BundleError + 'a {
    move |source| BundleError::Io { step, path: path.to_owned(), source }
}

/// Parses a manifest and refuses names that lead out of the folder.
pub fn parse(text: &[u8]) -> Result<Manifest, BundleError> {
    let manifest: Manifest = serde_json::from_slice(text).map_err(|error| BundleError::Manifest(error.to_string()))?;
    let plain = |text: &str| {
        let characters = text.chars().all(|character| character.is_ascii_alphanumeric() || ".-_+".contains(character));
        characters && !text.is_empty() && !text.starts_with('.')
    };
    if !plain(&manifest.version) {
        return Err(BundleError::Manifest(format!("version {:?} cannot be a folder's name", manifest.version)));
    }
    for path in manifest.files.keys() {
        let normal = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !normal || path == MANIFEST {
            return Err(BundleError::Manifest(format!("{path:?} is not a path below the bundle")));
        }
    }
    Ok(manifest)
}

/// Reads the manifest of a bundle's folder.
pub fn manifest(bundle: &Path) -> Result<(Manifest, Vec<u8>), BundleError> {
    let path = bundle.join(MANIFEST);
    let file = fs::File::open(&path).map_err(at("open", &path))?;
    let mut text = Vec::new();
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(at("read", &path))?;
    Ok((parse(&text)?, text))
}

/// Copies the bundle to `versions/<version>` and returns the version. Does nothing when that folder is there.
/// `finish` may add files made on the node before the folder gets its name.
pub fn install(
    bundle: &Path,
    versions: &Path,
    finish: impl FnOnce(&Path) -> Result<(), BundleError>,
) -> Result<String, BundleError> {
    let (manifest, text) = manifest(bundle)?;
    let folder = versions.join(&manifest.version);
    if folder.is_dir() {
        return Ok(manifest.version);
    }
    let temporary = versions.join(format!(".new-{}", manifest.version));
    if temporary.exists() {
        // What an interrupted run left; nothing uses it, it never had its name.
        fs::remove_dir_all(&temporary).map_err(at("remove", &temporary))?;
    }
    fs::create_dir_all(&temporary).map_err(at("create", &temporary))?;
    for (name, file) in &manifest.files {
        copy(&bundle.join(name), &temporary.join(name), name, file)?;
    }
    let listed = temporary.join(MANIFEST);
    fs::write(&listed, text).map_err(at("write", &listed))?;
    finish(&temporary)?;
    sync(&temporary)?;
    fs::rename(&temporary, &folder).map_err(at("rename", &temporary))?;
    sync(versions)?;
    Ok(manifest.version)
}

fn sync(folder: &Path) -> Result<(), BundleError> {
    fs::File::open(folder).and_then(|open| open.sync_all()).map_err(at("sync", folder))
}

fn copy(from: &Path, to: &Path, name: &str, file: &File) -> Result<(), BundleError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    let mut source = fs::File::open(from).map_err(at("open", from))?;
    let mut target = fs::File::create_new(to).map_err(at("create", to))?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let count = source.read(&mut buffer).map_err(at("read", from))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        target.write_all(&buffer[..count]).map_err(at("write", to))?;
    }
    let found = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if found != file.sha256 {
        return Err(BundleError::Digest { path: name.to_owned(), expected: file.sha256.clone(), found });
    }
    let mode = if file.executable { 0o555 } else { 0o444 };
    target.set_permissions(fs::Permissions::from_mode(mode)).map_err(at("set the mode of", to))?;
    target.sync_all().map_err(at("sync", to))
}

/// Makes the sparse templates of writable disks in a bundle's folder with the bundle's own mke2fs.
pub fn disks(folder: &Path) -> Result<(), BundleError> {
    let libraries = folder.join("qemu/lib");
    for (name, arguments) in DISKS {
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--library-path").arg(&libraries).arg(folder.join("e2fs/bin/mke2fs"));
        disk(command, arguments, &folder.join(name))?;
    }
    Ok(())
}

fn disk(mut command: Command, arguments: &[&str], file: &Path) -> Result<(), BundleError> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(at("create", parent))?;
    }
    let open = fs::File::create_new(file).map_err(at("create", file))?;
    open.set_len(DISK_BYTES).map_err(at("size", file))?;
    let command = command.args(["-q", "-F", "-t", "ext4", "-m", "0"]).args(arguments).arg(file);
    let output = command.output().map_err(|error| BundleError::Disk(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(BundleError::Disk(format!("{} ({said})", output.status)));
    }
    open.set_permissions(fs::Permissions::from_mode(0o444)).map_err(at("set the mode of", file))?;
    open.sync_all().map_err(at("sync", file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("freehold-bundle-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bundle/bin")).unwrap();
        fs::create_dir_all(folder.join("versions")).unwrap();
        fs::write(folder.join("bundle/bin/shim"), "hello").unwrap();
        folder
    }

    fn list(folder: &Path, digest: &str) {
        let text = format!(r#"{{"version":"v1","files":{{"bin/shim":{{"sha256":"{digest}","size":5,"executable":true}}}}}}"#);
        fs::write(folder.join("bundle/manifest.json"), text).unwrap();
    }

    #[test]
    fn a_bundle_is_copied_whole_and_never_written_again() {
        let folder = folder("whole");
        list(&folder, HELLO);
        let (bundle, versions) = (folder.join("bundle"), folder.join("versions"));
        assert_eq!(install(&bundle, &versions, |_| Ok(())).unwrap(), "v1");
        let shim = versions.join("v1/bin/shim");
        assert_eq!(fs::metadata(&shim).unwrap().mode() & 0o777, 0o555);
        let inode = fs::metadata(&shim).unwrap().ino();
        install(&bundle, &versions, |_| panic!("the folder is there")).unwrap();
        assert_eq!(fs::metadata(&shim).unwrap().ino(), inode);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_wrong_digest_or_an_interrupted_run_leaves_no_named_folder() {
        let folder = folder("wrong");
        let (bundle, versions) = (folder.join("bundle"), folder.join("versions"));
        list(&folder, &HELLO.replace('2', "3"));
        let error = install(&bundle, &versions, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("bin/shim has SHA-256"), "{error}");
        assert!(!versions.join("v1").exists());
        list(&folder, HELLO);
        install(&bundle, &versions, |_| Err(BundleError::Disk("full".to_owned()))).unwrap_err();
        assert!(!versions.join("v1").exists());
        install(&bundle, &versions, |_| Ok(())).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn paths_out_of_the_bundle_are_refused() {
        for path in ["../x", "/etc/x", "", "manifest.json"] {
            let text = format!(r#"{{"version":"1","files":{{"{path}":{{"sha256":"","executable":false}}}}}}"#);
            assert!(parse(text.as_bytes()).is_err(), "{path}");
        }
        for version in ["", "..", "a/b", ".new"] {
            assert!(parse(format!(r#"{{"version":"{version}","files":{{}}}}"#).as_bytes()).is_err(), "{version}");
        }
    }

    #[test]
    fn a_failing_mke2fs_is_reported() {
        let folder = folder("disk");
        let error = disk(Command::new("false"), &[], &folder.join("disk")).unwrap_err();
        assert!(error.to_string().contains("mke2fs could not"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
