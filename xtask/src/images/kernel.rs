//! The guest kernel, built from Debian's source and our configuration fragment.
//!
//! Input is `guest/kernel/fragment.config` and the unpacked source package; output is a stripped `vmlinux` that the
//! bundle holds and QEMU starts directly. It is built, not downloaded, because a distribution's kernel carries thousands
//! of drivers that no virtual machine of ours has: they are start time, memory and attack surface.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::packages::Packages;
use super::{digest_of, short};
use crate::steps::{Steps, call};

/// The Debian package of the source, and the archive in it.
const SOURCE: &str = "linux-source-6.12";

/// Counted up when this module would make another kernel from the same input.
const FORMAT: &str = "kernel 1";

/// A built kernel.
pub struct Kernel {
    pub vmlinux: PathBuf,
    pub version: String,
}

/// Builds the kernel unless the cache has it.
pub fn provide(steps: &mut Steps, cache: &Path, workspace: &Path, packages: &Packages) -> anyhow::Result<Kernel> {
    let fragment = workspace.join("guest/kernel/fragment.config");
    let text = fs::read_to_string(&fragment).with_context(|| format!("could not read {}", fragment.display()))?;
    let version = packages.package(SOURCE)?.version.clone();
    let key = digest_of(&[FORMAT.as_bytes(), text.as_bytes(), version.as_bytes()]);
    let folder = cache.join("kernel").join(short(&key));
    let vmlinux = folder.join("vmlinux");
    if !vmlinux.exists() {
        let archive = packages.file(SOURCE, &format!("usr/src/{SOURCE}.tar.xz"))?;
        let work = folder.join("work");
        let tree = work.join(SOURCE);
        // Left by a run that was interrupted: the configuration starts anew, finished objects are kept.
        if !tree.join("Makefile").exists() {
            steps.run("unpack the kernel's source", || {
                fs::create_dir_all(&work).with_context(|| format!("could not create {}", work.display()))?;
                call(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&work))
            })?;
        }
        steps.run("configure the kernel", || configure(&tree, &fragment, &text))?;
        steps.run("build the kernel (about 10 minutes on two cores)", || {
            let jobs = std::thread::available_parallelism().map_or(1, usize::from);
            call(make(&tree).arg(format!("-j{jobs}")).arg("vmlinux"))
        })?;
        let stripped = work.join("vmlinux");
        call(Command::new("strip").arg("-o").arg(&stripped).arg(tree.join("vmlinux")))?;
        fs::copy(tree.join(".config"), folder.join("config")).context("could not keep the kernel's configuration")?;
        fs::rename(&stripped, &vmlinux).context("could not put the kernel into the cache")?;
        fs::remove_dir_all(&work).with_context(|| format!("could not remove {}", work.display()))?;
    }
    let size = fs::metadata(&vmlinux).with_context(|| format!("could not read {}", vmlinux.display()))?.len();
    eprintln!("           guest kernel {version}: {:.1} MiB", size as f64 / f64::from(1 << 20));
    Ok(Kernel { vmlinux, version })
}

/// `make` in the kernel's tree, told nothing about this machine and this moment: the same input makes the same kernel.
fn make(tree: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-s").arg("-C").arg(tree);
    command.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01").env("KBUILD_BUILD_USER", "freehold");
    command.env("KBUILD_BUILD_HOST", "freehold").env("KBUILD_BUILD_VERSION", "1").env("LC_ALL", "C");
    command
}

fn configure(tree: &Path, fragment: &Path, text: &str) -> anyhow::Result<()> {
    call(make(tree).arg("tinyconfig"))?;
    let merge = tree.join("scripts/kconfig/merge_config.sh");
    // It says every override of a default, which is the point of a fragment: its messages are shown only on failure.
    super::output_of(Command::new(merge).args(["-m", ".config"]).arg(fragment).current_dir(tree))?;
    call(make(tree).arg("olddefconfig"))?;
    let result = fs::read_to_string(tree.join(".config")).context("could not read the kernel's configuration")?;
    let refused = refused(text, &result);
    if !refused.is_empty() {
        bail!(
            "the kernel's configuration did not take these lines of {}: {}. A symbol they depend on is missing, or the \
             symbol has another name in this version",
            fragment.display(),
            refused.join(", ")
        );
    }
    Ok(())
}

/// The lines of the fragment that the kernel's configuration does not follow.
fn refused(fragment: &str, result: &str) -> Vec<String> {
    let set = |line: &str| result.lines().any(|found| found == line);
    let mut refused = Vec::new();
    for line in fragment.lines().map(str::trim) {
        let unset = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"));
        let followed = match unset {
            // A symbol whose dependencies are not there is not mentioned at all, and off as well.
            Some(symbol) => !result.lines().any(|found| found.starts_with(&format!("{symbol}="))),
            None => !line.starts_with("CONFIG_") || set(line),
        };
        if !followed {
            refused.push(line.to_owned());
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_did_not_take_are_named() {
        let fragment =
            "# About\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_N=16\n# CONFIG_C is not set\n# CONFIG_D is not set\n# CONFIG_E is not set\n";
        let result = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=64\nCONFIG_C=y\n# CONFIG_D is not set\n";
        assert_eq!(refused(fragment, result), ["CONFIG_B=y", "CONFIG_N=16", "# CONFIG_C is not set"]);
    }
}
