//! The wire contract of shim and guest: frames on one virtio-serial port, and the messages in them.
//!
//! Both sides are written against this crate alone. The bytes come from the other side of a trust boundary (the guest is
//! hostile to the shim; the container is hostile to the agent), so everything here has a bound, and every bound a name in
//! [`limits`]. The crate exists apart from both so that neither can widen the contract alone.
//!
//! ```text
//! port:   frame frame frame …          one port, because each virtio-serial port pins guest memory
//! frame:  stream u32 | kind u8 | flags u8 | len u16 | payload      little endian, 8 byte header
//! stream 0           control: Request / Reply / Event messages (prost), cut into frames, MORE on all but the last
//! stream 1…          bytes of one stdin, stdout or stderr, opened by the shim in a message, with credit per receiver
//! ```
pub mod frame;
pub mod limits;
pub mod message;

pub use frame::{Decoder, Frame, FrameError, Kind};
