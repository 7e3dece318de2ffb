//! Container images as OCI archives: the operator, the webhook, the name server, the runtime installer with its bundle, the network enforcer
//! with nft, and a test image.
//!
//! Input are static binaries and the bundle; output are archives that `ctr images import` or a registry client reads, and
//! `images.json`, which says the name of each. All images carry one tag, derived from all their content, so that a
//! cluster never runs an old image under a new name. The same input makes the same bytes: times are zero, owners root.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, ImageConfiguration, ImageConfigurationBuilder, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder,
};
use std::str::FromStr;

use super::bundle::{self, Bundle};
use super::packages::Packages;
use super::{digest_of, digest_of_file, output_of, short, static_binary, write_whole};
use crate::steps::Steps;

/// Counted up when this module would make something else from the same input.
const FORMAT: &str = "archives 2";

/// The programs that get an image each.
pub const PROGRAMS: &[&str] =
    &["freehold-operator", "freehold-webhook", "freehold-runtime-installer", "freehold-network-enforcer", "freehold-dns"];

/// The user of images that need no right on the node.
const UNPRIVILEGED: &str = "65532:65532";

/// Where programs look for others in the test image.
const SEARCH_PATH: &str = "PATH=/usr/local/bin:/usr/bin:/bin";

/// What an image is made of.
struct Image {
    name: &'static str,
    user: &'static str,
    entrypoint: Vec<String>,
    command: Vec<String>,
    content: Vec<Entry>,
}

/// One entry of an image's only layer, by its path without a leading slash.
enum Entry {
    Folder { path: String, mode: u32 },
    File { path: String, from: PathBuf },
    Text { path: String, text: String },
    Link { path: String, to: String },
}

/// Writes the archives unless the cache has them; the folder they are in.
pub fn provide(steps: &mut Steps, cache: &Path, registry: &str, packages: &Packages, bundle: &Bundle) -> anyhow::Result<PathBuf> {
    let busybox = packages.file("busybox-static", "usr/bin/busybox")?;
    let service = |name: &'static str, binary: &str, user: &'static str| Image {
        name,
        user,
        entrypoint: vec![format!("/{binary}")],
        command: Vec::new(),
        content: vec![Entry::File { path: binary.to_owned(), from: static_binary(binary) }],
    };
    let mut installer = service("runtime-installer", "freehold-runtime-installer", "0:0");
    folder_entries(&bundle.folder, "bundle", &mut installer.content)?;
    let mut enforcer = service("network-enforcer", "freehold-network-enforcer", "0:0");
    let nft = steps.run("put nft and its libraries together", || bundle::program(cache, packages, "nftables", "usr/sbin/nft"))?;
    folder_entries(&nft, "nft", &mut enforcer.content)?;
    // Started through its own loader: the image has no other file system.
    let loader = "--nft=/nft/lib/ld-linux-x86-64.so.2 --library-path /nft/lib /nft/bin/nft";
    enforcer.entrypoint.push(loader.to_owned());
    let images = [
        service("operator", "freehold-operator", UNPRIVILEGED),
        service("webhook", "freehold-webhook", UNPRIVILEGED),
        service("dns", "freehold-dns", UNPRIVILEGED),
        installer,
        enforcer,
        test_image(&busybox)?,
    ];

    // The bundle's version stands for its files; the binaries are counted one by one.
    let mut key = vec![FORMAT.to_owned(), registry.to_owned(), bundle.version.clone(), digest_of_file(&busybox)?];
    key.push(nft.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    for name in PROGRAMS {
        key.push(digest_of_file(&static_binary(name))?);
    }
    let tag = short(&digest_of(&key.iter().map(String::as_bytes).collect::<Vec<_>>())).to_owned();

    let folder = cache.join("images").join(&tag);
    let list = folder.join("images.json");
    let named = |image: &Image| (image.name.to_owned(), format!("{registry}/{}:{tag}", image.name));
    let names: BTreeMap<String, String> = images.iter().map(named).collect();
    // Written last: a folder with a list is complete.
    if !list.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
        for image in &images {
            steps.run(&format!("write the image {}", image.name), || {
                write_archive(&folder.join(format!("{}.tar", image.name)), image, &names[image.name])
            })?;
        }
        write_whole(&list, &serde_json::to_vec_pretty(&names)?)?;
    }
    for name in names.values() {
        eprintln!("           {name}");
    }
    eprintln!("archives and images.json are in {}", folder.display());
    Ok(folder)
}

