//! Bytes from the other side of the port: a decoder ends or goes on, holds no more than a frame, and a message stays what it is.

use freehold_guest_api::frame::{Decoder, HEADER, Kind, encode, message_frames};
use freehold_guest_api::limits::{MAX_MESSAGE, MAX_PAYLOAD};
use freehold_guest_api::message::{Answer, Call, ContainerRef, Dial, Empty, Event, Happening, Reply, Request};
use prost::Message;

/// Frames: each comes out as it went in, however the bytes are cut. The first byte says how.
pub fn frames(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let mut decoder = Decoder::default();
    let mut again = Vec::new();
    let mut broken = false;
    'pieces: for piece in bytes.chunks(usize::from(*cut) + 1) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= MAX_PAYLOAD);
                    encode(&mut again, frame.stream, frame.kind, frame.flags, &frame.payload);
                }
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break 'pieces;
                }
            }
        }
    }
    assert!(bytes.starts_with(&again), "frames that were not sent");
    assert!(broken || bytes.len() - again.len() < HEADER + MAX_PAYLOAD, "more than one frame is held back");
}

/// Control messages: what is read is written and read again as the same.
pub fn messages(bytes: &[u8]) {
    if bytes.len() > MAX_MESSAGE {
        return;
    }
    survives::<Request>(bytes);
    survives::<Reply>(bytes);
    survives::<Event>(bytes);
}

fn survives<M: Message + Default>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let written = message.encode_to_vec();
    // Compared as bytes: a NaN is not equal to itself.
    let read = M::decode(written.as_slice()).expect("what we wrote can be read");
    assert_eq!(read.encode_to_vec(), written, "a message changes from reading to writing");
}

/// One of each direction.
pub fn message_seeds() -> Vec<Vec<u8>> {
    let container = || ContainerRef { container: "main".to_owned() };
    vec![
        Request { id: 1, call: Some(Call::Stats(container())) }.encode_to_vec(),
        Request { id: 2, call: Some(Call::Dial(Dial::default())) }.encode_to_vec(),
        Reply { id: 1, answer: Some(Answer::Done(Empty {})) }.encode_to_vec(),
        Event { happening: Some(Happening::OutOfMemory(container())) }.encode_to_vec(),
    ]
}

/// The same in frames, whole and cut.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let mut out = vec![7];
    for message in message_seeds() {
        message_frames(&mut out, Kind::Reply, &message);
    }
    encode(&mut out, 3, Kind::Data, 0, b"output");
    encode(&mut out, 3, Kind::Credit, 0, &[0, 1, 0, 0]);
    encode(&mut out, 3, Kind::Eof, 0, &[]);
    vec![out]
}
