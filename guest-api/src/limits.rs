//! Every bound of the contract, each with its reason.

/// Version of the contract; the agent refuses another one. A bundle always carries both sides, so there is no negotiation.
pub const VERSION: u32 = 1;

/// Lowest id of the guest that a pod's user namespace may map to; those below are the guest's own. The kubelet gives no lower ones.
pub const FIRST_USER_ID: u32 = 65_536;

/// Most ids of a user namespace; the kubelet gives a pod 65536, or a multiple of it (`userNamespaces.idsPerPod`).
pub const MAX_USER_IDS: u32 = 1 << 30;

/// Name of the virtio-serial port; the agent finds it as `/sys/class/virtio-ports/*/name`.
pub const PORT_NAME: &str = "dev.freehold.agent";

/// Begin of the names of ports of volumes with files, before the id of the volume. What is on such a port are the messages of FUSE.
pub const FILES_PORT: &str = "dev.freehold.files.";

/// Volumes with files of one pod: each has a port of its own, whose ring takes 512 KiB of the guest's memory.
pub const MAX_FILE_VOLUMES: usize = 14;

/// Most bytes of one read or write of a volume with files: 32 pages, what the kernel asks for unless it is told to ask for more.
pub const MAX_FILE_DATA: usize = 128 * 1024;

/// Longest request of FUSE: data, a header of 40 and a body of at most 88 bytes, or two names of 255; the kernel's own buffer has a page.
pub const MAX_FILE_REQUEST: usize = MAX_FILE_DATA + 4096;

/// Longest reply of FUSE: data and a header of 16 bytes, with room to spare.
pub const MAX_FILE_REPLY: usize = MAX_FILE_DATA + 1024;

/// Largest payload of a frame in bytes. It fits in `len: u16`, and a control frame never waits behind more than this.
pub const MAX_PAYLOAD: usize = 32 * 1024;

/// Largest control message in bytes. A process with the kernel's largest usual environment (128 KiB a string, many of
/// them) and a file chunk of [`MAX_CHUNK`] fit.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// Largest piece of a file in one [`crate::message::PutEntry`]; larger files come in pieces.
pub const MAX_CHUNK: usize = 256 * 1024;

/// Bytes that may be under way to a receiver of one stream before it grants more. Two pipes' worth: enough to hide the
/// 0.2 ms round trip, small enough that hundreds of streams stay within a small guest's memory.
pub const WINDOW: usize = 128 * 1024;

/// Streams open at once, counted on either side: three a process, [`MAX_PROCESSES`] processes.
pub const MAX_STREAMS: usize = 3 * MAX_PROCESSES;

/// Processes (container inits and execs) known to the agent at once.
pub const MAX_PROCESSES: usize = 512;

/// Containers of one pod at once.
pub const MAX_CONTAINERS: usize = 128;

/// Requests under way at once; the shim waits beyond that, the agent refuses.
pub const MAX_REQUESTS: usize = 64;

/// Events that the agent may have unacknowledged; it stops reaping beyond that rather than grow.
pub const MAX_EVENTS: usize = 1024;
