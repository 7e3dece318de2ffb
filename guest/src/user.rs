//! The pod's user namespace: its ids, and the namespaces of network, IPC and host name that it owns.
//!
//! Root in it is nobody in the guest, and has every right over what belongs to it: interfaces, file systems of its own. So its
//! network, IPC and host name are not the kernel's first ones. The agent moves into these itself, with the rights that it
//! has over the guest: what it sets from then on, and whom it calls, is the pod's.
//!
//! What the agent has made is shown to containers with mapped ids: layers, volumes, copied files. Disks of a container's
//! changes hold the ids as they are in the guest, because overlayfs makes files with the rights of who has mounted it.

use crate::fail::{Failure, Result, Step};
use crate::sys::{self, Forked};
use freehold_guest_api::limits::{FIRST_USER_ID, MAX_USER_IDS};
use freehold_guest_api::message::UserIds;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Words of a failure that a child may send.
const MAX_WORDS: u64 = 8192;
const OWNED: [(&str, i32); 3] = [("net", libc::CLONE_NEWNET), ("ipc", libc::CLONE_NEWIPC), ("uts", libc::CLONE_NEWUTS)];

/// A user namespace.
pub struct UserNamespace {
    namespace: OwnedFd,
    ids: UserIds,
    /// The pod's network, which a card is moved to.
    network: OwnedFd,
    /// The guest's own, where cards appear.
    cards: OwnedFd,
}

impl UserNamespace {
    /// Makes one of these ids, and moves the agent into what it owns.
    pub fn make(ids: UserIds) -> Result<UserNamespace> {
        let UserIds { first, count } = ids;
        if first < FIRST_USER_ID || !(1..=MAX_USER_IDS).contains(&count) || first.checked_add(count).is_none() {
            let allowed = format!("from {FIRST_USER_ID} on, at most {MAX_USER_IDS}");
            return Err(Failure::refuse(format!("a user namespace of {count} ids from {first} on; {allowed} are given")));
        }
        let cards = sys::open("/proc/self/ns/net", libc::O_RDONLY).step("open the guest's own network")?;
        let kinds = OWNED.iter().fold(libc::CLONE_NEWUSER, |all, (_, kind)| all | kind);
        let keeper = match sys::fork(kinds).step("make the pod's user namespace")? {
            Forked::Child => {
                // It needs no file of the agent's.
                let _ = sys::close_all();
                sys::pause_for_ever()
            }
            Forked::Parent(pid) => pid,
        };
        let made = UserNamespace::of(keeper, ids, cards);
        // Open files keep the namespaces from here on; it is reaped with the guest's orphans.
        let _ = sys::kill(keeper, libc::SIGKILL);
        made
    }

