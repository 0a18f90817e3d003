//! Clients of a Plenum server, for the demonstration, the load generator and the integration tests.
//! Must never import anything of the server, and never speak WebSocket through the server's own
//! code: a client of another make is what finds a fault that two ends of one author share.
//! Called by `main.rs` of this crate and by the server's tests.

pub mod client;
pub mod history;
