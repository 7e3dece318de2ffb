//! The runtime bundle: everything a node needs to run microVMs, in one folder that depends on nothing of the node.
//!
//! Input are unpacked packages, kernel, initial file system and shim; output is the folder that the installer's image
//! carries and a node gets as `/opt/freehold/versions/<version>`, with a manifest of digests that the installer checks.
//! It holds its own dynamic loader and libraries, since a node's distribution may be older or have another C library.
//! The templates of writable disks are not in it: the installer makes them on the node, with the bundled mke2fs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use super::packages::{Package, Packages};
use super::{digest_of, digest_of_file, output_of, short, write_whole};
use crate::steps::Steps;

/// Counted up when this module would make something else from the same input.
const FORMAT: &str = "bundle 2";

/// The dynamic loader within the bundle; everything else dynamic in the bundle is started through it.
const LOADER: &str = "qemu/lib/ld-linux-x86-64.so.2";

/// The folder of the bundle's shared libraries.
const LIBRARIES: &str = "qemu/lib";

/// Dynamic programs: package, path in it, path in the bundle, how it tells its version.
const PROGRAMS: &[(&str, &str, &str, &str)] = &[
    ("qemu-system-x86", "usr/bin/qemu-system-x86_64", "qemu/bin/qemu-system-x86_64", "--version"),
    ("erofs-utils", "usr/bin/mkfs.erofs", "erofs/bin/mkfs.erofs", "--version"),
    ("e2fsprogs", "usr/sbin/mke2fs", "e2fs/bin/mke2fs", "-V"),
];

/// What a headless q35 machine that boots a kernel directly reads: package, path in it. All go to `qemu/share`.
const FIRMWARE: &[(&str, &str)] = &[
    ("seabios", "usr/share/seabios/bios-256k.bin"),
    ("qemu-system-data", "usr/share/qemu/kvmvapic.bin"),
    ("qemu-system-data", "usr/share/qemu/linuxboot_dma.bin"),
    ("qemu-system-data", "usr/share/qemu/pvh.bin"),
    ("ipxe-qemu", "usr/share/qemu/efi-virtio.rom"),
];

/// Libraries that no program names, but that the C library opens when a thread ends.
const OPENED: &[&str] = &["libgcc_s.so.1"];

/// Where Debian's packages keep shared libraries.
const LIBRARY_FOLDERS: &[&str] = &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "lib64", "usr/lib"];

/// A finished bundle.
pub struct Bundle {
    pub folder: PathBuf,
    pub version: String,
}

/// What the bundle's `manifest.json` says.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Digest of all the files: two bundles of one version are equal.
    version: String,
    /// Version of the Debian source package the guest kernel was built from.
    kernel: String,
    /// Path below the bundle, without a leading slash, to digest and mode.
    files: BTreeMap<String, FileEntry>,
    /// The Debian packages whose files are in it.
    packages: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    sha256: String,
    size: u64,
    executable: bool,
}

/// Puts the bundle together unless the cache has it.
pub fn provide(
    steps: &mut Steps,
    cache: &Path,
    packages: &Packages,
    kernel: &Kernel,
    initrd: &Path,
    shim: &Path,
) -> anyhow::Result<Bundle> {
    let ours = [&kernel.vmlinux, initrd, shim].map(digest_of_file);
    let mut key = vec![FORMAT.to_owned()];
    for digest in ours {
        key.push(digest?);
    }
    key.extend(packages.all.iter().map(|package| package.sha256.clone()));
    let key = digest_of(&key.iter().map(String::as_bytes).collect::<Vec<_>>());
    let folder = cache.join("bundle").join(short(&key));
    let manifest = folder.join("manifest.json");
    if !manifest.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))?;
        }
        let used = steps.run("put the runtime bundle together", || {
            copy(&kernel.vmlinux, &folder.join("guest/vmlinux"), false)?;
            copy(initrd, &folder.join("guest/initrd.lz4"), false)?;
            copy(shim, &folder.join("bin/containerd-shim-freehold-v2"), true)?;
            fill(&folder, packages)
        })?;
        steps.run("start the bundle's programs out of the bundle", || verify(&folder))?;
        let files = describe(&folder)?;
        let listed = serde_json::to_vec(&files)?;
        let document =
            Manifest { version: short(&digest_of(&[&listed])).to_owned(), kernel: kernel.version.clone(), files, packages: used };
        write_whole(&manifest, &serde_json::to_vec_pretty(&document)?)?;
    }
    let text = fs::read(&manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    let document: Manifest = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged; remove {}", manifest.display(), folder.display()))?;
    Ok(Bundle { folder, version: document.version })
}

