//! Runs programs of the node in the node's mount namespace, with a time limit.
//!
//! Input: a command line; output: what it printed. It does what `nsenter -t 1 -m` does without needing nsenter in the
//! image, which has no programs of its own. The pod must share the node's PID namespace and be privileged.

use anyhow::{Context, bail};
use std::fs::File;
use std::time::Duration;
use tokio::process::Command;

/// The node's mount namespace, seen from a pod with `hostPID`.
const NAMESPACE: &str = "/proc/1/ns/mnt";
/// Where the node's programs lie: the image's PATH says nothing about the node.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a program's complaint that are passed on.
const MAX_MESSAGE: usize = 2048;

/// Runs a program on the node; its stdout, or an error with its stderr. It is killed when the limit passes.
pub async fn run(program: &[&str], limit: Duration) -> anyhow::Result<String> {
    let name = program.first().context("no program was given to run on the node")?;
    let namespace = File::open(NAMESPACE).with_context(|| {
        format!("could not open {NAMESPACE}; the pod needs hostPID: true and securityContext.privileged: true")
    })?;
    let mut command = Command::new("/usr/bin/env");
    command.arg(format!("PATH={PATH}")).args(program).env_clear().kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    // SAFETY: the closure runs in the forked child before exec, where only async-signal-safe calls are allowed. It makes
    // one system call, allocates nothing and takes no lock; `namespace` is an open file owned by the closure. The child
    // has one thread and its own fs_struct, which setns(2) demands for a mount namespace.
    unsafe {
        command.pre_exec(move || {
            use std::os::fd::AsFd;
            let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).map_err(Into::into)
        });
    }
    let output = tokio::time::timeout(limit, command.output())
        .await
        .with_context(|| format!("{name} did not end within {} s on the node and was killed", limit.as_secs()))?
        .with_context(|| format!("could not start {name} on the node"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(MAX_MESSAGE).collect();
        bail!("{} failed on the node ({}): {said}", program.join(" "), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is not UTF-8"))
}
