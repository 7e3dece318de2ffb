//! Tables of what was measured, and beside which aims it stands.

use freehold_e2e::figures::{HEAD, median, row};

use super::measure::{CROWD, Measured, SEVERAL};
use super::weight::Weight;

/// By the row's words: a figure of each kind.
fn one(what: &str, kinds: [&Measured; 3], of: impl Fn(&Measured) -> f64, digits: usize) {
    let values = kinds.map(|kind| [of(kind)]);
    println!("{}", row(what, values.each_ref().map(|one| one.as_slice()), digits));
}

/// Prints all.
pub fn print(acceleration: &str, [cold, clone]: [&[f64]; 2], kinds: [&Measured; 3]) {
    println!("QEMU itself reports: **{acceleration}**.\n\n{HEAD}");
    println!("{}", row("a machine alone, from start to its agent's first answer, s", [&[], cold, clone], 2));
    let all = |what: &str, of: fn(&Measured) -> &[f64], digits| println!("{}", row(what, kinds.map(of), digits));
    all("from the runtime's first step for a pod to its process, s", |kind| &kind.process, 2);
    all("pod created until Running, s", |kind| &kind.running, 2);
    all("the same, with an image of ten layers, s", |kind| &kind.layers, 2);
    all("pod created until the first byte of its log, s", |kind| &kind.first_byte, 2);
    all("exec of `true`, there and back, s", |kind| &kind.exec, 3);
    all("delete until gone, s", |kind| &kind.gone, 2);
    one(&format!("{CROWD} pods at once, until the last runs, s"), kinds, |kind| kind.crowd[0], 1);
    one("a twentieth of it, s", kinds, |kind| kind.crowd[0] / CROWD as f64, 2);
    one(&format!("{CROWD} pods at once, until the last has gone, s"), kinds, |kind| kind.crowd[1], 1);
    one("image of 500 MB in one layer: first start on the node, until Running, s", kinds, |kind| kind.large[0], 1);
    one("the same image, second start, s", kinds, |kind| kind.large[1], 1);
    for (n, count) in [1, SEVERAL, CROWD].into_iter().enumerate() {
        let among = if count == 1 { "one pod".to_owned() } else { format!("each of {count} pods") };
        let each = |what: &str, of: fn(&Weight) -> f64| one(what, kinds, |kind| of(&kind.weights[n]) / count as f64, 1);
        each(&format!("memory of {among}: shim, MiB"), |weight| weight.shim_mib);
        each(&format!("memory of {among}: what is below it, MiB"), |weight| weight.below_mib);
        each(&format!("{among} at rest, thousandths of a processor"), |weight| weight.processors * 1e3);
    }
    one("between two pods: round trip, ms", kinds, |kind| kind.inside.round_trip_ms, 2);
    one("between two pods: HTTP, MiB/s", kinds, |kind| kind.inside.network_mib_s, 0);
    one("a container's own file: written past the cache, MiB/s", kinds, |kind| kind.inside.write_mib_s, 0);
    one("the same: read past the cache, MiB/s", kinds, |kind| kind.inside.read_mib_s, 0);
    one("the same: 4 KiB written past the cache, ms", kinds, |kind| kind.inside.block_ms, 2);
    aims(kinds);
}

/// What was aimed at by emulation with warm caches.
fn aims([_, cold, clone]: [&Measured; 3]) {
    println!("\n| aim, by emulation with warm caches | measured | |\n|---|---|---|");
    let aim = |what: &str, measured: f64, most: f64| {
        println!("| {what} | {measured:.2} | {} |", if measured <= most { "reached" } else { "missed" });
    };
    aim("a clone's process at most 0.35 s after the runtime's first step", median(&clone.process), 0.35);
    aim("a cold machine's process at most 1.5 s after it", median(&cold.process), 1.5);
    for (what, kind) in [("cold", cold), ("clones", clone)] {
        let alone = median(&kind.running);
        aim(
            &format!("{CROWD} {what} at once: a twentieth at most as long as one alone ({alone:.2} s)"),
            kind.crowd[0] / CROWD as f64,
            alone,
        );
    }
    aim("first start of an image of 500 MB at most 10 s, cold", cold.large[0], 10.0);
}
