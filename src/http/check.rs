//! Server-sent events for the check page: a few signs of life, evenly spaced, so that the page sees whether something on the way
//! holds them back. Ends by itself after a few seconds and holds nothing but its connection. Called by `router.rs`.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderValue;
use tokio::time::sleep;

use super::respond::{self, Answered};
use crate::limits::{CHECK_BEAT_EVERY, CHECK_BEATS};

pub(super) fn beats() -> Answered {
    let beats = stream::unfold(0, |sent| async move {
        if sent >= CHECK_BEATS {
            return None;
        }
        if sent > 0 {
            sleep(CHECK_BEAT_EVERY).await;
        }
        Some((Ok(Frame::data(Bytes::from(format!("data: {sent}\n\n")))), sent + 1))
    });
    let mut response = respond::with(200, "text/event-stream", Bytes::new());
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response.map(|_| StreamBody::new(beats).boxed_unsync()))
}
