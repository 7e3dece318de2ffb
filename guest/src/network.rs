//! The pod's network, set over rtnetlink. Cards are found by MAC address, because they are hot-added in any order.
//!
//! What an earlier request set and this one does not name stays: a pod's network is set once in practice.

use crate::fail::{Failure, Result, Step};
use crate::netlink::{Link, Message, Socket};
use crate::port::wait_for;
use crate::sys;
use crate::user::UserNamespace;
use freehold_guest_api::message::{Interface, Neighbour, Network, Route};
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

/// How long a card may take to appear after it was hot-added.
const APPEAR: Duration = Duration::from_secs(10);
const MAX_NAME: usize = 15;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;

/// Does it all: lo up, cards, neighbours and routes.
pub fn apply(network: &Network, user: Option<&UserNamespace>) -> Result<()> {
    let mut socket = Socket::open()?;
    socket.send(&Message::link(Link { index: index("lo")?, up: true, ..Link::default() })).step("bring up lo")?;
    for interface in &network.interfaces {
        let placed = check_name(&interface.name).and_then(|()| match user {
            None => name_card(&mut socket, interface),
            Some(user) => move_card(user, interface),
        });
        placed.and_then(|index| set_interface(&mut socket, index, interface)).step(format!("interface {}", interface.name))?;
    }
    for neighbour in &network.neighbours {
        set_neighbour(&mut socket, neighbour).step(format!("neighbour {}", neighbour.address))?;
    }
    for route in &network.routes {
        set_route(&mut socket, route).step(format!("route to {:?} by {:?}", route.destination, route.gateway))?;
    }
    Ok(())
}

fn index(name: &str) -> Result<u32> {
    sys::interface(name).step(format!("look up interface {name:?}"))
}

/// The name and number that the kernel gave to the card, once it is there.
fn card(interface: &Interface) -> Result<(String, u32)> {
    let mac = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let find = || {
        fs::read_dir("/sys/class/net").ok()?.flatten().find_map(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).ok()?;
            (address.trim() == mac).then(|| entry.file_name().to_string_lossy().into_owned())
        })
    };
    let found = wait_for(APPEAR, find)
        .ok_or_else(|| Failure::with(libc::ENODEV, format!("no card with address {mac} appeared in {APPEAR:?}")))?;
    // From there too: a card that is just coming is in /sys before the kernel knows its name.
    let path = format!("/sys/class/net/{found}/ifindex");
    let text = fs::read_to_string(&path).step(format!("look up interface {found:?}"))?;
    let index = text.trim().parse().map_err(|_| Failure::refuse(format!("{path} is no number")))?;
    Ok((found, index))
}

/// Gives the card its name; its number.
fn name_card(socket: &mut Socket, interface: &Interface) -> Result<u32> {
    let name = &interface.name;
    let (found, number) = card(interface)?;
    if found == *name {
        return Ok(number);
    }
    // The kernel names cards in the order in which they come: another one may have the name, and gets its own in its turn.
    if let Ok(holder) = index(name) {
        let aside = format!("card{holder}");
        let aside = Link { index: holder, name: Some(&aside), ..Link::default() };
        socket.send(&Message::link(aside)).step("make room for its name")?;
    }
    // A card can't be renamed while it is up.
    socket.send(&Message::link(Link { index: number, name: Some(name), ..Link::default() })).step("rename")?;
    Ok(number)
}

/// Moves the card to the network of the pod's user namespace, where it has its name at once.
fn move_card(user: &UserNamespace, interface: &Interface) -> Result<u32> {
    if let Ok(number) = index(&interface.name) {
        return Ok(number);
    }
    user.among_cards(|network| {
        let (_, index) = card(interface)?;
        let there = Link { index, name: Some(&interface.name), network: Some(network), ..Link::default() };
        Socket::open()?.send(&Message::link(there)).step("move to the pod's network")
    })?;
    index(&interface.name)
}

fn set_interface(socket: &mut Socket, index: u32, interface: &Interface) -> Result<()> {
    socket.send(&Message::link(Link { index, up: true, mtu: interface.mtu, ..Link::default() })).step("bring up")?;
    for address in &interface.addresses {
        let (address, prefix) = parse_prefix(address)?;
        socket.send(&Message::address(index, address, prefix)).step(format!("add address {address}/{prefix}"))?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('/') || name.starts_with('.') {
        return Err(Failure::refuse(format!("interface name {name:?} must be 1 to {MAX_NAME} bytes without '/'")));
    }
    Ok(())
}

fn set_neighbour(socket: &mut Socket, neighbour: &Neighbour) -> Result<()> {
    let index = index(&neighbour.interface)?;
    socket.send(&Message::neighbour(index, parse_address(&neighbour.address)?, &neighbour.mac))
}

fn set_route(socket: &mut Socket, route: &Route) -> Result<()> {
    let optional = |text: &str| if text.is_empty() { Ok(None) } else { parse_address(text).map(Some) };
    let (gateway, source) = (optional(&route.gateway)?, optional(&route.source)?);
    let destination = if route.destination.is_empty() { None } else { Some(parse_prefix(&route.destination)?) };
    let ipv6 = route.ipv6 || [gateway, destination.map(|d| d.0)].iter().flatten().any(IpAddr::is_ipv6);
    let mut message = Message::route(ipv6, destination.map_or(0, |d| d.1), route.scope as u8);
    for (kind, address) in [(RTA_DST, destination.map(|d| d.0)), (RTA_GATEWAY, gateway), (RTA_PREFSRC, source)] {
        if let Some(address) = address {
            message.ip(kind, address);
        }
    }
    message.attribute(RTA_OIF, &index(&route.interface)?.to_ne_bytes());
    if route.metric != 0 {
        message.attribute(RTA_PRIORITY, &route.metric.to_ne_bytes());
    }
    if route.mtu != 0 {
        let mut mtu = vec![8, 0];
        mtu.extend_from_slice(&RTAX_MTU.to_ne_bytes());
        mtu.extend_from_slice(&route.mtu.to_ne_bytes());
        message.attribute(RTA_METRICS, &mtu);
    }
    socket.send(&message)
}

fn parse_address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Failure::refuse(format!("{text:?} is not an IP address")))
}

/// `10.0.0.7/24`; without a prefix length a single address.
fn parse_prefix(text: &str) -> Result<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address = parse_address(address)?;
    let most = if address.is_ipv6() { 128 } else { 32 };
    let prefix = if prefix.is_empty() { Some(most) } else { prefix.parse().ok().filter(|p| *p <= most) };
    prefix.map(|prefix| (address, prefix)).ok_or_else(|| Failure::refuse(format!("{text:?} has no valid prefix length")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (text, prefix) in [("10.0.0.7/24", Some(24)), ("10.0.0.7", Some(32)), ("fd00::1/64", Some(64)), ("::/0", Some(0))] {
            assert_eq!(parse_prefix(text).ok().map(|p| p.1), prefix, "{text}");
        }
        for text in ["", "/24", "10.0.0.7/33", "10.0.0/8", "fd00::1/129", "10.0.0.7/x"] {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
    }
}
