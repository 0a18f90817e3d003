//! Votes and what the database says of them.

use serde::Serialize;

use super::{ParticipantId, PollNumber, Seq, SessionId, VoteId};

/// What a participant answers. Serialises to the `answer` of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Options by index, in the order given.
    Choices(Vec<i16>),
    /// A step of a rating, from 1.
    Rating(i16),
}

/// An answer as it was received: well formed, though perhaps not one that its poll takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ballot {
    /// May be stored if its poll takes it.
    Answer(Answer),
    /// Fits no poll (no choice at all, one twice, out of every range). It still goes to the database, which alone knows
    /// whether a vote with its id is stored already.
    Unfit,
}

/// One vote on its way to the database.
#[derive(Clone, Debug)]
pub struct Vote {
    /// In which session.
    pub session: SessionId,
    /// In which poll.
    pub poll: PollNumber,
    /// By whom.
    pub participant: ParticipantId,
    /// Its name.
    pub id: VoteId,
    /// What it says.
    pub ballot: Ballot,
}

/// What became of a vote. Only the first two mean that it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stored now; first counted by the event `seq`.
    Accepted {
        /// The event that first counts it.
        seq: Seq,
    },
    /// Stored before, under the same id.
    Repeat {
        /// The event that first counted it.
        seq: Seq,
    },
    /// Another vote of this participant stands in this poll.
    AlreadyVoted {
        /// The one that counts.
        stored: Answer,
    },
    /// The poll takes no votes now.
    PollClosed,
    /// The session is over.
    SessionEnded,
    /// No such poll, or a draft.
    NotFound,
    /// The poll does not take such an answer.
    Unprocessable,
    /// Refused before anything was tried: come back after so many milliseconds.
    Overloaded {
        /// From the age of the queue.
        retry_after_ms: u64,
    },
    /// The instance is going away: reconnect and send it again.
    Draining,
    /// Stored or not, nobody knows yet: send it again with the same id.
    DatabaseUnavailable,
}
