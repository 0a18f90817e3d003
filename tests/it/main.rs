//! Integration tests: the real binary against a real PostgreSQL, from outside, all in parallel.
//! One module per area; what they share is in `support`. Nothing here sleeps, retries or is ignored.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::large_futures,
    reason = "a test fails by panicking, and its sizes are its own"
)]
#![allow(clippy::disallowed_methods, reason = "tests have no drain that would count their tasks")]

mod support;

mod abuse;
mod balancers;
mod batch;
mod chaos;
mod cluster;
mod configuration;
mod conflation;
mod cross_origin;
mod delete;
mod embedded;
mod epoch;
mod erasing;
mod export;
mod failover;
mod faults;
mod fuzz;
mod handover;
mod hints;
mod hostile_http;
mod instances;
mod join;
mod layout;
mod leaks;
mod lifecycle;
mod model;
mod observability;
mod openapi;
mod overload;
mod pgbouncer;
mod presence;
mod promises;
mod protections;
mod proxied;
mod replicas;
mod rest_order;
mod rest_polls;
mod rest_sessions;
mod rest_votes;
mod retention;
mod rolling;
mod runbook;
mod scaling;
mod socket_frames;
mod socket_protocol;
mod socket_votes;
mod sse;
mod tls;
mod tools;
mod visibility;
mod welcome;
mod ws_conformance;