    fn of(keeper: i32, ids: UserIds, cards: OwnedFd) -> Result<UserNamespace> {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{keeper}/{map}"), format!("0 {} {}", ids.first, ids.count)).step(format!("write {map}"))?;
        }
        let open = |kind: &str| sys::open(format!("/proc/{keeper}/ns/{kind}"), libc::O_RDONLY).step(format!("open its {kind}"));
        let (namespace, network) = (open("user")?, open("net")?);
        for (name, kind) in OWNED {
            sys::enter(open(name)?.as_fd(), kind).step(format!("enter the pod's {name} namespace"))?;
        }
        Ok(UserNamespace { namespace, ids, network, cards })
    }

    /// As [`sys::fork`], with a child in this namespace, which owns the child's other new ones. Nobody who enters can come back, so a child
    /// in between enters and leaves a child of its own to the agent. With the guest's rights it first does what comes `before`. The child
    /// that is left is nobody until it calls [`become_root`].
    pub fn fork(&self, namespaces: i32, before: impl FnOnce() -> Result<()>) -> Result<Forked> {
        let (answer, telling) = sys::pipe().step("make a pipe")?;
        if let Forked::Parent(_) = sys::fork(0).step("fork")? {
            drop(telling);
            return heard(File::from(answer));
        }
        drop(answer);
        let mut telling = File::from(telling);
        let enter = || sys::enter(self.namespace.as_fd(), libc::CLONE_NEWUSER).step("enter the pod's user namespace");
        let forked = before().and_then(|()| enter()).and_then(|()| sys::fork(namespaces | libc::CLONE_PARENT).step("fork"));
        let said = match forked {
            Ok(Forked::Child) => return Ok(Forked::Child),
            Ok(Forked::Parent(pid)) => pid.to_le_bytes().to_vec(),
            Err(failure) => [&(-failure.errno).to_le_bytes(), failure.message.as_bytes()].concat(),
        };
        // If the agent does not listen, there is nobody else to tell.
        let _ = telling.write_all(&said);
        sys::exit_now(0)
    }

    /// Does something as the pod's root: some settings of its namespaces, those of IPC, the kernel lets nobody else change.
    pub fn as_root<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        sys::set_effective_user(self.ids.first).step("become root of the pod")?;
        let done = act();
        sys::set_effective_user(0).expect("root comes back: an agent without its rights ends, and its machine with it");
        Ok(done)
    }

    /// Does something with cards that the pod's network does not have yet; what is opened meanwhile stays there.
    pub fn among_cards<T>(&self, act: impl FnOnce(BorrowedFd<'_>) -> Result<T>) -> Result<T> {
        sys::enter(self.cards.as_fd(), libc::CLONE_NEWNET).step("enter the guest's own network")?;
        let done = act(self.network.as_fd());
        sys::enter(self.network.as_fd(), libc::CLONE_NEWNET).expect("the agent comes back, or ends: it is in the wrong network");
        done
    }

    /// What is at `source`, shown at `target` with mapped ids.
    pub fn show(&self, source: &Path, target: &Path) -> Result<()> {
        let what = || format!("show {} with mapped ids", source.display());
        let tree = self.mapped(source).step(what())?;
        let target = sys::open(target, libc::O_PATH).step(what())?;
        sys::attach_mount(tree.as_fd(), target.as_fd()).step(what())
    }

    /// What is mounted at `place` is shown there with mapped ids, in one mount as before.
    pub fn map(&self, place: &Path) -> Result<()> {
        let what = || format!("map the ids of {}", place.display());
        let tree = self.mapped(place).step(what())?;
        sys::unmount(place, 0).step(what())?;
        let below = sys::open(place, libc::O_PATH).step(what())?;
        sys::attach_mount(tree.as_fd(), below.as_fd()).step(what())
    }

    fn mapped(&self, place: &Path) -> std::io::Result<OwnedFd> {
        let tree = sys::clone_mount(sys::open(place, libc::O_PATH)?.as_fd(), false)?;
        sys::map_mount(tree.as_fd(), self.namespace.as_fd())?;
        Ok(tree)
    }

    /// The guest's id of an id of the pod.
    pub fn outside(&self, id: u32) -> Result<u32> {
        let UserIds { first, count } = self.ids;
        let outside = Some(id).filter(|id| *id < count).map(|id| first + id);
        outside.ok_or_else(|| Failure::refuse(format!("user {id} is none of the {count} of the pod's user namespace")))
    }
}

/// A child of [`UserNamespace::fork`] becomes root of the pod. It also can't be traced any more, as its user has changed (prctl(2),
/// PR_SET_DUMPABLE).
pub fn become_root() -> Result<()> {
    sys::set_identity(0, 0, &[]).step("become root of the pod")
}

/// What the child in between says: a pid, or a failure.
fn heard(mut answer: File) -> Result<Forked> {
    let mut number = [0; 4];
    answer.read_exact(&mut number).step("wait for a process in the pod's user namespace")?;
    match i32::from_le_bytes(number) {
        pid if pid > 0 => Ok(Forked::Parent(pid)),
        errno => {
            let mut words = Vec::new();
            answer.take(MAX_WORDS).read_to_end(&mut words).step("read why there is no process")?;
            Err(Failure::with(-errno, String::from_utf8_lossy(&words).into_owned()))
        }
    }
}

/// The guest's id of the pod's root.
pub fn root(user: Option<&UserNamespace>) -> u32 {
    user.map_or(0, |user| user.ids.first)
}
