//! HTTP by hand: requests that no library would send, and SSE streams read line by line.
//! Must never follow, retry or repair anything. Called by tests of hostile input and of SSE.

use std::net::{IpAddr, SocketAddr};

use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::waiting::{SOON, within};

/// An answer read from the wire.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct RawHttp {
    stream: TcpStream,
    buffer: BytesMut,
}

impl RawHttp {
    pub(crate) async fn connect(to: SocketAddr) -> RawHttp {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        RawHttp { stream, buffer: BytesMut::new() }
    }

    /// As `connect`, from another address of this machine.
    pub(crate) async fn connect_from(to: SocketAddr, from: IpAddr) -> RawHttp {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = socket.connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        RawHttp { stream, buffer: BytesMut::new() }
    }

    /// Sends bytes as they are. A server that has closed already is no fault of the test.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let _ = within(SOON, "sending", self.stream.write_all(bytes)).await;
    }

    /// The next answer with its body; nothing where the connection ends without one.
    pub(crate) async fn answer(&mut self, seconds: u64) -> Option<RawAnswer> {
        within(seconds, "an answer or the end", async {
            let mut answer = self.head().await?;
            if let Some(length) = answer.header("content-length") {
                let length: usize = length.parse().unwrap();
                while self.buffer.len() < length && self.more().await {}
                let length = length.min(self.buffer.len());
                answer.body = self.buffer.split_to(length).to_vec();
            } else if answer.header("transfer-encoding").is_some() {
                while let Some(part) = self.chunk().await {
                    answer.body.extend(part);
                }
            }
            Some(answer)
        })
        .await
    }

    /// The head of an answer whose body is taken later, by `rest`.
    pub(crate) async fn begins(&mut self, status: u16) {
        let head = within(SOON, "the head of an answer", self.head()).await.expect("no answer");
        assert_eq!(head.status, status);
    }

    /// Takes what is left of a body in chunks, whole or not.
    pub(crate) async fn rest(&mut self) {
        within(SOON, "the end of the body", async { while self.chunk().await.is_some() {} }).await;
    }

    async fn head(&mut self) -> Option<RawAnswer> {
        let end = loop {
            match self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.more().await => {}
                None => return None,
            }
        };
        let head = String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let pair = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()));
        Some(RawAnswer { status, headers: lines.filter_map(pair).collect(), body: Vec::new() })
    }

    /// One chunk of a chunked body; nothing after the last one or at the end of the connection.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            match self.buffer.windows(2).position(|part| part == b"\r\n") {
                Some(at) => break self.buffer.split_to(at + 2),
                None if self.more().await => {}
                None => return None,
            }
        };
        let size = std::str::from_utf8(&line).unwrap().trim();
        let size = usize::from_str_radix(size, 16).unwrap();
        while self.buffer.len() < size + 2 && self.more().await {}
        if self.buffer.len() < size + 2 {
            return None;
        }
        let part = self.buffer.split_to(size + 2)[..size].to_vec();
        (size > 0).then_some(part)
    }

    /// Whether more bytes came; false at the end of the connection.
    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..))
    }
}

/// One request on a connection of its own; the text is sent as it is.
pub(crate) async fn exchange(to: SocketAddr, request: impl AsRef<[u8]>) -> RawAnswer {
    let mut connection = RawHttp::connect(to).await;
    connection.bytes(request.as_ref()).await;
    connection.answer(SOON).await.expect("the connection ended without an answer")
}

/// A stream of server-sent events.
#[derive(Debug)]
pub(crate) struct Sse {
    http: RawHttp,
    text: Vec<u8>,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SseMessage {
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Sse {
    /// Opens a stream; an answer other than 200 is handed back. `headers` are whole lines.
    pub(crate) async fn open(
        to: SocketAddr,
        path: &str,
        headers: &[&str],
    ) -> Result<Sse, RawAnswer> {
        let mut http = RawHttp::connect(to).await;
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n");
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        http.bytes(format!("{request}\r\n").as_bytes()).await;
        let head = within(SOON, "the stream opens", http.head()).await.expect("no answer");
        if head.status != 200 {
            let length = head.header("content-length").map_or(0, |text| text.parse().unwrap());
            while http.buffer.len() < length && http.more().await {}
            return Err(RawAnswer { body: http.buffer.to_vec(), ..head });
        }
        assert!(head.header("content-type").unwrap().starts_with("text/event-stream"));
        Ok(Sse { http, text: Vec::new() })
    }

    /// The next message; nothing at the end of the stream. Comments are passed over.
    pub(crate) async fn next(&mut self) -> Option<SseMessage> {
        within(SOON, "a message of the stream", async {
            loop {
                if let Some(at) = self.text.windows(2).position(|part| part == b"\n\n") {
                    let block: Vec<u8> = self.text.drain(..at + 2).collect();
                    match message_of(std::str::from_utf8(&block).unwrap()) {
                        Some(message) => return Some(message),
                        None => continue,
                    }
                }
                let part = self.http.chunk().await?;
                self.text.extend(part);
            }
        })
        .await
    }

    /// The next message of a type, or the next event of a kind.
    pub(crate) async fn next_of(&mut self, name: &str) -> SseMessage {
        loop {
            let message = self.next().await.expect("the stream ended");
            if message.data["type"] == name || message.data["kind"] == name {
                return message;
            }
        }
    }
}

fn message_of(block: &str) -> Option<SseMessage> {
    let (mut id, mut data) = (None, None);
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with(':')) {
        let (name, value) = line.split_once(':').unwrap();
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => id = Some(value.to_owned()),
            "data" => {
                assert!(data.is_none(), "two data lines: {block}");
                data = Some(serde_json::from_str(value).unwrap());
            }
            "retry" => {}
            other => panic!("an unexpected field {other}: {block}"),
        }
    }
    data.map(|data| SseMessage { id, data })
}
