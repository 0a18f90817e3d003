//! From a request to its handler: path, method, size, in this order; then the handler looks at token, right, body,
//! existence and state. Owns the table of routes, which a test holds against the OpenAPI document.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION};
use hyper::{Method, Request, Response};
use tracing::Instrument;

use super::respond::{self, Answered, Body};
use super::trace::{TRACEPARENT, Trace};
use super::{
    Door, body, check, cors, events, export, join, ops, pages, polls, qr, sessions, stream, votes,
};
use crate::domain::{PollNumber, SessionId};
use crate::wire::{Code, Fault};
use crate::ws::{self, Edge, Purpose, Refused};

/// Every public route, as in the OpenAPI document, with its methods.
pub const ROUTES: &[(&str, &[&str])] = &[
    ("/v1/sessions", &["GET", "POST"]),
    ("/v1/sessions/{id}", &["GET", "PATCH", "DELETE"]),
    ("/v1/sessions/{id}/polls", &["GET", "POST"]),
    ("/v1/sessions/{id}/polls/{n}", &["GET", "PATCH", "DELETE"]),
    ("/v1/sessions/{id}/polls/{n}/open", &["POST"]),
    ("/v1/sessions/{id}/polls/{n}/close", &["POST"]),
    ("/v1/sessions/{id}/polls/{n}/results", &["GET"]),
    ("/v1/sessions/{id}/votes", &["POST"]),
    ("/v1/sessions/{id}/events", &["GET"]),
    ("/v1/sessions/{id}/stream", &["GET"]),
    ("/v1/sessions/{id}/export", &["GET"]),
    ("/v1/join", &["POST"]),
    ("/v1/ws", &["GET"]),
    ("/v1/openapi.json", &["GET"]),
    ("/v1/asyncapi.json", &["GET"]),
];

/// Pages, and what goes with them, are no part of the API.
const PAGE_ROUTES: &[(&str, &[&str])] =
    &[("/qr/{name}", &["GET"]), ("/check/ws", &["GET"]), ("/check/stream", &["GET"])];

const OPS_ROUTES: &[(&str, &[&str])] = &[
    ("/livez", &["GET"]),
    ("/readyz", &["GET"]),
    ("/metrics", &["GET"]),
    ("/cluster", &["GET"]),
    ("/cluster/forecast", &["GET"]),
    ("/drain", &["POST"]),
];

const TRACEPARENT_NAME: HeaderName = HeaderName::from_static(TRACEPARENT);

/// What a path names.
pub(super) struct Found {
    pub(super) route: &'static str,
    methods: &'static [&'static str],
    pub(super) session: SessionId,
    pub(super) poll: PollNumber,
}

const PUBLIC_TABLES: [&[(&str, &[&str])]; 3] = [ROUTES, pages::ROUTES, PAGE_ROUTES];

/// What a path names at the public door.
#[cfg(fuzzing)]
pub(super) fn public(path: &str) -> Option<Found> {
    PUBLIC_TABLES.iter().find_map(|table| find(table, path))
}

