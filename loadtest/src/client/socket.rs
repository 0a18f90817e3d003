//! One WebSocket to a server: fastwebsockets shakes hands and parses frames, JSON goes in and out.
//! `recv` may be cancelled: the parser's future, which may not, is kept and polled again.
//! Must never reconnect or swallow a message, and holds no task, so that 10,000 fit one process.
//! Called by every part of the load generator and by the server's tests.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use bytes::{Bytes, BytesMut};
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use http_body_util::Empty;
use hyper::header;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha1::{Digest, Sha1};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::ClientError;
use super::url::Target;
use super::wire::{ReadSide, WriteSide};

/// How long connecting and upgrading may take together; a server that takes longer is broken.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// The subprotocol of version 1.
const SUBPROTOCOL: &str = "polling.v1";
/// What RFC 6455 has the server append to the key before hashing.
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What `recv` found.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// One message of the server.
    Message(serde_json::Value),
    /// The connection ended; `code` is left out where no close frame came.
    Closed {
        /// The close code.
        code: Option<u16>,
        /// The close reason, or what ended the connection where no close frame came.
        reason: String,
    },
}

/// What `recv_raw` found: as `Incoming`, with the text of the message not parsed.
#[derive(Debug)]
pub enum Raw {
    /// The text of one message, valid UTF-8.
    Text(BytesMut),
    /// As `Incoming::Closed`.
    Closed {
        /// The close code.
        code: Option<u16>,
        /// The close reason.
        reason: String,
    },
}

/// How to connect, where the default is not what is wanted.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The local address to connect from; loopback has many, each with its own ports.
    pub source: Option<IpAddr>,
    /// The subprotocol to offer.
    pub subprotocol: Option<String>,
    /// Further request headers.
    pub headers: Vec<(String, String)>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let subprotocol = Some(SUBPROTOCOL.to_owned());
        ConnectOptions { source: None, subprotocol, headers: Vec::new() }
    }
}

/// One open WebSocket.
#[derive(Debug)]
pub struct Socket {
    sender: SocketSender,
    receiver: SocketReceiver,
    /// The cookie that came with the upgrade, `name=value`: a balancer's, to be sent when coming back.
    pub cookie: Option<String>,
}

impl Socket {
    /// Connects to `ws://host:port/v1/ws`, or to the endpoint below `http://host:port`.
    pub async fn connect(url: &str) -> Result<Socket, ClientError> {
        Socket::connect_with(url, &ConnectOptions::default()).await
    }

    /// Connects from a given local address.
    pub async fn connect_from(url: &str, source: IpAddr) -> Result<Socket, ClientError> {
        let options = ConnectOptions { source: Some(source), ..ConnectOptions::default() };
        Socket::connect_with(url, &options).await
    }

    /// Connects as `options` say.
    pub async fn connect_with(url: &str, options: &ConnectOptions) -> Result<Socket, ClientError> {
        let target = Target::parse(url)?;
        timeout(CONNECT_WITHIN, Socket::open(&target, options))
            .await
            .map_err(|_| ClientError::Timeout("connecting"))?
    }

