//! The upgrade: checks what RFC 6455 asks of a client (fastwebsockets looks at key and version only), answers, and takes the
//! bare TCP stream out of hyper, so that an idle connection carries nothing of HTTP. Called by `http/router.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::edge::{Edge, Rules};
use super::{check, connection};
use crate::socket::impatient::Impatient;

const SUBPROTOCOL: &str = "polling.v1";

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not an upgrade to a WebSocket at all: 426.
    NoUpgrade,
    /// Another version than 13: 426, and which one would do.
    Version,
    /// The key is missing or malformed: 400.
    Key,
    /// The origin is not on the list: 403.
    Origin,
    /// The instance is going away, or lets clients go: 503, which a balancer may ask another instance about.
    Draining,
}

/// What a WebSocket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Following a session.
    Session,
    /// Seeing whether one opens and stays open.
    Check,
}

/// Answers the request; the connection goes on in a task of its own.
///
/// # Errors
/// See [`Refused`].
pub fn upgrade(
    edge: &Arc<Edge>,
    request: &mut Request<Incoming>,
    from: IpAddr,
    purpose: Purpose,
) -> Result<Response<Empty<Bytes>>, Refused> {
    fit(request.headers(), &edge.rules)?;
    if edge.drain.refuses_streams() {
        return Err(Refused::Draining);
    }
    let offered =
        tokens(request.headers(), SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == SUBPROTOCOL);
    let (mut response, upgraded) =
        fastwebsockets::upgrade::upgrade(request).map_err(|_| Refused::Key)?;
    if offered {
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    let (edge, span) = (edge.clone(), tracing::Span::current());
    edge.drain.clone().spawn_work(async move {
        if let Some((socket, early)) = bare(upgraded).await {
            let drain = edge.drain.clone();
            match purpose {
                Purpose::Session => {
                    drain.spawn_client(connection::run(edge, socket.into(), early, from, span));
                }
                Purpose::Check => drain.spawn_client(check::run(edge, socket, early)),
            }
        }
    });
    Ok(response)
}

/// The TCP stream, and what the client sent before it had our answer.
async fn bare(upgraded: UpgradeFut) -> Option<(TcpStream, Bytes)> {
    let websocket = upgraded.await.ok()?;
    let parts = websocket.into_inner().into_inner().downcast::<TokioIo<Impatient>>().ok()?;
    Some((parts.io.into_inner().into_inner(), parts.read_buf))
}

fn fit(headers: &HeaderMap, rules: &Rules) -> Result<(), Refused> {
    let has =
        |name, token: &str| tokens(headers, name).any(|given| given.eq_ignore_ascii_case(token));
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        return Err(Refused::NoUpgrade);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::Version);
    }
    // 16 bytes of base64.
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let well_formed =
        key.strip_suffix(b"==").is_some_and(|rest| rest.len() == 22 && rest.iter().all(base64));
    if !well_formed || headers.get_all(SEC_WEBSOCKET_KEY).iter().count() != 1 {
        return Err(Refused::Key);
    }
    // Only browsers send an origin, and only they can be made to connect from somebody else's page.
    if rules.admits(headers) { Ok(()) } else { Err(Refused::Origin) }
}

fn tokens(headers: &HeaderMap, name: hyper::header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}
