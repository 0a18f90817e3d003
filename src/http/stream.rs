//! Server-sent events: the messages of a WebSocket, one way, for where a proxy lets none through. Each stream is a task with
//! a cursor of its own into the session's ring; it waits for its client, and nobody waits for it. Called by `router.rs`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderName;
use hyper::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::respond::{self, Answered, Body};
use super::token::{self, Caller};
use super::{body, sessions};
use crate::domain::{Seq, SessionId};
use crate::feed::{After, FollowError, Target, TargetGone, Who};
use crate::limits::{CLIENT_TAKE_MAX, SSE_HEARTBEAT};
use crate::outbox::Outbox;
use crate::ring::{Content, Cursor, Ring};
use crate::wire::{Code, Fault, outbound};
use crate::ws::{Edge, Stream};

/// Chunks on their way to hyper, which writes them as the client takes them.
const CHUNKS_MAX: usize = 4;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn follow(
    edge: &Arc<Edge>,
    request: &Request<Incoming>,
    session: SessionId,
) -> Answered {
    let in_query = body::query(request, "token");
    let token = token::bearer(request.headers()).or(in_query.as_deref());
    let who = match token::caller(edge, token, session).await? {
        Caller::Presenter(_) => Who::Presenter,
        Caller::Participant(id) => {
            Who::Participant { id, token: edge.signer.participant_token(session, id), new: false }
        }
    };
    let after = after(request)?;
    edge.feed.watch(session).await?.ok_or_else(sessions::missing)?;
    if edge.drain.refuses_streams() {
        return Err(Fault::new(Code::Draining, "this instance sends clients elsewhere; reconnect"));
    }
    let place = edge
        .open_stream("sse")
        .ok_or_else(|| Fault::new(Code::Overloaded, "this instance is full; try another"))?;
    let (chunks, body) = mpsc::channel(CHUNKS_MAX);
    let follower = Follower { session, who, after, _place: place };
    edge.drain.spawn_client(run(edge.clone(), follower, Outgoing::new(chunks)));
    Ok(event_stream(body))
}

fn after(request: &Request<Incoming>) -> Result<Option<After>, Fault> {
    let seq = match request.headers().get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default()) {
        Some("") | None => body::query_int(request, "after", 0)?,
        Some(id) => Some(body::int("Last-Event-ID", id, 0)?),
    };
    Ok(seq.map(|seq| After { seq: Seq(seq), epoch: None }))
}

fn event_stream(body: mpsc::Receiver<Bytes>) -> Response<Body> {
    let chunks = stream::unfold(body, |mut body| async move {
        let chunk = body.recv().await?;
        Some((Ok(Frame::data(chunk)), body))
    });
    let mut response = respond::with(200, "text/event-stream", Bytes::new());
    // NGINX would collect the stream otherwise.
    response
        .headers_mut()
        .insert("x-accel-buffering", hyper::header::HeaderValue::from_static("no"));
    response.map(|_| StreamBody::new(chunks).boxed_unsync())
}

/// The sending side of one stream.
struct Outgoing {
    chunks: mpsc::Sender<Bytes>,
    /// Messages that wait to be sent in one chunk; a page of a replay at most.
    written: Mutex<Vec<u8>>,
    place: Mutex<Option<(Arc<Ring>, Cursor)>>,
}

impl Outgoing {
    fn new(chunks: mpsc::Sender<Bytes>) -> Self {
        Self { chunks, written: Mutex::default(), place: Mutex::default() }
    }

    fn message(&self, seq: Option<Seq>, parts: &[&[u8]]) {
        let mut written = self.written.lock();
        if let Some(seq) = seq {
            written.extend_from_slice(format!("id: {seq}\n").as_bytes());
        }
        written.extend_from_slice(b"data: ");
        parts.iter().for_each(|part| written.extend_from_slice(part));
        written.extend_from_slice(b"\n\n");
    }
}

impl Target for Outgoing {
    fn send(&self, seq: Option<Seq>, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.message(seq, &parts);
    }

    /// Cancel safe in that no message is cut; one that was being handed over is lost with the stream. Who takes nothing for
    /// [`CLIENT_TAKE_MAX`] is gone.
    async fn ready(&self) -> Result<(), TargetGone> {
        let written = std::mem::take(&mut *self.written.lock());
        if written.is_empty() {
            return Ok(());
        }
        match timeout(CLIENT_TAKE_MAX, self.chunks.send(written.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(TargetGone),
        }
    }

    fn attach(&self, ring: Arc<Ring>, cursor: Cursor) {
        *self.place.lock() = Some((ring, cursor));
    }

    fn socket(&self) -> Option<&Arc<Outbox>> {
        None
    }
}

/// Who follows what, from where.
struct Follower {
    session: SessionId,
    who: Who,
    after: Option<After>,
    /// Given back when the stream ends.
    _place: Stream,
}

async fn run(edge: Arc<Edge>, follower: Follower, out: Outgoing) {
    let Follower { session, who, after, .. } = &follower;
    let ended = async {
        let followed = edge.feed.follow(*session, who, after.clone(), &out).await;
        let _subscription = followed
            .inspect_err(|error| {
                if let FollowError::Store(error) = error {
                    tracing::warn!(error = ?error, "stream not begun");
                }
            })
            .ok()?;
        let (ring, cursor) = out.place.lock().take()?;
        send(&edge, &out, &ring, cursor).await
    };
    let _: Option<()> = ended.await;
    edge.metrics.closed.with_label_values(&["sse"]).inc();
}

/// Sends what comes, until the client is gone, the ring ends, or the instance goes away.
async fn send(edge: &Edge, out: &Outgoing, ring: &Ring, mut cursor: Cursor) -> Option<()> {
    let mut leave_at: Option<Instant> = None;
    let mut bell = edge.drain.bell();
    loop {
        let mut changed = std::pin::pin!(ring.changed.notified());
        changed.as_mut().enable(); // from here on no push is missed
        while let Some(frame) = ring.next(&mut cursor).ok()? {
            let seq = match frame.content {
                Content::Event { seq, .. } => Some(seq),
                Content::Presence { .. } => None,
            };
            out.message(seq, &[frame.bytes.get(frame.payload_at..).unwrap_or_default()]);
        }
        out.ready().await.ok()?;
        tokio::select! {
            () = &mut changed => {}
            () = sleep_until(Instant::now() + SSE_HEARTBEAT) => out.written.lock().extend_from_slice(b": still here\n\n"),
            () = out.chunks.closed() => return None,
            () = bell.cancelled(), if leave_at.is_none() => {
                let Some(after) = edge.sent_away(&mut bell) else { continue };
                out.send(None, &[&outbound::bye(u64::try_from(after.as_millis()).unwrap_or(0))]);
                leave_at = Some(Instant::now() + after);
            }
            () = sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_gone() {
        let (chunks, _never_read) = mpsc::channel(1);
        let out = Outgoing::new(chunks);
        out.message(None, &[b"fits"]);
        assert!(out.ready().await.is_ok());
        out.message(None, &[b"does not"]);
        let since = Instant::now();
        assert!(out.ready().await.is_err());
        assert_eq!(since.elapsed(), CLIENT_TAKE_MAX);
    }
}
