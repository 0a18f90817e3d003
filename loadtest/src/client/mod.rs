//! The ways to talk to a server: `api` (REST), `socket` (WebSocket) and `lean` (WebSocket, where
//! thousands are held and measured), with one error type.
//! Owns no policy: it never retries, never reconnects, never hides an answer from its caller.
//! Called by the load generator's parts and by the server's integration tests.

pub mod api;
pub mod error;
pub mod lean;
pub mod socket;
mod url;
mod wire;

pub use api::{Answer, Api};
pub use error::ClientError;
pub use lean::LeanSocket;
pub use socket::{ConnectOptions, Incoming, Socket, SocketReceiver, SocketSender};
