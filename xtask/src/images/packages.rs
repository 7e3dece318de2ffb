//! Debian packages of a newer release, downloaded through this machine's own mirrors and unpacked beside it.
//!
//! Input are the machine's apt sources; output is one folder a package and a manifest with versions and digests, which
//! kernel, bundle and archives read. A private apt root keeps it apart from the machine: nothing is installed, and no
//! mirror is named here. apt checks the archive's signatures with the keys that the machine's sources name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{digest_of, digest_of_file, output_of, short, write_whole};
use crate::steps::{Steps, call};

/// The Debian release the packages are taken from.
const RELEASE: &str = "trixie";

/// What is downloaded together with all it depends on.
const WITH_DEPENDENCIES: &[&str] = &["qemu-system-x86", "seabios", "erofs-utils", "e2fsprogs", "nftables", "busybox-static"];

/// What is downloaded alone: the kernel's source depends on a compiler, which this machine has.
const ALONE: &[&str] = &["linux-source-6.12"];

/// Versions the product was built and tested with: package, major version, least minor version.
const PINS: &[(&str, u32, u32)] = &[("qemu-system-x86", 10, 0), ("erofs-utils", 1, 8), ("linux-source-6.12", 6, 12)];

/// Counted up when this module would make something else from the same input.
const FORMAT: &str = "packages 1";

/// The name of the file whose presence says that all is downloaded and unpacked.
pub const MANIFEST: &str = "manifest.json";

/// One downloaded package.
#[derive(Clone, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The source package it was built from, and that one's version.
    pub source: String,
    pub sha256: String,
}

/// All packages and where they are unpacked.
pub struct Packages {
    trees: PathBuf,
    pub all: Vec<Package>,
}

impl Packages {
    /// The folder a package was unpacked to.
    pub fn tree(&self, name: &str) -> PathBuf {
        self.trees.join(name)
    }

    /// A package by name.
    pub fn package(&self, name: &str) -> anyhow::Result<&Package> {
        self.all.iter().find(|package| package.name == name).with_context(|| {
            format!("package {name} is not among the downloaded ones; remove {} to start over", self.trees.display())
        })
    }

    /// A file of a package.
    pub fn file(&self, name: &str, path: &str) -> anyhow::Result<PathBuf> {
        let file = self.tree(name).join(path);
        if !file.exists() {
            bail!("package {name} does not hold /{path}; was it renamed in a newer version?");
        }
        Ok(file)
    }
}

/// Downloads and unpacks what the cache does not have.
pub fn provide(steps: &mut Steps, cache: &Path) -> anyhow::Result<Packages> {
    let sources = sources(Path::new("/etc"), RELEASE)?;
    let wanted = [WITH_DEPENDENCIES.join(" "), ALONE.join(" ")];
    let key = digest_of(&[FORMAT.as_bytes(), sources.as_bytes(), wanted[0].as_bytes(), wanted[1].as_bytes()]);
    let folder = cache.join("packages").join(short(&key));
    let manifest = folder.join(MANIFEST);
    if !manifest.exists() {
        let archives = folder.join("archives");
        steps.run(&format!("download packages of Debian {RELEASE}"), || {
            download(&folder, &archives, &sources, WITH_DEPENDENCIES, ALONE)
        })?;
        let all = steps.run("unpack packages", || unpack(&archives, &folder.join("trees")))?;
        check_pins(&all)?;
        write_whole(&manifest, &serde_json::to_vec_pretty(&all)?)?;
    }
    let text = fs::read(&manifest).with_context(|| format!("could not read {}", manifest.display()))?;
    let all: Vec<Package> = serde_json::from_slice(&text)
        .with_context(|| format!("{} is damaged; remove {}", manifest.display(), folder.display()))?;
    check_pins(&all)?;
    let packages = Packages { trees: folder.join("trees"), all };
    for name in WITH_DEPENDENCIES.iter().chain(ALONE) {
        let package = packages.package(name)?;
        eprintln!("           {} {} sha256:{}", package.name, package.version, package.sha256);
    }
    Ok(packages)
}