/// Copies programs, their libraries, firmware and licences; hands back the packages they came from.
fn fill(folder: &Path, packages: &Packages) -> anyhow::Result<Vec<Package>> {
    // The kernel was built from this one.
    let mut used = BTreeSet::from(["linux-source-6.12".to_owned()]);
    let mut open: Vec<PathBuf> = Vec::new();
    for (package, path, target, _) in PROGRAMS {
        let source = packages.file(package, path)?;
        copy(&source, &folder.join(target), true)?;
        used.insert((*package).to_owned());
        open.push(source);
    }
    for (package, path) in FIRMWARE {
        let source = packages.file(package, path)?;
        let name = source.file_name().context("firmware without a name")?;
        copy(&source, &folder.join("qemu/share").join(name), false)?;
        used.insert((*package).to_owned());
    }
    // Empty on purpose: QEMU looks here for modules and finds none, instead of the node's.
    fs::create_dir_all(folder.join(LIBRARIES).join("modules")).context("could not create the folder of modules")?;

    let opened = OPENED.iter().map(|&name| name.to_owned()).collect();
    libraries(packages, open, opened, &folder.join(LIBRARIES), &mut used)?;

    copy_licences(packages, used, folder)
}

/// The licences of packages, and the packages.
fn copy_licences(packages: &Packages, used: BTreeSet<String>, folder: &Path) -> anyhow::Result<Vec<Package>> {
    let mut from = Vec::new();
    for name in used {
        // A link to another package's folder of documentation is followed by hand: it leaves the package's own tree.
        let text = format!("usr/share/doc/{name}/copyright");
        let source = packages.tree(&name).join(&text);
        let source = if source.exists() { source } else { linked_copyright(packages, &name)? };
        copy(&source, &folder.join("licences").join(&name), false)?;
        from.push(packages.package(&name)?.clone());
    }
    Ok(from)
}

/// Copies the libraries that programs need, those of `names`, and what these need; adds the packages they come from.
fn libraries(
    packages: &Packages,
    mut open: Vec<PathBuf>,
    mut names: Vec<String>,
    folder: &Path,
    used: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    let index = library_index(packages);
    let mut done = BTreeSet::new();
    loop {
        for name in std::mem::take(&mut names) {
            if !done.insert(name.clone()) {
                continue;
            }
            let found = index.get(&name);
            let (package, library) = found.with_context(|| format!("{name} is needed, but no downloaded package holds it"))?;
            copy(library, &folder.join(&name), true)?;
            used.insert(package.clone());
            open.push(library.clone());
        }
        let Some(file) = open.pop() else { return Ok(()) };
        names = needed(&file)?;
    }
}

/// One program of a package with its loader, libraries and licences, in a folder of the cache named by what it was made from:
/// `bin/<program>`, `lib/`, `licences/`.
pub fn program(cache: &Path, packages: &Packages, package: &str, path: &str) -> anyhow::Result<PathBuf> {
    let mut key = vec![FORMAT.to_owned(), path.to_owned()];
    key.extend(packages.all.iter().map(|package| package.sha256.clone()));
    let key = digest_of(&key.iter().map(String::as_bytes).collect::<Vec<_>>());
    let source = packages.file(package, path)?;
    let name = source.file_name().context("a program without a name")?;
    let folder = cache.join("programs").join(format!("{}-{}", name.to_string_lossy(), short(&key)));
    let target = folder.join("bin").join(name);
    // Copied last: a folder with the program is complete.
    if target.exists() {
        return Ok(folder);
    }
    let mut used = BTreeSet::from([package.to_owned()]);
    libraries(packages, vec![source.clone()], Vec::new(), &folder.join("lib"), &mut used)?;
    copy_licences(packages, used, &folder)?;
    copy(&source, &target, true)?;
    Ok(folder)
}

