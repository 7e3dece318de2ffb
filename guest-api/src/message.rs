//! Control messages: what the shim asks, what the agent answers, what happens in the guest.
//!
//! Requests run concurrently and are answered in any order by `id`; the shim orders what must be ordered. Numbers of
//! prost tags are the contract: never reuse one.

use prost::{Message, Oneof};

/// One request of the shim.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Chosen by the shim, unique among requests under way.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What is asked.
    #[prost(oneof = "Call", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21")]
    pub call: Option<Call>,
}

/// What can be asked.
#[derive(Clone, PartialEq, Oneof)]
pub enum Call {
    /// First message of all; nothing else is answered before it.
    #[prost(message, tag = "2")]
    Configure(Configure),
    /// Bring up or change the pod's network.
    #[prost(message, tag = "3")]
    SetNetwork(Network),
    /// Make a volume that containers can mount.
    #[prost(message, tag = "4")]
    AddVolume(AddVolume),
    /// Put files into a Tree or File volume.
    #[prost(message, tag = "5")]
    PutEntries(PutEntries),
    /// Read a File volume back (termination log), at most [`crate::limits::MAX_CHUNK`] bytes of it.
    #[prost(message, tag = "6")]
    GetFile(GetFile),
    /// Mount a container's root file system and volumes, make its cgroup.
    #[prost(message, tag = "7")]
    CreateContainer(CreateContainer),
    /// Start a process: a container's init (`exec_id` empty) or an exec.
    #[prost(message, tag = "8")]
    StartProcess(StartProcess),
    /// Send a signal.
    #[prost(message, tag = "9")]
    Signal(Signal),
    /// New size of a terminal.
    #[prost(message, tag = "10")]
    Resize(Resize),
    /// Forget an ended process, or with `exec_id` empty unmount an ended container.
    #[prost(message, tag = "11")]
    Delete(ProcessRef),
    /// Figures of a container's cgroup.
    #[prost(message, tag = "12")]
    Stats(ContainerRef),
    /// Processes of a container.
    #[prost(message, tag = "13")]
    Pids(ContainerRef),
    /// New limits of a container.
    #[prost(message, tag = "14")]
    Update(Update),
    /// Stop (`freeze`) or go on.
    #[prost(message, tag = "15")]
    Freeze(Freeze),
    /// Unmount and forget a volume that no container uses.
    #[prost(message, tag = "16")]
    RemoveVolume(VolumeRef),
    /// Sync disks and power off; answered before it happens.
    #[prost(message, tag = "17")]
    Shutdown(Empty),
    /// Connect to a TCP port of the guest's loopback (port-forward).
    #[prost(message, tag = "18")]
    Dial(Dial),
    /// Instead of `Configure`: the machine's memory becomes a template. Nothing but `Wake` is answered from then on.
    #[prost(message, tag = "19")]
    Hold(Empty),
    /// First message to a clone: what it shares with its siblings is replaced. `Configure` follows.
    #[prost(message, tag = "20")]
    Wake(Wake),
    /// Correct the clock, or only say what it is.
    #[prost(message, tag = "21")]
    AdjustClock(AdjustClock),
}

/// One answer of the agent.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// The request's.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What came of it.
    #[prost(oneof = "Answer", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    pub answer: Option<Answer>,
}

/// What can be answered.
#[derive(Clone, PartialEq, Oneof)]
pub enum Answer {
    /// It failed.
    #[prost(message, tag = "2")]
    Error(Error),
    /// It was done; there is nothing to say.
    #[prost(message, tag = "3")]
    Done(Empty),
    /// To `Configure`.
    #[prost(message, tag = "4")]
    Ready(Ready),
    /// To `StartProcess`.
    #[prost(message, tag = "5")]
    Started(Started),
    /// To `Stats`.
    #[prost(message, tag = "6")]
    Stats(Stats),
    /// To `Pids`.
    #[prost(message, tag = "7")]
    Pids(Pids),
    /// To `GetFile`.
    #[prost(message, tag = "8")]
    File(FileContent),
    /// To `AdjustClock`.
    #[prost(message, tag = "9")]
    Time(Time),
}