/// A shell and its tools for pods of the tests.
fn test_image(busybox: &Path) -> anyhow::Result<Image> {
    let mut content = vec![
        Entry::Folder { path: "bin".into(), mode: 0o755 },
        Entry::Folder { path: "etc".into(), mode: 0o755 },
        Entry::Folder { path: "tmp".into(), mode: 0o1777 },
        Entry::File { path: "bin/busybox".into(), from: busybox.to_owned() },
        Entry::Text { path: "etc/group".into(), text: "root:x:0:\nnogroup:x:65534:\n".into() },
        Entry::Text {
            path: "etc/passwd".into(),
            text: "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".into(),
        },
    ];
    let tools = output_of(Command::new(busybox).arg("--list"))?;
    for tool in tools.lines().filter(|tool| *tool != "busybox") {
        content.push(Entry::Link { path: format!("bin/{tool}"), to: "busybox".into() });
    }
    let command = vec!["/bin/sh".to_owned()];
    Ok(Image { name: "test", user: "0:0", entrypoint: Vec::new(), command, content })
}

/// Everything below a folder, sorted, as entries below `prefix`.
fn folder_entries(folder: &Path, prefix: &str, entries: &mut Vec<Entry>) -> anyhow::Result<()> {
    entries.push(Entry::Folder { path: prefix.to_owned(), mode: 0o755 });
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        names.push(entry?.file_name().into_string().map_err(|name| anyhow::anyhow!("a name that is not UTF-8: {name:?}"))?);
    }
    names.sort();
    for name in names {
        let from = folder.join(&name);
        let path = format!("{prefix}/{name}");
        if from.is_dir() {
            folder_entries(&from, &path, entries)?;
        } else {
            entries.push(Entry::File { path, from });
        }
    }
    Ok(())
}

/// Writes an image as an OCI layout in a tar file.
fn write_archive(path: &Path, image: &Image, reference: &str) -> anyhow::Result<()> {
    let plain = layer(&image.content)?;
    let mut compressor = GzBuilder::new().write(Vec::new(), Compression::fast());
    compressor.write_all(&plain)?;
    let compressed = compressor.finish()?;

    let (manifest, mut blobs) = describe(image, &plain, compressed)?;
    let mut manifest = blob(&mut blobs, MediaType::ImageManifest, manifest)?;
    let (_, tag) = reference.rsplit_once(':').context("a reference without a tag")?;
    // The first is what containerd names the image after, the second what other tools read.
    manifest.set_annotations(Some(HashMap::from([
        ("io.containerd.image.name".to_owned(), reference.to_owned()),
        ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest])
        .build()
        .context("an image index")?;
    // A map has no order of its own; as a value its keys are sorted, and the same input makes the same bytes.
    let index = serde_json::to_vec(&serde_json::to_value(index)?)?;
    let layout = OciLayoutBuilder::default().image_layout_version("1.0.0").build().context("an image layout")?;

    let partial = path.with_extension("partial");
    let file = File::create(&partial).with_context(|| format!("could not create {}", partial.display()))?;
    let mut archive = tar::Builder::new(BufWriter::new(file));
    append(&mut archive, "oci-layout", 0o644, &serde_json::to_vec(&layout)?)?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for (digest, content) in &blobs {
        append(&mut archive, &format!("blobs/sha256/{digest}"), 0o644, content)?;
    }
    archive.into_inner()?.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    fs::rename(&partial, path).with_context(|| format!("could not write {}", path.display()))
}

/// Blobs of an archive by their digests.
type Blobs = BTreeMap<String, Vec<u8>>;

/// The image's manifest, and the blobs of its configuration and layer.
fn describe(image: &Image, plain: &[u8], compressed: Vec<u8>) -> anyhow::Result<(Vec<u8>, Blobs)> {
    let mut blobs = Blobs::new();
    let config = ConfigBuilder::default()
        .user(image.user)
        .env(vec![SEARCH_PATH.to_owned()])
        .entrypoint(image.entrypoint.clone())
        .cmd(image.command.clone())
        .working_dir("/")
        .build()
        .context("an image's configuration")?;
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(vec![format!("sha256:{}", sha256(plain))])
        .build()
        .context("an image's layers")?;
    let configuration: ImageConfiguration = ImageConfigurationBuilder::default()
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs)
        .build()
        .context("an image's configuration")?;
    let config = blob(&mut blobs, MediaType::ImageConfig, serde_json::to_vec(&configuration)?)?;
    let layer = blob(&mut blobs, MediaType::ImageLayerGzip, compressed)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(vec![layer])
        .build()
        .context("an image's manifest")?;
    Ok((serde_json::to_vec(&manifest)?, blobs))
}

/// Keeps a blob and describes it.
fn blob(blobs: &mut Blobs, media_type: MediaType, content: Vec<u8>) -> anyhow::Result<Descriptor> {
    let digest = sha256(&content);
    let described = DescriptorBuilder::default()
        .media_type(media_type)
        .size(content.len() as u64)
        .digest(Digest::from_str(&format!("sha256:{digest}")).context("a digest")?)
        .build()
        .context("a descriptor")?;
    blobs.insert(digest, content);
    Ok(described)
}

/// The digest of content alone, as registries count it.
fn sha256(content: &[u8]) -> String {
    super::hexadecimal(&<sha2::Sha256 as sha2::Digest>::digest(content))
}

/// The image's only layer as a tar.
fn layer(content: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in content {
        match entry {
            Entry::Folder { path, mode } => special(&mut archive, path, tar::EntryType::Directory, *mode, None)?,
            Entry::Link { path, to } => special(&mut archive, path, tar::EntryType::Symlink, 0o777, Some(to))?,
            Entry::Text { path, text } => append(&mut archive, path, 0o644, text.as_bytes())?,
            Entry::File { path, from } => {
                let bytes = fs::read(from).with_context(|| format!("could not read {}", from.display()))?;
                let mode = fs::metadata(from).with_context(|| format!("could not read {}", from.display()))?.permissions().mode();
                append(&mut archive, path, if mode & 0o100 == 0 { 0o644 } else { 0o755 }, &bytes)?;
            }
        }
    }
    Ok(archive.into_inner()?)
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    let mut header = header(mode, content.len());
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, path, content).with_context(|| format!("could not append {path}"))
}

