//! Whose namespace is it: a map that the node agent writes, believed only while it is fresh.
//!
//! A namespace may be deleted and made again by another tenant. The node agent writes the file anew on each change, and changed or not
//! every 16 s while it hears from the API server; an older one is not read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// Its name in the folder of templates.
pub const NAME: &str = "tenants.json";
/// A map older than this may be wrong.
const FRESH: Duration = Duration::from_secs(60);
/// Bytes of a map that are read: 40 000 namespaces of about 100 bytes each.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Longest UID of a tenant.
const MAX_TENANT: usize = 64;

#[derive(Deserialize)]
struct Map {
    /// Namespace to UID of the tenant.
    namespaces: BTreeMap<String, String>,
}

/// The tenant of a namespace; in words why there is none.
///
/// # Errors
/// If the map is not there, not root's alone, old, or does not name the namespace.
pub fn tenant(folder: &Path, namespace: &str) -> Result<String, String> {
    let path = folder.join(NAME);
    let words = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    let mut file = File::open(&path).map_err(words)?;
    let about = file.metadata().map_err(words)?;
    if about.uid() != 0 || about.mode() & 0o022 != 0 {
        return Err(format!("{} can be written by others than root", path.display()));
    }
    if !is_fresh(about.modified().map_err(words)?, SystemTime::now()) {
        return Err(format!("{} is older than {} s: the node agent does not run", path.display(), FRESH.as_secs()));
    }
    let mut text = Vec::new();
    (&mut file).take(MAX_BYTES).read_to_end(&mut text).map_err(words)?;
    find(&text, namespace)
}

/// A time to come is no sign of freshness either.
fn is_fresh(written: SystemTime, now: SystemTime) -> bool {
    now.duration_since(written).is_ok_and(|age| age < FRESH)
}

fn find(text: &[u8], namespace: &str) -> Result<String, String> {
    let map: Map = serde_json::from_slice(text).map_err(|error| format!("{NAME} is not understood: {error}"))?;
    let tenant = map.namespaces.get(namespace).ok_or("the namespace is not known to be a tenant's")?;
    if is_name(tenant) { Ok(tenant.clone()) } else { Err(format!("{NAME} names a tenant that is no UID")) }
}

/// It becomes a file's name.
pub fn is_name(tenant: &str) -> bool {
    let plain = tenant.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain && !tenant.is_empty() && tenant.len() <= MAX_TENANT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_namespace_has_the_tenant_that_the_map_names_or_none() {
        let text = br#"{"namespaces":{"a":"uid-1","b":"../x","c":""}}"#;
        assert_eq!(find(text, "a").unwrap(), "uid-1");
        for (text, namespace, reason) in [
            (&text[..], "other", "not known"),
            (text, "b", "no UID"),
            (text, "c", "no UID"),
            (b"{", "a", "not understood"),
            (b"{}", "a", "not understood"),
        ] {
            let error = find(text, namespace).unwrap_err();
            assert!(error.contains(reason), "{namespace}: {error}");
        }
    }

    #[test]
    fn an_old_map_or_one_that_others_write_is_not_believed() {
        let folder = std::env::temp_dir().join(format!("freehold-map-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(NAME);
        assert!(tenant(&folder, "a").is_err(), "there is none");
        std::fs::write(&path, r#"{"namespaces":{"a":"uid-1"}}"#).unwrap();
        if std::fs::metadata(&path).unwrap().uid() == 0 {
            assert_eq!(tenant(&folder, "a").unwrap(), "uid-1");
        }
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        assert!(tenant(&folder, "a").is_err(), "others may write it");
        std::fs::remove_dir_all(&folder).unwrap();

        let now = SystemTime::now();
        assert!(is_fresh(now, now) && is_fresh(now - Duration::from_secs(59), now));
        assert!(!is_fresh(now - FRESH, now) && !is_fresh(now + Duration::from_secs(1), now));
    }
}
