//! The page for people: two runtimes as sets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Outcome, Result, Results};

/// What is known of why something fails: a part of the spec's name, and the reason.
pub type Known<'a> = &'a [(&'a str, &'a str)];

fn failed(set: Option<&BTreeMap<String, Result>>, name: &str) -> bool {
    set.and_then(|set| set.get(name)).is_some_and(|one| one.outcome == Outcome::Failed)
}

fn why<'a>(known: Known<'a>, name: &str) -> Option<&'a str> {
    known.iter().find(|(part, _)| name.contains(part)).map(|(_, why)| *why)
}

/// Specs that fail on `ours`, did not fail on `runc`, and of which nobody knows why.
pub fn unexplained<'a>(results: &'a Results, runc: &str, ours: &str, known: Known) -> Vec<&'a String> {
    let (theirs, mine) = (results.get(runc), results.get(ours));
    let names = mine.into_iter().flat_map(BTreeMap::keys);
    names.filter(|name| failed(mine, name) && !failed(theirs, name) && why(known, name).is_none()).collect()
}

/// Writes the page below a head of its own. `runc` and `ours` name the runtimes in the results.
pub fn page(head: &str, results: &Results, runc: &str, ours: &str, machine: &str, known: Known) -> String {
    let empty = Default::default();
    let (theirs, mine) = (results.get(runc).unwrap_or(&empty), results.get(ours).unwrap_or(&empty));
    let names: BTreeSet<&String> = theirs.keys().chain(mine.keys()).collect();
    let passed = |one: &Result| one.outcome == Outcome::Passed;
    let unforced = |one: &Result| passed(one) && one.forced == 0 && one.not_forced > 0;
    let uncounted = |one: &Result| passed(one) && one.forced + one.not_forced == 0;
    let mut text = head.to_owned();
    let _ = writeln!(text, "Machine: {machine}.\n");
    let _ = writeln!(text, "| | {runc} | {ours} |\n|---|---|---|");
    let count = |set: &BTreeMap<String, Result>, outcome| set.values().filter(|one| one.outcome == outcome).count();
    for (name, outcome) in
        [("passed", Outcome::Passed), ("failed", Outcome::Failed), ("skipped by the spec itself", Outcome::Skipped)]
    {
        let _ = writeln!(text, "| {name} | {} | {} |", count(theirs, outcome), count(mine, outcome));
    }
    let of = |wanted: &dyn Fn(&Result) -> bool| mine.values().filter(|one| wanted(one)).count();
    let _ = writeln!(text, "| of the passed: no pod was forced | | {} |", of(&unforced));
    let _ = writeln!(text, "| of the passed: no pod was found to be its own | | {} |", of(&uncounted));
    let not_run = names.iter().filter(|name| !mine.contains_key(**name)).count();
    let _ = writeln!(text, "| run on runc only so far | | {not_run} |\n");

    let mut section = |title: &str, which: &dyn Fn(&str) -> bool, pick: &dyn Fn(&str) -> Option<Result>| {
        let chosen: Vec<&&String> = names.iter().filter(|name| which(name)).collect();
        let _ = writeln!(text, "## {title}: {}\n", chosen.len());
        if chosen.is_empty() {
            return;
        }
        let _ = writeln!(text, "| spec | what it said | why | day |\n|---|---|---|---|");
        for name in chosen {
            let Some(one) = pick(name) else { continue };
            let why = why(known, name).unwrap_or("not looked into yet");
            let cell = |cell: &str| cell.replace('|', "\\|");
            let _ = writeln!(text, "| {} | {} | {} | {} |", cell(name), cell(&one.reason), why, one.date);
        }
        text.push('\n');
    };
    let (ours_of, theirs_of) = (|name: &str| mine.get(name).cloned(), |name: &str| theirs.get(name).cloned());
    section("Fails in the machine, passes on runc", &|name| failed(Some(mine), name) && !failed(Some(theirs), name), &ours_of);
    section("Fails on both", &|name| failed(Some(mine), name) && failed(Some(theirs), name), &ours_of);
    section("Fails on runc only", &|name| failed(Some(theirs), name) && !failed(Some(mine), name), &theirs_of);
    let skipped = |name: &str| mine.get(name).is_some_and(|one| one.outcome == Outcome::Skipped);
    section("Skipped by the spec itself", &skipped, &ours_of);
    section("Passed without a pod that was forced", &|name| mine.get(name).is_some_and(unforced), &ours_of);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared() {
        let one = |outcome, forced| Result {
            outcome,
            seconds: 1,
            date: "2026-01-01".to_owned(),
            reason: "a | b".to_owned(),
            forced,
            not_forced: 0,
        };
        let apart = Result { not_forced: 1, ..one(Outcome::Passed, 0) };
        let results: Results = [
            (
                "runc".to_owned(),
                [
                    ("a".to_owned(), one(Outcome::Passed, 1)),
                    ("b".to_owned(), one(Outcome::Failed, 1)),
                    ("c".to_owned(), one(Outcome::Passed, 1)),
                ]
                .into(),
            ),
            (
                "vm".to_owned(),
                [
                    ("a".to_owned(), one(Outcome::Failed, 1)),
                    ("b".to_owned(), one(Outcome::Failed, 1)),
                    ("d".to_owned(), apart),
                    ("e".to_owned(), one(Outcome::Passed, 0)),
                ]
                .into(),
            ),
        ]
        .into();
        let text = page("", &results, "runc", "vm", "here", &[("a", "known")]);
        for line in [
            "| passed | 2 | 2 |",
            "| of the passed: no pod was forced | | 1 |",
            "| of the passed: no pod was found to be its own | | 1 |",
            "| d | a \\| b | not looked into yet | 2026-01-01 |",
            "| run on runc only so far | | 1 |",
            "## Fails in the machine, passes on runc: 1",
            "| a | a \\| b | known | 2026-01-01 |",
            "## Fails on both: 1",
            "## Fails on runc only: 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(unexplained(&results, "runc", "vm", &[]), ["a"]);
        assert!(unexplained(&results, "runc", "vm", &[("a", "known")]).is_empty());
        assert!(unexplained(&results, "vm", "runc", &[]).is_empty());
    }
}