fn special<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    link: Option<&String>,
) -> anyhow::Result<()> {
    let mut header = header(mode, 0);
    header.set_entry_type(kind);
    match link {
        Some(to) => archive.append_link(&mut header, path, to),
        None if kind == tar::EntryType::Directory => archive.append_data(&mut header, path, std::io::empty()),
        None => bail!("{path} is neither a folder nor a link"),
    }
    .with_context(|| format!("could not append {path}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn sample() -> Image {
        Image {
            name: "test",
            user: "0:0",
            entrypoint: Vec::new(),
            command: vec!["/bin/sh".into()],
            content: vec![
                Entry::Folder { path: "bin".into(), mode: 0o755 },
                Entry::Text { path: "bin/text".into(), text: "content".into() },
                Entry::Link { path: "bin/link".into(), to: "text".into() },
            ],
        }
    }

    #[test]
    fn an_archive_holds_what_its_index_names_and_is_the_same_each_time() {
        let folder = std::env::temp_dir().join(format!("freehold-archive-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [first, second] = ["first.tar", "second.tar"].map(|name| folder.join(name));
        for path in [&first, &second] {
            write_archive(path, &sample(), "registry.example/test:tag").unwrap();
        }
        let bytes = fs::read(&first).unwrap();
        assert_eq!(bytes, fs::read(&second).unwrap());
        fs::remove_dir_all(&folder).unwrap();

        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
        for (path, content) in &files {
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, sha256(content));
            }
        }
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let blob = |digest: &serde_json::Value| &files[&digest.as_str().unwrap().replace("sha256:", "blobs/sha256/")];
        let index = json(&files["index.json"]);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "registry.example/test:tag");
        let manifest = json(blob(&index["manifests"][0]["digest"]));
        let config = json(blob(&manifest["config"]["digest"]));
        assert_eq!(config["config"]["Cmd"][0], "/bin/sh");
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(blob(&manifest["layers"][0]["digest"]).as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&plain)));
        let mut layer = tar::Archive::new(plain.as_slice());
        let paths: Vec<String> =
            layer.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(paths, ["bin/", "bin/text", "bin/link"].map(|path| path.trim_end_matches('/')));
    }
}
