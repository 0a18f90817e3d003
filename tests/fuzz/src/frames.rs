//! RFC 6455 read a second time, slowly: a whole stream of a client's bytes at once, nothing in place, no state between calls.
//! Also writes a client's frames, right and wrong ones. Called by `targets/frames.rs`.

use plenum::limits::{EMPTY_FRAGMENTS_MAX, FRAMES_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX};
use plenum::wire::Close;

use crate::Input;

/// Bytes after which no more frames are written: a message at its limit and some more.
const LONGEST: usize = MESSAGE_BYTES_MAX + 4 * 1024;

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Text(Vec<u8>),
    Binary,
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// A frame whose bytes are all there.
struct Whole {
    fin: bool,
    opcode: u8,
    payload: Vec<u8>,
    bytes: usize,
}

/// The frame at the beginning of `bytes`: `Ok(None)` while some of it is missing. `kept`: bytes of the message so far.
fn frame(bytes: &[u8], kept: usize) -> Result<Option<Whole>, Close> {
    if bytes.len() < 2 {
        return Ok(None);
    }
    let (fin, reserved, opcode) = (bytes[0] >= 0x80, bytes[0] >> 4 & 7, bytes[0] & 15);
    let (masked, short) = (bytes[1] >= 0x80, usize::from(bytes[1] & 127));
    let control = opcode >= 8;
    if reserved != 0 || !masked || ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return Err(Close::Protocol);
    }
    if control && !(fin && short <= 125) {
        return Err(Close::Protocol);
    }
    let extra =
        [(126, 2), (127, 8)].into_iter().find(|(mark, _)| *mark == short).map_or(0, |(_, n)| n);
    if bytes.len() < 2 + extra {
        return Ok(None);
    }
    let said = bytes[2..2 + extra].iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let length = if extra == 0 { short as u64 } else { said };
    if extra == 2 && length <= 125 || extra == 8 && length <= 65_535 {
        return Err(Close::Protocol); // 5.2: "the minimal number of bytes MUST be used"
    }
    if length > MESSAGE_BYTES_MAX as u64 {
        return Err(Close::TooLarge);
    }
    let (length, head) = (length as usize, 2 + extra + 4);
    if bytes.len() < head {
        return Ok(None);
    }
    if !control && kept + length > MESSAGE_BYTES_MAX {
        return Err(Close::TooLarge);
    }
    let Some(masked) = bytes.get(head..head + length) else { return Ok(None) };
    let mask = &bytes[head - 4..head];
    let payload = masked.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
    Ok(Some(Whole { fin, opcode, payload, bytes: head + length }))
}

/// What the bytes say, and how the connection stands after them.
pub fn read(mut bytes: &[u8]) -> (Vec<Said>, Result<(), Close>) {
    let (mut said, mut parts) = (Vec::new(), None::<(Vec<u8>, usize)>);
    let mut without_message = 0;
    loop {
        let kept = parts.as_ref().map_or(0, |(text, _)| text.len());
        let frame = match frame(bytes, kept) {
            Ok(Some(frame)) => frame,
            Ok(None) => return (said, Ok(())),
            Err(close) => return (said, Err(close)),
        };
        bytes = &bytes[frame.bytes..];
        without_message += usize::from(frame.opcode >= 8 || frame.payload.is_empty());
        if without_message > FRAMES_PER_MESSAGE_MAX {
            return (said, Err(Close::TooMany));
        }
        let close = match (frame.opcode, parts.is_some()) {
            (0, false) | (1 | 2, true) => Some(Close::Protocol),
            (0 | 1, _) => {
                let (mut text, mut count) = parts.take().unwrap_or_default();
                text.extend(&frame.payload);
                count += usize::from(frame.payload.is_empty());
                match (frame.fin, std::str::from_utf8(&text)) {
                    // A message in one frame is no fragment.
                    _ if count > EMPTY_FRAGMENTS_MAX => Some(Close::TooLarge),
                    (false, _) => {
                        parts = Some((text, count));
                        None
                    }
                    (true, Err(_)) => Some(Close::NotUtf8),
                    (true, Ok(_)) => {
                        without_message = 0;
                        said.push(Said::Text(text));
                        None
                    }
                }
            }
            (2, _) => {
                said.push(Said::Binary);
                None
            }
            (9, _) => {
                said.push(Said::Ping(frame.payload));
                None
            }
            (10, _) => {
                said.push(Said::Pong);
                None
            }
            _ => match closing(&frame.payload) {
                Ok(()) => {
                    said.push(Said::Close);
                    None
                }
                Err(close) => Some(close),
            },
        };
        if let Some(close) = close {
            return (said, Err(close));
        }
    }
}

/// 5.5.1 and 7.4: nothing, or a code that may be sent and a reason in UTF-8.
fn closing(payload: &[u8]) -> Result<(), Close> {
    match payload {
        [] => Ok(()),
        [_] => Err(Close::Protocol),
        [high, low, reason @ ..] => {
            let code = u32::from(*high) << 8 | u32::from(*low);
            let never_sent = [1004, 1005, 1006, 1015].contains(&code);
            if code < 1000 || code >= 5000 || (1016..3000).contains(&code) || never_sent {
                Err(Close::Protocol)
            } else if std::str::from_utf8(reason).is_err() {
                Err(Close::NotUtf8)
            } else {
                Ok(())
            }
        }
    }
}

/// Frames as an input describes them, so that few bytes of it make long and many frames: one of 16 KiB takes six.
pub fn written(input: &mut Input<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    while !input.0.is_empty() && wire.len() < LONGEST {
        let (first, shape, times) = (input.byte(), input.byte(), usize::from(input.byte()));
        // The lowest bits say how rare a thing this frame does.
        let payload = match shape & 3 {
            0 => vec![b'a' + (shape >> 4); input.number()],
            1 => input.line().as_bytes().to_vec(),
            2 => input.bytes(times & 15).to_vec(),
            _ => [&input.array::<2>()[..], input.line().as_bytes()].concat(),
        };
        let mask = if shape & 4 == 0 { [1, 2, 3, 0x80] } else { input.array() };
        let form = if shape & 8 == 0 { 0 } else { input.byte() };
        let repeats = if shape & 3 == 2 { 1 } else { 1 + times };
        for _ in 0..repeats {
            write(&mut wire, first, &payload, mask, form);
            if wire.len() > LONGEST {
                break;
            }
        }
    }
    wire
}

/// `form`: 0 writes the length as it must be, others in too long a form or without a mask.
fn write(wire: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4], form: u8) {
    let length = payload.len();
    let masked = if form & 4 == 0 { 0x80 } else { 0 };
    wire.push(first);
    match (form & 3, length) {
        (0, 0..=125) => wire.push(masked | length as u8),
        (0 | 1, 0..=65_535) => {
            wire.push(masked | 126);
            wire.extend((length as u16).to_be_bytes());
        }
        _ => {
            wire.push(masked | 127);
            wire.extend((length as u64).to_be_bytes());
        }
    }
    wire.extend(mask);
    wire.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}
