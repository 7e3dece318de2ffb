//! QEMU's command line as a pure function of the machine's shape.
//!
//! q35 with PCI: memory grows and shrinks by virtio-mem, disks and network cards are plugged while it runs. Descriptors
//! arrive by number; no path of a pod is ever on the command line.

use std::path::PathBuf;

use freehold_guest_api::limits::MAX_FILE_VOLUMES;

use crate::config::{Acceleration, Bundle};
use crate::confine::Plan;
use crate::confine::privileges::Limits;
use crate::confine::view::{Item, With};

/// Where the bundle is in QEMU's own root.
pub const BUNDLE: &str = "/bundle";
/// What QEMU reads to know whether memory may be set aside without being there; without it QEMU does not start.
const OVERCOMMIT: &str = "proc/sys/vm/overcommit_memory";
/// Most descriptors of QEMU: two for each of its disks, and some.
const DESCRIPTORS: u64 = 8192;
/// Most threads of QEMU: virtual processors, and up to 64 for input and output.
const THREADS: u64 = 256;

/// PCIe root ports, one a network card that may be plugged.
pub const ROOT_PORTS: usize = 4;
/// Below 32 MiB the translator throws away code it needs again (measured: slow).
const TRANSLATION_MIB: u32 = 32;
/// Timer interrupts a second of the guest's kernel: `lpj` is cycles by tick.
const GUEST_HZ: u64 = 250;

/// Where the pieces of a template are in QEMU's own root.
const TEMPLATE: &str = "/template";

/// Where the memory comes from that a machine begins with.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// Its own; the kernel boots in it.
    Cold,
    /// The files of a template that is made of this machine: its memory lies in one, its devices are written to the other.
    Making(Pieces),
    /// A template's, read-only: what the clone changes becomes memory of its own. It waits for the state of the devices.
    Clone(Pieces),
}

/// The two files of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Pieces {
    /// The memory.
    pub memory: PathBuf,
    /// The state of processor and devices.
    pub state: PathBuf,
}

/// What QEMU is told to write a template's state to, or to read it from.
pub fn state_uri() -> String {
    format!("file:{TEMPLATE}/state")
}

/// What differs from machine to machine.
#[derive(Debug, Clone)]
pub struct Shape<'a> {
    /// The files.
    pub bundle: &'a Bundle,
    /// How guest code is run.
    pub acceleration: Acceleration,
    /// Where its memory comes from.
    pub base: Base,
    /// Memory it begins with, in MiB.
    pub base_mib: u64,
    /// Memory it may grow by, in MiB.
    pub growth_mib: u64,
    /// Virtual CPUs.
    pub cpus: usize,
    /// The host's clock in kHz; without it an emulated guest calibrates, slowly and at times wrongly.
    pub host_khz: Option<u64>,
    /// Descriptor of the agent's port.
    pub agent_fd: i32,
    /// Descriptor of the control socket.
    pub qmp_fd: i32,
    /// Descriptor of the serial console.
    pub serial_fd: i32,
    /// Descriptor of /dev/kvm, if it is used: QEMU's user could not open it.
    pub kvm_fd: i32,
}

/// What QEMU runs as and what it sees: the bundle's files that it needs, and nothing else of the node.
pub fn plan(bundle: &Bundle, shape: &Shape<'_>, uid: u32) -> Plan {
    let bind = |below: &str, with| Item::Bind { from: bundle.0.join(below), to: [&BUNDLE[1..], below].iter().collect(), with };
    let mut keep = vec![shape.agent_fd, shape.qmp_fd, shape.serial_fd];
    if shape.acceleration == Acceleration::Kvm {
        keep.push(shape.kvm_fd);
    }
    let command = [shape.bundle.loader()].into_iter().chain(arguments(shape)).collect();
    let mut view = vec![bind("qemu", With::Run), Item::Text { to: OVERCOMMIT.into(), text: "0\n".into() }];
    if !matches!(shape.base, Base::Clone(_)) {
        view.extend(["guest/vmlinux", "guest/initrd.lz4"].map(|file| bind(file, With::Nothing)));
    }
    if let Base::Making(pieces) | Base::Clone(pieces) = &shape.base {
        let with = if matches!(shape.base, Base::Making(_)) { With::Write } else { With::Nothing };
        for (from, name) in [(&pieces.memory, "memory"), (&pieces.state, "state")] {
            view.push(Item::Bind { from: from.clone(), to: [&TEMPLATE[1..], name].iter().collect(), with });
        }
    }
    Plan {
        uid,
        over: bundle.0.clone(),
        view,
        command,
        environment: vec![("QEMU_MODULE_DIR".into(), shape.bundle.modules())],
        keep,
        hold: Vec::new(),
        network: None,
        capabilities: 0,
        limits: Limits { descriptors: DESCRIPTORS, threads: THREADS, file_bytes: None, address_bytes: None, cpu_seconds: None },
    }
}

