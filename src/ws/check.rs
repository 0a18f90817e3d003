//! What the check page connects to, so that a venue can see days before whether a WebSocket opens and stays open: no session, no
//! token; every message is answered with `pong`. Bounded in number, time and messages. Spawned by `handshake.rs`.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::linger;
use super::edge::Edge;
use crate::drain::Phase;
use crate::limits::{CHECK_MESSAGES_MAX, CHECK_WAIT_MAX, CHECKS_MAX, CLOSE_LINGER_MAX, READ_BYTES};
use crate::outbox::{Outbox, Outlook};
use crate::wire::frame::{Decoder, Incoming};
use crate::wire::{Close, frame, outbound};

static PLACES: Semaphore = Semaphore::const_new(CHECKS_MAX);

/// Runs a connection to its end.
pub(super) async fn run(edge: Arc<Edge>, socket: TcpStream, early: Bytes) {
    let outbox = Outbox::new(socket.into());
    let ended = match (PLACES.try_acquire(), edge.open_stream("check")) {
        (Ok(_place), Some(_stream)) => tokio::select! {
            ended = timeout(CHECK_WAIT_MAX, answer(&outbox, early)) => ended.unwrap_or(Some(Close::Done)),
            () = edge.drain.reached(Phase::Draining) => Some(Close::GoingAway),
        },
        _ => Some(Close::Full),
    };
    let code = ended.map_or(1006, Close::number);
    edge.metrics.closed.with_label_values(&[&code.to_string()]).inc();
    if let Some(close) = ended {
        outbox.close(frame::close(close));
        let client_closed = close == Close::Done;
        let _ = timeout(CLOSE_LINGER_MAX, linger(&outbox, client_closed)).await; // whichever comes first
    }
}

/// Answers until the client has had enough. Cancel safe: what is cut off is a connection that ends.
async fn answer(outbox: &Outbox, early: Bytes) -> Option<Close> {
    let mut decoder = Decoder::default();
    let mut messages = 0;
    let mut ended = None;
    let mut early = early.to_vec();
    let mut fed = decoder.feed(&mut early, |incoming| heard(outbox, &incoming, &mut ended));
    loop {
        outbox.flush();
        messages += 1; // reads, of which each holds one message or more
        match (fed, ended) {
            (Err(close), _) | (_, Some(close)) => return Some(close),
            _ if messages > CHECK_MESSAGES_MAX => return Some(Close::TooMany),
            _ if matches!(outbox.outlook(), Outlook::Blocked { .. }) => {
                return Some(Close::Lagging);
            }
            _ => outbox.socket.readable().await.ok()?,
        }
        let mut buffer = [0; READ_BYTES];
        fed = match outbox.socket.try_read(&mut buffer) {
            Ok(0) => return None,
            Ok(read) => decoder.feed(buffer.get_mut(..read).unwrap_or_default(), |incoming| {
                heard(outbox, &incoming, &mut ended)
            }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => return None,
        };
    }
}

fn heard(outbox: &Outbox, incoming: &Incoming<'_>, ended: &mut Option<Close>) -> ControlFlow<()> {
    match incoming {
        Incoming::Text(_) => outbox.queue(frame::text(&[outbound::PONG.as_bytes()])),
        Incoming::Ping(payload) => outbox.queue(frame::pong(payload)),
        Incoming::Pong => {}
        Incoming::Binary => *ended = Some(Close::Malformed),
        Incoming::Close => *ended = Some(Close::Done),
    }
    if ended.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
