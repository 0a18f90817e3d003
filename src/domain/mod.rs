//! The words of a live poll: ids, sessions, polls, votes, events, and the rules between them. No I/O, no tokio, no SQL.
//! Used by every other room; imports none of them.

mod event;
mod poll;
mod session;
mod time;
mod vote;

pub use event::{Audience, EventKind, LoggedEvent};
pub use poll::{Draft, Poll, PollKind, PollState, Results, ResultsMode};
pub use session::{Code, Session, SessionState};
pub use time::Timestamp;
pub use vote::{Answer, Ballot, Verdict, Vote};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// Names a session; made by the instance that creates it.
    SessionId
);
id!(
    /// Names a participant within their session; made by join, carried by their token.
    ParticipantId
);
id!(
    /// Names a vote; chosen by the client, so that the same vote can be sent again.
    VoteId
);

/// The number of a poll within its session: 1, 2, 3 …, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollNumber(pub i32);

/// The number of an event within its session: 1, 2, 3 … without a hole; 0 is "before the first".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The only number that may follow this one in the log.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for PollNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
