//! Container runtime shim: one virtual machine a pod.
//!
//! containerd runs `start` and `delete` (see `bootstrap`); the runtime installer runs `canary` and `templates`, an administrator `inspect`. Decisions (command lines,
//! conversion of specs, lifecycle) are pure functions; processes, sockets and netlink are at the edge.

mod agent;
mod bootstrap;
mod canary;
mod cgroup;
mod config;
mod confine;
mod files;
mod inspect;
mod machine;
mod mountinfo;
mod network;
mod record;
mod rootfs;
mod server;
mod spec;
mod task;
mod template;
mod volumes;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.peek().is_some_and(|first| first == "supervise") {
        return confine::supervisor::run(&args.nth(1).unwrap_or_default());
    }
    if args.peek().is_some_and(|first| first == files::ACTION) {
        let mut numbers = args.skip(1);
        return files::serve::run(&numbers.next().unwrap_or_default(), &numbers.next().unwrap_or_default());
    }
    let result = match args.peek().map(String::as_str) {
        Some("canary") => canary::options(args.skip(1)).and_then(|options| runtime()?.block_on(canary::run(options))),
        Some("templates") => {
            template::make::options(args.skip(1)).and_then(|options| runtime()?.block_on(template::make::run(options)))
        }
        Some("inspect") => inspect::options(args.skip(1)).and_then(|options| inspect::run(&options)),
        _ => bootstrap::flags(args).and_then(|flags| bootstrap::run(&flags)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Two threads: a shim waits for others nearly all the time, and every thread is memory of the pod.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What to do about an error of a full disk, to be put behind it; nothing about any other.
pub(crate) fn if_full(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ": the node's disk is full; free space there, or let the pod run on another node"
        }
        _ => "",
    }
}

/// A hostile text made safe for logs and events: bounded, printable, on one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
