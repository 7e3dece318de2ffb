//! Blocks of addresses, and what is left of one without others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The two families of addresses; a rule speaks of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which rules are written.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn address(self, number: u128) -> IpAddr {
        match self {
            // Numbers of this family come from its addresses, so the upper bits are zero.
            Self::V4 => Ipv4Addr::from(number as u32).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// A block of addresses. Host bits are cleared, as Kubernetes reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    family: Family,
    first: u128,
    prefix: u8,
}

/// A text that is no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a block of addresses, such as 10.0.0.0/8 or fd00::/8")]
pub struct NotACidr(pub String);

impl Cidr {
    /// The block of `prefix` bits that holds an address; `None` if the family has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let family = Family::of(address);
        let host = family.bits().checked_sub(prefix)?;
        let mask = u128::MAX.checked_shl(host.into()).unwrap_or(0);
        Some(Self { family, first: number(address) & mask, prefix })
    }

    /// The block of one address.
    pub fn single(address: IpAddr) -> Self {
        let family = Family::of(address);
        Self { family, first: number(address), prefix: family.bits() }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.family
    }

    fn last(&self) -> u128 {
        self.first | (u128::MAX.checked_shr((128 - self.family.bits() + self.prefix).into()).unwrap_or(0))
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && (self.first..=self.last()).contains(&number(address))
    }

    /// Its first and last address.
    pub fn range(&self) -> Range {
        Range { first: self.family.address(self.first), last: self.family.address(self.last()) }
    }

    /// Whether it is the whole family.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// What is left of it without `except`: disjoint ranges in order.
    pub fn without(&self, except: &[Cidr]) -> Vec<Range> {
        let mut holes: Vec<_> =
            except.iter().filter(|hole| hole.family == self.family).map(|hole| (hole.first, hole.last())).collect();
        holes.sort_unstable();
        let (mut next, last, mut left) = (Some(self.first), self.last(), Vec::new());
        let mut keep = |first: u128, last: u128| {
            left.push(Range { first: self.family.address(first), last: self.family.address(last) });
        };
        for (start, end) in holes {
            let Some(from) = next.filter(|from| *from <= last) else { break };
            if end < from || start > last {
                continue;
            }
            if start > from {
                keep(from, start - 1);
            }
            next = end.checked_add(1);
        }
        if let Some(from) = next.filter(|from| *from <= last) {
            keep(from, last);
        }
        left
    }
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            // Rust refuses leading zeros in addresses, as Go does; a prefix is digits only, so no sign.
            let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
            Self::new(address.parse().ok()?, prefix.parse().ok().filter(|_| digits)?)
        };
        parse().ok_or_else(|| NotACidr(text.to_owned()))
    }
}

/// From one address to another, both counted, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
}

impl Range {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.first) && (number(self.first)..=number(self.last)).contains(&number(address))
    }

    /// Ranges that meet or overlap, as one each; sorted. Sets of the kernel take no overlaps.
    pub fn merged(ranges: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<Self> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(before)
                    if Family::of(before.last) == Family::of(range.first)
                        && number(range.first) <= number(before.last).saturating_add(1) =>
                {
                    before.last = before.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_the_api_server_reads_them() {
        for (text, inside, outside) in [
            ("10.1.2.3/8", "10.255.0.1", "11.0.0.0"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ff00::1", "1.2.3.4"),
            ("fd00::1/128", "fd00::1", "fd00::2"),
        ] {
            let block: Cidr = text.parse().unwrap();
            assert!(block.contains(inside.parse().unwrap()) && !block.contains(outside.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.0", "010.0.0.0/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "::/129", "/8", ""] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_left_has_no_hole_in_it() {
        let left = |block: &str, except: &[&str]| {
            let except: Vec<_> = except.iter().map(|text| text.parse().unwrap()).collect();
            let ranges = block.parse::<Cidr>().unwrap().without(&except);
            ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(left("10.0.0.0/24", &[]), "10.0.0.0-10.0.0.255");
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/25"]), "10.0.0.128-10.0.0.255");
        assert_eq!(left("10.0.0.0/24", &["10.0.0.128/25", "10.0.0.4/30"]), "10.0.0.0-10.0.0.3 10.0.0.8-10.0.0.127");
        assert_eq!(left("10.0.0.0/24", &["10.0.0.0/16"]), "");
        assert_eq!(left("0.0.0.0/0", &["255.0.0.0/8", "::/0"]), "0.0.0.0-254.255.255.255");
        assert_eq!(left("::/0", &["8000::/1"]), "::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    }
}
