//! A tap beside an interface, and redirects both ways: all that arrives goes in, what `guard` lets pass goes out.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::Context;
use freehold_guest_api::message::Interface;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute, TcBpfFlags,
    TcFilterBpf, TcFilterBpfOption, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption,
    TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use rtnetlink::{Handle, LinkUnspec};

use super::bpf;
use super::guard::{self, Match};

const TUN: &str = "/dev/net/tun";
/// A tap's name up to its number. cAdvisor passes over what begins with "veth": a sum over a pod's interfaces would else count
/// each byte twice, at the pod's own interface and at the tap.
const TAP: &str = "vethvm";
/// Every protocol, in network byte order as a filter's header has it.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// The queue to which filters of what arrives belong.
const INGRESS: u32 = 0xffff_0000;

/// r0 = TC_ACT_SHOT; exit. It drops every frame: unlike the action "drop", cls_bpf needs no further module of the kernel.
const DROP: [bpf::Instruction; 2] = [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

/// Makes a tap and redirects between it and the interface `index`. It goes with its last descriptor or its namespace.
pub async fn tap(handle: &Handle, number: usize, index: u32, interface: &Interface) -> anyhow::Result<OwnedFd> {
    let name = format!("{TAP}{number}");
    let fd = open(&name).with_context(|| format!("make tap {name}"))?;
    let link = handle.link().get().match_name(name.clone()).execute().try_next().await?.context("the new tap is not there")?;
    let tap = link.header.index;
    for from in [index, tap] {
        handle.qdisc().add(i32::try_from(from)?).ingress().execute().await.context("add an ingress queue")?;
    }
    let none = Match { offset: 0, mask: 0, value: 0 };
    add(handle, index, 1, ALL_PROTOCOLS, redirect(&[none], tap)).await.context("add a redirect")?;
    let mut priorities = Vec::new();
    for rule in guard::rules(interface) {
        // Filters of one protocol share a priority, and one table.
        let known = priorities.iter().position(|protocol| *protocol == rule.protocol);
        let at = known.unwrap_or_else(|| {
            priorities.push(rule.protocol);
            priorities.len() - 1
        });
        let filter = redirect(&rule.matches, index);
        add(handle, tap, u16::try_from(at)? + 1, rule.protocol.to_be(), filter).await.context("add a rule of the tap")?;
    }
    let dropper = bpf::load(bpf::Kind::Filter, &DROP).context("load the program that drops frames")?;
    let fd_number = u32::try_from(dropper.as_raw_fd())?;
    let options = [TcFilterBpfOption::ProgFd(fd_number), TcFilterBpfOption::ProgName("drop".into())];
    let options = options.into_iter().chain([TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)]).map(TcOption::Bpf).collect();
    add(handle, tap, u16::try_from(priorities.len())? + 1, ALL_PROTOCOLS, (TcFilterBpf::KIND, options))
        .await
        .context("add the last rule of the tap: has the kernel cls_bpf?")?;
    // Only now: nothing passes before the rules are there.
    let link = LinkUnspec::new_with_index(tap).mtu(interface.mtu).up().build();
    handle.link().set(link).execute().await.context("bring up the tap")?;
    Ok(fd)
}

/// Adds a filter of what arrives at `index`.
async fn add(
    handle: &Handle,
    index: u32,
    priority: u16,
    protocol: u16,
    (kind, options): (&str, Vec<TcOption>),
) -> anyhow::Result<()> {
    let mut message = TcMessage::with_index(i32::try_from(index)?);
    message.header.parent = INGRESS.into();
    message.header.info = TcHandle { major: priority, minor: protocol }.into();
    message.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options)];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let mut answers = handle.clone().request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io().into());
        }
    }
    Ok(())
}

/// A filter: what all `matches` hold for leaves by the interface `to`.
fn redirect(matches: &[Match], to: u32) -> (&'static str, Vec<TcOption>) {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.keys = matches.iter().map(key).collect();
    selector.nkeys = u8::try_from(selector.keys.len()).unwrap_or(u8::MAX);
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = to;
    let mut action = TcAction::default();
    let options = vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))];
    action.attributes = vec![TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()), TcActionAttribute::Options(options)];
    let options = [TcFilterU32Option::Selector(selector), TcFilterU32Option::Action(vec![action])];
    (TcFilterU32::KIND, options.into_iter().map(TcOption::U32).collect())
}

