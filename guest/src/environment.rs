//! A process's environment as runc leaves it: of several values of a name the last one counts, and a process without HOME
//! gets its user's by the container's own /etc/passwd.
//!
//! That file is the image's or the container's, so it may be anything: a device, a pipe, without an end.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Users of containers. A cut line's user is not found.
const USERS: &str = "/etc/passwd";
/// Bytes of it that are read: some ten thousand users.
const MAX_USERS: u64 = 1024 * 1024;
/// Where a user lives that the file does not know.
const NOWHERE: &str = "/";

/// The environment for a user, seen from inside the container's root.
pub fn whole(env: &[String], uid: u32) -> Vec<String> {
    let mut whole = last_of_each(env);
    if !whole.iter().any(|entry| entry.starts_with("HOME=")) {
        whole.push(format!("HOME={}", home(&users(), uid)));
    }
    whole
}

fn last_of_each(env: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let name = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = env.iter().rev().filter(|entry| seen.insert(name(entry))).cloned().collect();
    kept.reverse();
    kept
}

fn home(users: &str, uid: u32) -> &str {
    let number = uid.to_string();
    users
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&number))
        .and_then(|line| line.split(':').nth(5))
        .filter(|home| !home.is_empty())
        .unwrap_or(NOWHERE)
}

fn users() -> String {
    // Without O_NONBLOCK the opening of a pipe would wait for its writer.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(USERS);
    let mut content = Vec::new();
    if let Ok(file) = file
        && file.metadata().is_ok_and(|found| found.is_file())
        && file.take(MAX_USERS).read_to_end(&mut content).is_ok()
    {
        return String::from_utf8_lossy(&content).into_owned();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\n#\nbroken:x:7\napp:x:1000:1000::/home/app:\nempty:x:8:8:::\nlate:x:1000:1::/late:\n";
        for (uid, expect) in [(0, "/root"), (1000, "/home/app"), (7, "/"), (8, "/"), (9, "/")] {
            assert_eq!(home(users, uid), expect, "user {uid}");
        }
        assert_eq!(home("", 0), "/");
    }

    #[test]
    fn the_last_value_counts_and_home_is_not_overruled() {
        let env = ["A=1", "HOME=/mine", "A=2", "B"].map(String::from);
        assert_eq!(whole(&env, 0), ["HOME=/mine", "A=2", "B"]);
        assert!(whole(&["HOMER=/".to_owned()], 0).iter().any(|entry| entry.starts_with("HOME=/")));
    }
}