/// What happened in the guest, in order.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// What.
    #[prost(oneof = "Happening", tags = "1, 2")]
    pub happening: Option<Happening>,
}

/// What can happen.
#[derive(Clone, PartialEq, Oneof)]
pub enum Happening {
    /// A process ended; all its output was sent before.
    #[prost(message, tag = "1")]
    Exited(Exited),
    /// The kernel killed a process of this container for memory.
    #[prost(message, tag = "2")]
    OutOfMemory(ContainerRef),
}

/// Nothing.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// Why a request failed.
#[derive(Clone, PartialEq, Message)]
pub struct Error {
    /// `errno` where a system call failed, else 0.
    #[prost(int32, tag = "1")]
    pub errno: i32,
    /// The step that failed and on what, for people: it ends up in an event of the pod.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// The first words to a fresh guest: it runs no workload before it has them. Tag 6 was used.
#[derive(Clone, PartialEq, Message)]
pub struct Configure {
    /// [`crate::limits::VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Nanoseconds since 1970, as of sending.
    #[prost(uint64, tag = "2")]
    pub realtime_ns: u64,
    /// 64 bytes for the kernel's random pool (RNDADDENTROPY, then RNDRESEEDCRNG).
    #[prost(bytes = "vec", tag = "3")]
    pub entropy: Vec<u8>,
    /// The pod's host name, at most 63 bytes.
    #[prost(string, tag = "4")]
    pub hostname: String,
    /// Kernel parameters in dotted form, applied before the first container.
    #[prost(message, repeated, tag = "5")]
    pub sysctls: Vec<KeyValue>,
    /// Size of /dev/shm in bytes; 0: half of memory.
    #[prost(uint64, tag = "7")]
    pub shm_bytes: u64,
    /// Ids of the pod's user namespace, if it has one.
    #[prost(message, optional, tag = "8")]
    pub user_ids: Option<UserIds>,
}

/// A range of ids, which are the pod's from 0 on.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UserIds {
    /// The first in the guest, as on the node; at least [`crate::limits::FIRST_USER_ID`].
    #[prost(uint32, tag = "1")]
    pub first: u32,
    /// How many; at most [`crate::limits::MAX_USER_IDS`].
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// By how much the clock is wrong.
#[derive(Clone, PartialEq, Message)]
pub struct AdjustClock {
    /// Nanoseconds to be added; 0 changes nothing.
    #[prost(sint64, tag = "1")]
    pub by_ns: i64,
    /// Nothing runs yet that would mind a leap.
    #[prost(bool, tag = "2")]
    pub at_once: bool,
}

/// The guest's clock, after it was adjusted.
#[derive(Clone, PartialEq, Message)]
pub struct Time {
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "1")]
    pub realtime_ns: u64,
}

/// What makes a clone of a template its own: the agent seeds the kernel with it, sets the clock and executes itself anew; the
/// new one answers.
#[derive(Clone, PartialEq, Message)]
pub struct Wake {
    /// Nanoseconds since 1970, as of sending.
    #[prost(uint64, tag = "1")]
    pub realtime_ns: u64,
    /// 64 bytes for the kernel's random pool (RNDADDENTROPY, then RNDRESEEDCRNG).
    #[prost(bytes = "vec", tag = "2")]
    pub entropy: Vec<u8>,
}

/// The guest is configured.
#[derive(Clone, PartialEq, Message)]
pub struct Ready {
    /// `uname -r`.
    #[prost(string, tag = "1")]
    pub kernel_release: String,
    /// `/proc/sys/kernel/random/boot_id`.
    #[prost(string, tag = "2")]
    pub boot_id: String,
    /// MemTotal in bytes, as of now.
    #[prost(uint64, tag = "3")]
    pub memory_bytes: u64,
}

/// A name and a value.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The pod's network as CNI left it in the pod's namespace on the host.
#[derive(Clone, PartialEq, Message)]
pub struct Network {
    /// Found in the guest by MAC address, then named `name`.
    #[prost(message, repeated, tag = "1")]
    pub interfaces: Vec<Interface>,
    /// In the order in which they must be added.
    #[prost(message, repeated, tag = "2")]
    pub routes: Vec<Route>,
    /// Permanent neighbour entries.
    #[prost(message, repeated, tag = "3")]
    pub neighbours: Vec<Neighbour>,
}

