//! A client's end of a WebSocket, over a pipe: frames of the server in, masked frames out. Knows nothing of their meaning.

use std::io::ErrorKind;

use serde_json::Value;

use crate::socket::Socket;

/// What came.
pub(super) enum Heard {
    /// A message, with its text for those who compare.
    Message(Value),
    /// The server closes, with this code.
    Close(u16),
    /// The connection ended without a word.
    Ended,
}

pub(super) struct Line {
    socket: Socket,
    held: Vec<u8>,
}

impl Line {
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, held: Vec::new() }
    }

    /// Sends a text message, all of it.
    pub(super) async fn say(&mut self, text: &str) {
        self.send(0x1, text.as_bytes()).await;
    }

    /// Says goodbye as the RFC wants it.
    pub(super) async fn close(&mut self) {
        self.send(0x8, &1_000_u16.to_be_bytes()).await;
    }

    /// Reads while it waits, as every client does: otherwise both ends could wait for each other.
    async fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        let mask = [0x12, 0x34, 0x56, 0x78];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::select! {
                        biased;
                        _ = self.socket.readable() => if !self.fill() { return },
                        _ = self.socket.writable() => {}
                    }
                }
                Err(_) => return, // heard of when it is read
            }
        }
    }

    /// The next thing. Cancel safe.
    pub(super) async fn hear(&mut self) -> Heard {
        loop {
            if let Some((opcode, payload)) = self.frame() {
                match opcode {
                    0x1 => return Heard::Message(serde_json::from_slice(&payload).unwrap()),
                    0x8 => return Heard::Close(u16::from_be_bytes([payload[0], payload[1]])),
                    0x9 => self.pong(&payload),
                    _ => {}
                }
                continue;
            }
            let _ = self.socket.readable().await;
            if !self.fill() {
                return Heard::Ended;
            }
        }
    }

    /// Takes what is there; `false` at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 2_048];
        match self.socket.try_read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.held.extend_from_slice(&buffer[..read]);
                true
            }
        }
    }

    /// Nothing waits for it, and a frame this small fits or is lost, as on a bad network.
    fn pong(&self, payload: &[u8]) {
        let mut frame = vec![0x8A, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        let _ = self.socket.try_write(&frame);
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let held = &self.held;
        let (length, header) = match held.get(1)? {
            126 => (usize::from(u16::from_be_bytes([*held.get(2)?, *held.get(3)?])), 4),
            127 => {
                let bytes: [u8; 8] = held.get(2..10)?.try_into().unwrap();
                (usize::try_from(u64::from_be_bytes(bytes)).unwrap(), 10)
            }
            short => (usize::from(*short), 2),
        };
        let payload = held.get(header..header + length)?.to_vec();
        let opcode = held[0] & 0x0f;
        self.held.drain(..header + length);
        Some((opcode, payload))
    }
}
