//! `inspect`: an administrator's look into a running pod's machine, read-only and by name.
//!
//! The shim listens on a socket beside its task socket that root alone can open; one line asks for a question of
//! [`QUESTIONS`], the answer is all that follows. What is asked of QEMU is fixed here, so nobody can change a machine this way.
//! It is also the way to the guest's console, whose bytes are the guest's own: they come out printable.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Stream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::machine::process::Machine;
use crate::task::sandbox::Sandbox;

/// containerd's folder of running things.
const STATE: &str = "/run/containerd";
/// The namespace of Kubernetes in containerd.
const NAMESPACE: &str = "k8s.io";
/// Longest question in bytes.
const MAX_QUESTION: u64 = 64;
/// Longest answer that is taken, in bytes: two thousand disks of about 2 KiB each.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// Time for one visitor, who must not keep others waiting.
const VISIT_TIME: Duration = Duration::from_secs(15);

/// What answers a question.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    /// QEMU's control protocol.
    Qmp(&'static str),
    /// QEMU's command line, as the kernel has it.
    Arguments,
    /// Processes: supervisor and QEMU.
    Process,
    /// The end of the serial console and of QEMU's messages.
    Console,
}

/// Everything that can be asked. The commands of QEMU in it only read.
const QUESTIONS: [(&str, Source); 11] = [
    ("arguments", Source::Arguments),
    ("blocks", Source::Qmp("query-block")),
    ("chardevs", Source::Qmp("query-chardev")),
    ("console", Source::Console),
    ("fdsets", Source::Qmp("query-fdsets")),
    ("kvm", Source::Qmp("query-kvm")),
    ("memory", Source::Qmp("query-memory-devices")),
    ("nodes", Source::Qmp("query-named-block-nodes")),
    ("pci", Source::Qmp("query-pci")),
    ("process", Source::Process),
    ("status", Source::Qmp("query-status")),
];

fn source(name: &str) -> Option<Source> {
    QUESTIONS.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
}

fn names() -> String {
    QUESTIONS.map(|(name, _)| name).join(", ")
}

/// The socket of questions beside the task service's.
pub fn socket(task_socket: &Path) -> PathBuf {
    let mut path = task_socket.as_os_str().to_owned();
    path.push(".inspect");
    path.into()
}

/// Answers questions about the machine, one visitor at a time, for as long as the shim lives.
///
/// # Errors
/// If the socket can't be made.
pub fn serve(task_socket: &Path, sandbox: Arc<Sandbox>) -> anyhow::Result<()> {
    let path = socket(task_socket);
    let _ = std::fs::remove_file(&path); // of a shim that died
    let listener = UnixListener::bind(&path).with_context(|| format!("can't listen on {}", path.display()))?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).context("can't close the socket to others")?;
    tokio::spawn(async move {
        while let Ok((visitor, _)) = listener.accept().await {
            match tokio::time::timeout(VISIT_TIME, attend(visitor, &sandbox.machine)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an inspection failed"),
                Err(_) => tracing::debug!("an inspection took too long"),
            }
        }
    });
    Ok(())
}

async fn attend(mut visitor: UnixStream, machine: &Machine) -> anyhow::Result<()> {
    // The mode of a socket guards it on Linux; that root alone may ask does not rest on it alone.
    if visitor.peer_cred()?.uid() != 0 {
        bail!("a visitor is not root");
    }
    let (read, mut write) = visitor.split();
    let mut question = String::new();
    read.take(MAX_QUESTION).read_to_string(&mut question).await?;
    let answer = match answer(question.trim(), machine).await {
        Ok(answer) => answer,
        Err(error) => format!("{}\n", json!({ "error": format!("{error:#}") })),
    };
    write.write_all(answer.as_bytes()).await?;
    Ok(write.shutdown().await?)
}

