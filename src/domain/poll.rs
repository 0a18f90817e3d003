//! Polls, their drafts and their results, with the rule of who sees counts, and when.

use serde::{Deserialize, Serialize};

use super::{Audience, PollNumber, Seq, Timestamp};

/// One question of a session. Serialises to the `poll` of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Its number.
    pub n: PollNumber,
    /// What kind of answer it takes.
    pub kind: PollKind,
    /// 1–300 code points.
    pub question: String,
    /// 2–50 options of a choice; none for a rating.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub options: Option<Vec<String>>,
    /// How many options one answer may name; 1 for a rating.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_choices: Option<i32>,
    /// Highest step of a rating; none for a choice.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max: Option<i32>,
    /// Who sees counts, and when.
    pub results: ResultsMode,
    /// Where it is in its life.
    pub state: PollState,
    /// When it was opened last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub opened_at: Option<Timestamp>,
    /// When it was closed, while it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed_at: Option<Timestamp>,
}

impl Poll {
    /// Whether this audience may see the counts of this poll as it is now.
    #[must_use]
    pub fn results_visible_to(&self, audience: Audience) -> bool {
        match (audience, self.results) {
            (Audience::Presenters, _) | (Audience::Participants, ResultsMode::Live) => true,
            (Audience::Participants, ResultsMode::AfterClose) => self.state == PollState::Closed,
            (Audience::Participants, ResultsMode::Presenter) => false,
        }
    }
}

/// What a presenter writes; every draft that exists has passed `wire`'s checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What kind of answer it takes.
    pub kind: PollKind,
    /// 1–300 code points.
    pub question: String,
    /// Empty for a rating.
    pub options: Vec<String>,
    /// How many counts it has: options, or steps of the rating.
    pub size: i32,
    /// 1 for a rating.
    pub max_choices: i32,
    /// Who sees counts, and when.
    pub results: ResultsMode,
}

/// What kind of answer a poll takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollKind {
    /// One or several of its options.
    Choice,
    /// A number from 1 to its max.
    Rating,
}

/// Where a poll is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollState {
    /// Only presenters see it.
    Draft,
    /// It takes votes.
    Open,
    /// It takes none; it may be opened again.
    Closed,
}

/// Who sees counts, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultsMode {
    /// Everybody, at any time.
    Live,
    /// Participants only while the poll is closed.
    AfterClose,
    /// Presenters only.
    Presenter,
}

impl PollKind {
    /// As stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Choice => "choice",
            Self::Rating => "rating",
        }
    }
}

impl ResultsMode {
    /// As stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::AfterClose => "after_close",
            Self::Presenter => "presenter",
        }
    }
}

/// The counts of a poll up to `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// Of which poll.
    pub poll: PollNumber,
    /// The newest event that shows these counts.
    pub seq: Seq,
    /// How many voted.
    pub votes: i64,
    /// How many chose each option, or each step of a rating.
    pub counts: Vec<i64>,
}

impl Results {
    /// No votes yet.
    #[must_use]
    pub fn zero(poll: &Poll, seq: Seq) -> Self {
        let size = match (&poll.options, poll.max) {
            (Some(options), _) => options.len(),
            (None, max) => max.and_then(|max| usize::try_from(max).ok()).unwrap_or(0),
        };
        Self { poll: poll.n, seq, votes: 0, counts: vec![0; size] }
    }
}