/// A network interface.
#[derive(Clone, PartialEq, Message)]
pub struct Interface {
    /// For example `eth0`, at most 15 bytes.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Six bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub mac: Vec<u8>,
    /// In bytes.
    #[prost(uint32, tag = "3")]
    pub mtu: u32,
    /// With prefix length: `10.244.0.7/24`. IPv6 addresses are added with `nodad`.
    #[prost(string, repeated, tag = "4")]
    pub addresses: Vec<String>,
}

/// A route.
#[derive(Clone, PartialEq, Message)]
pub struct Route {
    /// `10.0.0.0/8`; empty: default.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// Gateway address; empty: on link.
    #[prost(string, tag = "2")]
    pub gateway: String,
    /// Interface name.
    #[prost(string, tag = "3")]
    pub interface: String,
    /// RT_SCOPE_*.
    #[prost(uint32, tag = "4")]
    pub scope: u32,
    /// IPv6 when destination and gateway don't say it.
    #[prost(bool, tag = "5")]
    pub ipv6: bool,
    /// Preferred source address; empty: none.
    #[prost(string, tag = "6")]
    pub source: String,
    /// Metric; 0: none.
    #[prost(uint32, tag = "7")]
    pub metric: u32,
    /// Route MTU; 0: the interface's.
    #[prost(uint32, tag = "8")]
    pub mtu: u32,
}

/// A permanent neighbour.
#[derive(Clone, PartialEq, Message)]
pub struct Neighbour {
    /// Address.
    #[prost(string, tag = "1")]
    pub address: String,
    /// Six bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub mac: Vec<u8>,
    /// Interface name.
    #[prost(string, tag = "3")]
    pub interface: String,
}

/// Where a hot-added disk is: LUN of SCSI target `target` on the one virtio-scsi controller. The agent scans for exactly it.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Disk {
    /// SCSI id, 0 to 255.
    #[prost(uint32, tag = "1")]
    pub target: u32,
    /// LUN, 0 to 16383.
    #[prost(uint32, tag = "2")]
    pub lun: u32,
}

/// A container by its id.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerRef {
    /// Container id, `[A-Za-z0-9_.-]`, at most 128 bytes.
    #[prost(string, tag = "1")]
    pub container: String,
}

/// A process by its container and exec id.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessRef {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Exec id; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// A volume by its id.
#[derive(Clone, PartialEq, Message)]
pub struct VolumeRef {
    /// Volume id, `[A-Za-z0-9_.-]`, at most 128 bytes.
    #[prost(string, tag = "1")]
    pub volume: String,
}

/// A volume of the pod.
#[derive(Clone, PartialEq, Message)]
pub struct AddVolume {
    /// Volume id.
    #[prost(string, tag = "1")]
    pub volume: String,
    /// Mode of the volume's root, permission bits with setgid and sticky.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Owner of the volume's root.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Group of the volume's root.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// What it is made of.
    #[prost(oneof = "Medium", tags = "5, 6, 7, 8, 9, 10")]
    pub medium: Option<Medium>,
    /// In a pod with a user namespace its ids are not mapped: they are the pod's only if they are of that namespace's range.
    #[prost(bool, tag = "11")]
    pub unmapped: bool,
}

/// What a volume is made of.
#[derive(Clone, PartialEq, Oneof)]
pub enum Medium {
    /// An ext4 disk that already has a file system (emptyDir).
    #[prost(message, tag = "5")]
    Ext4(Disk),
    /// A tmpfs (emptyDir with medium Memory).
    #[prost(message, tag = "6")]
    Tmpfs(Tmpfs),
    /// A directory filled by `PutEntries` (configMap, secret, projected, downwardAPI).
    #[prost(message, tag = "7")]
    Tree(Empty),
    /// One file filled by `PutEntries` (hosts, resolv.conf, termination log).
    #[prost(message, tag = "8")]
    File(Empty),
    /// A raw block device (volumeDevices).
    #[prost(message, tag = "9")]
    Block(Disk),
    /// Files of the node, by FUSE over the port [`crate::limits::FILES_PORT`] with the volume's id. Its root is as the node has it:
    /// mode and owners of the request mean nothing.
    #[prost(message, tag = "10")]
    Files(Files),
}