/// Downloads packages, some with all they depend on, by a private apt root in the folder.
pub fn download(folder: &Path, archives: &Path, sources: &str, whole: &[&str], alone: &[&str]) -> anyhow::Result<()> {
    let root = folder.join("apt");
    for part in [
        "etc/apt/apt.conf.d",
        "etc/apt/preferences.d",
        "etc/apt/sources.list.d",
        "etc/apt/trusted.gpg.d",
        "var/lib/apt/lists/partial",
        "var/lib/dpkg",
    ] {
        fs::create_dir_all(root.join(part)).with_context(|| format!("could not create {part} of the private apt root"))?;
    }
    fs::create_dir_all(archives.join("partial")).context("could not create the folder of downloaded packages")?;
    // An empty status: every dependency is downloaded, none is thought to be installed.
    fs::write(root.join("var/lib/dpkg/status"), "").context("could not write the private apt root's status")?;
    fs::write(root.join("etc/apt/sources.list.d/release.sources"), sources)
        .context("could not write the private apt root's sources")?;

    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        for option in [
            format!("Dir={}", root.display()),
            format!("Dir::State::status={}", root.join("var/lib/dpkg/status").display()),
            format!("Dir::Cache::archives={}", archives.display()),
            // For sources that name no key of their own.
            "Dir::Etc::trustedparts=/etc/apt/trusted.gpg.d/".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=false".to_owned(),
            "Debug::NoLocking=true".to_owned(),
            // Not the machine's hooks: they tidy the machine's folders, not this one.
            "APT::Keep-Downloaded-Packages=true".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.arg("-qq").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").current_dir(archives);
        call(&mut command)
    };
    apt(&["update"])?;
    if !whole.is_empty() {
        apt(&[&["install", "--yes", "--download-only"], whole].concat())?;
    }
    apt(&[&["download"], alone].concat())
}

/// Unpacks every downloaded package into a folder of its name.
pub fn unpack(archives: &Path, trees: &Path) -> anyhow::Result<Vec<Package>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(archives).context("could not list the downloaded packages")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            files.push(path);
        }
    }
    files.sort();
    let mut all: Vec<Package> = Vec::new();
    for file in files {
        let format = "--showformat=${Package}\t${Version}\t${source:Package} ${source:Version}";
        let text = output_of(Command::new("dpkg-deb").args(["--show", format]).arg(&file))?;
        let [name, version, source] = text.split('\t').collect::<Vec<_>>()[..] else {
            bail!("dpkg-deb says something unexpected about {}: {text}", file.display());
        };
        // Two versions of a package are left when a download was interrupted and the mirror moved on.
        if all.iter().any(|package| package.name == name) {
            bail!("{name} was downloaded in two versions; remove {} and run again", archives.display());
        }
        let tree = trees.join(name);
        fs::create_dir_all(&tree).with_context(|| format!("could not create {}", tree.display()))?;
        call(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree))?;
        let sha256 = digest_of_file(&file)?;
        all.push(Package { name: name.to_owned(), version: version.to_owned(), source: source.to_owned(), sha256 });
    }
    Ok(all)
}

fn check_pins(all: &[Package]) -> anyhow::Result<()> {
    for (name, major, minor) in PINS {
        let package = all.iter().find(|package| package.name == *name);
        let package = package.with_context(|| format!("package {name} was not downloaded; does the mirror hold {RELEASE}?"))?;
        let found = upstream(&package.version);
        if !found.is_some_and(|(found_major, found_minor)| found_major == *major && found_minor >= *minor) {
            bail!(
                "package {name} has version {}, but {major}.{minor} or a later {major}.x is needed: the bundle was not tested \
                 with another",
                package.version
            );
        }
    }
    Ok(())
}

/// Major and minor version of a Debian version such as `1:10.0.13+ds-0+deb13u1`.
pub fn upstream(version: &str) -> Option<(u32, u32)> {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The machine's own Debian sources, told to serve a release instead, as deb822 text.
pub fn sources(etc: &Path, release: &str) -> anyhow::Result<String> {
    let system = etc.join("os-release");
    let text = fs::read_to_string(&system).with_context(|| format!("could not read {}", system.display()))?;
    let codename = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let codename = codename
        .map(|name| name.trim_matches('"'))
        .context("/etc/os-release names no VERSION_CODENAME; a released Debian is needed")?;

    let apt = etc.join("apt");
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut stanzas = Vec::new();
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match extension {
            Some("sources") => stanzas.extend(deb822(&text, codename, release)),
            Some("list") => stanzas.extend(text.lines().filter_map(|line| one_line(line, codename, release))),
            _ => {}
        }
    }
    if stanzas.is_empty() {
        bail!(
            "{} holds no Debian source of {codename} with the component main, so no mirror of {release} can be derived from it",
            apt.display()
        );
    }
    Ok(stanzas.join("\n"))
}

