//! Blocks of addresses within others.

use std::net::IpAddr;

/// Where metadata services are: no block may have them in it.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

/// A block as its first bits, left-aligned.
#[derive(Clone, Copy)]
struct Block {
    v4: bool,
    bits: u128,
    prefix: u32,
}

fn read(text: &str) -> Option<Block> {
    let (address, prefix) = text.split_once('/')?;
    // As Go reads it: digits only, no zeros in front, addresses likewise (Rust refuses those too).
    if prefix.is_empty() || (prefix.len() > 1 && prefix.starts_with('0')) || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix: u32 = prefix.parse().ok()?;
    let (v4, bits, width) = match address.parse().ok()? {
        IpAddr::V4(address) => (true, u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (false, u128::from(address), 128),
    };
    (prefix <= width).then_some(Block { v4, bits, prefix })
}

impl Block {
    fn within(self, outer: Self) -> bool {
        let shift = 128 - outer.prefix;
        let same = self.bits.checked_shr(shift).unwrap_or(0) == outer.bits.checked_shr(shift).unwrap_or(0);
        self.v4 == outer.v4 && self.prefix >= outer.prefix && same
    }
}

/// Whether a block lies in another, and leaves link-local addresses out where it could have them.
pub(super) fn within(cidr: &str, except: &[String], outer: &str) -> bool {
    let (Some(block), Some(outer)) = (read(cidr), read(outer)) else { return false };
    let left_out = |link_local: Block| {
        let meets = link_local.within(block) || block.within(link_local);
        !meets || except.iter().filter_map(|text| read(text)).any(|hole| link_local.within(hole))
    };
    block.within(outer) && LINK_LOCAL.iter().filter_map(|text| read(text)).all(left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_lies_in_another_and_leaves_metadata_out() {
        for (cidr, except, outer, expected) in [
            ("192.0.2.0/24", vec![], "192.0.2.0/24", true),
            ("192.0.2.128/25", vec![], "192.0.2.0/24", true),
            ("192.0.2.0/23", vec![], "192.0.2.0/24", false),
            ("0.0.0.0/0", vec![], "0.0.0.0/0", false),
            ("0.0.0.0/0", vec!["169.254.0.0/16"], "0.0.0.0/0", true),
            ("0.0.0.0/0", vec!["169.254.169.254/32"], "0.0.0.0/0", false),
            ("169.254.169.254/32", vec![], "0.0.0.0/0", false),
            ("::ffff:10.0.0.0/104", vec![], "0.0.0.0/0", false),
            ("010.0.0.0/8", vec![], "0.0.0.0/0", false),
            ("10.0.0.0/08", vec![], "0.0.0.0/0", false),
            ("::/0", vec!["fe80::/10"], "::/0", true),
        ] {
            let except: Vec<_> = except.into_iter().map(str::to_owned).collect();
            assert_eq!(within(cidr, &except, outer), expected, "{cidr} {except:?} {outer}");
        }
    }
}
