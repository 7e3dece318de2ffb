//! The shapes in which a snapshotter describes a root file system: an overlay, or one folder bound read-only.
//! Anything else is refused by name.

use std::path::PathBuf;

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
    /// Not exactly one mount.
    #[error(
        "the root file system has {0} mounts; a virtual machine takes one, an overlay or a bind: use the overlayfs snapshotter"
    )]
    Count(usize),
    /// A kind of mount that is not known.
    #[error(
        "the root file system is a mount of type {0}; a virtual machine takes overlay or bind: use the overlayfs snapshotter"
    )]
    Kind(String),
    /// An overlay without layers, or with a relative one.
    #[error("the root file system's option {0:?} is not understood")]
    Option(String),
}

/// Most layers of an image: overlayfs' own limit.
pub const MAX_LAYERS: usize = 500;

/// Reads the mounts: kind, source and options of each.
///
/// # Errors
/// If they are of no known shape.
pub fn read(mounts: &[(&str, &str, &[String])]) -> Result<Shape, ShapeError> {
    let [(kind, source, options)] = mounts else { return Err(ShapeError::Count(mounts.len())) };
    let folder = |option: &str, path: &str| {
        let path = PathBuf::from(path);
        if path.is_absolute() { Ok(path) } else { Err(ShapeError::Option(option.to_owned())) }
    };
    match *kind {
        "bind" => {
            let readonly = options.iter().any(|option| option == "ro");
            let path = folder(source, source)?;
            // A writable bind is a snapshot without a parent: an empty image whose folder is the change folder itself.
            if readonly { Ok(Shape { layers: vec![path], upper: None }) } else { Err(ShapeError::Option("bind,rw".into())) }
        }
        "overlay" => {
            let (mut layers, mut upper) = (Vec::new(), None);
            for option in *options {
                if let Some(list) = option.strip_prefix("lowerdir=") {
                    layers = list.split(':').map(|path| folder(option, path)).collect::<Result<_, _>>()?;
                } else if let Some(path) = option.strip_prefix("upperdir=") {
                    upper = Some(folder(option, path)?);
                } else if !option.starts_with("workdir=") && !matches!(option.as_str(), "index=off" | "userxattr" | "ro") {
                    return Err(ShapeError::Option(option.clone()));
                }
            }
            if layers.is_empty() || layers.len() > MAX_LAYERS {
                return Err(ShapeError::Option(format!("{} layers", layers.len())));
            }
            Ok(Shape { layers, upper })
        }
        kind => Err(ShapeError::Kind(kind.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_known_or_refused() {
        let of = |kind: &str, source: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|s| (*s).to_owned()).collect();
            read(&[(kind, source, &options)])
        };
        let overlay = of("overlay", "overlay", &["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/b:/a"]).unwrap();
        assert_eq!(overlay, Shape { layers: vec!["/b".into(), "/a".into()], upper: Some("/u".into()) });
        assert_eq!(of("bind", "/v", &["ro", "rbind"]).unwrap(), Shape { layers: vec!["/v".into()], upper: None });
        for (kind, source, options) in [
            ("bind", "/v", &["rw", "rbind"][..]),
            ("bind", "v", &["ro"]),
            ("overlay", "", &["lowerdir=a"]),
            ("overlay", "", &["upperdir=/u"]),
            ("overlay", "", &["lowerdir=/a", "uidmap=0:1:2"]),
            ("erofs", "/x", &[]),
        ] {
            assert!(of(kind, source, options).is_err(), "{kind} {source} {options:?}");
        }
        assert_eq!(read(&[]), Err(ShapeError::Count(0)));
    }
}
