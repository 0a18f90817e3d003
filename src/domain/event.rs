//! Events as they are logged, and what of them each audience may see.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Seq, SessionId, Timestamp};

/// Who looks on. Every event is encoded once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Whoever holds a participant token.
    Participants,
    /// Whoever holds the presenter token.
    Presenters,
}

impl Audience {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Participants, Self::Presenters];
}

/// The longest name of a kind of event that a later release may have.
const KIND_BYTES_MAX: usize = 40;

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Title, time or state changed.
    SessionUpdated,
    /// The session is over.
    SessionEnded,
    /// A poll takes votes.
    PollOpened,
    /// A poll takes none any more.
    PollClosed,
    /// Counts moved. Cumulative: a newer one of the same poll stands in for older ones.
    PollResults,
    /// One of a later release, whose instances run beside this one: handed on as it is, and of no consequence here.
    Other(Arc<str>),
}

impl EventKind {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => known.label(),
        }
    }

    /// For metrics: as shown, but one word for all that are unknown.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::SessionUpdated => "session.updated",
            Self::SessionEnded => "session.ended",
            Self::PollOpened => "poll.opened",
            Self::PollClosed => "poll.closed",
            Self::PollResults => "poll.results",
            Self::Other(_) => "other",
        }
    }

    /// Reads what [`EventKind::as_str`] writes. `None` where no release could have written it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::SessionUpdated,
            Self::SessionEnded,
            Self::PollOpened,
            Self::PollClosed,
            Self::PollResults,
        ]
        .into_iter()
        .find(|kind| kind.label() == text)
        .or_else(|| {
            let is_name = text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'.' | b'_'));
            (is_name && (1..=KIND_BYTES_MAX).contains(&text.len()))
                .then(|| Self::Other(text.into()))
        })
    }
}

/// One event of the log.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// Of which session.
    pub session: SessionId,
    /// Its place in the session's order.
    pub seq: Seq,
    /// When it was logged, by the database's clock.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// Participants do not see the results in it.
    pub results_hidden: bool,
    /// What presenters see: JSON, fixed when it was stored.
    pub data: Arc<str>,
}

#[derive(Deserialize)]
struct ClosedPoll<'a> {
    #[serde(borrow)]
    poll: &'a RawValue,
}

impl LoggedEvent {
    /// The data that `audience` sees; `None` where it does not see the event at all.
    #[must_use]
    pub fn data_for(&self, audience: Audience) -> Option<Cow<'_, str>> {
        if audience == Audience::Presenters || !self.results_hidden {
            return Some(Cow::Borrowed(&self.data));
        }
        match self.kind {
            EventKind::PollResults | EventKind::Other(_) => None,
            // Should the stored data not read, nothing is shown rather than too much.
            EventKind::PollClosed => serde_json::from_str::<ClosedPoll<'_>>(&self.data)
                .ok()
                .map(|closed| Cow::Owned(format!("{{\"poll\":{}}}", closed.poll.get()))),
            _ => Some(Cow::Borrowed(&self.data)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, data: &str) -> LoggedEvent {
        LoggedEvent {
            session: SessionId(uuid::Uuid::nil()),
            seq: Seq(1),
            at: Timestamp::now(),
            kind,
            results_hidden: true,
            data: data.into(),
        }
    }

    #[test]
    fn participants_see_a_closed_poll_without_hidden_results() {
        let closed =
            event(EventKind::PollClosed, r#"{"poll" : {"n":1}, "results" : {"counts":[1]}}"#);
        assert_eq!(closed.data_for(Audience::Participants).as_deref(), Some(r#"{"poll":{"n":1}}"#));
        assert!(closed.data_for(Audience::Presenters).is_some_and(|data| data.contains("counts")));
    }

    #[test]
    fn participants_do_not_see_hidden_results_at_all() {
        let results = event(EventKind::PollResults, r#"{"counts":[1]}"#);
        assert_eq!(results.data_for(Audience::Participants), None);
    }
}
