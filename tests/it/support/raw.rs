//! WebSocket by hand: frames with any bits, lengths and masks, for what no library would send.
//! Must never repair what it was told to send. Called by the tests of hostile input.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::Server;
use super::waiting::{SOON, within};

/// The first byte of a frame: FIN and the opcode.
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// Opcodes without FIN.
pub(crate) const TEXT_PART: u8 = 0x01;
pub(crate) const PART: u8 = 0x00;
pub(crate) const LAST_PART: u8 = 0x80;

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A TCP connection that has been upgraded.
#[derive(Debug)]
pub(crate) struct RawSocket {
    stream: TcpStream,
    buffer: BytesMut,
    /// The server reset it, which on some systems takes away what it had sent before.
    pub(crate) was_reset: bool,
}

impl RawSocket {
    /// Connects and upgrades, no hello yet.
    pub(crate) async fn connect(server: &Server) -> RawSocket {
        RawSocket::connect_at(server.listen).await
    }

    /// As `connect`, to any address, such as a balancer's.
    pub(crate) async fn connect_at(to: SocketAddr) -> RawSocket {
        let mut socket = RawSocket::dial_at(to).await;
        let upgrade = "GET /v1/ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        socket.bytes(upgrade.as_bytes()).await;
        socket.upgraded().await;
        socket
    }

    /// Connects, and does not even upgrade.
    pub(crate) async fn dial(server: &Server) -> RawSocket {
        RawSocket::dial_at(server.listen).await
    }

    async fn dial_at(to: SocketAddr) -> RawSocket {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        RawSocket { stream, buffer: BytesMut::new(), was_reset: false }
    }

    /// Reads the answer of an upgrade that must succeed.
    pub(crate) async fn upgraded(&mut self) {
        let head = within(SOON, "the upgrade is answered", self.head()).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }

    /// As `connect`, then joins `code` and swallows the welcome.
    pub(crate) async fn join(server: &Server, code: &str) -> RawSocket {
        RawSocket::join_at(server.listen, code).await
    }

    /// As `join`, at any address.
    pub(crate) async fn join_at(to: SocketAddr, code: &str) -> RawSocket {
        let mut socket = RawSocket::connect_at(to).await;
        socket.text(&format!(r#"{{"type":"hello","code":"{code}"}}"#)).await;
        let (first, welcome) = socket.frame().await.unwrap();
        let text = String::from_utf8_lossy(&welcome).into_owned();
        assert!(first == TEXT && text.contains(r#""type":"welcome""#), "{first:#x} {text}");
        socket
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.split_to(at + 4).to_vec()).unwrap();
            }
            assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "no answer");
        }
    }

    /// Sends bytes as they are. A server that has closed already is no fault of the test.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let sent = within(SOON, "sending", self.stream.write_all(bytes)).await;
        self.was_reset |= sent.is_err();
    }

    /// Sends one well-formed frame.
    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) {
        self.bytes(&frame(first, payload)).await;
    }

    /// Sends one text message.
    pub(crate) async fn text(&mut self, text: &str) {
        self.send(TEXT, text.as_bytes()).await;
    }

    /// The next frame's first byte and payload; nothing once the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        self.frame_within(SOON).await
    }

    /// As `frame`, with a deadline in seconds.
    pub(crate) async fn frame_within(&mut self, seconds: u64) -> Option<(u8, Vec<u8>)> {
        within(seconds, "a frame or the end", async {
            loop {
                if let Some(frame) = self.parse() {
                    return Some(frame);
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) => {
                        let error = self.stream.take_error().unwrap();
                        self.was_reset |= error.is_some();
                        return None;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        self.was_reset = true;
                        return None;
                    }
                }
            }
        })
        .await
    }

    /// The next frame with this first byte.
    pub(crate) async fn frame_of(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            match self.frame().await {
                Some((first, payload)) if first == wanted => return payload,
                Some(_) => {}
                None => panic!("ended, waiting for a frame {wanted:#x}"),
            }
        }
    }

    /// The next message of a type.
    pub(crate) async fn message(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let message: serde_json::Value =
                serde_json::from_slice(&self.frame_of(TEXT).await).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// Reads to the end; the code of the close frame, if one came.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some((first, payload)) = self.frame().await {
            if first == CLOSE && code.is_none() {
                code = Some(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code)));
                self.send(CLOSE, payload.get(..2).unwrap_or_default()).await;
            }
        }
        code
    }

    fn parse(&mut self) -> Option<(u8, Vec<u8>)> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return None };
        assert_eq!(second & 0x80, 0, "the server masked a frame");
        let (head, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap()),
            short => (2, usize::from(*short)),
        };
        let first = *first;
        if self.buffer.len() < head + length {
            return None;
        }
        self.buffer.advance(head);
        Some((first, self.buffer.split_to(length).to_vec()))
    }
}

/// A masked frame whose head tells the truth.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The head of a masked frame of any length, true or not.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}
