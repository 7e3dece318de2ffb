//! The few rtnetlink messages that a pod's network needs, by hand: a library would be larger than the agent.

use crate::fail::{Result, Step};
use crate::sys;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const HEADER: usize = 16;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const CREATE_REPLACE: u16 = 0x400 | 0x100;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const NLMSG_ERROR: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// A message under construction.
pub struct Message {
    bytes: Vec<u8>,
}

/// A change of a link.
#[derive(Default)]
pub struct Link<'a> {
    /// Which.
    pub index: u32,
    /// Up or down.
    pub up: bool,
    /// 0: unchanged.
    pub mtu: u32,
    /// New name.
    pub name: Option<&'a str>,
    /// Network namespace to move it to.
    pub network: Option<BorrowedFd<'a>>,
}

fn family(ipv6: bool) -> u8 {
    (if ipv6 { libc::AF_INET6 } else { libc::AF_INET }) as u8
}

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST_ACK | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        Message { bytes }
    }
    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) {
        self.bytes.extend_from_slice(&((payload.len() + 4) as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
    /// Appends an address as an attribute.
    pub fn ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }
    /// RTM_NEWLINK of an existing link: struct ifinfomsg.
    pub fn link(link: Link<'_>) -> Message {
        let mut body = vec![0; 4];
        body.extend_from_slice(&link.index.to_ne_bytes());
        body.extend_from_slice(&(if link.up { IFF_UP } else { 0 }).to_ne_bytes());
        body.extend_from_slice(&IFF_UP.to_ne_bytes());
        let mut message = Message::new(RTM_NEWLINK, 0, &body);
        if link.mtu != 0 {
            message.attribute(IFLA_MTU, &link.mtu.to_ne_bytes());
        }
        if let Some(name) = link.name {
            message.attribute(IFLA_IFNAME, format!("{name}\0").as_bytes());
        }
        if let Some(network) = link.network {
            message.attribute(IFLA_NET_NS_FD, &network.as_raw_fd().to_ne_bytes());
        }
        message
    }
    /// RTM_NEWADDR: struct ifaddrmsg.
    pub fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut body = vec![family(address.is_ipv6()), prefix, flags, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(RTM_NEWADDR, CREATE_REPLACE, &body);
        message.ip(IFA_LOCAL, address);
        message.ip(IFA_ADDRESS, address);
        // As CNI's plugins give it: a network of one or two addresses has none.
        if let (IpAddr::V4(v4), 1..31) = (address, prefix) {
            message.ip(IFA_BROADCAST, IpAddr::V4((v4.to_bits() | (u32::MAX >> prefix)).into()));
        }
        message
    }
    /// RTM_NEWNEIGH: struct ndmsg.
    pub fn neighbour(index: u32, address: IpAddr, mac: &[u8]) -> Message {
        let mut body = vec![family(address.is_ipv6()), 0, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        body.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
        body.extend_from_slice(&[0, 0]);
        let mut message = Message::new(RTM_NEWNEIGH, CREATE_REPLACE, &body);
        message.ip(NDA_DST, address);
        message.attribute(NDA_LLADDR, mac);
        message
    }
    /// RTM_NEWROUTE: struct rtmsg.
    pub fn route(ipv6: bool, prefix: u8, scope: u8) -> Message {
        let mut body = vec![family(ipv6), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, RTN_UNICAST];
        body.extend_from_slice(&[0; 4]);
        Message::new(RTM_NEWROUTE, CREATE_REPLACE, &body)
    }
}

/// An rtnetlink socket.
pub struct Socket {
    file: std::fs::File,
}

impl Socket {
    /// Opens one.
    pub fn open() -> Result<Socket> {
        Ok(Socket { file: sys::netlink_socket().step("open rtnetlink")?.into() })
    }
    /// Sends a message and waits for the kernel's word on it, which comes at once.
    pub fn send(&mut self, message: &Message) -> Result<()> {
        let mut bytes = message.bytes.clone();
        let len = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.file.write_all(&bytes).step("write to rtnetlink")?;
        let mut answer = [0; 4096];
        let n = self.file.read(&mut answer).step("read from rtnetlink")?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if n < HEADER + 4 || kind != NLMSG_ERROR {
            return Err(io::Error::from_raw_os_error(libc::EPROTO)).step("answer of rtnetlink");
        }
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)).step("rtnetlink") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned() {
        let mut message = Message::route(false, 24, 0);
        assert_eq!(message.bytes.len(), HEADER + 12);
        message.attribute(3, b"abcde");
        assert_eq!(message.bytes.len(), HEADER + 12 + 12);
        assert_eq!(&message.bytes[HEADER + 12..HEADER + 16], [9, 0, 3, 0]);
    }

    #[test]
    fn an_address_has_its_networks_broadcast_address() {
        let end = |address: &str, prefix| Message::address(1, address.parse().unwrap(), prefix).bytes.split_off(HEADER + 8);
        assert!(end("10.244.0.7", 24).ends_with(&[8, 0, 4, 0, 10, 244, 0, 255]));
        assert!(end("10.244.5.7", 20).ends_with(&[8, 0, 4, 0, 10, 244, 15, 255]));
        assert_eq!((end("10.244.0.7", 32).len(), end("fd00::7", 64).len()), (16, 40));
    }
}
