//! What the fuzz targets (`tests/fuzz/`) call of this room without a socket, a request of hyper's or a database. Compiled
//! only with `--cfg fuzzing`, so no other build has it and nothing private had to become public. Decides nothing itself.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::HeaderMap;

use super::{body, pages, polls, proxied, router, sessions, token, trace};
use crate::domain::{Draft, PollNumber, SessionId};
use crate::wire::Fault;
use crate::wire::json::Object;

/// What a path names: the route, and what stands in its places.
pub fn route(path: &str) -> Option<(&'static str, SessionId, PollNumber)> {
    let found = router::public(path)?;
    Some((found.route, found.session, found.poll))
}

/// The last value of a query parameter.
pub fn query<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    body::parameter(query, name)
}

/// A whole number in a query or a header.
pub fn int(text: &str, min: i64) -> Option<i64> {
    body::int("after", text, min).ok()
}

/// The token after `Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    token::bearer(headers)
}

/// Trace and flag of a `traceparent`.
pub fn trace(header: &str) -> Option<(u128, bool)> {
    trace::read(header)
}

/// The language that a list of them asks for, of those that are here.
pub fn language(accepted: &str, here: &[&'static str]) -> Option<&'static str> {
    pages::choose(accepted, here)
}

/// The client that a PROXY protocol header names.
pub fn proxied(header: &[u8], proxy: IpAddr) -> Option<IpAddr> {
    proxied::said(header, proxy)
}

/// The body of a new poll.
///
/// # Errors
/// As its presenter would be told.
pub fn draft(body: &mut [u8]) -> Result<Draft, Fault> {
    polls::draft(&Object::parse(body)?, None)
}

/// What `cursor` of a list of sessions says, written anew.
pub fn cursor(text: &str) -> Option<String> {
    let end = sessions::read_cursor(text).ok()?;
    Some(sessions::cursor(end.created_at, end.id))
}
