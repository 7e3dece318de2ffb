//! Which namespaces of the tenant a Boundary names, and when one that has joined is written to the others.
//!
//! The floor judges by them whose ServiceAccounts may get a role in a namespace. A namespace that leaves is taken out at once. One that joins may
//! wait: else each of many new ones rewrites all before it, while its own guards wait their turn.

use std::time::Duration;

/// Namespaces that a Boundary names; each new one is written to all of them.
pub const MAX_SIBLINGS: usize = 64;
/// Time after the youngest namespace of a tenant was made until the others name it.
pub const JOIN_PAUSE: Duration = Duration::from_secs(2);

/// The siblings that a Boundary names: the oldest, and in any case the namespace itself.
pub fn named(siblings: &[String], own: &str) -> Vec<String> {
    let mut names: Vec<String> = siblings.iter().take(MAX_SIBLINGS).cloned().collect();
    if !names.iter().any(|name| name == own) {
        names.truncate(MAX_SIBLINGS - 1);
        names.push(own.to_owned());
    }
    names
}

/// What is left of [`JOIN_PAUSE`], by the seconds in which namespaces were made. A clock that is ahead of ours lets nothing wait.
pub fn pause(made: impl Iterator<Item = i64>, now: i64) -> Option<Duration> {
    let age = u64::try_from(now.checked_sub(made.max()?)?).ok()?;
    JOIN_PAUSE.checked_sub(Duration::from_secs(age)).filter(|left| !left.is_zero())
}

/// The siblings to write now: those that stand there, if all that is to come is a further one and that may wait.
pub fn now(live: Option<Vec<String>>, wanted: Vec<String>, may_wait: bool) -> Vec<String> {
    match live {
        Some(live) if may_wait && live.iter().all(|name| wanted.contains(name)) => live,
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_boundary_names_bounded_siblings_and_itself() {
        let many: Vec<String> = (0..100).map(|n| format!("a-{n}")).collect();
        assert_eq!(named(&many, "a-1").len(), MAX_SIBLINGS);
        let late = named(&many, "a-99");
        assert_eq!((late.len(), late.last().map(String::as_str)), (MAX_SIBLINGS, Some("a-99")));
    }

    #[test]
    fn only_a_namespace_that_joined_waits() {
        for (what, live, wanted, may_wait, expected) in [
            ("a fresh namespace", None, "a b", true, "a b"),
            ("one joined just now", Some("a"), "a b", true, "a"),
            ("one joined a while ago", Some("a"), "a b", false, "a b"),
            ("one left", Some("a b"), "a", true, "a"),
            ("one left as another joined", Some("a b"), "a c", true, "a c"),
        ] {
            assert_eq!(now(live.map(names), names(wanted), may_wait), names(expected), "{what}");
        }
    }

    #[test]
    fn the_pause_ends_by_the_youngest() {
        let left = |made: &[i64], now| pause(made.iter().copied(), now).map(|left| left.as_secs());
        assert_eq!(left(&[], 10), None);
        assert_eq!(left(&[10, 5], 10), Some(2));
        assert_eq!(left(&[9, 5], 10), Some(1));
        assert_eq!(left(&[8], 10), None);
        assert_eq!(left(&[60], 10), None, "a clock that is ahead");
    }
}