/// Files of the node.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Files {
    /// It is one file, no folder.
    #[prost(bool, tag = "1")]
    pub is_file: bool,
}

/// A tmpfs.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Tmpfs {
    /// In bytes; 0: half of memory.
    #[prost(uint64, tag = "1")]
    pub size: u64,
}

/// Files for a Tree or File volume.
#[derive(Clone, PartialEq, Message)]
pub struct PutEntries {
    /// Volume id.
    #[prost(string, tag = "1")]
    pub volume: String,
    /// In order: a directory before what is in it. For a File volume one entry with an empty path.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<PutEntry>,
    /// More pieces follow. Only the last one makes the new tree visible: files appear at once and whole, and a
    /// `..data` symlink is swapped by rename last.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// One file, directory or link.
#[derive(Clone, PartialEq, Message)]
pub struct PutEntry {
    /// Below the volume's root, without `..` and without a leading `/`.
    #[prost(string, tag = "1")]
    pub path: String,
    /// st_mode: type (S_IFDIR, S_IFREG or S_IFLNK) and permission bits.
    #[prost(uint32, tag = "2")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "3")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "4")]
    pub gid: u32,
    /// Content of a file at `offset`, or a link's target.
    #[prost(bytes = "vec", tag = "5")]
    pub data: Vec<u8>,
    /// Where `data` goes.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
}

/// Read a File volume.
#[derive(Clone, PartialEq, Message)]
pub struct GetFile {
    /// Volume id.
    #[prost(string, tag = "1")]
    pub volume: String,
    /// At most so many bytes, from the start.
    #[prost(uint32, tag = "2")]
    pub limit: u32,
}

/// A file's content.
#[derive(Clone, PartialEq, Message)]
pub struct FileContent {
    /// The bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
}

/// A container to be.
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainer {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Its root file system.
    #[prost(message, optional, tag = "2")]
    pub rootfs: Option<Rootfs>,
    /// In order, as in the OCI spec.
    #[prost(message, repeated, tag = "3")]
    pub mounts: Vec<Mount>,
    /// Paths that are shown empty.
    #[prost(string, repeated, tag = "4")]
    pub masked_paths: Vec<String>,
    /// Paths that are made read-only.
    #[prost(string, repeated, tag = "5")]
    pub readonly_paths: Vec<String>,
    /// Limits.
    #[prost(message, optional, tag = "6")]
    pub resources: Option<Resources>,
    /// Devices to make in /dev besides the usual ones.
    #[prost(message, repeated, tag = "7")]
    pub devices: Vec<Device>,
    /// Device rules of the container's cgroup are as for a privileged container: every device of the guest.
    #[prost(bool, tag = "8")]
    pub privileged: bool,
    /// Its processes are in the pod's one pid namespace (shareProcessNamespace), made with the first such container.
    #[prost(bool, tag = "9")]
    pub share_pids: bool,
    /// Its processes are in this running container's pid namespace (a debug container's target); empty: not so.
    #[prost(string, tag = "10")]
    pub pids_of: String,
}

/// A root file system: read-only layers under one writable disk.
#[derive(Clone, PartialEq, Message)]
pub struct Rootfs {
    /// erofs disks, the topmost layer first (overlayfs order); at least one.
    #[prost(message, repeated, tag = "1")]
    pub layers: Vec<Disk>,
    /// ext4 disk for changes.
    #[prost(message, optional, tag = "2")]
    pub writable: Option<Disk>,
    /// Mount it read-only for the container (readOnlyRootFilesystem).
    #[prost(bool, tag = "3")]
    pub readonly: bool,
}

/// A mount of a container.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Where, in the container. Resolved below its root, links included.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// A volume's id; empty: a file system of type `fs_type`.
    #[prost(string, tag = "2")]
    pub volume: String,
    /// Below the volume's root; resolved there, links may not leave it.
    #[prost(string, tag = "3")]
    pub sub_path: String,
    /// proc, sysfs, tmpfs, devpts, mqueue, cgroup2 (also sent for a host's cgroup v1).
    #[prost(string, tag = "4")]
    pub fs_type: String,
    /// As in the OCI spec: ro, nosuid, nodev, noexec, relatime, size=…, mode=…; unknown ones are refused by name.
    #[prost(string, repeated, tag = "5")]
    pub options: Vec<String>,
}

