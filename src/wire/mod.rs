//! Between bytes and messages: frames, JSON, and the one table of error and close codes. Synchronous, no I/O.
//! Used by `ws` and `http` for what they read and write, and by `feed` for events.

pub mod frame;
pub mod inbound;
pub mod json;
pub mod outbound;

use std::borrow::Cow;

use crate::domain::Verdict;

/// Error codes of the protocol, for REST problems and for WebSocket `error` messages alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The message or request cannot be read.
    BadRequest,
    /// No token, or none of ours.
    InvalidToken,
    /// The token does not reach that far.
    Forbidden,
    /// Nothing there.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// The poll has been opened before.
    PollNotDraft,
    /// The poll takes no votes.
    PollClosed,
    /// Another vote of this participant counts.
    AlreadyVoted,
    /// The session is over.
    SessionEnded,
    /// More than the limit.
    PayloadTooLarge,
    /// Read, but it cannot be so.
    Unprocessable,
    /// Too many of them.
    RateLimited,
    /// The queue is full.
    Overloaded,
    /// The instance is going away.
    Draining,
    /// The database does not answer.
    DatabaseUnavailable,
}

impl Code {
    /// As it stands in `code`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::InvalidToken => "invalid_token",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::PollNotDraft => "poll_not_draft",
            Self::PollClosed => "poll_closed",
            Self::AlreadyVoted => "already_voted",
            Self::SessionEnded => "session_ended",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Unprocessable => "unprocessable",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::DatabaseUnavailable => "database_unavailable",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::InvalidToken => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::PollNotDraft | Self::PollClosed | Self::AlreadyVoted | Self::SessionEnded => 409,
            Self::PayloadTooLarge => 413,
            Self::Unprocessable => 422,
            Self::RateLimited => 429,
            Self::Overloaded | Self::Draining | Self::DatabaseUnavailable => 503,
        }
    }

    /// What it means, in a few words; the `title` of a problem.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request could not be read",
            Self::InvalidToken => "The token is missing or not valid",
            Self::Forbidden => "This token may not do that",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "This address has no such method",
            Self::PollNotDraft => "The poll has already been opened",
            Self::PollClosed => "The poll is closed",
            Self::AlreadyVoted => "Another vote of yours counts in this poll",
            Self::SessionEnded => "The session has ended",
            Self::PayloadTooLarge => "The request is too large",
            Self::Unprocessable => "The request does not fit",
            Self::RateLimited => "Too many requests",
            Self::Overloaded => "The server is busy",
            Self::Draining => "This instance is shutting down",
            Self::DatabaseUnavailable => "Votes cannot be stored right now",
        }
    }
}

/// Close codes of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Close {
    /// Done.
    Done = 1000,
    /// Draining or shutting down: reconnect.
    GoingAway = 1001,
    /// Against RFC 6455.
    Protocol = 1002,
    /// A text message that is not UTF-8.
    NotUtf8 = 1007,
    /// A message over the limit.
    TooLarge = 1009,
    /// The database does not answer: reconnect.
    TryLater = 1013,
    /// Not a message of this protocol.
    Malformed = 4400,
    /// Forged, truncated, or of another session.
    InvalidToken = 4401,
    /// No such session.
    NoSession = 4404,
    /// No `hello` in time.
    NoHello = 4408,
    /// The session was deleted.
    Deleted = 4410,
    /// Too far behind: reconnect with `after`.
    Lagging = 4413,
    /// Too many messages or failed joins.
    TooMany = 4429,
    /// The instance is full: reconnect, another instance.
    Full = 4503,
}

impl Close {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reason on the wire: under 123 bytes, plain English.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::GoingAway => "this instance is going away: reconnect",
            Self::Protocol => "against the WebSocket protocol",
            Self::NotUtf8 => "a text message must be UTF-8",
            Self::TooLarge => "a message may have 16,384 bytes",
            Self::TryLater => "the server cannot answer right now: reconnect later",
            Self::Malformed => "not a message of this protocol",
            Self::InvalidToken => "the token is not valid",
            Self::NoSession => "there is no such session",
            Self::NoHello => "no hello within 5 s",
            Self::Deleted => "the session was deleted",
            Self::Lagging => "too far behind: reconnect with after",
            Self::TooMany => "too many messages or failed joins: reconnect later",
            Self::Full => "this instance is full: reconnect to another",
        }
    }
}

/// What a client is told when something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code.
    pub code: Code,
    /// What to do about it, in plain English; never text of the client's.
    pub detail: Cow<'static, str>,
    /// The name of the field at fault.
    pub field: Option<&'static str>,
    /// Only where the same call can succeed later.
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// A fault with a detail of its own.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let retry_after_ms = match code {
            Code::RateLimited | Code::Overloaded | Code::DatabaseUnavailable => Some(1_000),
            Code::Draining => Some(500),
            _ => None,
        };
        Self { code, detail: detail.into(), field: None, retry_after_ms }
    }

    /// A fault of one field.
    #[must_use]
    pub fn field(field: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field), ..Self::new(Code::Unprocessable, detail) }
    }

    /// The same, with a time to come back.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// What a voter is told of a vote that was not stored. `None` where it is stored.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        Some(match verdict {
            Verdict::Accepted { .. } | Verdict::Repeat { .. } => return None,
            Verdict::AlreadyVoted { .. } => {
                Self::new(Code::AlreadyVoted, "you have voted in this poll; that vote counts")
            }
            Verdict::PollClosed => Self::new(Code::PollClosed, "the poll is closed"),
            Verdict::SessionEnded => Self::new(Code::SessionEnded, "the session has ended"),
            Verdict::NotFound => Self::new(Code::NotFound, "there is no such poll"),
            Verdict::Unprocessable => Self {
                field: Some("answer"),
                ..Self::new(Code::Unprocessable, "the poll does not take such an answer")
            },
            Verdict::Overloaded { retry_after_ms } => {
                Self::new(Code::Overloaded, "too many votes are waiting; send it again")
                    .retry_after(*retry_after_ms)
            }
            Verdict::Draining => Self::new(
                Code::Draining,
                "this instance is shutting down; reconnect and send it again",
            ),
            Verdict::DatabaseUnavailable => Self::new(
                Code::DatabaseUnavailable,
                "the vote may not be stored yet; send it again with the same id",
            ),
        })
    }
}