/// Arguments of the bundle's dynamic loader, which is the program to run.
pub fn arguments(shape: &Shape<'_>) -> Vec<String> {
    let bundle = shape.bundle;
    let mut out: Vec<String> = vec!["--library-path".into(), bundle.libraries(), bundle.qemu()];
    let mut add = |name: &str, value: String| {
        out.push(name.into());
        if !value.is_empty() {
            out.push(value);
        }
    };
    add("-L", bundle.firmware());
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        add(flag, String::new());
    }
    add("-display", "none".into());
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
    add("-machine", "q35,smbus=off,sata=off,usb=off,hpet=off,vmport=off,i8042=off,memory-backend=base".into());
    match shape.acceleration {
        Acceleration::Kvm => {
            add("-add-fd", format!("fd={},set=0", shape.kvm_fd));
            add("-accel", "kvm,device=/dev/fdset/0".into());
            add("-cpu", "host".into());
        }
        Acceleration::Tcg => {
            add("-accel", format!("tcg,tb-size={TRANSLATION_MIB}"));
            add("-cpu", "max".into());
        }
    }
    add("-m", format!("{}M,slots=2,maxmem={}M", shape.base_mib, shape.base_mib + shape.growth_mib));
    add("-smp", shape.cpus.to_string());
    let file = format!("memory-backend-file,id=base,size={}M,mem-path={TEMPLATE}/memory", shape.base_mib);
    add(
        "-object",
        match shape.base {
            Base::Cold => format!("memory-backend-ram,id=base,size={}M", shape.base_mib),
            Base::Making(_) => format!("{file},share=on"),
            // rom=off: a private copy is written to, although the file never is.
            Base::Clone(_) => format!("{file},share=off,readonly=on,rom=off"),
        },
    );
    add("-object", format!("memory-backend-ram,id=growth,size={}M,reserve=off", shape.growth_mib));
    if matches!(shape.base, Base::Clone(_)) {
        add("-incoming", "defer".into());
    } else {
        add("-kernel", bundle.kernel());
        add("-initrd", bundle.initrd());
        add("-append", kernel_parameters(shape));
    }
    for (id, fd) in [("agent", shape.agent_fd), ("qmp", shape.qmp_fd), ("serial", shape.serial_fd)] {
        add("-chardev", format!("socket,id={id},fd={fd}"));
    }
    add("-mon", "chardev=qmp,mode=control".into());
    add("-serial", "chardev:serial".into());
    // Number 0 is the console's, 1 the agent's. With more vectors than two, each port would take one of the guest's few.
    add("-device", format!("virtio-serial-pci,id=serial0,max_ports={},vectors=2", 2 + MAX_FILE_VOLUMES));
    add("-device", format!("virtserialport,bus=serial0.0,nr=1,chardev=agent,name={}", freehold_guest_api::limits::PORT_NAME));
    add("-device", "virtio-mem-pci,id=memory0,memdev=growth,node=0,requested-size=0,block-size=2M".into());
    add("-device", "virtio-scsi-pci,id=scsi0".into());
    add("-device", "virtio-rng-pci".into());
    if shape.base != Base::Cold {
        // Each QEMU has another one, and the guest's kernel seeds itself anew when it sees that.
        add("-device", "vmgenid,id=generation0,guid=auto".into());
    }
    for port in 0..ROOT_PORTS {
        add("-device", format!("pcie-root-port,id=port{port},chassis={0},slot={0}", port + 1));
    }
    out
}

