//! `cargo xtask images`: packages, guest kernel, runtime bundle and container images, all in the cache.
//!
//! Input is this workspace and the Debian mirrors this machine already trusts; output is a folder in the user's cache
//! that the demo, the tests and a release read. Everything is keyed by the content it was made from, so that a second
//! run does nothing. It is apart from the rooms so that none of them downloads or builds anything at run time.

mod archive;
mod bundle;
pub mod containerd;
mod initrd;
mod kernel;
mod packages;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::steps::{Steps, call, workspace};

/// The target every binary that leaves this machine is built for: static, so that it runs in an empty image, in the
/// guest's initial file system and on any node.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

/// How many hexadecimal digits of a digest name a folder of the cache, a version or a tag.
const SHORT_DIGEST: usize = 16;

/// What `cargo xtask images` is told.
#[derive(clap::Args)]
pub struct Args {
    /// Stop after this part; what it needs is made too, if the cache does not have it
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Registry part of the images' names
    #[arg(long, default_value = "freehold.dev")]
    registry: String,
}

/// A part of the work, in the order in which the parts need each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
enum Part {
    /// Debian packages, downloaded and unpacked
    Packages,
    /// The guest kernel
    Kernel,
    /// The runtime bundle: shim, QEMU, mkfs.erofs, kernel and initial file system
    Bundle,
    /// Container image archives
    Archives,
}

/// How many folders of one kind the cache keeps: of the checkouts that are worked on at once, and the version before.
const KEPT: usize = 8;

/// Makes the parts asked for and says where they are; the folder of the bundle or of the archives is the only line on stdout.
pub fn run(args: Args) -> anyhow::Result<()> {
    let last = args.only.unwrap_or(Part::Archives);
    missing_tools(last)?;
    let (cache, _lock) = locked_cache("images.lock")?;
    let mut steps = Steps::new();
    let packages = packages::provide(&mut steps, &cache)?;
    if last >= Part::Kernel {
        let kernel = kernel::provide(&mut steps, &cache, &workspace(), &packages)?;
        if last >= Part::Bundle {
            build_static(&mut steps, "shim and guest agent", &["freehold-shim", "freehold-guest"])?;
            let initrd = initrd::provide(&mut steps, &cache, &static_binary("freehold-agent"))?;
            let shim = static_binary("containerd-shim-freehold-v2");
            let bundle = bundle::provide(&mut steps, &cache, &packages, &kernel, &initrd, &shim)?;
            eprintln!("bundle {} is in {}", bundle.version, bundle.folder.display());
            let mut made = bundle.folder.clone();
            if last >= Part::Archives {
                build_static(
                    &mut steps,
                    "operator, webhook, name server, runtime installer and network enforcer",
                    archive::PROGRAMS,
                )?;
                made = archive::provide(&mut steps, &cache, &args.registry, &packages, &bundle)?;
            }
            keep_newest(&made)?;
            println!("{}", made.display());
        }
    }
    eprint!("{}", steps.summary());
    Ok(())
}

/// The cache folder, and a lock in it. Held until the process ends: two runs would unpack over each other.
fn locked_cache(lock: &str) -> anyhow::Result<(PathBuf, File)> {
    let cache = cache_directory()?;
    fs::create_dir_all(&cache).with_context(|| format!("could not create the cache folder {}", cache.display()))?;
    let lock = File::create(cache.join(lock)).context("could not create the lock file of the cache")?;
    lock.lock().context("could not lock the cache")?;
    Ok((cache, lock))
}

/// Marks a folder of the cache as used now, and removes its siblings that were not used for longest.
fn keep_newest(used: &Path) -> anyhow::Result<()> {
    let touched = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    File::open(used)
        .and_then(|folder| folder.set_modified(std::time::SystemTime::now()))
        .context("could not mark a folder of the cache")?;
    let parent = used.parent().context("a folder without a parent")?;
    let mut all = Vec::new();
    for entry in fs::read_dir(parent).with_context(|| format!("could not list {}", parent.display()))? {
        let path = entry?.path();
        all.push((touched(&path).with_context(|| format!("could not read {}", path.display()))?, path));
    }
    all.sort();
    for (_, old) in all.iter().rev().skip(KEPT) {
        fs::remove_dir_all(old).with_context(|| format!("could not remove {}", old.display()))?;
    }
    Ok(())
}

/// Says everything that has to be installed before anything is downloaded or built, in one message.
fn missing_tools(last: Part) -> anyhow::Result<()> {
    // Command or header, and the Debian package it comes with.
    let for_packages = [("apt-get", "apt"), ("dpkg-deb", "dpkg")];
    let for_kernel = [
        ("make", "make"),
        ("gcc", "gcc"),
        ("flex", "flex"),
        ("bison", "bison"),
        ("bc", "bc"),
        ("tar", "tar"),
        ("xz", "xz-utils"),
        ("strip", "binutils"),
        ("/usr/include/libelf.h", "libelf-dev"),
    ];
    let for_bundle = [("lz4", "lz4"), ("readelf", "binutils"), ("musl-gcc", "musl-tools")];
    let mut wanted = for_packages.to_vec();
    if last >= Part::Kernel {
        wanted.extend(for_kernel);
    }
    if last >= Part::Bundle {
        wanted.extend(for_bundle);
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&search).collect();
    folders.extend(["/usr/sbin".into(), "/sbin".into()]);
    let mut missing: Vec<&str> = wanted
        .iter()
        .filter(|(file, _)| !folders.iter().any(|folder| folder.join(file).exists()))
        .map(|(_, package)| *package)
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        bail!("Debian packages are missing on this machine; install them with: apt-get install {}", missing.join(" "));
    }
    Ok(())
}

/// Builds static release binaries with the cargo that runs this command.
fn build_static(steps: &mut Steps, what: &str, crates: &[&str]) -> anyhow::Result<()> {
    steps.run(&format!("build {what} ({STATIC_TARGET})"), || {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--quiet", "--locked", "--release", "--target", STATIC_TARGET]);
        command.current_dir(workspace());
        for name in crates {
            command.args(["-p", name]);
        }
        call(&mut command)
    })
}

/// Where cargo leaves a static release binary.
fn static_binary(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    target.join(STATIC_TARGET).join("release").join(name)
}

/// The cache folder, after the XDG base directory specification.
pub fn cache_directory() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is an absolute path; set one to say where the cache is")?.join("freehold"))
}

/// The SHA-256 of several texts; each is counted with its length, so that none can run into the next.
fn digest_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hexadecimal(&hash.finalize())
}

/// The SHA-256 of a file as `sha256sum` shows it.
fn digest_of_file(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(|| format!("could not read {}", path.display()))?;
        if count == 0 {
            return Ok(hexadecimal(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The start of a digest, as a name.
fn short(digest: &str) -> &str {
    &digest[..SHORT_DIGEST]
}

/// Writes a file so that it is there whole or not at all: its presence says that a part is done.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

/// Runs a command and hands back what it printed; an error says the command line and its messages.
fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let line = format!("{command:?}");
    let output = command.output().with_context(|| format!("could not start {line}"))?;
    if !output.status.success() {
        bail!("{line} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{line} printed something that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_parts_apart() {
        assert_ne!(digest_of(&[b"ab", b"c"]), digest_of(&[b"a", b"bc"]));
        assert_eq!(digest_of(&[b"ab"]).len(), 64);
    }

    #[test]
    fn the_parts_are_ordered_by_need() {
        assert!(Part::Packages < Part::Kernel && Part::Kernel < Part::Bundle && Part::Bundle < Part::Archives);
    }
}