/// Answers one request. Never fails: a fault is an answer.
pub(super) async fn answer(
    edge: Arc<Edge>,
    mut request: Request<Incoming>,
    peer: IpAddr,
    door: Door,
) -> Response<Body> {
    let began = Instant::now();
    let trace = Trace::begin(header(&request, TRACEPARENT));
    let head = request.method() == Method::HEAD;
    let method = if head { Method::GET } else { request.method().clone() };
    let tables: &[_] = match door {
        Door::Public => &PUBLIC_TABLES,
        Door::Operations => &[OPS_ROUTES],
    };
    let path = request.uri().path();
    let found = tables.iter().find_map(|table| find(table, path));
    let visitor = found
        .as_ref()
        .and_then(|found| cors::Visitor::of(&edge.rules, found.route, &method, request.headers()));
    let asked = |found: &Found| visitor.as_ref()?.preflight(found.methods);
    let (route, answered) = match found {
        None => ("none", Err(Fault::new(Code::NotFound, "there is nothing at this address"))),
        Some(found) if !found.methods.contains(&method.as_str()) => {
            let refused = || wrong_method(found.methods);
            (found.route, Ok(asked(&found).unwrap_or_else(refused)))
        }
        Some(found) if door == Door::Operations && cors::is_deed_of_a_page(&request) => {
            (found.route, Err(Fault::new(Code::Forbidden, "no page may do this")))
        }
        Some(found) if visitor.as_ref().is_some_and(cors::Visitor::is_refused) => {
            (found.route, Err(Fault::new(Code::Forbidden, "this origin may not connect")))
        }
        Some(found) if body::is_too_large(&request) => (found.route, Err(body::too_large())),
        Some(found) => {
            let from = edge.client_address(peer, &forwarded_for(&request));
            let span = tracing::info_span!("request", trace = trace.id(), route = found.route);
            let dispatched = dispatch(&edge, &mut request, &method, &found, from);
            (found.route, dispatched.instrument(span).await)
        }
    };
    let mut response = answered.unwrap_or_else(|fault| respond::problem(&fault, None));
    body::discard(&mut request).await;
    if let Some(visitor) = visitor {
        visitor.mark(response.headers_mut());
    }
    let status = response.status();
    let labels = [route, method_label(&method), status.as_str()];
    edge.metrics.requests.with_label_values(&labels).observe(began.elapsed().as_secs_f64());
    response.headers_mut().extend(trace.header().map(|id| (TRACEPARENT_NAME, id)));
    response
}

async fn dispatch(
    edge: &Arc<Edge>,
    request: &mut Request<Incoming>,
    method: &Method,
    found: &Found,
    from: IpAddr,
) -> Answered {
    let (session, poll) = (found.session, found.poll);
    match (found.route, method.as_str()) {
        ("/v1/sessions", "POST") => sessions::create(edge, request).await,
        ("/v1/sessions", _) => sessions::list(edge, request).await,
        ("/v1/sessions/{id}", "PATCH") => sessions::patch(edge, request, session).await,
        ("/v1/sessions/{id}", "DELETE") => sessions::delete(edge, request, session).await,
        ("/v1/sessions/{id}", _) => sessions::get(edge, request, session).await,
        ("/v1/sessions/{id}/polls", "POST") => polls::create(edge, request, session).await,
        ("/v1/sessions/{id}/polls", _) => polls::list(edge, request, session).await,
        ("/v1/sessions/{id}/polls/{n}", "PATCH") => {
            polls::patch(edge, request, session, poll).await
        }
        ("/v1/sessions/{id}/polls/{n}", "DELETE") => {
            polls::delete(edge, request, session, poll).await
        }
        ("/v1/sessions/{id}/polls/{n}", _) => polls::get(edge, request, session, poll).await,
        ("/v1/sessions/{id}/polls/{n}/open", _) => polls::open(edge, request, session, poll).await,
        ("/v1/sessions/{id}/polls/{n}/close", _) => {
            polls::close(edge, request, session, poll).await
        }
        ("/v1/sessions/{id}/polls/{n}/results", _) => {
            polls::results(edge, request, session, poll).await
        }
        ("/v1/sessions/{id}/votes", _) => votes::cast(edge, request, session).await,
        ("/v1/sessions/{id}/events", _) => events::page(edge, request, session).await,
        ("/v1/sessions/{id}/stream", _) => stream::follow(edge, request, session).await,
        ("/v1/sessions/{id}/export", _) => export::export(edge, request, session).await,
        ("/v1/join", _) => join::join(edge, request, from).await,
        ("/v1/ws", _) => upgrade(edge, request, from, Purpose::Session),
        ("/v1/openapi.json", _) => Ok(respond::json(200, OPENAPI)),
        ("/v1/asyncapi.json", _) => Ok(respond::json(200, ASYNCAPI)),
        ("/livez", _) => Ok(ops::live()),
        ("/readyz", _) => Ok(ops::ready(edge).await),
        ("/metrics", _) => Ok(ops::metrics(edge)),
        ("/cluster", _) => Ok(ops::cluster(edge)),
        ("/cluster/forecast", _) => Ok(ops::forecast(edge)),
        ("/drain", _) => Ok(ops::drain(edge)),
        ("/check/ws", _) => upgrade(edge, request, from, Purpose::Check),
        ("/check/stream", _) => check::beats(),
        ("/qr/{name}", _) => qr::answer(edge, request),
        (page, _) => pages::answer(request, page),
    }
}

