//! A volume with files of the node: mounted by FUSE, its messages carried between the kernel and a virtio port.
//!
//! Two processes of the agent's do the carrying, one each way, so that neither waits for the other's reader: the agent itself
//! waits for containers that wait for files, and has one thread. They hold nothing but the two descriptors, are not killed for
//! want of memory, and the kernel makes no room for them by writing out what they themselves would have to carry.
//!
//! If they or the node's server end, the kernel answers every call on the volume with ENOTCONN.

use crate::fail::{Result, Step};
use crate::port;
use crate::sys::{self, Forked};
use freehold_guest_api::limits::{FILES_PORT, MAX_FILE_REPLY, MAX_FILE_REQUEST};
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Bytes of a reply's header, of which the first four are the length.
const HEADER: usize = 16;
/// Descriptors of a process that carries.
const KERNEL: i32 = 0;
const PORT: i32 = 1;
/// linux/prctl.h; the C library's headers may be older.
const PR_SET_IO_FLUSHER: i32 = 57;

/// Mounts the volume at `target` and starts to carry.
pub fn mount(volume: &str, target: &Path, is_file: bool) -> Result<()> {
    let port = port::open(&format!("{FILES_PORT}{volume}"))?;
    let kernel = sys::open("/dev/fuse", libc::O_RDWR).step("open /dev/fuse")?;
    let kind = if is_file { libc::S_IFREG } else { libc::S_IFDIR };
    let options = format!("fd={},rootmode={kind:o},user_id=0,group_id=0,allow_other,default_permissions", kernel.as_raw_fd());
    sys::mount("node", target, "fuse", libc::MS_NOSUID | libc::MS_NODEV, &options).step("mount the volume's files")?;
    for carry in [to_node as fn() -> std::io::Result<()>, to_kernel] {
        if let Forked::Child = sys::fork(0).step("start to carry files")? {
            if let Err(error) = become_carrier(&kernel, &port).and_then(|()| carry()) {
                eprintln!("freehold-agent: the files of volume {volume} are lost: {error}");
            }
            sys::exit_now(1)
        }
    }
    Ok(())
}

fn become_carrier(kernel: &OwnedFd, port: &File) -> std::io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "-1000")?;
    sys::prctl(PR_SET_IO_FLUSHER, 1)?;
    // Theirs may have the numbers of ours.
    let (kernel, port) = (kernel.try_clone()?, port.try_clone()?);
    sys::dup_to(kernel.as_raw_fd(), KERNEL)?;
    sys::dup_to(port.as_raw_fd(), PORT)?;
    std::mem::forget((kernel, port)); // closed with the rest
    sys::close_from(3)
}

/// The two files of a carrier, which live as long as it does.
fn ends() -> [std::mem::ManuallyDrop<File>; 2] {
    use std::os::fd::FromRawFd;
    // SAFETY: the carrier owns both, and nothing else in it uses their numbers.
    [KERNEL, PORT].map(|number| std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(number) }))
}

fn to_node() -> std::io::Result<()> {
    let [mut kernel, mut port] = ends();
    let mut buffer = vec![0; MAX_FILE_REQUEST];
    loop {
        match kernel.read(&mut buffer) {
            Ok(length) => port.write_all(&buffer[..length])?,
            // ENODEV: the volume was unmounted.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            // ENOENT: the request was taken back while it was read.
            Err(error) if error.kind() == ErrorKind::Interrupted || error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}

fn to_kernel() -> std::io::Result<()> {
    let [mut kernel, mut port] = ends();
    let mut buffer = vec![0; MAX_FILE_REPLY];
    loop {
        port.read_exact(&mut buffer[..HEADER])?;
        let length = u32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
        if !(HEADER..=MAX_FILE_REPLY).contains(&length) {
            return Err(Error::other(format!("a reply of {length} bytes")));
        }
        port.read_exact(&mut buffer[HEADER..length])?;
        match kernel.write(&buffer[..length]) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            // ENOENT: whoever asked was killed meanwhile.
            Err(error) if error.kind() == ErrorKind::Interrupted || error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
}
