//! The guest's clock, brought to the node's: the shim compares the two and says by how much it is wrong.
//!
//! A clock that programs look at is not put back if that can be helped: little is made up for at the kernel's pace of 0.5 ms a
//! second (adjtime), which never turns time around.

use crate::fail::{Result, Step};
use crate::sys;
use freehold_guest_api::message::{AdjustClock, Time};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is made up for slowly, in nanoseconds: 17 minutes for this.
const SLOWLY: u64 = 500_000_000;

/// How the clock is changed.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Nothing,
    /// At the kernel's pace, by microseconds.
    Slowly(i64),
    /// To this time.
    To(u64),
}

fn change(adjust: &AdjustClock, now: u64) -> Change {
    match adjust.by_ns {
        0 => Change::Nothing,
        by if adjust.at_once || by.unsigned_abs() > SLOWLY => Change::To(now.saturating_add_signed(by)),
        by => Change::Slowly(by / 1000),
    }
}

/// Adjusts it and says what it is.
pub fn adjust(adjust: &AdjustClock) -> Result<Time> {
    match change(adjust, now()) {
        Change::Nothing => {}
        Change::Slowly(by_us) => sys::slew_clock(by_us).step("adjust the clock")?,
        Change::To(time) => sys::set_clock(time).step("set the clock")?,
    }
    Ok(Time { realtime_ns: now() })
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_made_up_for_slowly() {
        for (by_ns, at_once, expect) in [
            (0, true, Change::Nothing),
            (-20_000_000, false, Change::Slowly(-20_000)),
            (20_000_000, true, Change::To(1_020_000_000)),
            (-600_000_000, false, Change::To(400_000_000)),
            (i64::MIN, false, Change::To(0)),
        ] {
            assert_eq!(change(&AdjustClock { by_ns, at_once }, 1_000_000_000), expect, "{by_ns}");
        }
    }
}
