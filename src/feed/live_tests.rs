//! Tests of `live.rs`.
