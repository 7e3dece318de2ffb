//! Quantities as Kubernetes writes them, exact enough to divide a budget and to add up what is used.
//!
//! Input are quantities of a Tenant and of ResourceQuotas' status; output is what the API server would make of them, so that
//! comparing with what it stored finds no difference. It stands apart because it is arithmetic and nothing else.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What the API server caps a quantity at (2^63-1), in thousandths.
const LARGEST: i128 = (i64::MAX as i128) * 1000;
/// What rounding a share to a suffix may cost: a 64th.
const READABLE: i128 = 64;
/// Suffixes in powers of 1024, and of 1000, from the first power on.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];

/// An amount in thousandths, and the family of suffixes it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of the unit.
    pub milli: i128,
    /// Whether it is written in powers of 1024.
    pub binary: bool,
}

impl Amount {
    /// Reads a quantity without sign and exponent; None if it is none. Too large ones are capped as the API server does.
    pub fn parse(quantity: &Quantity) -> Option<Self> {
        let text = quantity.0.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || text.len() > 64 {
            return None;
        }
        let power = |family: [&str; 6], base: i128| {
            family.iter().position(|known| *known == suffix).map(|at| base.pow(u32::try_from(at).unwrap_or(0) + 1) * 1000)
        };
        let (thousandths, binary) = match suffix {
            "" => (1000, false),
            "m" => (1, false),
            _ => power(BINARY, 1024).map(|unit| (unit, true)).or_else(|| power(DECIMAL, 1000).map(|unit| (unit, false)))?,
        };
        let scale = |digits: &str| digits.parse::<i128>().ok().and_then(|number| number.checked_mul(thousandths));
        let whole = scale(whole).unwrap_or(LARGEST);
        let fraction = match fraction.get(..fraction.len().min(9)).unwrap_or_default() {
            "" => 0,
            digits => scale(digits)? / 10_i128.pow(u32::try_from(digits.len()).ok()?),
        };
        Some(Self { milli: whole.saturating_add(fraction).min(LARGEST), binary })
    }

    /// One of `parts` equal parts, rounded down: to thousandths for CPU, to whole units for everything else. What was written in powers of
    /// 1024 stays so (`8Gi` in five parts is `1638Mi`, not a number of bytes) where that loses less than a part in [`READABLE`].
    pub fn share(self, resource: &str, parts: i32) -> Self {
        let share = self.milli / i128::from(parts.max(1));
        let cpu = resource.trim_start_matches("requests.").trim_start_matches("limits.") == "cpu";
        let whole = share / 1000;
        let unit = if self.binary { [1 << 20, 1 << 10].into_iter().find(|unit| whole >= unit * READABLE) } else { None };
        let unit = unit.unwrap_or(1);
        Self { milli: if cpu { share } else { whole / unit * unit * 1000 }, ..self }
    }

    /// The form in which the API server would store it.
    pub fn quantity(self) -> Quantity {
        if self.milli == 0 {
            return Quantity("0".to_owned());
        }
        let whole = self.milli / 1000;
        let (mut number, base, family) = match self.binary && whole >= 1024 && self.milli % 1000 == 0 {
            true => (whole, 1024, BINARY),
            false if self.milli % 1000 != 0 => return Quantity(format!("{}m", self.milli)),
            false => (whole, 1000, DECIMAL),
        };
        let mut suffix = "";
        for next in family {
            if number % base != 0 {
                break;
            }
            (number, suffix) = (number / base, next);
        }
        Quantity(format!("{number}{suffix}"))
    }
}

/// The sum of two amounts.
impl std::ops::Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { milli: self.milli.saturating_add(other.milli).min(LARGEST), binary: self.binary || other.binary }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(&Quantity(text.to_owned())).unwrap()
    }

    #[test]
    fn written_as_the_api_server_stores_it() {
        for (given, stored) in [
            ("0", "0"),
            ("4", "4"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("4000", "4k"),
            ("1024", "1024"),
            ("1k", "1k"),
            ("8Gi", "8Gi"),
            ("2048Mi", "2Gi"),
            ("1.5Gi", "1536Mi"),
            ("1G", "1G"),
            ("0.5Ki", "512"),
            ("99999999999999999999999E", "9223372036854775807"),
        ] {
            assert_eq!(amount(given).quantity().0, stored, "{given}");
        }
        for text in ["", "-1", "1e3", "Gi", "1.2.3", "1x"] {
            assert_eq!(Amount::parse(&Quantity(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn shares_are_rounded_down() {
        for (resource, hard, parts, share) in [
            ("requests.cpu", "4", 4, "1"),
            ("cpu", "1", 3, "333m"),
            ("limits.cpu", "0.5", 1, "500m"),
            ("requests.memory", "8Gi", 4, "2Gi"),
            ("requests.memory", "1Gi", 3, "341Mi"),
            ("requests.memory", "8Gi", 5, "1638Mi"),
            ("requests.memory", "100Mi", 3, "34133Ki"),
            ("requests.memory", "100Ki", 3, "34133"),
            ("requests.memory", "1000000000", 3, "333333333"),
            ("pods", "20", 5, "4"),
            ("pods", "7", 5, "1"),
            ("pods", "4", 5, "0"),
            ("pods", "4", 0, "4"),
            ("count/secrets", "10k", 5, "2k"),
        ] {
            assert_eq!(amount(hard).share(resource, parts).quantity().0, share, "{resource} {hard} / {parts}");
        }
    }

    #[test]
    fn sums() {
        assert_eq!((amount("500m") + amount("0.5")).quantity().0, "1");
        assert_eq!((amount("1Gi") + amount("512Mi")).quantity().0, "1536Mi");
    }
}
