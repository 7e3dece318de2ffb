//! Container runtime shim: one virtual machine a pod.
//!
//! The runtime installer runs its `canary`. **What is not here yet: everything containerd calls** — `start`, `delete` and the
//! task service — and the pod's network, volumes and the kubelet's files; `spec` and `rootfs` are their pure parts and are
//! called by nothing but their tests. Decisions (command line, conversion of specs, lifecycle) are pure functions; processes, sockets and
//! mounts are at the edge.

#[allow(dead_code, reason = "streams are for the task service, which is not here yet")]
mod agent;
mod canary;
#[allow(dead_code, reason = "layers are for the task service, which is not here yet")]
mod config;
#[allow(dead_code, reason = "disks and growth are for the task service, which is not here yet")]
mod machine;
#[allow(dead_code, reason = "containers are for the task service, which is not here yet")]
mod rootfs;
#[allow(dead_code, reason = "containers are for the task service, which is not here yet")]
mod spec;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("canary") => canary::options(args).and_then(|options| runtime()?.block_on(canary::run(options))),
        _ => Err(anyhow::anyhow!("usage: containerd-shim-freehold-v2 canary --config FILE [--timeout-seconds SECONDS]")),
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

/// A hostile text made safe for logs and events: bounded, printable, on one line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(1024).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
