//! The shapes in which a root file system arrives, and what is refused, by its name and with what to set:
//! - an overlay to be mounted, or one folder to be bound read-only (containerd's overlayfs snapshotter, also of Docker's image store);
//! - no mount at all, because the container runtime has mounted an overlay at the spec's root itself (CRI-O, Docker's own overlay2).
//!
//! A layer must be a plain folder, to be made into a disk. What is written to goes to a disk of its own, so a folder that already holds
//! the files and is to be written to in place (the native snapshotter, Docker's vfs) has no layer: to convert the whole of it for each
//! container would cost more than a copy of it does on the node.

use std::path::{Path, PathBuf};

use crate::mountinfo;

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// Folders, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Folder for changes; `None` for a view.
    pub upper: Option<PathBuf>,
}

/// Why a root file system is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// Mounts of other kinds, or several.
    #[error(
        "the root file system comes as {0}; a virtual machine takes one overlay, or one folder to read: set the overlayfs \
         snapshotter for this runtime handler"
    )]
    Kinds(String),
    /// A folder that is to be written to in place.
    #[error(
        "the root file system is the one folder {0}, to be written to in place (the native snapshotter, or an image without \
         layers); a virtual machine takes layers: set the overlayfs snapshotter for this runtime handler"
    )]
    InPlace(String),
    /// Ids are to be mapped, and the container has no user namespace.
    #[error(
        "the root file system's ids are to be mapped ({0}), and the container has no user namespace: remove from the container \
         runtime's settings any remapping of ids"
    )]
    Mapped(String),
    /// Files have the ids of a user namespace of the host's, or are shown with them.
    #[error(
        "the root file system comes with its ids mapped already, or with files that were given to those of the pod's user namespace (by \
         CRI-O, by Docker's userns-remap, by a snapshotter that maps none); a virtual machine maps them itself: set the overlayfs \
         snapshotter of containerd 2 on Linux 5.19 or later, or remove hostUsers: false"
    )]
    Given,
    /// A layer is itself a mount.
    #[error(
        "the root file system's layer {layer} is mounted as {kind} (as the erofs, stargz and nydus snapshotters do); a virtual \
         machine takes layers that are folders: set the overlayfs snapshotter for this runtime handler"
    )]
    Layer {
        /// Which.
        layer: String,
        /// As what.
        kind: String,
    },
    /// Nothing was given and nothing is there.
    #[error(
        "the container runtime gave no root file system, and at {0} none is mounted (as with Docker's vfs); a virtual machine takes \
         layers: set the storage driver overlay2 (Docker) or overlay (CRI-O), or an image store of containerd's"
    )]
    NotMounted(String),
    /// Nothing was given, and what is there has no layers.
    #[error(
        "the root file system at {root} is mounted as {kind}; a virtual machine takes the layers of an overlay: set the storage \
         driver overlay2 (Docker) or overlay without a mount program (CRI-O)"
    )]
    MountedAs {
        /// Where.
        root: String,
        /// As what.
        kind: String,
    },
    /// An option of another kind, or an overlay without layers or with a relative one.
    #[error("the root file system's option {0:?} is not understood")]
    Option(String),
}

/// Most layers of an image: overlayfs' own limit.
pub const MAX_LAYERS: usize = 500;

/// Options that say how an overlay is or was mounted, and nothing of what it is made of.
const OF_THE_MOUNT: [&str; 12] = [
    "ro",
    "rw",
    "workdir",
    "index",
    "userxattr",
    "volatile",
    "metacopy",
    "redirect_dir",
    "xino",
    "uuid",
    "nfs_export",
    "seclabel",
];

