//! Keeps the guest's clock at the node's: once before anything runs in it, then every few minutes for as long as it lives.
//!
//! The first words were written before the machine booted, and a guest's clock runs at its own pace: nobody in it asks an NTP
//! server. A request's way there may take long on a busy node, so the guest is asked first, and told a difference.

use std::time::Duration;

use freehold_guest_api::message::{AdjustClock, Answer, Call};

use crate::agent::Agent;
use crate::agent::client::AgentError;

/// Time between comparisons: an oscillator is wrong by 100 ppm at the most, so by 30 ms.
const PERIOD: Duration = Duration::from_secs(300);
/// Differences below this are no matter, in nanoseconds.
const NO_MATTER: u64 = 1_000_000;

/// By how much the guest is wrong, if that can be said: it read its clock some time between `before` and `after`.
fn difference(before: u64, guest: u64, after: u64) -> Option<i64> {
    let uncertain = after.saturating_sub(before) / 2;
    let by = i128::from(before) + i128::from(uncertain) - i128::from(guest);
    let by = i64::try_from(by).unwrap_or(if by < 0 { i64::MIN } else { i64::MAX });
    (by.unsigned_abs() > uncertain.max(NO_MATTER)).then_some(by)
}

/// Sets it, at once if nothing runs in the guest yet.
///
/// # Errors
/// If the guest fails or is late.
pub async fn set(agent: &Agent, at_once: bool) -> Result<(), AgentError> {
    let before = crate::now_ns();
    let guest = adjust(agent, 0, at_once).await?;
    if let Some(by) = difference(before, guest, crate::now_ns()) {
        adjust(agent, by, at_once).await?;
    }
    Ok(())
}

async fn adjust(agent: &Agent, by_ns: i64, at_once: bool) -> Result<u64, AgentError> {
    match agent.ask("AdjustClock", Call::AdjustClock(AdjustClock { by_ns, at_once })).await? {
        Answer::Time(time) => Ok(time.realtime_ns),
        _ => Err(AgentError::Unexpected("AdjustClock")),
    }
}

/// Keeps it until the machine ends.
pub async fn keep(agent: Agent) {
    loop {
        tokio::select! {
            _ = agent.lost() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        if let Err(error) = set(&agent, false).await {
            tracing::warn!(%error, "the guest's clock was not compared");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_counts_if_it_is_more_than_the_way_took() {
        const SECOND: u64 = 1_000_000_000;
        for (before, guest, after, expect) in [
            (10 * SECOND, 6 * SECOND, 10 * SECOND + 2, Some(4_000_000_001)),
            (10 * SECOND, 12 * SECOND, 10 * SECOND, Some(-2_000_000_000)),
            (10 * SECOND, 11 * SECOND, 14 * SECOND, None),
            (10 * SECOND, 10 * SECOND + 900_000, 10 * SECOND, None),
            (10 * SECOND, u64::MAX, 10 * SECOND, Some(i64::MIN)),
            (10 * SECOND, 10 * SECOND, SECOND, None), // the node's own clock was put back meanwhile
        ] {
            assert_eq!(difference(before, guest, after), expect, "{before} {guest} {after}");
        }
    }
}