/// The suite of a release that stands for a suite of the machine's release; None for suites of third parties.
fn renamed(suite: &str, codename: &str, release: &str) -> Option<String> {
    let suffix = suite.strip_prefix(codename)?;
    ["", "-updates", "-security"].contains(&suffix).then(|| format!("{release}{suffix}"))
}

fn stanza(uris: &str, suites: &[String], signed_by: Option<&str>) -> String {
    let mut text = format!("Types: deb\nURIs: {uris}\nSuites: {}\nComponents: main\n", suites.join(" "));
    if let Some(key) = signed_by {
        text.push_str(&format!("Signed-By: {key}\n"));
    }
    text
}

/// Derives stanzas from the text of a `.sources` file.
fn deb822(text: &str, codename: &str, release: &str) -> Vec<String> {
    let mut stanzas = Vec::new();
    for block in text.split("\n\n") {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                // A continuation: keys may stand in the file itself, line by line.
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line);
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let words = |name: &str| field(name).unwrap_or_default().split_whitespace();
        let disabled = field("enabled").is_some_and(|value| ["no", "false", "0"].contains(&value.to_ascii_lowercase().as_str()));
        let suites: Vec<String> = words("suites").filter_map(|suite| renamed(suite, codename, release)).collect();
        let usable = !disabled && words("types").any(|word| word == "deb") && words("components").any(|word| word == "main");
        if usable && !suites.is_empty() {
            let uris: Vec<&str> = words("uris").collect();
            stanzas.push(stanza(&uris.join(" "), &suites, field("signed-by")));
        }
    }
    stanzas
}

/// Derives a stanza from one line of a `.list` file.
fn one_line(line: &str, codename: &str, release: &str) -> Option<String> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None; // deb-src
    }
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let uri = words.next()?;
    let suite = renamed(words.next()?, codename, release)?;
    if !words.any(|word| word == "main") {
        return None;
    }
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(stanza(uri, &[suite], signed_by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb822_sources_change_their_suites_and_keep_mirror_and_key() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates \
                    bookworm-backports\nComponents: main contrib\nSigned-By: /usr/share/keyrings/key.gpg\n\n\
                    Types: deb\nURIs: http://mirror.example/other\nSuites: bookworm\nComponents: main\nEnabled: no\n\n\
                    Types: deb\nURIs: http://third.example/\nSuites: nodistro\nComponents: main\n";
        assert_eq!(
            deb822(text, "bookworm", "trixie"),
            ["Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main\n\
              Signed-By: /usr/share/keyrings/key.gpg\n"]
        );
    }

    #[test]
    fn a_key_within_the_source_is_kept_line_by_line() {
        let text =
            "Types: deb\nURIs: http://mirror.example/\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN\n .\n abc\n";
        assert!(deb822(text, "bookworm", "trixie")[0].ends_with("Signed-By: \n -----BEGIN\n .\n abc\n"));
    }

    #[test]
    fn one_line_sources_are_understood_too() {
        let line = "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-security main # text";
        assert_eq!(
            one_line(line, "bookworm", "trixie").as_deref(),
            Some(
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-security\nComponents: main\nSigned-By: /k.gpg\n"
            )
        );
        for other in [
            "deb-src http://mirror.example/debian bookworm main",
            "# deb http://mirror.example/debian bookworm main",
            "deb http://third.example/ bookworm stable",
            "deb http://third.example/ tool-bookworm main",
            "deb",
            "",
        ] {
            assert_eq!(one_line(other, "bookworm", "trixie"), None, "{other}");
        }
    }

    #[test]
    fn versions_are_checked_against_the_pins() {
        assert_eq!(upstream("1:10.0.13+ds-0+deb13u1"), Some((10, 0)));
        assert_eq!(upstream("6.12.117-1"), Some((6, 12)));
        assert_eq!(upstream("unknown"), None);
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            source: String::new(),
            sha256: String::new(),
        };
        let good = [
            package("qemu-system-x86", "1:10.0.13"),
            package("erofs-utils", "1.8.6-1"),
            package("linux-source-6.12", "6.12.117-1"),
        ];
        assert!(check_pins(&good).is_ok());
        let old = [package("qemu-system-x86", "1:7.2.1"), good[1].clone(), good[2].clone()];
        assert!(check_pins(&old).unwrap_err().to_string().contains("7.2.1"));
        assert!(check_pins(&good[..2]).is_err());
    }
}