/// Reads the mounts: kind, source and options of each; if there are none, what is mounted at `root`. Those of a pod with a user namespace
/// are `mapped`: layers are taken as they lie there, and the guest maps their ids.
///
/// # Errors
/// If they are of no known shape.
pub fn read(mounts: &[(&str, &str, &[String])], mapped: bool, root: &Path, mountinfo: &str) -> Result<Shape, ShapeError> {
    match (mounts.iter().flat_map(|(.., options)| *options).find(|option| is_mapping(option)), mapped) {
        (Some(option), false) => return Err(ShapeError::Mapped(option.clone())),
        (None, true) => return Err(ShapeError::Given),
        _ => {}
    }
    let shape = match mounts {
        [] => mounted(root, mountinfo)?,
        [("bind", source, options)] => bind(source, options)?,
        [("overlay", _, options)] => overlay(options.iter().cloned(), None)?,
        _ => {
            let kinds: Vec<_> = mounts.iter().map(|(kind, ..)| *kind).collect();
            return Err(ShapeError::Kinds(format!("{} mount(s) of type {}", kinds.len(), kinds.join(", "))));
        }
    };
    let covered = |mount: &mountinfo::Mount<'_>| shape.layers.iter().any(|layer| layer == Path::new(&mount.point));
    match mountinfo::read(mountinfo).find(covered) {
        Some(mount) => Err(ShapeError::Layer { layer: mount.point, kind: mount.kind.to_owned() }),
        None => Ok(shape),
    }
}

fn is_mapping(option: &str) -> bool {
    option.starts_with("uidmap=") || option.starts_with("gidmap=")
}

fn bind(source: &str, options: &[String]) -> Result<Shape, ShapeError> {
    if !options.iter().any(|option| option == "ro") {
        return Err(ShapeError::InPlace(source.to_owned()));
    }
    let layer = Some(PathBuf::from(source)).filter(|path| path.is_absolute());
    Ok(Shape { layers: vec![layer.ok_or_else(|| ShapeError::Option(source.to_owned()))?], upper: None })
}

fn mounted(root: &Path, mountinfo: &str) -> Result<Shape, ShapeError> {
    let shown = || root.display().to_string();
    let mount = mountinfo::read(mountinfo).filter(|mount| Path::new(&mount.point) == root).last();
    let mount = mount.ok_or_else(|| ShapeError::NotMounted(shown()))?;
    if mount.kind != "overlay" {
        return Err(ShapeError::MountedAs { root: shown(), kind: mount.kind.to_owned() });
    }
    // With many layers the storage drivers mount from within their own folder, where `root` is ID/merged.
    overlay(mount.options(), root.ancestors().nth(2))
}