/// Early messages go to the serial console that ends up in errors; a panic reboots at once, which `-no-reboot` turns into
/// QEMU's end. Grown memory becomes kernel memory too, or its page tables starve the base.
fn kernel_parameters(shape: &Shape<'_>) -> String {
    let mut out = String::from(
        "console=ttyS0 quiet loglevel=4 panic=-1 rdinit=/init no_timer_check cryptomgr.notests random.trust_cpu=on pci=realloc \
         memhp_default_state=online memory_hotplug.online_policy=auto-movable memory_hotplug.auto_movable_ratio=301",
    );
    if let (Acceleration::Tcg, Some(khz)) = (shape.acceleration, shape.host_khz) {
        out += &format!(" tsc_early_khz={khz} tsc=reliable lpj={}", khz * 1000 / GUEST_HZ);
    }
    out
}

/// The host's clock in kHz from the text of /proc/cpuinfo.
pub fn host_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    (mhz > 100.0 && mhz < 100_000.0).then_some((mhz * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(bundle: &Bundle, acceleration: Acceleration) -> Shape<'_> {
        Shape {
            bundle,
            acceleration,
            base: Base::Cold,
            base_mib: 128,
            growth_mib: 1024,
            cpus: 2,
            host_khz: Some(2_596_140),
            agent_fd: 7,
            qmp_fd: 8,
            serial_fd: 9,
            kvm_fd: 10,
        }
    }

    #[test]
    fn the_command_line_is_as_written_down() {
        let text = arguments(&shape(&Bundle("/b".into()), Acceleration::Tcg)).join("\n");
        assert_eq!(text, include_str!("command.golden").trim_end());
    }

    #[test]
    fn hardware_virtualisation_takes_the_hosts_processor_and_its_own_clock() {
        let text = arguments(&shape(&Bundle("/b".into()), Acceleration::Kvm)).join(" ");
        assert!(text.contains("-add-fd fd=10,set=0 -accel kvm,device=/dev/fdset/0 -cpu host"));
        assert!(!text.contains("tsc_early_khz"));
    }

    #[test]
    fn qemu_sees_its_own_files_alone_and_may_nothing() {
        let (bundle, inside) = (Bundle("/opt/b".into()), Bundle(BUNDLE.into()));
        let plan = plan(&bundle, &shape(&inside, Acceleration::Kvm), 4711);
        assert_eq!((plan.uid, plan.capabilities, plan.keep.as_slice()), (4711, 0, &[7, 8, 9, 10][..]));
        assert!(plan.command.iter().all(|word| !word.contains("/opt/b")), "a path of the node: {:?}", plan.command);
        for item in &plan.view {
            if let Item::Bind { from, to, with } = item {
                assert!(
                    from.starts_with("/opt/b") && to.is_relative() && !matches!(with, With::Write | With::Device),
                    "{item:?}"
                );
            }
        }
    }

    #[test]
    fn a_clone_has_its_templates_devices_and_can_write_to_none_of_its_files() {
        let bundle = Bundle(BUNDLE.into());
        let of = |base| Shape { base, ..shape(&bundle, Acceleration::Tcg) };
        let pieces = Pieces { memory: "/t/memory".into(), state: "/t/state".into() };
        let (making, clone) = (of(Base::Making(pieces.clone())), of(Base::Clone(pieces)));
        let devices = |shape: &Shape<'_>| -> Vec<String> {
            let arguments = arguments(shape);
            arguments
                .windows(2)
                .filter(|pair| ["-device", "-machine", "-m", "-smp"].contains(&&*pair[0]))
                .map(|pair| pair.concat())
                .collect()
        };
        assert_eq!(devices(&making), devices(&clone));
        let text = arguments(&clone).join(" ");
        assert!(
            text.contains("mem-path=/template/memory,share=off,readonly=on,rom=off") && text.contains("-incoming defer"),
            "{text}"
        );
        assert!(!text.contains("-kernel") && !text.contains("-append"), "{text}");
        let view = plan(&Bundle("/opt/b".into()), &clone, 1).view;
        let writable = view.iter().filter(|item| matches!(item, Item::Bind { with: With::Write | With::Device, .. }));
        assert_eq!(writable.count(), 0, "{view:?}");
    }

    #[test]
    fn the_clock_is_read() {
        assert_eq!(host_khz("processor\t: 0\ncpu MHz\t\t: 2596.140\n"), Some(2_596_140));
        assert_eq!(host_khz("processor\t: 0\n"), None);
        assert_eq!(host_khz("cpu MHz\t\t: 0.0\n"), None);
    }
}
