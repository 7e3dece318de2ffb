//! Init of the guest: sets up containers, runs their processes and speaks guest-api.
//!
//! It is the only program of the initramfs. Its input are the shim's requests on one virtio-serial port and the bytes that
//! containers write; it acts on the guest's kernel alone. It stands apart from the shim because it runs on the other side
//! of the machine's border, where the containers are.
//!
//! Mounts that a container's spec names are made by its init at the start (they show its namespaces), so their failures
//! are answers to `StartProcess`. Not there: rules for devices in the container's cgroup (a container with CAP_MKNOD can
//! make a node of any device of its pod's guest, `privileged` or not), mount propagation.
mod agent;
mod boot;
mod cgroup;
mod child;
mod clock;
mod configure;
mod container;
mod cpus;
mod dial;
mod disks;
mod environment;
mod fail;
mod mounts;
mod netlink;
mod network;
mod paths;
mod port;
mod process;
mod relay;
mod requests;
mod rootfs;
mod streams;
mod sys;
mod template;
mod user;
mod volumes;

fn run() -> fail::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((port, request)) = template::awake(&arguments) {
        boot::harden()?;
        return agent::Agent::awake(port, request)?.serve();
    }
    boot::prepare()?;
    cgroup::prepare()?;
    agent::Agent::connect()?.serve()
}

fn main() {
    if std::process::id() != 1 {
        eprintln!("freehold-agent is the init of a guest; it does nothing else");
        std::process::exit(2);
    }
    // An ended PID 1 is a kernel panic that says nothing of its reason.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("freehold-agent: {panic}");
        end();
    }));
    if let Err(failure) = run() {
        eprintln!("freehold-agent: {failure}");
    }
    end();
}

fn end() {
    sys::sync();
    if let Err(error) = sys::power_off() {
        eprintln!("freehold-agent: power off: {error}");
    }
}
