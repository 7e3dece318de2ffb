//! What containerd runs: `start` leaves a server behind and prints its address, `delete` cleans up after a dead one.
//!
//! One server a pod: `start` for a container finds the sandbox's by a socket whose name is made of the sandbox's id. The
//! server is this program again, in a session of its own, with the listening socket as descriptor 3; so whoever connects
//! after `start` has returned waits in the socket's queue. Its messages go to the bundle's `log` fifo, which containerd
//! reads. The address is printed plain: see [`answer`].

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::bootstrap_api::BootstrapParams;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use sha2::{Digest, Sha256};

use crate::record::Record;
use crate::server::{self, Server};
use crate::spec;
use crate::task::api::Api;
use crate::task::events::{Publisher, timestamp};
use crate::task::lifecycle::KILLED;
use crate::task::pod::Pod;

/// Where sockets are, unless containerd says otherwise; short, because a socket's path has at most 107 bytes.
const SOCKETS: &str = "/run/containerd/s";
/// Most bytes of start's input.
const MAX_INPUT: u64 = 1024 * 1024;
/// The listening socket in the server.
const LISTENER: i32 = 3;
/// Time for containerd to ask for a machine once it has the server's address, which it does at once.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Go's name of the runtime spec's features, which containerd registers for their JSON (core/runtime/typeurl.go).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
/// Time for the answer to Shutdown to leave.
const FAREWELL: Duration = Duration::from_millis(50);

/// containerd's command line, in the manner of Go's `flag`.
#[derive(Debug, Default, PartialEq)]
pub struct Flags {
    namespace: String,
    id: String,
    address: String,
    bundle: Option<PathBuf>,
    socket: Option<PathBuf>,
    config: Option<PathBuf>,
    debug: bool,
    version: bool,
    info: bool,
    action: String,
}

/// Reads the command line.
///
/// # Errors
/// If a flag is not known or lacks its value.
pub fn flags(args: impl Iterator<Item = String>) -> anyhow::Result<Flags> {
    let mut flags = Flags::default();
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            flags.action = arg;
            break;
        };
        let (name, given) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value.to_owned())));
        match name {
            "debug" => flags.debug = true,
            "v" | "version" => flags.version = true,
            "info" => flags.info = true,
            _ => {
                let value = given.or_else(|| args.next()).with_context(|| format!("-{name} needs a value"))?;
                match name {
                    "namespace" => flags.namespace = value,
                    "id" => flags.id = value,
                    "address" => flags.address = value,
                    "bundle" => flags.bundle = Some(value.into()),
                    "socket" => flags.socket = Some(value.into()),
                    "config" => flags.config = Some(value.into()),
                    "publish-binary" => {}
                    _ => bail!("unknown flag -{name}"),
                }
            }
        }
    }
    Ok(flags)
}

/// Does what containerd asks.
///
/// # Errors
/// If it can't; the words go to standard error, which containerd puts into its own.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    match flags.action.as_str() {
        _ if flags.version => {
            println!("containerd-shim-freehold-v2:\n  Version:  {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ if flags.info => info(),
        "start" => start(flags),
        "delete" => delete(flags),
        "serve" => crate::runtime()?.block_on(serve(flags)),
        other => bail!("unknown action {other:?}: containerd starts this program with start or delete"),
    }
}

fn info() -> anyhow::Result<()> {
    std::io::stdout().write_all(&runtime_info().write_to_bytes()?)?;
    Ok(())
}

/// What containerd is told of this runtime: its version, and that pods may have user namespaces, which the kubelet asks for.
fn runtime_info() -> RuntimeInfo {
    let mut version = RuntimeVersion::new();
    version.version = env!("CARGO_PKG_VERSION").into();
    let mut info = RuntimeInfo::new();
    info.name = "io.containerd.freehold.v2".into();
    info.version = Some(version).into();
    // features.md of the runtime spec.
    let features = serde_json::json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.1",
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "mountExtensions": { "idmap": { "enabled": true } },
        },
    });
    info.features =
        MessageField::some(Any { type_url: FEATURES.into(), value: features.to_string().into_bytes(), ..Any::default() });
    info
}

/// The folder of sockets that containerd asks for. Older versions send the options here, a message of another type, which
/// can't name this id.
fn socket_folder(input: &[u8], id: &str) -> PathBuf {
    let params = BootstrapParams::parse_from_bytes(input).ok().filter(|params| params.instance_id == id);
    params.and_then(|params| params.socket_dir).filter(|dir| !dir.is_empty()).map_or_else(|| SOCKETS.into(), PathBuf::from)
}