    async fn open(target: &Target, options: &ConnectOptions) -> Result<Socket, ClientError> {
        let stream = dial(target, options.source).await?;
        stream.set_nodelay(true)?;
        let key = fastwebsockets::handshake::generate_key();
        let mut request = hyper::Request::get(&target.path)
            .header(header::HOST, target.authority())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        if let Some(subprotocol) = &options.subprotocol {
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        for (name, value) in &options.headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|_| ClientError::Address(target.path.clone(), "no request can be made"))?;
        let (socket, response) =
            fastwebsockets::handshake::client(&TokioExecutor::new(), request, stream).await?;
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|given| given.as_bytes() != accept_of(&key).as_bytes()) {
            return Err(ClientError::Protocol("wrong Sec-WebSocket-Accept".to_owned()));
        }
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|set| {
            Some(set.to_str().ok()?.split(';').next().unwrap_or_default().to_owned())
        });
        let parts = socket
            .into_inner()
            .into_inner()
            .downcast::<TokioIo<TcpStream>>()
            .map_err(|_| ClientError::Protocol("upgraded to no TCP stream".to_owned()))?;
        Ok(Socket { cookie, ..Socket::over(parts.io.into_inner(), parts.read_buf) })
    }

    /// Builds the two halves over an upgraded stream; `early` came with the upgrade's answer.
    fn over(stream: TcpStream, early: Bytes) -> Socket {
        let (read, write) = stream.into_split();
        let writer = Arc::new(Mutex::new(WriteSide::new(write)));
        let mut parser = WebSocket::after_handshake(ReadSide::new(early, read), Role::Client);
        parser.set_auto_close(false);
        parser.set_auto_pong(false);
        let frames = FragmentCollector::new(parser);
        let reader = Reader { frames, writer: Arc::clone(&writer) };
        Socket {
            sender: SocketSender { writer },
            receiver: SocketReceiver { state: State::Idle(reader) },
            cookie: None,
        }
    }

    /// Sends one message.
    pub async fn send(&mut self, message: &serde_json::Value) -> Result<(), ClientError> {
        self.sender.send(message).await
    }

    /// Sends one text frame, whatever it holds.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.sender.send_text(text).await
    }

    /// Sends many text frames in as few writes as the socket takes.
    pub async fn send_texts<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<(), ClientError> {
        self.sender.send_texts(texts).await
    }

    /// Sends one frame of any kind, masked; for fragments, control frames and hostile input.
    pub async fn send_frame(
        &mut self,
        opcode: OpCode,
        finished: bool,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        self.sender.send_frame(opcode, finished, payload).await
    }

    /// Starts the closing handshake; the server's answer comes by `recv`.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), ClientError> {
        self.sender.close(code, reason).await
    }

    /// The next message. Answers pings itself. Cancel safe.
    pub async fn recv(&mut self) -> Result<Incoming, ClientError> {
        self.receiver.recv().await
    }

    /// As `recv`, without parsing the message. Cancel safe.
    pub async fn recv_raw(&mut self) -> Result<Raw, ClientError> {
        self.receiver.recv_raw().await
    }

    /// The two directions, for tasks of their own.
    pub fn split(self) -> (SocketSender, SocketReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending direction of a socket.
#[derive(Debug)]
pub struct SocketSender {
    /// Shared with the receiver, which answers pings and closes.
    writer: Arc<Mutex<WriteSide>>,
}

impl SocketSender {
    /// Sends one message. If cancelled, the message goes out with the next one, whole.
    pub async fn send(&mut self, message: &serde_json::Value) -> Result<(), ClientError> {
        self.send_text(&message.to_string()).await
    }

    /// Sends one text frame, whatever it holds. Cancellation as in `send`.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.send_frame(OpCode::Text, true, text.as_bytes()).await
    }

    /// Sends many text frames in as few writes as the socket takes. Cancellation as in `send`.
    pub async fn send_texts<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<(), ClientError> {
        let mut writer = self.writer.lock().await;
        for text in texts {
            writer.queue(OpCode::Text, true, text.as_ref().as_bytes());
        }
        Ok(writer.flush().await?)
    }

    /// Sends one frame of any kind, masked. Cancellation as in `send`.
    pub async fn send_frame(
        &mut self,
        opcode: OpCode,
        finished: bool,
        payload: &[u8],
    ) -> Result<(), ClientError> {
        let mut writer = self.writer.lock().await;
        writer.queue(opcode, finished, payload);
        Ok(writer.flush().await?)
    }

    /// Sends a close frame.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), ClientError> {
        let frame = Frame::close(code, reason.as_bytes());
        self.send_frame(OpCode::Close, true, &frame.payload).await
    }
}

/// The receiving direction of a socket.
#[derive(Debug)]
pub struct SocketReceiver {
    state: State,
}

impl SocketReceiver {
    /// The next message. Answers pings itself. Cancel safe.
    pub async fn recv(&mut self) -> Result<Incoming, ClientError> {
        match self.recv_raw().await? {
            Raw::Closed { code, reason } => Ok(Incoming::Closed { code, reason }),
            Raw::Text(text) => serde_json::from_slice(&text)
                .map(Incoming::Message)
                .map_err(|error| ClientError::Protocol(format!("not JSON: {error}"))),
        }
    }

