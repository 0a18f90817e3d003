//! HTTP edge: the accept loop, one hyper connection per socket, and REST. Every answer that is an error is a problem; no
//! text of a client's comes back in one. Called by `app.rs`; hands upgrades to `ws`.

mod body;
mod budget;
mod check;
mod cors;
mod events;
pub(crate) mod export;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod join;
mod ops;
mod pages;
mod polls;
mod proxied;
mod qr;
mod respond;
mod router;
mod sessions;
mod stream;
mod token;
mod trace;
mod votes;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use router::ROUTES;

use crate::drain::Phase;
use crate::limits::{
    ACCEPT_AGAIN, FIRST_REQUEST_WAIT, HEAD_BYTES_MAX, HEAD_WAIT_MAX, LISTEN_BACKLOG,
    REST_CONNECTIONS_MAX,
};
use crate::socket::impatient::Impatient;
use crate::ws::Edge;
use respond::Body;

/// Which of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Participants and presenters.
    Public,
    /// Operators.
    Operations,
}

/// Listens, with a backlog that takes a whole hall at once.
///
/// # Errors
/// Where the address cannot be had.
pub fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(LISTEN_BACKLOG)
}

/// Accepts connections until the instance stops.
pub async fn accept(listener: TcpListener, door: Door, edge: Arc<Edge>) {
    let permits =
        Arc::new(Semaphore::new(edge.rules.streams_max.saturating_add(REST_CONNECTIONS_MAX)));
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &permits) => accepted,
            () = edge.drain.reached(Phase::Stopping) => return,
        };
        if let Some((socket, peer, permit)) = accepted {
            edge.drain.spawn_client(connection(socket, peer, door, edge.clone(), permit));
        } else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
        }
    }
}

/// Cancel safe: a permit is given back, and nothing is accepted without one.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        // An IPv4 client of an IPv6 listener is the same client.
        Ok((socket, peer)) => Some((socket, peer.ip().to_canonical(), permit)),
        Err(error) => {
            tracing::warn!(error = %error, "connection not accepted");
            None
        }
    }
}

async fn connection(
    mut socket: TcpStream,
    peer: IpAddr,
    door: Door,
    edge: Arc<Edge>,
    permit: OwnedSemaphorePermit,
) {
    // Without it an ack waits up to 40 ms behind an earlier frame.
    let _ = socket.set_nodelay(true);
    let drain = edge.drain.clone();
    // The permit goes with the TCP connection. An upgraded one leaves it here, and is counted as a stream from then on.
    let _permit = permit;
    let mut peer = peer;
    if door == Door::Public && edge.rules.proxy_protocol && edge.rules.trusts(peer) {
        let Some(client) = proxied::client(&mut socket, peer).await else {
            edge.metrics.proxy_refused.inc();
            tracing::debug!("no PROXY protocol header, connection cut");
            return;
        };
        peer = client;
    }
    let asked = Arc::new(AtomicBool::new(false));
    let first = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let edge = edge.clone();
        first.store(true, Ordering::Relaxed);
        async move {
            Ok::<Response<Body>, std::convert::Infallible>(
                router::answer(edge, request, peer, door).await,
            )
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false)
        .serve_connection(TokioIo::new(Impatient::new(socket)), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = drain.reached(Phase::Stopping) => {
            // Accepted a moment ago, and its request is on its way: closing now would be the answer to it.
            let answered = match asked.load(Ordering::Relaxed) {
                false => timeout(FIRST_REQUEST_WAIT, served.as_mut()).await.ok(),
                true => None,
            };
            match answered {
                Some(result) => result,
                None => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "connection ended");
    }
}