/// The copyright file of a package whose documentation is a link to that of another.
fn linked_copyright(packages: &Packages, name: &str) -> anyhow::Result<PathBuf> {
    let link = packages.tree(name).join("usr/share/doc").join(name);
    let target = fs::read_link(&link).with_context(|| format!("package {name} holds no copyright file"))?;
    let other = target.file_name().and_then(|other| other.to_str()).context("a link without a name")?;
    packages.file(other, &format!("usr/share/doc/{other}/copyright"))
}

/// Every shared library of all packages, by the name programs ask for.
fn library_index(packages: &Packages) -> BTreeMap<String, (String, PathBuf)> {
    let mut index = BTreeMap::new();
    for package in &packages.all {
        for folder in LIBRARY_FOLDERS {
            let Ok(entries) = fs::read_dir(packages.tree(&package.name).join(folder)) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(".so") && entry.path().is_file() {
                    index.entry(name).or_insert_with(|| (package.name.clone(), entry.path()));
                }
            }
        }
    }
    index
}

/// The libraries a file names itself, without those that they need.
fn needed(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = output_of(Command::new("readelf").args(["--dynamic", "--wide"]).arg(file).env("LC_ALL", "C"))?;
    Ok(names_needed(&text))
}

fn names_needed(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains("(NEEDED)"));
    lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
}

/// Copies what a path leads to, with a mode that does not depend on this machine's umask.
fn copy(source: &Path, target: &Path, executable: bool) -> anyhow::Result<()> {
    let parent = target.parent().context("a target without a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("could not create {}", parent.display()))?;
    let copied = fs::copy(source, target)
        .and_then(|_| fs::set_permissions(target, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 })));
    copied.with_context(|| format!("could not copy {} to {}", source.display(), target.display()))
}

/// Starts every program out of the bundle, and sees to it that no library is found outside.
fn verify(folder: &Path) -> anyhow::Result<()> {
    let libraries = folder.join(LIBRARIES);
    let loader = |program: &str| {
        let mut command = Command::new(folder.join(LOADER));
        command.arg("--library-path").arg(&libraries).env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD");
        command.arg(folder.join(program));
        command
    };
    for (_, _, program, version) in PROGRAMS {
        let mut list = Command::new(folder.join(LOADER));
        list.arg("--list").arg("--library-path").arg(&libraries).arg(folder.join(program));
        for line in output_of(&mut list)?.lines() {
            let found = line.split_once("=> ").map(|(_, rest)| rest.split(" (").next().unwrap_or(rest).trim());
            if found.is_some_and(|found| !Path::new(found).starts_with(folder)) {
                bail!("{program} would use a library outside of the bundle: {}", line.trim());
            }
        }
        let output = loader(program).arg(version).output().with_context(|| format!("could not start {program}"))?;
        if !output.status.success() {
            bail!("{program} {version} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        let said = [output.stdout, output.stderr].concat();
        eprintln!("           {}", String::from_utf8_lossy(&said).lines().next().unwrap_or("says nothing"));
    }
    Ok(())
}

/// All files below a folder with their digests.
fn describe(folder: &Path) -> anyhow::Result<BTreeMap<String, FileEntry>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("could not list {}", directory.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let metadata = fs::metadata(&path).with_context(|| format!("could not read {}", path.display()))?;
            let name = path.strip_prefix(folder)?.to_str().context("a name that is not UTF-8")?.to_owned();
            let executable = metadata.permissions().mode() & 0o100 != 0;
            files.insert(name, FileEntry { sha256: digest_of_file(&path)?, size: metadata.len(), executable });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_libraries_are_read_from_the_dynamic_section() {
        let text = " 0x0000000000000001 (NEEDED)             Shared library: [libz.so.1]\n \
                    0x000000000000000e (SONAME)             Library soname: [libfoo.so.2]\n \
                    0x0000000000000001 (NEEDED)             Shared library: [ld-linux-x86-64.so.2]\n";
        assert_eq!(names_needed(text), ["libz.so.1", "ld-linux-x86-64.so.2"]);
        assert!(names_needed("There is no dynamic section in this file.").is_empty());
    }
}
