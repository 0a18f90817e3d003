//! Sessions: create, list, read, change, delete. Called by `router.rs`.

use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::body;
use super::respond::{self, Answered};
use super::token::{self, Caller};
use crate::auth;
use crate::domain::{Code as JoinCode, Seq, Session, SessionId, Timestamp};
use crate::limits::{
    CODES_TRIED, EXPECTED_PARTICIPANTS_MAX, SESSIONS_PAGE_DEFAULT, SESSIONS_PAGE_MAX,
    TITLE_CHARS_MAX,
};
use crate::store::StoreError;
use crate::store::control::{Change, NewSession, Outcome};
use crate::store::reads::PageEnd;
use crate::wire::json::{Object, Value};
use crate::wire::{Code, Fault, outbound};
use crate::ws::Edge;

pub(super) async fn create(edge: &Edge, request: &mut Request<Incoming>) -> Answered {
    token::operator(edge, request.headers())?;
    let mut body = body::read(request).await?;
    let object = Object::parse(&mut body)?;
    let title = object.words("title", TITLE_CHARS_MAX)?;
    let starts_at = object.nullable_time("starts_at")?.flatten();
    let expected_participants = expected(&object)?.flatten();
    let id = SessionId(Uuid::now_v7());
    let (presenter_token, presenter_hash) =
        auth::new_presenter_token(id).map_err(|_| no_random())?;
    loop {
        let codes = (0..CODES_TRIED)
            .map(|_| auth::random_code())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| no_random())?;
        let new = NewSession {
            id,
            codes: &codes,
            title,
            starts_at,
            expected_participants,
            presenter_hash,
        };
        let change = edge.store.create_session(&new).await?;
        // Of a hundred million codes, eight random ones taken means that drawing again will do.
        if change.outcome != Outcome::CodesTaken {
            let mut shown = shown(edge, &stored(change.body.as_deref())?, Seq(0), 0);
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("presenter_token".into(), json!(presenter_token));
            }
            return Ok(respond::json(201, shown.to_string()));
        }
    }
}

pub(super) async fn list(edge: &Edge, request: &Request<Incoming>) -> Answered {
    token::operator(edge, request.headers())?;
    let limit = body::query_int(request, "limit", 1)?
        .unwrap_or(SESSIONS_PAGE_DEFAULT)
        .min(SESSIONS_PAGE_MAX);
    let after = body::query(request, "cursor").map(|cursor| read_cursor(&cursor)).transpose()?;
    let mut sessions = edge.store.sessions(after, limit + 1).await?;
    let more = i64::try_from(sessions.len()).is_ok_and(|count| count > limit);
    sessions.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let ids: Vec<SessionId> = sessions.iter().map(|(session, _)| session.id).collect();
    let present = edge.feed.participants(&ids).await?;
    let show = |(session, last_seq): &(Session, Seq)| {
        shown(edge, session, *last_seq, present.get(&session.id).copied().unwrap_or(0))
    };
    let mut page = json!({ "sessions": sessions.iter().map(show).collect::<Vec<_>>() });
    if let (true, Some((last, _)), Some(fields)) = (more, sessions.last(), page.as_object_mut()) {
        fields.insert("next_cursor".into(), json!(cursor(last.created_at, last.id)));
    }
    Ok(respond::json(200, page.to_string()))
}

pub(super) async fn get(edge: &Edge, request: &Request<Incoming>, id: SessionId) -> Answered {
    let row = match token::caller(edge, token::bearer(request.headers()), id).await? {
        Caller::Presenter(row) => row,
        Caller::Participant(_) => Box::new(edge.store.session(id).await?.ok_or_else(missing)?),
    };
    let present = present(edge, id).await?;
    Ok(respond::json(200, shown(edge, &row.session, row.last_seq, present).to_string()))
}

pub(super) async fn patch(edge: &Edge, request: &mut Request<Incoming>, id: SessionId) -> Answered {
    let row = token::presenter(edge, request.headers(), id).await?;
    let mut body = body::read(request).await?;
    let object = Object::parse(&mut body)?;
    let mut patch = serde_json::Map::new();
    if object.get("title").is_some() {
        patch.insert("title".into(), json!(object.words("title", TITLE_CHARS_MAX)?));
    }
    if let Some(starts_at) = object.nullable_time("starts_at")? {
        patch.insert("starts_at".into(), json!(starts_at));
    }
    if let Some(expected) = expected(&object)? {
        patch.insert("expected_participants".into(), json!(expected));
    }
    match object.optional_text("state")? {
        None => {}
        Some(state @ ("live" | "ended")) => {
            patch.insert("state".into(), json!(state));
        }
        Some(_) => return Err(Fault::field("state", "this must be live or ended")),
    }
    let change = edge.store.patch_session(id, &outbound::json(&patch)).await?;
    let last_seq = change.event.as_ref().map_or(row.last_seq, |event| event.seq);
    let body = done(edge, change).await?;
    let present = present(edge, id).await?;
    Ok(respond::json(200, shown(edge, &stored(body.as_deref())?, last_seq, present).to_string()))
}