/// A device node.
#[derive(Clone, PartialEq, Message)]
pub struct Device {
    /// Absolute path in the container.
    #[prost(string, tag = "1")]
    pub path: String,
    /// The Block volume it shows.
    #[prost(string, tag = "2")]
    pub volume: String,
    /// Permission bits.
    #[prost(uint32, tag = "3")]
    pub mode: u32,
    /// Owner.
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    /// Group.
    #[prost(uint32, tag = "5")]
    pub gid: u32,
}

/// Limits of a container; 0 (or -1 where negative is said): none.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Resources {
    /// memory.max in bytes.
    #[prost(uint64, tag = "1")]
    pub memory: u64,
    /// CFS quota in microseconds a period; 0: none.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// CFS period in microseconds.
    #[prost(uint64, tag = "3")]
    pub cpu_period: u64,
    /// cgroup v1 shares (2 to 262144), turned into cpu.weight by the agent.
    #[prost(uint64, tag = "4")]
    pub cpu_shares: u64,
    /// pids.max.
    #[prost(int64, tag = "5")]
    pub pids: i64,
    /// memory.oom.group: want of memory ends the whole container, not one process.
    #[prost(bool, tag = "6")]
    pub oom_group: bool,
}

/// A process to start.
#[derive(Clone, PartialEq, Message)]
pub struct StartProcess {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Exec id; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Program and arguments; the program is looked up in PATH below the container's root.
    #[prost(string, repeated, tag = "3")]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[prost(string, repeated, tag = "4")]
    pub env: Vec<String>,
    /// Working directory, absolute; made if missing.
    #[prost(string, tag = "5")]
    pub cwd: String,
    /// Identity.
    #[prost(uint32, tag = "6")]
    pub uid: u32,
    /// Primary group.
    #[prost(uint32, tag = "7")]
    pub gid: u32,
    /// Further groups.
    #[prost(uint32, repeated, tag = "8")]
    pub groups: Vec<u32>,
    /// File mode mask; 0o22 if unset.
    #[prost(uint32, optional, tag = "9")]
    pub umask: Option<u32>,
    /// Capability sets as bit masks, bit n is capability n.
    #[prost(message, optional, tag = "10")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[prost(message, repeated, tag = "11")]
    pub rlimits: Vec<Rlimit>,
    /// PR_SET_NO_NEW_PRIVS.
    #[prost(bool, tag = "12")]
    pub no_new_privileges: bool,
    /// OOM score adjustment.
    #[prost(int32, tag = "13")]
    pub oom_score_adj: i32,
    /// A terminal; its bytes come on `stdout`, go in on `stdin`, and there is no stderr.
    #[prost(bool, tag = "14")]
    pub terminal: bool,
    /// First size of the terminal.
    #[prost(uint32, tag = "15")]
    pub columns: u32,
    /// First size of the terminal.
    #[prost(uint32, tag = "16")]
    pub rows: u32,
    /// Stream numbers chosen by the shim, 0: none (reads nothing, writes nowhere).
    #[prost(uint32, tag = "17")]
    pub stdin: u32,
    /// As `stdin`.
    #[prost(uint32, tag = "18")]
    pub stdout: u32,
    /// As `stdin`.
    #[prost(uint32, tag = "19")]
    pub stderr: u32,
    /// A classic BPF seccomp program (struct sock_filter, 8 bytes each), compiled by the shim; empty: none.
    #[prost(bytes = "vec", tag = "20")]
    pub seccomp: Vec<u8>,
}

