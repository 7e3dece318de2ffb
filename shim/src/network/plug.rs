//! A tap beside an interface, and redirects both ways.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context;
use futures::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec};

const TUN: &str = "/dev/net/tun";
/// Every protocol, in network byte order as a filter's header has it.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Makes a tap and redirects between it and the interface `index`. It goes with its last descriptor or its namespace.
pub async fn tap(handle: &Handle, number: usize, index: u32, mtu: u32) -> anyhow::Result<OwnedFd> {
    let name = format!("freehold{number}");
    let fd = open(&name).with_context(|| format!("make tap {name}"))?;
    let link = handle.link().get().match_name(name.clone()).execute().try_next().await?.context("the new tap is not there")?;
    let tap = link.header.index;
    handle.link().set(LinkUnspec::new_with_index(tap).mtu(mtu).up().build()).execute().await.context("bring up the tap")?;
    for (from, to) in [(index, tap), (tap, index)] {
        let from = i32::try_from(from)?;
        handle.qdisc().add(from).ingress().execute().await.context("add an ingress queue")?;
        let filter = handle.traffic_filter(from).add().parent(0xffff_0000).protocol(ALL_PROTOCOLS);
        filter.redirect(to)?.execute().await.context("add a redirect")?;
    }
    Ok(fd)
}

/// The kernel's `struct ifreq`, as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

fn open(name: &str) -> anyhow::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN);
    let file = file.with_context(|| format!("open {TUN}: is the kernel's tun module loaded?"))?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    let mut request = Request { name: [0; 16], flags: flags as i16, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one ifreq, which Request has the size and layout of, and which outlives the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(std::io::Error::last_os_error()).context("TUNSETIFF");
    }
    Ok(file.into())
}
