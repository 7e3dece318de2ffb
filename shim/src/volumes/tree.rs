//! A folder or file of the host as the agent's entries, in messages of bounded size.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use freehold_guest_api::limits::MAX_CHUNK;
use freehold_guest_api::message::{PutEntries, PutEntry};

/// Most files, folders and links of a volume: a configMap or secret has at most 1 MiB, its keys are far fewer.
const MAX_ENTRIES: usize = 16 * 1024;
/// Most bytes of a volume: a projected volume may join several of 1 MiB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of data in one message, so that it stays below the contract's limit with its names.
const MESSAGE: usize = 512 * 1024;
/// Entries in one message, for the same reason.
const MESSAGE_ENTRIES: usize = 1024;
/// Folders within folders.
const MAX_DEPTH: usize = 16;
/// The link by which the kubelet publishes a volume's content at once (`AtomicWriter` in k8s.io/kubernetes/pkg/volume/util).
const DATA: &str = "..data";
/// Tries to read content that the kubelet replaces meanwhile; it does so once a minute or so.
const MAX_TRIES: usize = 8;

/// Reads a folder (or one file, with an empty path) as the messages that put it into `volume`.
///
/// # Errors
/// If it can't be read or is beyond a limit.
pub fn read(volume: &str, path: &Path) -> io::Result<Vec<PutEntries>> {
    let (mut entries, mut total) = (Vec::new(), 0);
    if !std::fs::metadata(path)?.is_dir() {
        file(path, String::new(), &mut entries, &mut total)?;
    } else if let Ok(data) = std::fs::read_link(path.join(DATA)) {
        entries = published(path, data)?;
    } else {
        walk(path, "", 0, &mut entries, &mut total)?;
    }
    Ok(messages(volume, entries))
}

/// What the kubelet published, as of one moment: it swaps `..data` first, tidies links and removes the folder before only then,
/// so all is derived from where `..data` leads, and read again if that changed.
fn published(folder: &Path, mut data: PathBuf) -> io::Result<Vec<PutEntry>> {
    for _ in 0..MAX_TRIES {
        let read = one(folder, &data);
        let now = std::fs::read_link(folder.join(DATA))?;
        if now == data {
            return read;
        }
        data = now;
    }
    Err(io::Error::other(format!("{} was replaced {MAX_TRIES} times while it was read", folder.join(DATA).display())))
}

fn one(folder: &Path, data: &Path) -> io::Result<Vec<PutEntry>> {
    let text =
        data.to_str().filter(|text| !text.contains('/')).ok_or_else(|| io::Error::other("..data leads out of its volume"))?;
    let at = folder.join(data);
    let metadata = std::fs::symlink_metadata(&at)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("..data leads to no folder"));
    }
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    let mut entries = vec![PutEntry { path: text.to_owned(), mode, uid, gid, data: Vec::new(), offset: 0 }];
    walk(&at, text, 1, &mut entries, &mut 0)?;
    let prefix = format!("{text}/");
    let tops: BTreeSet<String> =
        entries.iter().filter_map(|entry| entry.path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned)).collect();
    let mode = rustix::fs::FileType::Symlink.as_raw_mode() | 0o777;
    let link = |path: String, to: String| PutEntry { path, mode, uid, gid, data: to.into_bytes(), offset: 0 };
    entries.push(link(DATA.to_owned(), text.to_owned()));
    entries.extend(tops.into_iter().map(|top| {
        let to = format!("{DATA}/{top}");
        link(top, to)
    }));
    Ok(entries)
}

