//! Request bodies and query strings: bounded in size and in time, read as JSON whatever their type says. Used by handlers.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use tokio::time::timeout;

use super::budget::Held;
use crate::limits::{BODY_BYTES_MAX, BODY_WAIT_MAX, DISCARD_WAIT_MAX, DISCARDED_BYTES_MAX};
use crate::wire::{Code, Fault};

/// Whether a body is announced that is too large to be looked at.
pub(super) fn is_too_large(request: &Request<Incoming>) -> bool {
    request.body().size_hint().lower() > BODY_BYTES_MAX as u64
}

/// A body, counted among all that is held.
#[derive(Debug, Default)]
pub(super) struct Whole {
    bytes: BytesMut,
    held: Held,
}

impl Deref for Whole {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Whole {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// The whole body, to be parsed in place. Cancel safe: nothing is kept.
///
/// # Errors
/// `payload_too_large`, `overloaded`, or `bad_request` where it does not arrive.
pub(super) async fn read(request: &mut Request<Incoming>) -> Result<Whole, Fault> {
    let whole = async {
        let mut whole = Whole::default();
        while let Some(frame) = request.body_mut().frame().await {
            let frame = frame.map_err(|_| Fault::new(Code::BadRequest, "the body broke off"))?;
            let bytes = frame.data_ref().map_or(&[][..], |bytes| bytes);
            if whole.len() + bytes.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            whole.held.grow(whole.len() + bytes.len())?;
            whole.bytes.extend_from_slice(bytes);
        }
        Ok(whole)
    };
    let late = || Fault::new(Code::BadRequest, "the body did not arrive in time");
    timeout(BODY_WAIT_MAX, whole).await.unwrap_or_else(|_| Err(late()))
}

/// Reads and throws away what a client is still sending, for a moment: it reads no answer before it has sent its request,
/// and an end in between would be a reset that swallows the answer.
pub(super) async fn discard(request: &mut Request<Incoming>) {
    let body = request.body_mut();
    let rest = async {
        let mut left = DISCARDED_BYTES_MAX;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
        }
    };
    let _ = timeout(DISCARD_WAIT_MAX, rest).await; // whichever comes first
}

/// The fault of a body over the limit.
pub(super) fn too_large() -> Fault {
    Fault::new(Code::PayloadTooLarge, "a body may have 256 KiB")
}

/// The last value of a query parameter, percent-decoded.
pub(super) fn query<'q>(request: &'q Request<Incoming>, name: &str) -> Option<Cow<'q, str>> {
    parameter(request.uri().query().unwrap_or_default(), name)
}

/// The same of a query alone.
pub(super) fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == name)
        .last()
        .map(|(_, value)| value)
}

/// A query parameter that is a whole number from `min` on.
///
/// # Errors
/// `bad_request` where it is something else.
pub(super) fn query_int(
    request: &Request<Incoming>,
    name: &'static str,
    min: i64,
) -> Result<Option<i64>, Fault> {
    query(request, name).map(|text| int(name, &text, min)).transpose()
}

/// A whole number from `min` on.
///
/// # Errors
/// `bad_request` where it is something else.
pub(super) fn int(name: &'static str, text: &str, min: i64) -> Result<i64, Fault> {
    text.parse().ok().filter(|number| *number >= min).ok_or_else(|| Fault {
        field: Some(name),
        ..Fault::new(Code::BadRequest, format!("this must be a whole number, at least {min}"))
    })
}
