//! What may leave a machine: frames under its own addresses. Pure; `plug` puts the rules on the tap.
//!
//! Whoever has CAP_NET_RAW in a guest can write any frame. On the node's side of the tap only those go on that carry the
//! addresses that CNI gave the pod: as Ethernet's source, as IP's source, and as the sender that ARP and neighbour discovery
//! tell others about. Router advertisements, redirects, VLAN tags and other protocols stay in. A pod that answers for more
//! addresses than its own (a virtual router, keepalived) or
//! takes them by SLAAC therefore does not work in a machine.

use std::net::IpAddr;

use freehold_guest_api::message::Interface;

/// ETH_P_IP.
pub const IPV4: u16 = 0x0800;
/// ETH_P_ARP.
pub const ARP: u16 = 0x0806;
/// ETH_P_IPV6.
pub const IPV6: u16 = 0x86dd;

/// A comparison of 32 bits, `offset` bytes after the beginning of the network header, in host byte order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Where; -8 is the source of the Ethernet header.
    pub offset: i32,
    /// Which bits.
    pub mask: u32,
    /// What they are.
    pub value: u32,
}

/// Frames of a protocol of which all matches hold may leave; those of no rule stay in.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// EtherType.
    pub protocol: u16,
    /// What must hold.
    pub matches: Vec<Match>,
}

/// What may follow IPv6's header: IPv4 and IPv6 in it, TCP, UDP, DCCP, GRE, ESP, nothing, OSPF, L2TP, SCTP, UDP-Lite. Not
/// among them are ICMPv6, which has rules of its own, and headers behind which it could hide.
const TRANSPORTS: [u8; 12] = [6, 17, 4, 33, 41, 47, 50, 59, 89, 115, 132, 136];
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
/// ICMPv6 that leaves under an own source: errors, echoes, solicitations of routers and neighbours. Not among them are
/// router advertisements (134) and redirects (137); neighbour advertisements have a rule of their own (RFC 4861).
const MESSAGES: [u8; 8] = [1, 2, 3, 4, 128, 129, 133, SOLICITATION];
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Multicast listener reports are the only messages behind a hop-by-hop header that pods send (RFC 3810).
const LISTENER: [u8; 3] = [131, 132, 143];

/// The rules of an interface, the likeliest first.
pub fn rules(interface: &Interface) -> Vec<Rule> {
    let Ok(mac) = <[u8; 6]>::try_from(interface.mac.as_slice()) else { return Vec::new() };
    let addresses = interface.addresses.iter().filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(ip) => four.push(u32::from(ip)),
            IpAddr::V6(ip) => six.push(ip.octets()),
        }
    }
    six.push(link_local(mac));
    let mut rules = Vec::new();
    let mut add = |protocol: u16, matches: &[&[Match]]| {
        let source = [whole(-8, word(mac, 0)), high(-4, half(mac))];
        rules.push(Rule { protocol, matches: [&matches.concat()[..], &source].concat() });
    };
    for ip in four {
        add(IPV4, &[&[whole(12, ip)]]);
        // Hardware and protocol of Ethernet and IPv4, then the sender's pair of addresses.
        let kind = [whole(0, 0x0001_0800), high(4, 0x0604)];
        let sender = [whole(8, word(mac, 0)), whole(12, u32::from(half(mac)) << 16 | ip >> 16), high(16, ip as u16)];
        add(ARP, &[&kind, &sender]);
    }
    for source in &six {
        let source = from(8, source);
        for transport in TRANSPORTS {
            add(IPV6, &[&source, &[next(transport)]]);
            // Linux ignores neighbour discovery in fragments (RFC 6980), but others may not: ICMPv6 is not among them.
            add(IPV6, &[&source, &[next(FRAGMENT), first_byte(40, transport)]]);
        }
        for message in MESSAGES {
            add(IPV6, &[&source, &[next(ICMPV6), first_byte(40, message)]]);
        }
        for target in &six {
            // An advertisement is about an address of its own, and names its own card.
            let card = [whole(64, 0x0201_0000 | word(mac, 0) >> 16), whole(68, word(mac, 2))];
            add(IPV6, &[&source, &[next(ICMPV6), first_byte(40, ADVERTISEMENT)], &from(48, target), &card]);
        }
    }
    let nobody = from(8, &[0; 16]);
    for source in six.iter().map(|source| from(8, source)).chain([nobody.clone()]) {
        for message in LISTENER {
            // A header of 8 bytes with ICMPv6 behind it.
            add(IPV6, &[&source, &[next(0), high(40, u16::from(ICMPV6) << 8), first_byte(48, message)]]);
        }
    }
    // Who has no address yet asks whether one is free.
    add(IPV6, &[&nobody, &[next(ICMPV6), first_byte(40, SOLICITATION)]]);
    rules
}

/// The address that the guest's kernel makes of a MAC address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

