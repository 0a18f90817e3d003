//! A WebSocket that costs its process next to nothing, for generators that hold many thousands and
//! must not measure themselves: one buffer, one socket, frames read by hand, nothing parsed twice.
//! Must never be more lenient than `socket`: a frame against the protocol is an error.
//! Called by the load generator; tests of the protocol use `socket`, which is of another make.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClientError;
use super::socket::{ConnectOptions, Raw, accept_of, dial};
use super::url::Target;

/// How long connecting and upgrading may take together. A storm of thousands has to fit.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Read from a socket at a time: a welcome is larger, most messages are far smaller.
const READ_BYTES: usize = 2 * 1024;
/// The longest answer to an upgrade.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The longest message: larger than any welcome of 1,000 polls.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// One open WebSocket.
#[derive(Debug)]
pub struct LeanSocket {
    outgoing: Arc<Outgoing>,
    incoming: BytesMut,
    ended: bool,
}

/// What the reader, which answers pings, shares with whoever sends.
#[derive(Debug)]
struct Outgoing {
    stream: TcpStream,
    /// Whole masked frames, but for the first, which may be written in part.
    queued: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: BytesMut,
    mask: u32,
}

/// One frame of the server.
struct Frame {
    opcode: u8,
    payload: BytesMut,
}

impl LeanSocket {
    /// Connects to the endpoint below `url`, as `options` say.
    pub async fn connect_with(
        url: &str,
        options: &ConnectOptions,
    ) -> Result<LeanSocket, ClientError> {
        let target = Target::parse(url)?;
        timeout(CONNECT_WITHIN, LeanSocket::open(&target, options))
            .await
            .map_err(|_| ClientError::Timeout("connecting"))?
    }

    async fn open(target: &Target, options: &ConnectOptions) -> Result<LeanSocket, ClientError> {
        let stream = dial(target, options.source).await?;
        stream.set_nodelay(true)?;
        let key = base64::engine::general_purpose::STANDARD.encode(uuid::Uuid::new_v4().as_bytes());
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            target.path,
            target.authority()
        );
        if let Some(subprotocol) = &options.subprotocol {
            request.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        for (name, value) in &options.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let queued = Queue { bytes: BytesMut::from(request.as_str()), mask: 0x9e37_79b9 };
        let outgoing = Arc::new(Outgoing { stream, queued: Mutex::new(queued) });
        outgoing.flush().await?;
        let mut socket = LeanSocket { outgoing, incoming: BytesMut::new(), ended: false };
        socket.read_head(&key).await?;
        Ok(socket)
    }

    async fn read_head(&mut self, key: &str) -> Result<(), ClientError> {
        let end = loop {
            if let Some(at) = self.incoming.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.incoming.len() > HEAD_BYTES_MAX {
                return Err(ClientError::Protocol("an answer without end".to_owned()));
            }
            if self.fill().await? == 0 {
                return Err(ClientError::Ended);
            }
        };
        let head = String::from_utf8_lossy(&self.incoming.split_to(end)).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        if status != 101 {
            return Err(ClientError::Refused { status });
        }
        let accept = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim())
        });
        if accept != Some(accept_of(key).as_str()) {
            return Err(ClientError::Protocol("wrong Sec-WebSocket-Accept".to_owned()));
        }
        Ok(())
    }

    /// The next message. Answers pings itself. Cancel safe.
    pub async fn next(&mut self) -> Result<Raw, ClientError> {
        if self.ended {
            return Err(ClientError::Ended);
        }
        loop {
            if let Some(frame) = self.take_frame()? {
                match frame.opcode {
                    0x1 => return Ok(Raw::Text(frame.payload)),
                    0x8 => return Ok(self.closed(&frame.payload)),
                    // A write that fails shows in the next read.
                    0x9 => drop(self.outgoing.send(0xa, &frame.payload)),
                    0xa => {}
                    _ => return Err(ClientError::Protocol("a frame that is not text".to_owned())),
                }
                continue;
            }
            match self.fill().await {
                Ok(0) => return Ok(self.lost("end of stream")),
                Ok(_) => {}
                Err(error) => return Ok(self.lost(&error.to_string())),
            }
        }
    }

    fn lost(&mut self, why: &str) -> Raw {
        self.ended = true;
        Raw::Closed { code: None, reason: why.to_owned() }
    }

    fn closed(&mut self, payload: &[u8]) -> Raw {
        self.ended = true;
        // The server may already be gone: its close frame is what counts.
        let _ = self.outgoing.send(0x8, payload.get(..2).unwrap_or_default());
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
        Raw::Closed { code, reason }
    }

    /// Reads what has arrived. Cancel safe.
    async fn fill(&mut self) -> std::io::Result<usize> {
        loop {
            self.incoming.reserve(READ_BYTES);
            match self.outgoing.stream.try_read_buf(&mut self.incoming) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.outgoing.stream.readable().await?;
                }
                other => return other,
            }
        }
    }

    /// A whole frame out of what was read, if there is one.
    fn take_frame(&mut self) -> Result<Option<Frame>, ClientError> {
        let Some([first, second]) = self.incoming.first_chunk::<2>() else { return Ok(None) };
        if first & 0xf0 != 0x80 || second & 0x80 != 0 {
            return Err(ClientError::Protocol("a fragment, a reserved bit or a mask".to_owned()));
        }
        let opcode = first & 0x0f;
        let rest = self.incoming.get(2..).unwrap_or_default();
        let (head, length) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(bytes) => (4, u64::from(u16::from_be_bytes(*bytes))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(bytes) => (10, u64::from_be_bytes(*bytes)),
                None => return Ok(None),
            },
            short => (2, u64::from(short)),
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(ClientError::Protocol("a message too large".to_owned()));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.incoming.len() < head + length {
            return Ok(None);
        }
        self.incoming.advance(head);
        Ok(Some(Frame { opcode, payload: self.incoming.split_to(length) }))
    }

    /// Sends one text frame.
    pub async fn send_text(&self, text: &str) -> Result<(), ClientError> {
        self.send_texts(&[text]).await
    }

    /// Sends text frames in as few writes as the socket takes. Cancel safe: what was not written
    /// goes out with the next one.
    pub async fn send_texts<T: AsRef<str>>(&self, texts: &[T]) -> Result<(), ClientError> {
        {
            let mut queued = self.outgoing.lock();
            texts.iter().for_each(|text| queued.push(0x1, text.as_ref().as_bytes()));
        }
        Ok(self.outgoing.flush().await?)
    }

    /// Ends the connection without a word: whatever comes from now on is not read.
    pub fn abandon(&mut self) {
        self.ended = true;
        // What is gone already is as gone as wanted.
        let _ = rustix::net::shutdown(&self.outgoing.stream, rustix::net::Shutdown::Both);
    }

    /// Starts the closing handshake; the server's answer comes by `next`.
    pub fn close(&self, code: u16) {
        // Whoever leaves does not care whether the other side is still there.
        let _ = self.outgoing.send(0x8, &code.to_be_bytes());
    }
}

