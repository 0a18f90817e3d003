//! Answers: JSON, problems, empty ones. The only place where a fault becomes a status. Used by every handler.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::budget;
use crate::domain::Answer;
use crate::store::StoreError;
use crate::wire::{Code, Fault, outbound};

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BrokenOff>;
/// A body cannot be completed: the connection is cut without its last chunk, so that the client knows.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff;

/// An answer, or the fault that becomes one.
pub(super) type Answered = Result<Response<Body>, Fault>;

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::warn!(error = ?error, "request not answered");
        Self::new(
            Code::DatabaseUnavailable,
            "the server cannot reach its data right now; try again",
        )
    }
}

/// Any body as an answer.
pub(super) fn with(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = match budget::counted(body.into()) {
        Ok(body) => body,
        Err(fault) => return problem(&fault, None),
    };
    let mut response =
        Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // What a session looks like now is nothing for a cache, and tokens even less.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// JSON.
pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    with(status, "application/json", body)
}

/// 204.
pub(super) fn nothing() -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::NO_CONTENT;
    response
}

/// A fault as a problem.
pub(super) fn problem(fault: &Fault, stored: Option<&Answer>) -> Response<Body> {
    let mut response =
        with(fault.code.status(), "application/problem+json", outbound::problem(fault, stored));
    let headers = response.headers_mut();
    if matches!(fault.code.status(), 429 | 503) {
        let seconds = fault.retry_after_ms.unwrap_or(1_000).div_ceil(1_000).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault.code == Code::InvalidToken {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