const OPENAPI: &[u8] = include_bytes!("openapi.json");
/// Refers to schemas as `./openapi.json#…`, so the two stand beside each other, in the tree as under `/v1`.
const ASYNCAPI: &[u8] = include_bytes!("asyncapi.json");

fn find(table: &'static [(&str, &[&str])], path: &str) -> Option<Found> {
    table.iter().find_map(|&(route, methods)| {
        let mut found =
            Found { route, methods, session: SessionId(uuid::Uuid::nil()), poll: PollNumber(0) };
        let (mut given, mut wanted) = (path.split('/'), route.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some(found),
                (Some("{id}"), Some(id)) if id.len() == 36 => {
                    found.session = SessionId(uuid::Uuid::try_parse(id).ok()?)
                }
                (Some("{n}"), Some(n)) if n.starts_with(|c: char| c.is_ascii_digit()) => {
                    found.poll = PollNumber(n.parse().ok()?);
                }
                (Some("{code}" | "{version}" | "{name}"), Some(_)) => {}
                (Some(wanted), Some(given)) if wanted == given && !wanted.starts_with('{') => {}
                _ => return None,
            }
        }
    })
}

fn header<'r>(request: &'r Request<Incoming>, name: &'static str) -> Option<&'r str> {
    request.headers().get(HeaderName::from_static(name))?.to_str().ok()
}

/// All such headers as one list: a proxy may add a line of its own instead of adding to the client's.
fn forwarded_for(request: &Request<Incoming>) -> String {
    let lines = request.headers().get_all(HeaderName::from_static("x-forwarded-for"));
    let lines: Vec<&str> = lines.iter().map(|line| line.to_str().unwrap_or("?")).collect();
    lines.join(",")
}

/// Methods are free text to a client; labels are not.
fn method_label(method: &Method) -> &'static str {
    ["GET", "POST", "PATCH", "DELETE"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

fn wrong_method(methods: &[&str]) -> Response<Body> {
    let mut response = respond::problem(
        &Fault::new(Code::MethodNotAllowed, "see the header Allow for what can be done here"),
        None,
    );
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

fn upgrade(
    edge: &Arc<Edge>,
    request: &mut Request<Incoming>,
    from: IpAddr,
    purpose: Purpose,
) -> Answered {
    match ws::upgrade(edge, request, from, purpose) {
        Ok(response) => {
            Ok(response.map(|empty| empty.map_err(|never| match never {}).boxed_unsync()))
        }
        Err(Refused::Key) => {
            Err(Fault::new(Code::BadRequest, "Sec-WebSocket-Key must be 16 bytes in base64"))
        }
        Err(Refused::Origin) => Err(Fault::new(Code::Forbidden, "this origin may not connect")),
        Err(Refused::Draining) => {
            Err(Fault::new(Code::Draining, "this instance sends clients elsewhere; reconnect"))
        }
        Err(refused) => {
            let fault =
                Fault::new(Code::BadRequest, "this address takes WebSockets of version 13 only");
            let mut response = respond::problem(&fault, None);
            if refused == Refused::Version {
                response
                    .headers_mut()
                    .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Ok(response)
        }
    }
}
