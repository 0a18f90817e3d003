//! Plenum: a live event polling server. Once a vote is accepted it is never lost, duplicated or altered.
//!
//! The rooms, floor by floor; a file imports from lower floors only (`tests/it/layout.rs` watches over it). The path of a
//! vote is in `docs/ARCHITECTURE.md`.

// 0: words
pub mod domain;
pub mod limits;
// 1: services
pub mod addresses;
pub mod auth;
pub mod chance;
pub mod config;
pub mod drain;
pub mod metrics;
mod mutation;
pub mod outbox;
pub mod ring;
pub mod socket;
// 2: translators
pub mod store;
pub mod wire;
// 3: engines
pub mod cluster;
pub mod feed;
pub mod vote;
// 4: edges
pub mod http;
pub mod ws;
// 5: wiring
pub mod admin;
pub mod app;
#[cfg(test)]
mod simulation;