/// The layers that options name; relative ones are below `home`.
fn overlay(options: impl Iterator<Item = String>, home: Option<&Path>) -> Result<Shape, ShapeError> {
    let (mut layers, mut upper) = (Vec::new(), None);
    for option in options {
        let folder = |path: &str| {
            let path = Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty());
            let whole = path.map(|path| home.map_or(path.clone(), |home| home.join(path))).filter(|path| path.is_absolute());
            whole.ok_or_else(|| ShapeError::Option(option.clone()))
        };
        match option.split_once('=') {
            Some(("lowerdir", list)) => layers = list.split(':').map(folder).collect::<Result<_, _>>()?,
            Some(("lowerdir+", path)) => layers.push(folder(path)?), // as Linux shows what was mounted by fsconfig(2)
            Some(("upperdir", path)) => upper = Some(folder(path)?),
            _ if is_mapping(&option) => {}
            _ if OF_THE_MOUNT.contains(&option.split('=').next().unwrap_or_default()) => {}
            _ => return Err(ShapeError::Option(option)),
        }
    }
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return Err(ShapeError::Option(format!("{} layers", layers.len())));
    }
    Ok(Shape { layers, upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(layers: &[&str], upper: Option<&str>) -> Result<Shape, &'static str> {
        Ok(Shape { layers: layers.iter().map(PathBuf::from).collect(), upper: upper.map(PathBuf::from) })
    }

    fn check(what: &str, found: Result<Shape, ShapeError>, expect: Result<Shape, &str>) {
        match (found, expect) {
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{what}: {error}"),
            (found, expect) => assert_eq!(found.ok(), expect.ok(), "{what}"),
        }
    }

    /// A kind of mount, its source and its options.
    type Given = (&'static str, &'static str, &'static [&'static str]);

    /// What containerd 1.7 to 2.4 hands to a shim, by snapshotter; the last column is what becomes of it.
    #[test]
    fn mounts_are_known_or_refused() {
        const S: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/3/fs";
        const N: &str = "/var/lib/containerd/io.containerd.snapshotter.v1.native/snapshots/3";
        let cases: &[(&str, &[Given], Result<Shape, &str>)] = &[
            (
                "overlayfs",
                &[("overlay", "overlay", &["workdir=/s/3/work", "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs", "index=off"])],
                shape(&["/s/2/fs", "/s/1/fs"], Some("/s/3/fs")),
            ),
            (
                "overlayfs with options of an administrator",
                &[("overlay", "overlay", &["workdir=/w", "upperdir=/u", "lowerdir=/a", "volatile", "metacopy=on"])],
                shape(&["/a"], Some("/u")),
            ),
            ("overlayfs, a view of two layers", &[("overlay", "overlay", &["lowerdir=/b:/a"])], shape(&["/b", "/a"], None)),
            ("overlayfs, a view of one layer", &[("bind", S, &["ro", "rbind"])], shape(&[S], None)),
            ("overlayfs, an image without layers", &[("bind", S, &["rw", "rbind"])], Err("written to in place")),
            ("native", &[("bind", N, &["rbind", "rw"])], Err("native snapshotter")),
            (
                "overlayfs with mapped ids",
                &[("overlay", "overlay", &["uidmap=0:65536:65536", "gidmap=0:65536:65536", "lowerdir=/a"])],
                Err("no user namespace"),
            ),
            ("a bind with mapped ids", &[("bind", S, &["uidmap=0:1:2", "rw", "rbind"])], Err("uidmap=0:1:2")),
            (
                "erofs, its layers mounted by the mount manager",
                &[("overlay", "overlay", &["workdir=/w", "upperdir=/u", "lowerdir=/manager/t/7/1:/manager/t/7/2"])],
                Err("/manager/t/7/2 is mounted as erofs"),
            ),
            (
                "erofs, left to the shim",
                &[
                    ("mkfs/ext4", "/rw.img", &["X-containerd.mkfs.fs=ext4", "rw", "loop"]),
                    ("erofs", "/layer.erofs", &["ro", "loop"]),
                    ("format/mkdir/overlay", "overlay", &["lowerdir={{ mount 1 }}", "upperdir={{ mount 0 }}/upper"]),
                ],
                Err("3 mount(s) of type mkfs/ext4, erofs, format/mkdir/overlay"),
            ),
            ("stargz", &[("overlay", "overlay", &["lowerdir=/stargz/2/fs", "upperdir=/u"])], Err("mounted as fuse.rawBridge")),
            ("blockfile and devmapper", &[("ext4", "/dev/mapper/p-3", &["rw"])], Err("1 mount(s) of type ext4")),
            ("btrfs", &[("btrfs", "/dev/sda1", &["subvol=/s/3"])], Err("btrfs")),
            (
                "CRI-O, an image to be pulled by Kata",
                &[("fuse.nydus-overlayfs", "", &["io.katacontainers.volume=e30="])],
                Err("nydus"),
            ),
            ("a relative layer", &[("overlay", "", &["lowerdir=a"])], Err("not understood")),
            ("a relative folder", &[("bind", "v", &["ro"])], Err("not understood")),
            ("no layer", &[("overlay", "", &["upperdir=/u"])], Err("0 layers")),
            ("layers of data alone", &[("overlay", "", &["lowerdir=/a::/data"])], Err("not understood")),
            ("an unknown option", &[("overlay", "", &["lowerdir=/a", "speed=3"])], Err("speed=3")),
        ];
        let mountinfo =
            "9 1 7:1 / /manager/t/7/2 ro - erofs /dev/loop1 ro\n9 1 0:9 / /stargz/2/fs rw - fuse.rawBridge stargz rw\n";
        for (what, mounts, expect) in cases {
            let options: Vec<Vec<String>> =
                mounts.iter().map(|(.., options)| options.iter().map(|o| (*o).to_owned()).collect()).collect();
            let mounts: Vec<_> =
                mounts.iter().zip(&options).map(|((kind, source, _), options)| (*kind, *source, options.as_slice())).collect();
            check(what, read(&mounts, false, Path::new("/bundle/rootfs"), mountinfo), expect.clone());
        }
    }

    /// What containerd hands to a shim for a pod with a user namespace: from overlayfs on kernels that map a mount's ids, from the same
    /// on others (its snapshot is a copy whose files were given to the pod's ids of the host), and from others.
    #[test]
    fn layers_of_a_user_namespace_are_taken_as_they_lie() {
        const MAPS: [&str; 2] = ["uidmap=0:65536:65536", "gidmap=0:65536:65536"];
        let cases: &[(&str, Given, bool, Result<Shape, &str>)] = &[
            ("overlayfs", ("overlay", "overlay", &["upperdir=/u", "lowerdir=/b:/a"]), true, shape(&["/b", "/a"], Some("/u"))),
            ("overlayfs, a view of one layer", ("bind", "/a", &["ro", "rbind"]), true, shape(&["/a"], None)),
            ("overlayfs, files given away", ("overlay", "overlay", &["upperdir=/u", "lowerdir=/b:/a"]), false, Err("hostUsers")),
            ("overlayfs, an image without layers", ("bind", "/a", &["rw", "rbind"]), true, Err("written to in place")),
        ];
        for (what, (kind, source, options), maps, expect) in cases {
            let options: Vec<String> =
                options.iter().chain(MAPS.iter().filter(|_| *maps)).map(|option| (*option).to_owned()).collect();
            check(what, read(&[(*kind, *source, options.as_slice())], true, Path::new("/bundle/rootfs"), ""), expect.clone());
        }
        check("CRI-O, and Docker with userns-remap", read(&[], true, Path::new("/bundle/rootfs"), ""), Err("userns-remap"));
    }

    /// What CRI-O and Docker without containerd's image store have mounted at root.path, as /proc/self/mountinfo says it.
    #[test]
    fn what_the_caller_has_mounted_is_known_or_refused() {
        const CRIO: &str = "/var/lib/containers/storage/overlay/c1/merged";
        const DOCKER: &str = "/var/lib/docker/overlay2/c1/merged";
        let cases: &[(&str, &str, &str, Result<Shape, &str>)] = &[
            (
                "CRI-O",
                CRIO,
                "overlay overlay rw,seclabel,lowerdir=/var/lib/containers/storage/overlay/l/B:/var/lib/containers/storage/overlay/l/A,\
                 upperdir=/var/lib/containers/storage/overlay/c1/diff,workdir=/var/lib/containers/storage/overlay/c1/work,metacopy=on",
                shape(
                    &["/var/lib/containers/storage/overlay/l/B", "/var/lib/containers/storage/overlay/l/A"],
                    Some("/var/lib/containers/storage/overlay/c1/diff"),
                ),
            ),
            (
                "Docker",
                DOCKER,
                "overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/B:/var/lib/docker/overlay2/l/A,\
                 upperdir=/var/lib/docker/overlay2/c1/diff,workdir=/var/lib/docker/overlay2/c1/work,index=off",
                shape(
                    &["/var/lib/docker/overlay2/l/B", "/var/lib/docker/overlay2/l/A"],
                    Some("/var/lib/docker/overlay2/c1/diff"),
                ),
            ),
            (
                "Docker, many layers",
                DOCKER,
                "overlay overlay rw,lowerdir=l/B:l/A,upperdir=c1/diff,workdir=c1/work",
                shape(
                    &["/var/lib/docker/overlay2/l/B", "/var/lib/docker/overlay2/l/A"],
                    Some("/var/lib/docker/overlay2/c1/diff"),
                ),
            ),
            (
                "mounted by fsconfig",
                CRIO,
                "overlay none rw,lowerdir+=/b,lowerdir+=/a,upperdir=/u",
                shape(&["/b", "/a"], Some("/u")),
            ),
            (
                "CRI-O with a mount program",
                CRIO,
                "fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0",
                Err("without a mount program"),
            ),
            ("Docker with btrfs", DOCKER, "btrfs /dev/sda1 rw,subvolid=5", Err("mounted as btrfs")),
            ("composefs", CRIO, "overlay none rw,lowerdir+=/a,datadir+=/data", Err("datadir+=/data")),
            (
                "Docker's vfs, or ctr --rootfs",
                "/var/lib/docker/vfs/dir/c1",
                "overlay none rw,lowerdir=/a",
                Err("no root file system"),
            ),
        ];
        for (what, root, mount, expect) in cases {
            let at = if root.contains("vfs") { "/elsewhere" } else { root };
            // One that is covered stands before the one that is seen.
            let mountinfo = format!("8 1 0:8 / {root}/below rw - tmpfs t rw\n9 1 0:9 / {at} rw,relatime shared:3 - {mount}\n");
            let covered = format!("7 1 0:7 / {at} rw - ext4 /dev/x rw\n{mountinfo}");
            check(what, read(&[], false, Path::new(root), &mountinfo), expect.clone());
            check(what, read(&[], false, Path::new(root), &covered), expect.clone());
        }
    }
}