fn walk(folder: &Path, prefix: &str, depth: usize, entries: &mut Vec<PutEntry>, total: &mut u64) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{} lies deeper than {MAX_DEPTH} folders", folder.display())));
    }
    let mut names: Vec<_> = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for name in names {
        if entries.len() >= MAX_ENTRIES {
            return Err(io::Error::other(format!("more than {MAX_ENTRIES} entries")));
        }
        let from = name.path();
        let text = name.file_name().into_string().map_err(|_| io::Error::other("a name that is not UTF-8"))?;
        let path = if prefix.is_empty() { text } else { format!("{prefix}/{text}") };
        let kind = name.file_type()?;
        if kind.is_file() {
            file(&from, path, entries, total)?;
            continue;
        }
        if !kind.is_dir() && !kind.is_symlink() {
            continue; // sockets and devices have no place in these volumes
        }
        let metadata = std::fs::symlink_metadata(&from)?;
        let data = if kind.is_symlink() { std::fs::read_link(&from)?.as_os_str().as_bytes().to_vec() } else { Vec::new() };
        entries.push(PutEntry {
            path: path.clone(),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            data,
            offset: 0,
        });
        if kind.is_dir() {
            walk(&from, &path, depth + 1, entries, total)?;
        }
    }
    Ok(())
}

fn file(from: &Path, path: String, entries: &mut Vec<PutEntry>, total: &mut u64) -> io::Result<()> {
    let file = std::fs::File::open(from)?;
    let metadata = file.metadata()?;
    let size = metadata.len();
    *total += size;
    if *total > MAX_BYTES {
        return Err(io::Error::other(format!("more than {MAX_BYTES} bytes")));
    }
    let mut offset = 0;
    loop {
        let n = usize::try_from(size - offset).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
        let mut data = vec![0; n];
        file.read_exact_at(&mut data, offset)?;
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        entries.push(PutEntry { path: path.clone(), mode, uid, gid, data, offset });
        offset += n as u64;
        if offset >= size {
            return Ok(());
        }
    }
}

fn messages(volume: &str, entries: Vec<PutEntry>) -> Vec<PutEntries> {
    let new = || PutEntries { volume: volume.to_owned(), entries: Vec::new(), more: true };
    let (mut out, mut bytes) = (vec![new()], 0);
    for entry in entries {
        let last = out.last().map_or(0, |message| message.entries.len());
        if bytes + entry.data.len() > MESSAGE || last >= MESSAGE_ENTRIES {
            out.push(new());
            bytes = 0;
        }
        bytes += entry.data.len();
        if let Some(message) = out.last_mut() {
            message.entries.push(entry);
        }
    }
    if let Some(message) = out.last_mut() {
        message.more = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_guest_api::limits::MAX_MESSAGE;
    use prost::Message;

    #[test]
    fn a_configmaps_folder_is_read_with_its_links() {
        let folder = std::env::temp_dir().join(format!("freehold-tree-{}", std::process::id()));
        let now = folder.join("..2026");
        std::fs::create_dir_all(&now).unwrap();
        std::fs::write(now.join("key"), "value").unwrap();
        std::fs::write(now.join("large"), vec![7; 3 * MAX_CHUNK + 1]).unwrap();
        std::os::unix::fs::symlink("..2026", folder.join("..data")).unwrap();
        // The kubelet is in the middle of an update: a link is stale, one is missing, and the folder before is still there.
        std::os::unix::fs::symlink("..data/gone", folder.join("gone")).unwrap();
        std::fs::create_dir(folder.join("..2025")).unwrap();
        let messages = read("v", &folder).unwrap();
        assert!(messages.len() > 1);
        assert!(messages.iter().all(|message| message.encoded_len() < MAX_MESSAGE));
        assert_eq!(messages.iter().filter(|message| !message.more).count(), 1);
        let entries: Vec<_> = messages.into_iter().flat_map(|message| message.entries).collect();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths[..2], ["..2026", "..2026/key"]);
        assert!(paths.contains(&"..data") && paths.contains(&"key") && paths.contains(&"large"));
        assert!(!paths.contains(&"gone") && !paths.contains(&"..2025"), "{paths:?}");
        assert_eq!(entries.iter().find(|entry| entry.path == "key").unwrap().data, b"..data/key");
        let large: usize = entries.iter().filter(|entry| entry.path == "..2026/large").map(|entry| entry.data.len()).sum();
        assert_eq!(large, 3 * MAX_CHUNK + 1);
        let file = read("v", &now.join("key")).unwrap();
        assert_eq!((file[0].entries[0].path.as_str(), file[0].entries[0].data.as_slice()), ("", &b"value"[..]));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