async fn answer(question: &str, machine: &Machine) -> anyhow::Result<String> {
    let source = source(question).with_context(|| format!("it is not known; these are: {}", names()))?;
    let value = match source {
        Source::Console => return Ok(machine.console.text()),
        Source::Qmp(command) => machine.qmp.execute(command, parameters(command), None).await?,
        Source::Arguments => {
            let line = std::fs::read(format!("/proc/{}/cmdline", machine.pid)).context("QEMU has ended")?;
            line.split(|&byte| byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        }
        Source::Process => json!({
            "qemu": machine.pid, "supervisor": machine.supervisor, "shim": std::process::id(), "user": machine.uid,
        }),
    };
    Ok(format!("{value:#}\n"))
}

/// Without `flat` every node would be described again in each of its users.
fn parameters(command: &str) -> Value {
    if command == "query-named-block-nodes" { json!({ "flat": true }) } else { json!({}) }
}

/// What is asked on the command line.
#[derive(Debug, PartialEq)]
pub struct Options {
    bundle: PathBuf,
    question: String,
}

/// Reads the command line after `inspect`.
///
/// # Errors
/// If it is not understood.
pub fn options(mut args: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let (mut state, mut namespace, mut words) = (STATE.to_owned(), NAMESPACE.to_owned(), Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--state" => state = args.next().context("--state needs a folder")?,
            "--namespace" => namespace = args.next().context("--namespace needs a name")?,
            _ if arg.starts_with('-') => bail!("unknown option {arg}"),
            _ => words.push(arg),
        }
    }
    let [sandbox, question] = words.as_slice() else {
        bail!(
            "usage: inspect [--state {STATE}] [--namespace {NAMESPACE}] SANDBOX QUESTION\n\
             SANDBOX is a pod's sandbox id (crictl pods), QUESTION one of: {}",
            names()
        );
    };
    for name in [sandbox, &namespace] {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            bail!("{name:?} is no name of a sandbox or namespace");
        }
    }
    source(question).with_context(|| format!("{question:?} is not a question; these are: {}", names()))?;
    let bundle = Path::new(&state).join("io.containerd.runtime.v2.task").join(namespace).join(sandbox);
    Ok(Options { bundle, question: question.clone() })
}

/// Asks the shim of a pod and prints its answer.
///
/// # Errors
/// If there is no such pod, or it does not answer.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let address = std::fs::read_to_string(options.bundle.join("address"));
    let address = address.with_context(|| format!("there is no sandbox at {}", options.bundle.display()))?;
    let path = socket(Path::new(address.trim().trim_start_matches("unix://")));
    let mut stream = Stream::connect(&path)
        .with_context(|| format!("nobody answers at {}: is it a pod of Freehold, and are you root?", path.display()))?;
    stream.set_read_timeout(Some(VISIT_TIME))?;
    stream.write_all(options.question.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).context("the shim did not answer")?;
    if let Ok(Value::Object(object)) = serde_json::from_str(&answer)
        && let (1, Some(error)) = (object.len(), object.get("error").and_then(Value::as_str))
    {
        bail!("{error}");
    }
    Ok(std::io::stdout().write_all(answer.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> anyhow::Result<Options> {
        options(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn a_sandbox_and_a_question_are_read() {
        let expect =
            Options { bundle: "/run/containerd/io.containerd.runtime.v2.task/k8s.io/abc".into(), question: "console".into() };
        assert_eq!(parse(&["abc", "console"]).unwrap(), expect);
        assert_eq!(parse(&["--state", "/s", "--namespace", "n", "abc", "nodes"]).unwrap().bundle.to_str(), {
            Some("/s/io.containerd.runtime.v2.task/n/abc")
        });
        for wrong in
            [&["abc"][..], &["abc", "quit"], &["../x", "nodes"], &[".", "nodes"], &["a", "nodes", "b"], &["--x", "a", "b"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_asked_of_qemu_only_reads() {
        for (name, source) in QUESTIONS {
            assert!(name.len() as u64 <= MAX_QUESTION);
            if let Source::Qmp(command) = source {
                assert!(command.starts_with("query-"), "{command}");
            }
        }
    }

    #[test]
    fn its_socket_is_beside_the_task_services_and_short_enough() {
        let path = socket(Path::new(&format!("/run/containerd/s/{}", "a".repeat(64))));
        assert!(path.to_str().unwrap().ends_with("a.inspect") && path.as_os_str().len() < 107);
    }
}
