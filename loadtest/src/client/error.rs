//! Why a call or a connection of the client failed, in the few kinds that a caller branches on.
//! Must never stand for an answer of the server: a 4xx or a close code is a value, not an error.
//! Returned by `api` and `socket`.

use fastwebsockets::WebSocketError;

/// A failure of the client's own: what the server answered is never reported this way.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address given is not one that the client can use.
    #[error("bad address {0:?}: {1}")]
    Address(String, &'static str),
    /// The socket could not be opened, or died.
    #[error("input/output: {0}")]
    Io(#[from] std::io::Error),
    /// A request got no complete answer.
    #[error("no answer over HTTP: {0}")]
    Http(String),
    /// The server answered the upgrade with something else than 101.
    #[error("upgrade refused with status {status}")]
    Refused {
        /// The HTTP status that it gave.
        status: u16,
    },
    /// The server broke the WebSocket protocol, or sent something that is not one JSON text.
    #[error("protocol: {0}")]
    Protocol(String),
    /// Nothing came within the time that the client allows.
    #[error("timed out: {0}")]
    Timeout(&'static str),
    /// The connection had already ended.
    #[error("the connection has ended")]
    Ended,
}

impl ClientError {
    /// The HTTP status with which an upgrade was refused.
    pub fn refused_status(&self) -> Option<u16> {
        match self {
            ClientError::Refused { status } => Some(*status),
            _ => None,
        }
    }
}

impl From<WebSocketError> for ClientError {
    fn from(error: WebSocketError) -> Self {
        match error {
            WebSocketError::IoError(error) => ClientError::Io(error),
            WebSocketError::InvalidStatusCode(status) => ClientError::Refused { status },
            WebSocketError::ConnectionClosed => ClientError::Ended,
            WebSocketError::HTTPError(error) => ClientError::Http(error.to_string()),
            other => ClientError::Protocol(other.to_string()),
        }
    }
}
