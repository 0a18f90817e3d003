//! The two ways to talk to a server: `api` (REST) and `socket` (WebSocket), with one error type.
//! Owns no policy: it never retries, never reconnects, never hides an answer from its caller.
//! Called by the load generator's parts and by the server's integration tests.

pub mod api;
pub mod error;
pub mod socket;
mod url;
mod wire;

pub use api::{Answer, Api};
pub use error::ClientError;
pub use socket::{ConnectOptions, Incoming, Socket, SocketReceiver, SocketSender};
