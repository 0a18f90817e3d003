//! WebSocket frames (RFC 6455), the server's side: unmasks and reassembles what clients send, writes headers. Owns the
//! bytes of an incomplete frame or message and nothing else, so an idle connection holds no buffer.
//! Never buffers more than one message of [`MESSAGE_BYTES_MAX`]. Called by `ws`, and by `feed` to write; see
//! `docs/decisions/2026-11-24-own-frame-reader.md` for why not `fastwebsockets`' reader.

use std::ops::ControlFlow;

use bytes::{BufMut, Bytes, BytesMut};

use super::Close;
use crate::limits::{EMPTY_FRAGMENTS_MAX, FRAMES_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX};
use crate::mutation::mutation;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTROL_BYTES_MAX: usize = 125;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole text message; UTF-8 is checked. In place, so that it can be parsed in place.
    Text(&'a mut [u8]),
    /// The beginning of a binary message, which this protocol does not have.
    Binary,
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping of ours, or unasked for.
    Pong,
    /// The client closes.
    Close,
}

/// The client's frames, one after another.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of a frame that is not complete yet.
    held: Vec<u8>,
    /// Payloads of a message whose last fragment has not come yet.
    fragments: Vec<u8>,
    /// Such a message has begun.
    is_fragmented: bool,
    empty_fragments: usize,
    /// Those that bring no byte of a message nearer.
    frames_since_message: usize,
}

struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    length: usize,
    payload_at: usize,
}