/// Capability sets.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Capabilities {
    /// Bounding set.
    #[prost(uint64, tag = "1")]
    pub bounding: u64,
    /// Effective set.
    #[prost(uint64, tag = "2")]
    pub effective: u64,
    /// Permitted set.
    #[prost(uint64, tag = "3")]
    pub permitted: u64,
    /// Inheritable set.
    #[prost(uint64, tag = "4")]
    pub inheritable: u64,
    /// Ambient set.
    #[prost(uint64, tag = "5")]
    pub ambient: u64,
}

/// A resource limit.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Rlimit {
    /// RLIMIT_* number of Linux on x86-64.
    #[prost(uint32, tag = "1")]
    pub resource: u32,
    /// Soft limit.
    #[prost(uint64, tag = "2")]
    pub soft: u64,
    /// Hard limit.
    #[prost(uint64, tag = "3")]
    pub hard: u64,
}

/// A process runs.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Started {
    /// Its pid in the guest.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// A process ended.
#[derive(Clone, PartialEq, Message)]
pub struct Exited {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Exec id; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Exit code, or 128 + signal.
    #[prost(uint32, tag = "3")]
    pub status: u32,
    /// Nanoseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub at_ns: u64,
}

/// Send a signal.
#[derive(Clone, PartialEq, Message)]
pub struct Signal {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Exec id; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Signal number.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// To every process of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// New size of a terminal.
#[derive(Clone, PartialEq, Message)]
pub struct Resize {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// Exec id; empty: the container's init.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub columns: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub rows: u32,
}

/// Figures of a container's cgroup.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Stats {
    /// cpu.stat usage_usec.
    #[prost(uint64, tag = "1")]
    pub cpu_usage_us: u64,
    /// cpu.stat user_usec.
    #[prost(uint64, tag = "2")]
    pub cpu_user_us: u64,
    /// cpu.stat system_usec.
    #[prost(uint64, tag = "3")]
    pub cpu_system_us: u64,
    /// memory.current in bytes.
    #[prost(uint64, tag = "4")]
    pub memory_bytes: u64,
    /// memory.stat inactive_file in bytes (working set = current - this).
    #[prost(uint64, tag = "5")]
    pub inactive_file_bytes: u64,
    /// memory.max in bytes, 0: none.
    #[prost(uint64, tag = "6")]
    pub memory_limit_bytes: u64,
    /// pids.current.
    #[prost(uint64, tag = "7")]
    pub pids: u64,
    /// memory.events oom_kill.
    #[prost(uint64, tag = "8")]
    pub oom_kills: u64,
    /// memory.stat anon in bytes.
    #[prost(uint64, tag = "9")]
    pub anon_bytes: u64,
    /// memory.stat pgfault.
    #[prost(uint64, tag = "10")]
    pub page_faults: u64,
    /// memory.stat pgmajfault.
    #[prost(uint64, tag = "11")]
    pub major_page_faults: u64,
}

/// Processes of a container.
#[derive(Clone, PartialEq, Message)]
pub struct Pids {
    /// Guest pids.
    #[prost(uint32, repeated, tag = "1")]
    pub pids: Vec<u32>,
}

/// New limits.
#[derive(Clone, PartialEq, Message)]
pub struct Update {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// All of them, not a difference.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Resources>,
}

/// Connect to a server of the pod. Both streams are of one connection; an `Eof` on `input` closes its sending side.
#[derive(Clone, PartialEq, Message)]
pub struct Dial {
    /// TCP port on 127.0.0.1, or where nobody listens there, on ::1.
    #[prost(uint32, tag = "1")]
    pub port: u32,
    /// Stream to the server, not 0.
    #[prost(uint32, tag = "2")]
    pub input: u32,
    /// Stream from the server, not 0.
    #[prost(uint32, tag = "3")]
    pub output: u32,
}

/// Stop or go on.
#[derive(Clone, PartialEq, Message)]
pub struct Freeze {
    /// Container id.
    #[prost(string, tag = "1")]
    pub container: String,
    /// True: stop.
    #[prost(bool, tag = "2")]
    pub frozen: bool,
}
