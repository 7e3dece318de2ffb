//! Waiting for a condition, with a limit and with what was seen last.

use std::future::Future;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Looks until `look` gives a value, at most `limit`.
///
/// # Errors
/// When the limit is over: what was waited for, how long, and what was seen last.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let began = Instant::now();
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(seen) if began.elapsed() >= limit => {
                anyhow::bail!("waited {} s for {what}; seen last: {seen:#}", limit.as_secs())
            }
            Err(_) => tokio::time::sleep(EVERY).await,
        }
    }
}