impl Decoder {
    /// Takes what was read and hands on every whole message in it, until `each` breaks; what follows is kept, and comes
    /// with the next call, which may feed nothing new.
    ///
    /// # Errors
    /// The close code that the client has earned. Nothing more may be fed after that.
    pub fn feed(
        &mut self,
        read: &mut [u8],
        mut each: impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<(), Close> {
        if self.held.is_empty() {
            let used = self.frames(read, &mut each)?;
            self.held.extend_from_slice(read.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(read);
        let used = self.frames(&mut held, &mut each)?;
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        Ok(())
    }

    /// Handles every whole frame in `bytes`; says how many bytes they took.
    fn frames(
        &mut self,
        bytes: &mut [u8],
        each: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Close> {
        let mut used = 0;
        while let Some(header) = Header::read(bytes.get(used..).unwrap_or_default())? {
            if header.opcode < CLOSE && self.fragments.len() + header.length > MESSAGE_BYTES_MAX {
                return Err(Close::TooLarge);
            }
            let from = used + header.payload_at;
            let Some(payload) = bytes.get_mut(from..from + header.length) else { break };
            fastwebsockets::unmask(payload, header.mask);
            used = from + header.length;
            if self.frame(&header, payload, each)?.is_break() {
                mutation!("read_on_after_close", continue);
                break; // the rest is kept for the next call
            }
        }
        Ok(used)
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: &mut [u8],
        each: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Close> {
        self.frames_since_message += usize::from(header.opcode >= CLOSE || payload.is_empty());
        if self.frames_since_message > FRAMES_PER_MESSAGE_MAX {
            return Err(Close::TooMany);
        }
        mutation!(
            "fragments_mix",
            if header.opcode == TEXT && header.fin {
                return self.message(payload, each);
            }
        );
        match header.opcode {
            TEXT if self.is_fragmented => Err(Close::Protocol),
            TEXT if header.fin => self.message(payload, each),
            TEXT | CONTINUATION => self.fragment(header, payload, each),
            BINARY if self.is_fragmented => Err(Close::Protocol),
            BINARY => Ok(each(Incoming::Binary)),
            PING => Ok(each(Incoming::Ping(payload))),
            PONG => Ok(each(Incoming::Pong)),
            _ => close_payload(payload).map(|()| each(Incoming::Close)),
        }
    }

    fn fragment(
        &mut self,
        header: &Header,
        payload: &[u8],
        each: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Close> {
        if header.opcode == CONTINUATION && !self.is_fragmented {
            mutation!("continues_nothing", return self.message(&mut payload.to_vec(), each));
            return Err(Close::Protocol);
        }
        // Those with a payload are bounded by its length.
        self.empty_fragments += usize::from(payload.is_empty());
        if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
            return Err(Close::TooLarge);
        }
        self.is_fragmented = true;
        self.fragments.extend_from_slice(payload);
        if !header.fin {
            return Ok(ControlFlow::Continue(()));
        }
        (self.is_fragmented, self.empty_fragments) = (false, 0);
        let mut message = std::mem::take(&mut self.fragments);
        self.message(&mut message, each)
    }

    fn message(
        &mut self,
        payload: &mut [u8],
        each: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Close> {
        self.frames_since_message = 0;
        mutation!("any_bytes_are_text", return Ok(each(Incoming::Text(payload))));
        std::str::from_utf8(payload).map_err(|_| Close::NotUtf8)?;
        Ok(each(Incoming::Text(payload)))
    }

    /// Forgives the control frames counted so far; called when the client is heard again after the server's own ping.
    pub fn forgive(&mut self) {
        self.frames_since_message = 0;
    }
}

impl Header {
    /// `None` while bytes are missing.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Close> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        mutation!(
            "reserved_bits_pass",
            if first & 0x70 != 0 {
                return Self::read(&[&[first & !0x70, second], rest].concat());
            }
        );
        let opcode = first & 0x0F;
        let fin = first & FIN != 0;
        let control = opcode >= CLOSE;
        let short = usize::from(second & 0x7F);
        if first & 0x70 != 0
            || second & MASKED == 0
            || matches!(opcode, 0x3..=0x7 | 0xB..)
            || (control && (!fin || short > CONTROL_BYTES_MAX))
        {
            return Err(Close::Protocol);
        }
        let (length, extended) = match (short, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (127, &[a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (short as u64, 0),
        };
        if (extended == 2 && length < 126) || (extended == 8 && length <= u64::from(u16::MAX)) {
            return Err(Close::Protocol); // not the shortest form
        }
        let length = usize::try_from(length).map_err(|_| Close::TooLarge)?;
        if length > MESSAGE_BYTES_MAX {
            return Err(Close::TooLarge);
        }
        let Some(&[a, b, c, d]) = rest.get(extended..extended + 4) else { return Ok(None) };
        Ok(Some(Self { fin, opcode, mask: [a, b, c, d], length, payload_at: 2 + extended + 4 }))
    }
}

fn close_payload(payload: &[u8]) -> Result<(), Close> {
    mutation!("any_close_code", return Ok(()));
    let Some((&[a, b], reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(()) } else { Err(Close::Protocol) };
    };
    match u16::from_be_bytes([a, b]) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(Close::Protocol),
    }
    std::str::from_utf8(reason).map(|_| ()).map_err(|_| Close::NotUtf8)
}

/// One text frame with `parts` as its payload, one after another.
#[must_use]
pub fn text(parts: &[&[u8]]) -> Bytes {
    write(TEXT, parts)
}

/// A pong with the bytes of its ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    write(PONG, &[payload])
}

/// A ping. Empty: nobody needs to tell two of them apart.
#[must_use]
pub fn ping() -> Bytes {
    Bytes::from_static(&[FIN | PING, 0])
}

/// A close frame with its code and reason.
#[must_use]
pub fn close(code: Close) -> Bytes {
    write(CLOSE, &[&code.number().to_be_bytes(), code.reason().as_bytes()])
}

/// How many bytes the header of a server's frame of `length` bytes has.
#[must_use]
pub const fn header_bytes(length: usize) -> usize {
    match length {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    }
}

fn write(opcode: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(header_bytes(length) + length);
    frame.put_u8(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.put_u8(short),
        (_, Ok(medium)) => {
            frame.put_u8(126);
            frame.put_u16(medium);
        }
        _ => {
            frame.put_u8(127);
            frame.put_u64(length as u64);
        }
    }
    for part in parts {
        frame.put_slice(part);
    }
    frame.freeze()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