fn word(mac: [u8; 6], at: usize) -> u32 {
    u32::from_be_bytes([mac[at], mac[at + 1], mac[at + 2], mac[at + 3]])
}
fn half(mac: [u8; 6]) -> u16 {
    u16::from_be_bytes([mac[4], mac[5]])
}
fn whole(offset: i32, value: u32) -> Match {
    Match { offset, mask: u32::MAX, value }
}
fn high(offset: i32, value: u16) -> Match {
    Match { offset, mask: 0xffff_0000, value: u32::from(value) << 16 }
}
/// The next header of IPv6.
fn next(header: u8) -> Match {
    Match { offset: 4, mask: 0xff00, value: u32::from(header) << 8 }
}
fn first_byte(offset: i32, kind: u8) -> Match {
    Match { offset, mask: 0xff00_0000, value: u32::from(kind) << 24 }
}
fn from(offset: i32, address: &[u8; 16]) -> Vec<Match> {
    let words = address.chunks_exact(4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
    words.zip((offset..).step_by(4)).map(|(value, offset)| whole(offset, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    /// What the kernel's u32 classifier does with the rules and a frame.
    fn passes(frame: &[u8]) -> bool {
        let interface =
            Interface { mac: MAC.to_vec(), addresses: vec!["10.244.0.7/24".into(), "fd00::7/64".into()], ..Interface::default() };
        let protocol = u16::from_be_bytes([frame[12], frame[13]]);
        let holds = |m: &Match| {
            let at = (14 + m.offset) as usize;
            frame.get(at..at + 4).is_some_and(|w| u32::from_be_bytes(w.try_into().unwrap()) & m.mask == m.value)
        };
        rules(&interface).iter().any(|rule| rule.protocol == protocol && rule.matches.iter().all(holds))
    }

    fn ethernet(mac: [u8; 6], protocol: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &mac, &protocol.to_be_bytes(), payload].concat()
    }
    fn ipv4(mac: [u8; 6], source: [u8; 4]) -> Vec<u8> {
        ethernet(mac, IPV4, &[&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0][..], &source, &[10, 244, 0, 1], &[0; 8]].concat())
    }
    fn arp(mac: [u8; 6], sender: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
        ethernet(mac, ARP, &[&[0, 1, 8, 0, 6, 4, 0, 2][..], &sender, &ip, &[0; 10]].concat())
    }
    fn ipv6(source: &str, next: u8, payload: &[u8]) -> Vec<u8> {
        let source: std::net::Ipv6Addr = source.parse().unwrap();
        let header = [&[0x60, 0, 0, 0, 0, payload.len() as u8, next, 255][..], &source.octets(), &[0xff; 16]].concat();
        ethernet(MAC, IPV6, &[header, payload.to_vec()].concat())
    }
    fn advertises(target: &str, mac: [u8; 6]) -> Vec<u8> {
        let target: std::net::Ipv6Addr = target.parse().unwrap();
        [&[ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
    }

    #[test]
    fn only_frames_under_own_addresses_leave() {
        let own = [10, 244, 0, 7];
        let behind = |kind: u8| [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0, kind][..], &[0; 19]].concat();
        for (what, frame, expect) in [
            ("own IPv4", ipv4(MAC, own), true),
            ("another's IPv4", ipv4(MAC, [10, 244, 0, 8]), false),
            ("another's MAC", ipv4(OTHER, own), false),
            ("own ARP", arp(MAC, MAC, own), true),
            ("ARP for the gateway", arp(MAC, MAC, [10, 244, 0, 1]), false),
            ("ARP with another's MAC", arp(MAC, OTHER, own), false),
            ("own IPv6", ipv6("fd00::7", 6, &[0; 20]), true),
            ("own link-local IPv6", ipv6("fe80::ff:fe00:1", 17, &[0; 8]), true),
            ("another's IPv6", ipv6("fd00::8", 6, &[0; 20]), false),
            ("another's link-local IPv6", ipv6("fe80::1", 6, &[0; 20]), false),
            ("router solicitation", ipv6("fe80::ff:fe00:1", ICMPV6, &[133, 0, 0, 0, 0, 0, 0, 0]), true),
            ("router advertisement", ipv6("fe80::ff:fe00:1", ICMPV6, &[134; 16]), false),
            ("redirect", ipv6("fe80::ff:fe00:1", ICMPV6, &[137; 40]), false),
            ("own advertisement", ipv6("fd00::7", ICMPV6, &advertises("fd00::7", MAC)), true),
            ("advertisement of another's address", ipv6("fd00::7", ICMPV6, &advertises("fd00::8", MAC)), false),
            ("advertisement with another's card", ipv6("fd00::7", ICMPV6, &advertises("fd00::7", OTHER)), false),
            ("is my address free", ipv6("::", ICMPV6, &[135; 24]), true),
            ("from nowhere", ipv6("::", 17, &[0; 8]), false),
            ("listener report", ipv6("fe80::ff:fe00:1", 0, &behind(143)), true),
            ("advertisement behind a header", ipv6("fe80::ff:fe00:1", 0, &behind(134)), false),
            ("advertisement behind options", ipv6("fe80::ff:fe00:1", 60, &behind(134)), false),
            ("advertisement in a fragment", ipv6("fe80::ff:fe00:1", FRAGMENT, &behind(134)), false),
            ("a large datagram's fragment", ipv6("fd00::7", FRAGMENT, &[&[17; 8][..], &[0; 20]].concat()), true),
            ("ping", ipv6("fd00::7", ICMPV6, &[128; 8]), true),
            ("VLAN", ethernet(MAC, 0x8100, &[0; 46]), false),
            ("LLDP", ethernet(MAC, 0x88cc, &[0; 46]), false),
        ] {
            assert_eq!(passes(&frame), expect, "{what}");
        }
    }
}
