//! Who calls: reads the bearer token and says what it stands for on this session. Used by handlers, before a body is read.

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::sessions;
use crate::auth::{self, Token};
use crate::domain::{Audience, ParticipantId, SessionId};
use crate::store::reads::SessionRow;
use crate::wire::{Code, Fault};
use crate::ws::{Edge, is_of_another_site};

/// Who calls, on one session.
#[derive(Debug)]
pub(super) enum Caller {
    /// Its presenter; the session was read to know it.
    Presenter(Box<SessionRow>),
    /// One of its participants. Whether the session still exists is not known yet.
    Participant(ParticipantId),
}

impl Caller {
    pub(super) fn audience(&self) -> Audience {
        match self {
            Self::Presenter(_) => Audience::Presenters,
            Self::Participant(_) => Audience::Participants,
        }
    }
}

fn invalid() -> Fault {
    Fault::new(Code::InvalidToken, "a valid token is needed, as Authorization: Bearer …")
}

/// The text after `Bearer`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let header = std::str::from_utf8(headers.get(AUTHORIZATION)?.as_bytes()).ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks the API key, where one is set. Where none is, a page of another site must not do what whoever looks at it may.
///
/// # Errors
/// `invalid_token`, `forbidden`.
pub(super) fn operator(edge: &Edge, headers: &HeaderMap) -> Result<(), Fault> {
    let Some(key) = &edge.rules.api_key else {
        let refused = is_of_another_site(headers);
        let fault = || Fault::new(Code::Forbidden, "pages of other sites may not do this");
        return if refused { Err(fault()) } else { Ok(()) };
    };
    match bearer(headers) {
        Some(given) if auth::same_key(key, given) => Ok(()),
        _ => Err(invalid()),
    }
}

/// Who calls on this session.
///
/// # Errors
/// `invalid_token`; `database_unavailable` where a presenter cannot be told.
pub(super) async fn caller(
    edge: &Edge,
    token: Option<&str>,
    session: SessionId,
) -> Result<Caller, Fault> {
    match token.and_then(|token| edge.read_token(token)) {
        Some(Token::Participant { session: of, participant }) if of == session => {
            Ok(Caller::Participant(participant))
        }
        Some(Token::Presenter { session: of, hash }) if of == session => {
            match edge.store.session(session).await? {
                Some(row) if auth::same_hash(&row.presenter_hash, &hash) => {
                    Ok(Caller::Presenter(Box::new(row)))
                }
                _ => Err(invalid()),
            }
        }
        _ => Err(invalid()),
    }
}

/// Who calls, where only the presenter may.
///
/// # Errors
/// As [`caller`]; `forbidden` for participants, `not_found` where their session is gone.
pub(super) async fn presenter(
    edge: &Edge,
    headers: &HeaderMap,
    session: SessionId,
) -> Result<Box<SessionRow>, Fault> {
    match caller(edge, bearer(headers), session).await? {
        Caller::Presenter(row) => Ok(row),
        Caller::Participant(_) if edge.store.session(session).await?.is_none() => {
            Err(sessions::missing())
        }
        Caller::Participant(_) => {
            Err(Fault::new(Code::Forbidden, "only the presenter may do that"))
        }
    }
}

/// Who calls, where only participants may.
///
/// # Errors
/// As [`caller`]; `forbidden` for the presenter.
pub(super) async fn participant(
    edge: &Edge,
    headers: &HeaderMap,
    session: SessionId,
) -> Result<ParticipantId, Fault> {
    match caller(edge, bearer(headers), session).await? {
        Caller::Participant(id) => Ok(id),
        Caller::Presenter(_) => Err(Fault::new(Code::Forbidden, "a presenter does not vote")),
    }
}

/// The token that a join brings along, if it does: `None` where there is no header.
///
/// # Errors
/// `invalid_token` for anything but a participant's.
pub(super) fn returning(
    edge: &Edge,
    headers: &HeaderMap,
) -> Result<Option<(SessionId, ParticipantId)>, Fault> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    match bearer(headers).and_then(|token| edge.read_token(token)) {
        Some(Token::Participant { session, participant }) => Ok(Some((session, participant))),
        _ => Err(invalid()),
    }
}
