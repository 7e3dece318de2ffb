//! Interfaces that only pods are behind, from the kernel's routes.
//!
//! A bridge of the CNI, or the interface of one pod, is the only one with a direct route into this node's pod ranges.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::cidr::Cidr;

/// Names of the interfaces by which the ranges are reached directly. `v4` and `v6` are /proc/net/route and ipv6_route.
pub fn links(v4: &str, v6: &str, ranges: &[Cidr]) -> BTreeSet<String> {
    let direct = v4.lines().skip(1).filter_map(route4).chain(v6.lines().filter_map(route6));
    let inside = direct.filter(|(_, route)| {
        let ends = route.range();
        ranges.iter().any(|range| range.contains(ends.first) && range.contains(ends.last))
    });
    inside.map(|(name, _)| name).filter(|name| name != "lo").collect()
}

/// A line of /proc/net/route: interface, destination, gateway, five other columns with the mask as the last, in host order.
fn route4(line: &str) -> Option<(String, Cidr)> {
    let columns: Vec<_> = line.split_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(columns.get(index)?, 16).ok().map(u32::swap_bytes);
    let mask = number(7)?;
    (number(2)? == 0).then_some(())?;
    let prefix = u8::try_from(mask.leading_ones()).ok()?;
    Some(((*columns.first()?).to_owned(), Cidr::new(IpAddr::V4(Ipv4Addr::from(number(1)?)), prefix)?))
}

/// A line of /proc/net/ipv6_route: destination, length, source, length, next hop, four numbers, interface.
fn route6(line: &str) -> Option<(String, Cidr)> {
    let columns: Vec<_> = line.split_whitespace().collect();
    let address = |index: usize| u128::from_str_radix(columns.get(index)?, 16).ok();
    (address(4)? == 0).then_some(())?;
    let prefix = u8::from_str_radix(columns.get(1)?, 16).ok()?;
    Some(((*columns.get(9)?).to_owned(), Cidr::new(IpAddr::V6(Ipv6Addr::from(address(0)?)), prefix)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_of_pods_is_found_and_the_way_to_other_nodes_is_not() {
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            node0 00000000 00000000 0001 0 0 0 00000000 0 0 0\n\
            node0 0000C80A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
            cni0 0000F40A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
            eth0 0001F40A 0100C80A 0003 0 0 0 00FFFFFF 0 0 0\n\
            veth9 0700F40A 00000000 0005 0 0 0 FFFFFFFF 0 0 0\n";
        let v6 = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 cni1\n\
            fd000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000001 00000000 80200001 lo\n";
        let ranges: Vec<Cidr> = ["10.244.0.0/24", "fd00::/64"].map(|text| text.parse().unwrap()).into();
        let found: Vec<_> = links(v4, v6, &ranges).into_iter().collect();
        assert_eq!(found, ["cni0", "cni1", "veth9"]);
        assert!(links("", "nonsense", &ranges).is_empty());
    }
}
