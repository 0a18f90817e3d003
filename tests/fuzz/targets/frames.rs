//! WebSocket frames: the server's reader against a slow one, whole and cut and interrupted, and what the server writes read
//! back. The first byte of an input says how the rest is meant and cut.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use plenum::limits::MESSAGE_BYTES_MAX;
use plenum::wire::Close;
use plenum::wire::frame::{self, Decoder, Incoming};
use plenum_fuzz::Input;
use plenum_fuzz::frames::{Said, read, written};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (mode, cut) = (input.byte(), input.byte());
    let wire = if mode & 1 == 0 { input.0.to_vec() } else { written(&mut input) };
    let expected = read(&wire);
    assert_eq!(decoded(&wire, usize::MAX, false), expected, "at once");
    let cut = 1 + usize::from(cut);
    assert_eq!(decoded(&wire, cut, mode & 2 != 0), expected, "cut at {cut}");
    for said in expected.0 {
        answered(&said);
    }
});

/// What the server's reader makes of it. `stop`: each message breaks off reading, and the rest is asked for without new bytes.
fn decoded(wire: &[u8], cut: usize, stop: bool) -> (Vec<Said>, Result<(), Close>) {
    let (mut decoder, mut said) = (Decoder::default(), Vec::new());
    for piece in wire.to_vec().chunks_mut(cut) {
        let mut fresh = piece;
        loop {
            let before = said.len();
            let fed = decoder.feed(fresh, |incoming| {
                said.push(owned(incoming));
                if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if fed.is_err() {
                return (said, fed);
            }
            if !stop || said.len() == before {
                break;
            }
            fresh = &mut [];
        }
    }
    (said, Ok(()))
}

fn owned(incoming: Incoming<'_>) -> Said {
    match incoming {
        Incoming::Text(text) => {
            assert!(text.len() <= MESSAGE_BYTES_MAX, "{} bytes", text.len());
            Said::Text(text.to_vec())
        }
        Incoming::Binary => Said::Binary,
        Incoming::Ping(payload) => {
            assert!(payload.len() <= 125, "{} bytes", payload.len());
            Said::Ping(payload.to_vec())
        }
        Incoming::Pong => Said::Pong,
        Incoming::Close => Said::Close,
    }
}

/// What the server would write of the same bytes: one frame, unmasked, its length in the shortest form, nothing changed.
fn answered(said: &Said) {
    let (frame, opcode, payload) = match said {
        Said::Text(text) => {
            let (left, right) = text.split_at(text.len() / 3);
            (frame::text(&[left, right]), 1, text)
        }
        Said::Ping(payload) => (frame::pong(payload), 10, payload),
        _ => return,
    };
    let header = frame::header_bytes(payload.len());
    assert_eq!(frame[0], 0x80 | opcode);
    assert_eq!(frame[header..], payload[..]);
    let length = match header {
        2 => usize::from(frame[1]),
        4 => 126.max(usize::from(u16::from_be_bytes([frame[2], frame[3]]))),
        _ => frame[2..10].iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
    };
    assert_eq!(length, payload.len());
    assert_eq!(header == 2, payload.len() <= 125);
}