    /// As `recv`, without parsing the message. Cancel safe: the read under way is kept in `state`.
    pub async fn recv_raw(&mut self) -> Result<Raw, ClientError> {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(reader) => State::Reading(Box::pin(read_one(reader))),
            other => other,
        };
        let State::Reading(reading) = &mut self.state else {
            return Err(ClientError::Ended);
        };
        let (reader, result) = poll_fn(|context| reading.as_mut().poll(context)).await;
        self.state = match &result {
            Ok(Raw::Text(_)) => State::Idle(reader),
            _ => State::Ended,
        };
        result
    }
}

type Reading = Pin<Box<dyn Future<Output = (Reader, Result<Raw, ClientError>)> + Send>>;

/// What the receiver is at. The parser's read is not cancel safe, so it lives here, not on the
/// stack of the caller.
enum State {
    Idle(Reader),
    Reading(Reading),
    Ended,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            State::Idle(_) => "Idle",
            State::Reading(_) => "Reading",
            State::Ended => "Ended",
        })
    }
}

struct Reader {
    frames: FragmentCollector<ReadSide>,
    writer: Arc<Mutex<WriteSide>>,
}

/// Reads up to the next message or the end, answering control frames on the way.
/// Not cancel safe (the parser forgets a half-read head), hence owned by `State`.
async fn read_one(mut reader: Reader) -> (Reader, Result<Raw, ClientError>) {
    let result = loop {
        let frame = match reader.frames.read_frame().await {
            Ok(frame) => frame,
            Err(error) => break end_of(error),
        };
        match (frame.opcode, frame.payload) {
            (OpCode::Text, payload) => break Ok(Raw::Text(owned(payload))),
            (OpCode::Ping, payload) => {
                let mut writer = reader.writer.lock().await;
                writer.queue(OpCode::Pong, true, &payload);
                // A write that fails shows in the next read, with a better reason.
                let _ = writer.flush().await;
            }
            (OpCode::Close, payload) => break closed(&reader.writer, &payload).await,
            (OpCode::Pong, _) => {}
            (OpCode::Binary | OpCode::Continuation, _) => {
                break Err(ClientError::Protocol("a frame that is not text".to_owned()));
            }
        }
    };
    (reader, result)
}

fn owned(payload: Payload<'_>) -> BytesMut {
    match payload {
        Payload::Bytes(bytes) => bytes,
        other => BytesMut::from(&*other),
    }
}

/// Echoes a close frame, once, and takes its code and reason out.
async fn closed(writer: &Mutex<WriteSide>, payload: &[u8]) -> Result<Raw, ClientError> {
    let mut writer = writer.lock().await;
    if !writer.close_sent() {
        writer.queue(OpCode::Close, true, payload.get(..2).unwrap_or_default());
        // The server may already be gone: its close frame is what counts.
        let _ = writer.flush().await;
    }
    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
    Ok(Raw::Closed { code, reason })
}

/// A connection that just ends, or is reset, is an outcome; a broken protocol is an error.
fn end_of(error: WebSocketError) -> Result<Raw, ClientError> {
    match error {
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) => {
            Ok(Raw::Closed { code: None, reason: error.to_string() })
        }
        other => Err(other.into()),
    }
}

pub(super) async fn dial(
    target: &Target,
    source: Option<IpAddr>,
) -> Result<TcpStream, ClientError> {
    let Some(source) = source else {
        return Ok(TcpStream::connect((target.host.as_str(), target.port)).await?);
    };
    let host: IpAddr = target
        .host
        .parse()
        .map_err(|_| ClientError::Address(target.host.clone(), "a source needs a numeric host"))?;
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(source, 0))?;
    Ok(socket.connect(SocketAddr::new(host, target.port)).await?)
}

/// What the server must answer to `key`: proof that it speaks WebSocket, not an echo of headers.
pub(super) fn accept_of(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests;
