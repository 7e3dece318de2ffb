//! What CNI left in the pod's namespace, in the guest's terms.

use std::net::IpAddr;

use freehold_guest_api::message::{Interface, Neighbour, Network, Route};
use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

/// The main routing table.
const MAIN: u32 = 254;
/// Mask length of a whole IPv6 address, and what marks link-local ones.
const LINK_LOCAL: u16 = 0xfe80;

/// The network and the host's index of each of its interfaces.
pub struct Found {
    /// For the guest.
    pub network: Network,
    /// In the order of the interfaces.
    pub indexes: Vec<u32>,
}

/// Asks the kernel.
pub async fn read(handle: &Handle) -> Result<Found, rtnetlink::Error> {
    let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
    let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
    let mut routes: Vec<RouteMessage> = Vec::new();
    for query in
        [RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(), RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()]
    {
        routes.extend(handle.route().get(query).execute().try_collect::<Vec<_>>().await?);
    }
    let neighbours: Vec<NeighbourMessage> = handle.neighbours().get().execute().try_collect().await?;
    Ok(convert(&links, &addresses, &routes, &neighbours))
}

fn convert(
    links: &[LinkMessage],
    addresses: &[AddressMessage],
    routes: &[RouteMessage],
    neighbours: &[NeighbourMessage],
) -> Found {
    let mut found = Found { network: Network::default(), indexes: Vec::new() };
    for link in links {
        let index = link.header.index;
        let addresses: Vec<String> = addresses.iter().filter(|a| a.header.index == index).filter_map(address).collect();
        let up = link.header.flags.contains(LinkFlags::Up);
        if !up || link.header.link_layer_type != LinkLayerType::Ether || addresses.is_empty() {
            continue;
        }
        let mut interface = Interface { mtu: 1500, addresses, ..Interface::default() };
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::Address(mac) => interface.mac.clone_from(mac),
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                _ => {}
            }
        }
        found.network.interfaces.push(interface);
        found.indexes.push(index);
    }
    let name = |index: u32| {
        let at = found.indexes.iter().position(|&known| known == index)?;
        Some(found.network.interfaces[at].name.clone())
    };
    let mut known: Vec<Route> = routes.iter().filter_map(|message| route(message, &name)).collect();
    // A gateway must be reachable before a route by it is added: on-link routes first.
    known.sort_by_key(|route| !route.gateway.is_empty());
    let neighbours = neighbours.iter().filter_map(|message| neighbour(message, &name)).collect();
    found.network.routes = known;
    found.network.neighbours = neighbours;
    found
}

/// `10.244.0.7/24`. Link-local IPv6 addresses are left out: the guest's kernel makes the same one from the same MAC address.
fn address(message: &AddressMessage) -> Option<String> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => found = Some(*ip),
            AddressAttribute::Address(ip) if found.is_none() => found = Some(*ip),
            _ => {}
        }
    }
    let ip = found.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == LINK_LOCAL))?;
    Some(format!("{ip}/{}", message.header.prefix_len))
}

fn text(address: &RouteAddress) -> String {
    match address {
        RouteAddress::Inet(ip) => ip.to_string(),
        RouteAddress::Inet6(ip) => ip.to_string(),
        _ => String::new(),
    }
}

/// Unicast routes of the main table that the kernel does not make by itself from the addresses.
fn route(message: &RouteMessage, name: &impl Fn(u32) -> Option<String>) -> Option<Route> {
    let header = &message.header;
    let mut route = Route {
        scope: u32::from(u8::from(header.scope)),
        ipv6: header.address_family == AddressFamily::Inet6,
        ..Route::default()
    };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.destination = format!("{}/{}", text(to), header.destination_prefix_length),
            RouteAttribute::Gateway(by) => route.gateway = text(by),
            RouteAttribute::PrefSource(from) => route.source = text(from),
            RouteAttribute::Oif(index) => route.interface = name(*index)?,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    if let RouteMetric::Mtu(mtu) = metric {
                        route.mtu = *mtu;
                    }
                }
            }
            _ => {}
        }
    }
    let made_by_kernel = header.protocol == RouteProtocol::Kernel;
    (header.kind == RouteType::Unicast && table == MAIN && !made_by_kernel && !route.interface.is_empty()).then_some(route)
}

/// Permanent entries: what CNI plugins set where nobody answers ARP.
fn neighbour(message: &NeighbourMessage, name: &impl Fn(u32) -> Option<String>) -> Option<Neighbour> {
    let interface = name(message.header.ifindex)?;
    let (mut address, mut mac) = (String::new(), Vec::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = ip.to_string(),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = ip.to_string(),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac.clone_from(bytes),
            _ => {}
        }
    }
    let whole = message.header.state == NeighbourState::Permanent && !address.is_empty() && mac.len() == 6;
    whole.then_some(Neighbour { address, mac, interface })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn link(index: u32, name: &str, kind: LinkLayerType, flags: LinkFlags) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.link_layer_type = kind;
        link.header.flags = flags;
        link.attributes =
            vec![LinkAttribute::IfName(name.into()), LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]), LinkAttribute::Mtu(1400)];
        link
    }

    fn ip(index: u32, ip: &str, prefix: u8) -> AddressMessage {
        let mut address = AddressMessage::default();
        address.header.index = index;
        address.header.prefix_len = prefix;
        address.attributes = vec![AddressAttribute::Address(ip.parse().unwrap())];
        address
    }

    fn by(gateway: Option<Ipv4Addr>, to: Option<(Ipv4Addr, u8)>, index: u32, protocol: RouteProtocol) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.table = 254;
        route.header.kind = RouteType::Unicast;
        route.header.protocol = protocol;
        route.attributes.push(RouteAttribute::Oif(index));
        route.attributes.extend(gateway.map(|ip| RouteAttribute::Gateway(RouteAddress::Inet(ip))));
        if let Some((ip, prefix)) = to {
            route.header.destination_prefix_length = prefix;
            route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(ip)));
        }
        route
    }

    #[test]
    fn cards_addresses_and_routes_are_taken_over() {
        let links = [
            link(1, "lo", LinkLayerType::Loopback, LinkFlags::Up),
            link(2, "eth0", LinkLayerType::Ether, LinkFlags::Up),
            link(3, "eth1", LinkLayerType::Ether, LinkFlags::empty()),
            link(4, "eth2", LinkLayerType::Ether, LinkFlags::Up),
        ];
        let addresses =
            [ip(1, "127.0.0.1", 8), ip(2, "10.244.0.7", 24), ip(2, "fe80::1", 64), ip(2, "fd00::7", 64), ip(3, "10.1.0.1", 24)];
        let gateway = Ipv4Addr::new(169, 254, 1, 1);
        let routes = [
            by(Some(gateway), None, 2, RouteProtocol::Boot),
            by(None, Some((gateway, 32)), 2, RouteProtocol::Boot),
            by(None, Some((Ipv4Addr::new(10, 244, 0, 0), 24)), 2, RouteProtocol::Kernel),
            by(Some(gateway), None, 9, RouteProtocol::Boot),
        ];
        let found = convert(&links, &addresses, &routes, &[]);
        assert_eq!(found.indexes, [2]);
        let eth0 = &found.network.interfaces[0];
        assert_eq!((eth0.name.as_str(), eth0.mtu), ("eth0", 1400));
        assert_eq!(eth0.addresses, ["10.244.0.7/24", "fd00::7/64"]);
        let said: Vec<_> = found.network.routes.iter().map(|r| (r.destination.as_str(), r.gateway.as_str())).collect();
        assert_eq!(said, [("169.254.1.1/32", ""), ("", "169.254.1.1")]);
    }
}
