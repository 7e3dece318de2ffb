//! Who serves a sandbox: noted by `start` before there is a server, so that whatever becomes of it is cleaned up.
//!
//! The machine has a [`record`](crate::record) of its own, which the server writes into the bundle. A server that was killed before
//! that left its socket behind; one that containerd forgot, because containerd itself was killed meanwhile, went on for ever. If its own
//! start of a shim fails, containerd removes the bundle and runs no `delete`: so the notes have a folder of their own, and each
//! `start` looks through it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record;

/// Where the notes are.
pub const FOLDER: &str = "/run/freehold/servers";
/// Time for a server that was told to end to do so, its last events included.
const GRACE: Duration = Duration::from_millis(500);

/// The server of a sandbox, or the `start` that is about to make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its pid.
    pub pid: u32,
    /// Its start time, as in the machine's record.
    pub started: u64,
    /// The task service's socket.
    pub socket: PathBuf,
}

/// Makes the folder of notes, root's alone.
///
/// # Errors
/// If it can't be made.
pub fn open(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))
}

/// Where the note of a sandbox's server is.
pub fn note(namespace: &str, id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{namespace}.{id}"))
}

fn released(note: &Path) -> PathBuf {
    let mut path = note.as_os_str().to_owned();
    path.push(".released");
    path.into()
}

impl Server {
    /// That of a process; `None` if it has ended.
    pub fn of(pid: u32, socket: &Path) -> Option<Server> {
        Some(Server { pid, started: record::started(pid)?, socket: socket.to_owned() })
    }

    /// Writes it whole.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, note: &Path) -> std::io::Result<()> {
        record::write(note, self)
    }

    /// Reads it; `None` if there is none, which is so for every container but the sandbox.
    pub fn read(note: &Path) -> Option<Server> {
        record::read(note)
    }

    /// Ends the server if it still is the same one, and removes its sockets and its note. Safe to call again.
    pub fn clean(&self, note: &Path) {
        record::end(self.pid, self.started, GRACE);
        forget(note, &self.socket);
    }

    fn is_gone(&self) -> bool {
        record::started(self.pid) != Some(self.started)
    }
}

/// `delete` finds this server no more: it ends by itself, with its last task.
pub fn release(note: &Path) {
    let _ = std::fs::rename(note, released(note)); // it has one, unless somebody took it away
}

/// Removes what a server that ends leaves behind.
pub fn forget(note: &Path, socket: &Path) {
    for file in [socket, &crate::inspect::socket(socket), note, &released(note)] {
        let _ = std::fs::remove_file(file); // there is one of the two notes, or none
    }
}

/// Removes what servers left behind that were killed.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let note = entry.path();
        // Read again: a `start` that has ended has put its server into its own place before.
        if let Some(server) = Server::read(&note)
            && server.is_gone()
            && Server::read(&note).as_ref() == Some(&server)
        {
            forget(&note, &server.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command};

    fn served(folder: &Path, name: &str) -> (Child, Server, PathBuf) {
        let (note, socket) = (folder.join(name), folder.join(format!("socket-{name}")));
        drop(UnixListener::bind(&socket).unwrap());
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let server = Server::of(child.id(), &socket).unwrap();
        server.write(&note).unwrap();
        (child, server, note)
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("freehold-server-{name}-{}", std::process::id()));
        open(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        folder
    }

    #[test]
    fn a_server_without_a_machine_is_ended_and_its_socket_removed() {
        let folder = folder("ended");
        assert_eq!(Server::read(&folder.join("a")), None);
        let (mut child, server, note) = served(&folder, "a");
        let found = Server::read(&note).unwrap();
        assert_eq!(found, server);
        found.clean(&note);
        assert!(!child.wait().unwrap().success() && !server.socket.exists() && !note.exists());
        found.clean(&note);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_what_killed_servers_left_is_swept_released_or_not() {
        let folder = folder("swept");
        let [mut killed, mut alone, mut living] = ["killed", "alone", "living"].map(|name| served(&folder, name));
        release(&alone.2);
        assert_eq!(Server::read(&alone.2), None, "delete does not find it");
        for (child, _, _) in [&mut killed, &mut alone] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        std::fs::write(folder.join("no note"), "{").unwrap();
        sweep(&folder);
        let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["living", "no note", "socket-living"]);
        living.0.kill().unwrap();
        living.0.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
