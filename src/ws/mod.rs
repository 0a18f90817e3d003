//! WebSocket edge: handshake, hello, one small task per connection. Reads bytes, casts votes, and hands everything outgoing
//! to the connection's outbox. A reader never waits for the database, the fan-out never for a socket.
//! Called by `http/router.rs`, for the upgrade.

mod check;
mod connection;
mod edge;
mod handshake;
mod hello;
mod pulse;
mod reader;

#[cfg(test)]
pub(crate) use connection::run as run_connection;
pub use edge::{CodeRefused, Edge, Rules, Stream, is_of_another_site};
pub use handshake::{Purpose, Refused, upgrade};
pub use pulse::Pulse;
