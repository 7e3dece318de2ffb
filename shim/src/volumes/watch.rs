//! Tells when the kubelet has swapped a volume's `..data`.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Room for many events at once; they are only counted as one change.
const BUFFER: usize = 4096;

/// A watched folder.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// If the kernel refuses: its limit of watches may be reached.
    pub fn new(folder: &Path) -> io::Result<Watch> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&fd, folder, WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
        // SAFETY: an OwnedFd names one open descriptor for as long as it lives, and it lives as long as the registration.
        Ok(Watch(unsafe { AsyncFd::register(fd)? }))
    }

    /// Waits for a change; false when the folder is gone.
    pub async fn changed(&self) -> bool {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return false };
            let mut swapped = false;
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut reader = inotify::Reader::new(self.0.get_ref().as_fd(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) if event.events().contains(inotify::ReadFlags::IGNORED) => return false,
                    Ok(event) => swapped |= event.file_name() == Some(c"..data"),
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(_) => return false,
                }
            }
            ready.clear_ready();
            if swapped {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn a_swap_is_seen_and_so_is_the_end() {
        let folder = std::env::temp_dir().join(format!("freehold-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let watch = Watch::new(&folder).unwrap();
        std::fs::write(folder.join("other"), "x").unwrap();
        symlink("..2", folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        assert!(watch.changed().await);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!watch.changed().await);
    }
}
