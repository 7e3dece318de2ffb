//! Frames: encode, and decode incrementally from a byte stream that may be hostile.
//!
//! The decoder holds at most one frame and never allocates by a length it has not checked.

use crate::limits::MAX_PAYLOAD;

/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// Flag: more frames of the same control message follow.
pub const MORE: u8 = 1;
/// The control stream.
pub const CONTROL: u32 = 0;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Shim to agent on stream 0: a part of a [`crate::message::Request`].
    Request = 1,
    /// Agent to shim on stream 0: a part of a [`crate::message::Reply`].
    Reply = 2,
    /// Agent to shim on stream 0: a part of a [`crate::message::Event`].
    Event = 3,
    /// Bytes of a stream, at least one.
    Data = 4,
    /// Receiver to sender: so many more bytes may be sent (payload: u32, little endian).
    Credit = 5,
    /// Sender to receiver: no more data will come on this stream.
    Eof = 6,
    /// Receiver to sender: nobody reads any more; drop what you have.
    Reset = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Request,
            2 => Kind::Reply,
            3 => Kind::Event,
            4 => Kind::Data,
            5 => Kind::Credit,
            6 => Kind::Eof,
            7 => Kind::Reset,
            _ => return None,
        })
    }
    fn is_control(self) -> bool {
        matches!(self, Kind::Request | Kind::Reply | Kind::Event)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 0 for control, else the stream's number.
    pub stream: u32,
    /// What the payload is.
    pub kind: Kind,
    /// [`MORE`] or 0.
    pub flags: u8,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame. The connection can't go on after any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The kind byte is none of [`Kind`].
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// The length is over [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes, at most {MAX_PAYLOAD} are allowed")]
    Length(usize),
    /// A control kind on a data stream, or the other way round.
    #[error("frame of kind {kind:?} on stream {stream}")]
    Stream {
        /// The kind found.
        kind: Kind,
        /// The stream it was found on.
        stream: u32,
    },
    /// A flag that is not known.
    #[error("frame with unknown flags {0:#x}")]
    Flags(u8),
    /// A credit frame whose payload is not four bytes.
    #[error("credit frame of {0} bytes, must be 4")]
    Credit(usize),
    /// A data frame of nothing: it would cost its sender no credit, and its receiver memory for each.
    #[error("empty data frame")]
    Empty,
}

/// Appends a frame to `out`.
///
/// # Panics
/// If the payload is over [`MAX_PAYLOAD`]: senders cut, see [`message_frames`].
pub fn encode(out: &mut Vec<u8>, stream: u32, kind: Kind, flags: u8, payload: &[u8]) {
    assert!(payload.len() <= MAX_PAYLOAD, "senders cut payloads");
    out.extend_from_slice(&stream.to_le_bytes());
    out.push(kind as u8);
    out.push(flags);
    out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends a whole control message to `out`, cut into frames.
pub fn message_frames(out: &mut Vec<u8>, kind: Kind, message: &[u8]) {
    let mut pieces = message.chunks(MAX_PAYLOAD).peekable();
    if pieces.peek().is_none() {
        encode(out, CONTROL, kind, 0, &[]);
    }
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_some() { MORE } else { 0 };
        encode(out, CONTROL, kind, flags, piece);
    }
}

/// Turns bytes into frames, however they are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Takes bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Nothing is left of what was taken: every byte belonged to a frame that was given.
    pub fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The next whole frame, `None` if more bytes are needed.
    ///
    /// # Errors
    /// If the bytes can't be a frame; the connection is lost then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.start..];
        let Some((header, body)) = rest.split_first_chunk::<HEADER>() else { return Ok(None) };
        let stream = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let kind = Kind::from_byte(header[4]).ok_or(FrameError::Kind(header[4]))?;
        let flags = header[5];
        let len = usize::from(u16::from_le_bytes([header[6], header[7]]));
        if len > MAX_PAYLOAD {
            return Err(FrameError::Length(len));
        }
        if kind.is_control() != (stream == CONTROL) {
            return Err(FrameError::Stream { kind, stream });
        }
        if flags & !MORE != 0 || (flags != 0 && !kind.is_control()) {
            return Err(FrameError::Flags(flags));
        }
        if kind == Kind::Credit && len != 4 {
            return Err(FrameError::Credit(len));
        }
        if kind == Kind::Data && len == 0 {
            return Err(FrameError::Empty);
        }
        if body.len() < len {
            return Ok(None);
        }
        let payload = body[..len].to_vec();
        self.start += HEADER + len;
        Ok(Some(Frame { stream, kind, flags, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 1..20), cut in 1usize..700) {
            let mut bytes = Vec::new();
            for (i, payload) in payloads.iter().enumerate() {
                encode(&mut bytes, i as u32 + 1, Kind::Data, 0, payload);
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.payload);
                }
            }
            prop_assert_eq!(seen, payloads);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn refused_headers() {
        for (bytes, error) in [
            ([0, 0, 0, 0, 9, 0, 0, 0], FrameError::Kind(9)),
            ([0, 0, 0, 0, 4, 0, 0, 0], FrameError::Stream { kind: Kind::Data, stream: 0 }),
            ([1, 0, 0, 0, 1, 0, 0, 0], FrameError::Stream { kind: Kind::Request, stream: 1 }),
            ([1, 0, 0, 0, 4, 1, 0, 0], FrameError::Flags(1)),
            ([0, 0, 0, 0, 1, 2, 0, 0], FrameError::Flags(2)),
            ([1, 0, 0, 0, 4, 0, 1, 0x80], FrameError::Length(0x8001)),
            ([1, 0, 0, 0, 5, 0, 3, 0], FrameError::Credit(3)),
            ([1, 0, 0, 0, 4, 0, 0, 0], FrameError::Empty),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert_eq!(decoder.next_frame(), Err(error), "{bytes:?}");
        }
    }
}