impl Outgoing {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame and writes what the socket takes at once.
    fn send(&self, opcode: u8, payload: &[u8]) -> std::io::Result<bool> {
        let mut queued = self.lock();
        queued.push(opcode, payload);
        self.write(&mut queued)
    }

    /// Whether everything is written.
    fn write(&self, queued: &mut Queue) -> std::io::Result<bool> {
        while queued.bytes.has_remaining() {
            match self.stream.try_write(&queued.bytes) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => queued.bytes.advance(written),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    async fn flush(&self) -> std::io::Result<()> {
        loop {
            let done = self.write(&mut self.lock())?;
            if done {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }
}

impl Queue {
    fn push(&mut self, opcode: u8, payload: &[u8]) {
        self.bytes.reserve(payload.len() + 14);
        let mut head = [0x80 | opcode, 0x80];
        let length = payload.len();
        let (second, extended) = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => (short, Vec::new()),
            (_, Ok(middle)) => (126, middle.to_be_bytes().to_vec()),
            _ => (127, (length as u64).to_be_bytes().to_vec()),
        };
        head[1] |= second;
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&extended);
        // Masks guard proxies from scripts in browsers; a generator only has to vary them.
        self.mask = self.mask.rotate_left(5).wrapping_mul(0x2545_f491) ^ 0x1b87_3593;
        let mask = self.mask.to_be_bytes();
        self.bytes.extend_from_slice(&mask);
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        self.bytes.extend(masked);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// A server that upgrades, sends `bytes` a few at a time, and gives back what it was sent.
    async fn serve(bytes: &[u8]) -> (LeanSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            let key = head.split("Sec-WebSocket-Key: ").nth(1).unwrap().lines().next().unwrap();
            let accept = accept_of(key);
            let answer = format!("HTTP/1.1 101 S\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            for few in bytes.chunks(3) {
                stream.write_all(few).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream
        };
        let options = ConnectOptions::default();
        let (socket, stream) = tokio::join!(LeanSocket::connect_with(&url, &options), server);
        (socket.unwrap(), stream)
    }

    #[tokio::test]
    async fn frames_of_all_lengths_arrive_whole_and_pings_are_answered() {
        let long = "x".repeat(300);
        let mut bytes = vec![0x89, 2, b'h', b'i', 0x81, 1, b'a', 0x81, 126, 1, 44];
        bytes.extend_from_slice(long.as_bytes());
        bytes.extend_from_slice(&[0x88, 2, 0x03, 0xe9]);
        let (mut socket, mut stream) = serve(&bytes).await;
        for expected in ["a", &long] {
            let Raw::Text(text) = socket.next().await.unwrap() else { panic!("closed") };
            assert_eq!(text, expected);
        }
        let Raw::Closed { code, .. } = socket.next().await.unwrap() else { panic!("open") };
        assert_eq!(code, Some(1001));
        let mut pong = [0; 8];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong[..2], [0x8a, 0x82]);
        assert_eq!([pong[6] ^ pong[2], pong[7] ^ pong[3]], *b"hi");
    }

    #[tokio::test]
    async fn a_fragment_or_a_masked_frame_is_an_error() {
        for wrong in [[0x01, 1, b'a'], [0x81, 0x81, 0], [0xc1, 0, 0]] {
            let (mut socket, _stream) = serve(&wrong).await;
            assert!(matches!(socket.next().await, Err(ClientError::Protocol(_))));
        }
    }
}