pub(super) async fn delete(edge: &Edge, request: &Request<Incoming>, id: SessionId) -> Answered {
    token::presenter(edge, request.headers(), id).await?;
    let rows_left = done(edge, edge.store.delete_session(id).await?).await?.is_some();
    edge.feed.deleted(id);
    edge.hints.mark(id, Seq(i64::MAX)); // no event says so: others look, and find it gone
    if rows_left {
        edge.leftovers.notify_one();
    }
    Ok(respond::nothing())
}

/// Offers the event of a change and waits until this instance shows it; gives the thing changed, or the fault.
pub(super) async fn done(edge: &Edge, change: Change) -> Result<Option<String>, Fault> {
    if let Some(event) = change.event {
        let (session, seq) = (event.session, event.seq);
        (edge.offer.0)(event, Instant::now());
        edge.feed.settle(session, seq).await;
    }
    let fault = |code, detail: &'static str| Err(Fault::new(code, detail));
    match change.outcome {
        Outcome::Changed | Outcome::Unchanged => Ok(change.body),
        Outcome::NotFound => Err(missing()),
        Outcome::SessionEnded => fault(Code::SessionEnded, "the session has ended"),
        Outcome::NotDraft => {
            fault(Code::PollNotDraft, "the poll has been opened; only drafts can be changed")
        }
        Outcome::PollClosed => fault(Code::PollClosed, "the poll is not open"),
        Outcome::Full => fault(Code::Unprocessable, "a session may have 1,000 polls"),
        Outcome::Stale | Outcome::CodesTaken => {
            fault(Code::Overloaded, "somebody else changed it at the same time")
        }
    }
}

pub(super) fn missing() -> Fault {
    Fault::new(Code::NotFound, "there is no such session or poll")
}

/// Distinct participants with a stream on any instance.
pub(super) async fn present(edge: &Edge, session: SessionId) -> Result<usize, StoreError> {
    Ok(edge.feed.participants(&[session]).await?.remove(&session).unwrap_or(0))
}

fn shown(edge: &Edge, session: &Session, last_seq: Seq, participants: usize) -> serde_json::Value {
    outbound::session(session, participants, last_seq, &edge.feed.join_url(&session.code))
}

fn stored(body: Option<&str>) -> Result<Session, Fault> {
    body.and_then(|body| serde_json::from_str(body).ok())
        .ok_or_else(|| StoreError::Content("a change without its session").into())
}

fn expected(object: &Object<'_>) -> Result<Option<Option<i32>>, Fault> {
    if let Some(Value::Null) = object.get("expected_participants") {
        return Ok(Some(None));
    }
    let number = object.optional_int("expected_participants", 0, EXPECTED_PARTICIPANTS_MAX)?;
    Ok(number.map(|number| i32::try_from(number).ok()))
}

fn no_random() -> Fault {
    tracing::error!("the operating system has no random bytes");
    Fault::new(Code::Overloaded, "the server cannot do that right now; try again")
}

/// `{milliseconds since 1970}.{id}`: nothing secret, and URL-safe.
pub(super) fn cursor(created_at: Timestamp, id: SessionId) -> String {
    format!("{}.{id}", created_at.0.unix_timestamp_nanos() / 1_000_000)
}

pub(super) fn read_cursor(text: &str) -> Result<PageEnd, Fault> {
    let parse = || {
        let (ms, id) = text.split_once('.')?;
        let nanos = ms.parse::<i64>().ok()?;
        let at =
            time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos) * 1_000_000).ok()?;
        Some(PageEnd { created_at: Timestamp(at), id: SessionId(Uuid::try_parse(id).ok()?) })
    };
    parse().ok_or_else(|| Fault {
        field: Some("cursor"),
        ..Fault::new(Code::BadRequest, "this is no cursor of ours")
    })
}

/// Reads a join code as typed.
pub(super) fn code(object: &Object<'_>) -> Result<JoinCode, Fault> {
    JoinCode::parse(object.text("code")?)
        .ok_or_else(|| Fault::field("code", "a code has eight digits"))
}