fn socket_path(folder: &Path, flags: &Flags, group: &str) -> PathBuf {
    let text = format!("freehold\0{}\0{}\0{group}", flags.address, flags.namespace);
    folder.join(Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn start(flags: &Flags) -> anyhow::Result<()> {
    let mut input = Vec::new();
    std::io::stdin().take(MAX_INPUT).read_to_end(&mut input).context("can't read containerd's parameters")?;
    let bundle = std::env::current_dir().context("the bundle is not there")?;
    let spec = spec::read(&bundle)?;
    let group = spec.group(&flags.id);
    let folder = socket_folder(&input, &flags.id);
    let socket = socket_path(&folder, flags, group);
    let mut launched = None;
    if UnixStream::connect(&socket).is_err() {
        if group != flags.id {
            bail!("the shim of sandbox {group} is gone; the pod needs a new sandbox");
        }
        launched = Some(launch(flags, &folder, &socket, &bundle)?);
    }
    tell(&bundle, &socket).inspect_err(|_| {
        if let Some(server) = launched {
            server.clean(&server::note(&flags.namespace, &flags.id)); // containerd runs no `delete` after a `start` that failed
        }
    })
}

/// A plain address, which every containerd from 1.6 on and CRI-O take as ttrpc with version 2 of the task API. Version 3 has the same
/// methods, and containerd 2 takes it for more: that the shim has the sandbox API, streams without fifos, and cleans up after each container
/// without a `delete`. CRI-O refuses it. All that it would save is this program's `start` for each container but the sandbox.
fn answer(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

fn tell(bundle: &Path, socket: &Path) -> anyhow::Result<()> {
    let address = answer(socket);
    std::fs::write(bundle.join("address"), &address).context("can't note the address in the bundle")?;
    std::io::stdout().write_all(address.as_bytes()).context("containerd does not take the address")
}

/// The configuration of the handler by whose name this program was run: the file beside that name. No options name it: containerd 2 adds
/// some of runc's to those of each container with a user namespace, and fails if there are others.
fn config_beside(program: &Path) -> Option<PathBuf> {
    let mut path = program.as_os_str().to_owned();
    path.push(".toml");
    let path = PathBuf::from(path);
    (program.is_absolute() && path.is_file()).then_some(path)
}

fn launch(flags: &Flags, folder: &Path, socket: &Path, bundle: &Path) -> anyhow::Result<Server> {
    let note = server::note(&flags.namespace, &flags.id);
    server::open(Path::new(server::FOLDER)).with_context(|| format!("can't make {}", server::FOLDER))?;
    server::sweep(Path::new(server::FOLDER));
    let noted = |pid| -> anyhow::Result<Server> {
        let server = Server::of(pid, socket).context("the shim's server ended at once")?;
        server.write(&note).with_context(|| format!("can't note the shim's server in {}", note.display()))?;
        Ok(server)
    };
    noted(std::process::id())?;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let _ = std::fs::remove_file(socket); // of a server that died: nobody listens
    let listener = UnixListener::bind(socket).with_context(|| format!("can't listen on {}", socket.display()))?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).context("can't close the socket to others")?;
    let listener = OwnedFd::from(listener);
    let number = listener.as_raw_fd();
    let mut command = Command::new(std::env::current_exe().context("this program can't find itself")?);
    command.args(["-namespace", &flags.namespace, "-address", &flags.address, "-id", &flags.id]);
    if let Some(config) = std::env::args_os().next().and_then(|program| config_beside(Path::new(&program))) {
        command.arg("-config").arg(config);
    }
    command.arg("-socket").arg(socket).args(flags.debug.then_some("-debug")).arg("serve");
    command.current_dir(bundle).stdin(Stdio::null()).stdout(Stdio::null());
    // Both ways: no wait for containerd to read, no signal when it goes away, and whole again when it comes back.
    let no_wait = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let log = std::fs::OpenOptions::new().read(true).write(true).custom_flags(no_wait).open(bundle.join("log"));
    command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
    // SAFETY: between fork and exec only setsid, dup2 and fcntl are called, on a descriptor that is kept open here.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            // dup2 onto itself would leave close-on-exec set.
            if number == LISTENER {
                let fd = std::os::fd::BorrowedFd::borrow_raw(number);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            } else if libc::dup2(number, LISTENER) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().context("can't start the shim's server")?;
    drop(listener);
    noted(child.id()).inspect_err(|_| {
        let _ = child.kill();
        server::forget(&note, socket);
    })
}

async fn serve(flags: &Flags) -> anyhow::Result<()> {
    let level = if flags.debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_ansi(false).init();
    let socket = flags.socket.clone().context("serve needs -socket")?;
    // SAFETY: nothing in this process closes this number; if it is not open the call fails.
    rustix::io::fcntl_setfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(LISTENER) }, rustix::io::FdFlags::CLOEXEC)
        .context("descriptor 3 is no listening socket: this action is for start alone")?; // or QEMU would inherit it
    let containerd = std::env::var("TTRPC_ADDRESS").unwrap_or_else(|_| format!("{}.ttrpc", flags.address));
    let note = server::note(&flags.namespace, &flags.id);
    let pod = Pod::new(&flags.id, socket.clone(), note.clone(), Publisher::new(&containerd, &flags.namespace));
    let api = std::sync::Arc::new(Api { pod: pod.clone(), config: flags.config.clone() });
    let mut services = create_task(api.clone());
    for (_, service) in create_task(api) {
        services.insert("containerd.task.v2.Task".into(), service); // version 3 is version 2 under a new name
    }
    // SAFETY: `start` put the listening socket at this number, and nothing else in this process knows it.
    let server = unsafe { ttrpc::r#async::Server::new().add_unix_listener(LISTENER) };
    let mut server = server.context("descriptor 3 is no listening socket: this action is for start alone")?;
    server = server.register_service(services);
    server.start().await.context("can't serve")?;
    tokio::select! {
        () = pod.over.notified() => {}
        () = forgotten(&pod) => tracing::warn!("nobody asked for a machine within {} s", FORGOTTEN.as_secs()),
    }
    tokio::time::sleep(FAREWELL).await;
    pod.kill_machine();
    crate::rootfs::layers::abandon();
    server::forget(&note, &socket);
    Ok(())
}

/// containerd forgets a server that it started if it ends itself in that moment.
async fn forgotten(pod: &Pod) {
    tokio::time::sleep(FORGOTTEN).await;
    if !pod.is_unasked() {
        std::future::pending().await
    }
}

/// Idempotent: a container's bundle has no record, and a sandbox's may be cleaned any number of times.
fn delete(flags: &Flags) -> anyhow::Result<()> {
    let bundle = match &flags.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().context("the bundle is not there")?,
    };
    // The server first: it could still be on its way to a machine.
    let note = server::note(&flags.namespace, &flags.id);
    if let Some(server) = Server::read(&note) {
        server.clean(&note);
    }
    let record = Record::read(&bundle);
    if let Some(record) = &record {
        record.clean();
    }
    let mut response = DeleteResponse::new();
    response.pid = record.map_or(0, |record| record.pid);
    response.exit_status = KILLED;
    response.exited_at = timestamp(crate::now_ns());
    std::io::stdout().write_all(&response.write_to_bytes()?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::BootstrapResult;

    fn read(args: &[&str]) -> anyhow::Result<Flags> {
        flags(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn containerds_command_line_is_read() {
        let found = read(&[
            "-namespace",
            "k8s.io",
            "-address",
            "/run/c.sock",
            "-publish-binary",
            "/bin/containerd",
            "-id",
            "x",
            "--bundle=/b",
            "-debug",
            "delete",
        ]);
        let expect = Flags {
            namespace: "k8s.io".into(),
            id: "x".into(),
            address: "/run/c.sock".into(),
            bundle: Some("/b".into()),
            debug: true,
            action: "delete".into(),
            ..Flags::default()
        };
        assert_eq!(found.unwrap(), expect);
        assert!(read(&["-v"]).unwrap().version && read(&["-info"]).unwrap().info);
        assert!(read(&["-id"]).is_err() && read(&["-speed", "3", "start"]).is_err());
    }

    #[test]
    fn a_pods_containers_meet_at_one_socket() {
        let flags = |id: &str, namespace: &str| Flags { id: id.into(), namespace: namespace.into(), ..Flags::default() };
        let folder = Path::new(SOCKETS);
        let sandbox = socket_path(folder, &flags("s", "k8s.io"), "s");
        assert_eq!(sandbox, socket_path(folder, &flags("c", "k8s.io"), "s"));
        assert_ne!(sandbox, socket_path(folder, &flags("s", "other"), "s"));
        assert!(sandbox.as_os_str().len() < 107);
    }

    #[test]
    fn containerd_is_told_of_user_namespaces() {
        let info = RuntimeInfo::parse_from_bytes(&runtime_info().write_to_bytes().unwrap()).unwrap();
        let features = info.features.unwrap();
        assert_eq!(features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
        let read: serde_json::Value = serde_json::from_slice(&features.value).unwrap();
        assert!(read["linux"]["namespaces"].as_array().unwrap().contains(&"user".into()));
        assert_eq!(read["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }

    /// containerd 2.3 tries the answer as a message first, then as JSON, and takes what is neither as an address of version 2.
    #[test]
    fn whoever_asks_is_answered_with_version_2() {
        let answer = answer(&socket_path(Path::new(SOCKETS), &Flags::default(), "s"));
        assert!(answer.starts_with("unix:///run/containerd/s/"));
        assert!(BootstrapResult::parse_from_bytes(answer.as_bytes()).is_err());
        assert!(serde_json::from_str::<serde_json::Value>(&answer).is_err());
    }

    #[test]
    fn a_handlers_configuration_is_beside_its_name() {
        let folder = std::env::temp_dir().join(format!("freehold-beside-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", folder.join("microvm.toml")).unwrap();
        assert_eq!(config_beside(&folder.join("microvm")), Some(folder.join("microvm.toml")));
        assert_eq!(config_beside(&folder.join("containerd-shim-freehold-v2")), None);
        assert_eq!(config_beside(Path::new("microvm")), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn containerd_chooses_the_folder_of_sockets() {
        let mut params = BootstrapParams::new();
        params.instance_id = "x".into();
        params.socket_dir = Some("/run/s".into());
        let bytes = params.write_to_bytes().unwrap();
        assert_eq!(socket_folder(&bytes, "x"), PathBuf::from("/run/s"));
        for (input, id) in [(bytes.as_slice(), "y"), (b"", "x"), (b"\xff\xff", "x")] {
            assert_eq!(socket_folder(input, id), PathBuf::from(SOCKETS), "{id}");
        }
    }
}