fn key(matches: &Match) -> TcU32Key {
    let mut key = TcU32Key::default();
    (key.mask, key.val, key.off) = (matches.mask, matches.value, matches.offset);
    key
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;
    use std::time::{Duration, Instant};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    /// Frames are there at once; this is for a machine that does something else just then.
    const PATIENCE: Duration = Duration::from_secs(5);

    fn frame(mac: [u8; 6], source: [u8; 4], name: &str) -> Vec<u8> {
        let header = [&[0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0][..], &source, &[10, 9, 0, 1]].concat();
        let mut frame = [&[0xff; 6][..], &mac, &[8, 0], &header, name.as_bytes()].concat();
        frame.resize(74, 0);
        frame
    }

    /// Names of frames that arrive, until `done` does.
    fn arrived(socket: &mut File) -> String {
        let (mut names, end) = (String::new(), Instant::now() + PATIENCE);
        while !names.ends_with("done ") {
            assert!(Instant::now() < end, "only {names:?} arrived in {PATIENCE:?}");
            let mut buffer = [0; 2048];
            match socket.read(&mut buffer) {
                Ok(n) if n == 74 || n == 84 => {
                    let name = buffer[n - 40..n].split(|byte| *byte == 0).next().unwrap_or_default();
                    names += &format!("{} ", String::from_utf8_lossy(name));
                }
                _ => std::thread::yield_now(),
            }
        }
        names
    }

    /// In a namespace of its own with a pair of interfaces as CNI makes them; needs root, as all that makes machines.
    #[test]
    fn what_leaves_and_what_arrives_by_the_kernels_own_filters() {
        let work = || {
            if rustix::process::geteuid().as_raw() != 0 || !std::path::Path::new(TUN).exists() {
                return; // the gate that runs pods shows the same
            }
            // SAFETY: takes an integer; only this thread changes its namespace.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            let ip = |arguments: &str| {
                let status = std::process::Command::new("ip").args(arguments.split(' ')).status();
                assert!(status.unwrap().success(), "ip {arguments}");
            };
            ip("link add eth0 address 02:00:00:00:00:01 type veth peer name node");
            ip("link set eth0 up");
            ip("link set node up");
            let index = |name: &str| -> u32 {
                // /sys shows the namespace of who mounted it; this asks the thread's own.
                let name = std::ffi::CString::new(name).unwrap();
                // SAFETY: the name ends with a NUL byte and outlives the call.
                unsafe { libc::if_nametoindex(name.as_ptr()) }
            };
            let interface =
                Interface { mac: MAC.to_vec(), mtu: 1500, addresses: vec!["10.9.0.7/24".into()], ..Interface::default() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let fd = runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                tap(&handle, 0, index("eth0"), &interface).await.unwrap()
            });
            let mut machine = File::from(fd);
            let mut node = packets(index("node"));
            for (mac, source, name) in [
                (MAC, [10, 9, 0, 8], "another-ip"),
                ([2, 0, 0, 0, 0, 9], [10, 9, 0, 7], "another-mac"),
                (MAC, [10, 9, 0, 7], "own"),
                (MAC, [10, 9, 0, 7], "done"),
            ] {
                let offloads = [0; 10]; // struct virtio_net_hdr
                machine.write_all(&[&offloads[..], &frame(mac, source, name)].concat()).unwrap();
            }
            assert_eq!(arrived(&mut node), "own done ");
            for name in ["first", "done"] {
                node.write_all(&frame([2, 0, 0, 0, 0, 9], [10, 9, 0, 1], name)).unwrap();
            }
            assert_eq!(arrived(&mut machine), "first done ");
        };
        std::thread::spawn(work).join().unwrap();
    }

    /// A socket that sends and receives whole frames of an interface.
    fn packets(index: u32) -> File {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: takes integers only.
        let fd =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol.into()) };
        assert!(fd >= 0);
        // SAFETY: sockaddr_ll is plain data; zeroes are a valid one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = i32::try_from(index).unwrap();
        // SAFETY: the address has the length that is said and outlives the call.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) };
        assert_eq!(bound, 0);
        // SAFETY: a new descriptor that nobody else has.
        unsafe { File::from_raw_fd(fd) }
    }
}
