//! The log of a session by REST. Called by `router.rs`.

use hyper::Request;
use hyper::body::Incoming;

use super::respond::{self, Answered};
use super::{body, sessions, token};
use crate::domain::{Audience, SessionId};
use crate::limits::EVENTS_PAGE_MAX;
use crate::wire::outbound;
use crate::ws::Edge;

pub(super) async fn page(edge: &Edge, request: &Request<Incoming>, session: SessionId) -> Answered {
    let audience = token::caller(edge, token::bearer(request.headers()), session).await?.audience();
    let after = body::query_int(request, "after", 0)?.unwrap_or(0);
    let limit =
        body::query_int(request, "limit", 1)?.unwrap_or(EVENTS_PAGE_MAX).min(EVENTS_PAGE_MAX);
    // Read first, and of the primary: the page may come from a replica that has everything up to there.
    let head = edge.store.head(session).await?.ok_or_else(sessions::missing)?;
    let all = audience == Audience::Presenters;
    let events = edge.store.events(session, (after, head.last), all, limit).await?;
    let items: Vec<String> =
        events.iter().filter_map(|event| outbound::event_item(event, audience)).collect();
    let body = format!(
        r#"{{"events":[{}],"last_seq":{},"oldest_seq":{}}}"#,
        items.join(","),
        head.last,
        head.oldest
    );
    Ok(respond::json(200, body))
}
