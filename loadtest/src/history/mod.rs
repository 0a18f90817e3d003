//! What clients did and saw, line by line, and what the server holds in the end: the evidence from which `check` finds a
//! broken promise. Must never leave out what a client was told, nor add what it was not.
//! Written by whoever drives clients: the integration tests and the fault runs.
//!
//! ```text
//! invoke ─► ok | refused | unknown      one vote, any number of tries
//! seen, final                           one client's view of a session
//! stored, logged                        what the server holds once it is quiet
//! ```

#![allow(clippy::indexing_slicing, reason = "a JSON value answers null for what it does not hold")]

mod check;
mod counts;
mod fault;
mod read;
mod views;

pub use check::check;
pub use fault::{Fault, Rule};
pub use read::{HistoryError, read, write};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What a voter chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// Options of a choice, counted from 0.
    Choices(Vec<usize>),
    /// A step of a rating, counted from 1.
    Rating(usize),
}

/// One vote as its voter means it; the id stays the same over all tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cast {
    /// Chosen by the client.
    pub id: Uuid,
    /// Number of the poll.
    pub poll: u32,
    /// Who votes.
    pub participant: Uuid,
    /// What is chosen.
    pub answer: Answer,
}

/// One vote as the database or an export holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The vote.
    #[serde(flatten)]
    pub cast: Cast,
    /// The event that first counted it.
    pub seq: u64,
}

/// One event as the log holds it, whole, as a presenter may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// Its number within the session.
    pub seq: u64,
    /// As in the protocol.
    pub kind: String,
    /// As in the protocol.
    pub data: Value,
}

/// What a client knows of a session: its polls and the newest results of each, by number.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Every poll that was ever opened.
    pub polls: std::collections::BTreeMap<u32, Value>,
    /// Results that the client may see.
    pub results: std::collections::BTreeMap<u32, Value>,
    /// Goes on seeing the counts of a poll that shows them after its close, when it opens again.
    #[serde(default)]
    pub presenter: bool,
}

/// One line of a history. All lines of one history speak of one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", content = "of", rename_all = "snake_case")]
pub enum Line {
    /// A vote is sent, for the first time or again.
    Invoke(Cast),
    /// It was acked.
    Ok {
        /// Which vote.
        id: Uuid,
        /// The event that first counted it, as the ack says.
        seq: u64,
    },
    /// It was refused.
    Refused {
        /// Which vote.
        id: Uuid,
        /// The code of the protocol.
        code: String,
    },
    /// No answer came: it may be stored or not.
    Unknown {
        /// Which vote.
        id: Uuid,
    },
    /// A client was welcomed, and knows everything up to `seq`. `resumed`: events between the one it named and the head follow.
    Welcome {
        /// Which client.
        client: u32,
        /// As in the protocol.
        seq: u64,
        /// As in the protocol.
        resumed: bool,
    },
    /// A client was sent an event.
    Seen {
        /// Which client.
        client: u32,
        /// As in the protocol.
        seq: u64,
        /// As in the protocol.
        prev: u64,
        /// What [`digest`] makes of its kind and data.
        digest: u64,
    },
    /// What a client knows when all is over.
    Final {
        /// Which client.
        client: u32,
        /// Sees counts that participants do not.
        presenter: bool,
        /// What it put together from welcome and events.
        state: State,
    },
    /// A vote that the server holds.
    Stored(Stored),
    /// An event that the server holds, in order.
    Logged(Logged),
}

/// A history, in the order of its lines.
pub type History = Vec<Line>;

/// Stands for an event's kind and data, whatever the order of fields: FNV-1a, 64 bits, over sorted JSON. Told apart must be
/// what differs by a fault, not what an attacker makes.
#[must_use]
pub fn digest(kind: &str, data: &Value) -> u64 {
    // serde_json keeps the fields of a map sorted.
    let text = format!("{kind} {data}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl State {
    /// What a welcome tells.
    #[must_use]
    pub fn welcomed(welcome: &Value) -> State {
        // A participant's welcome names the participant.
        let presenter = welcome["participant"].is_null();
        let mut state = State { presenter, ..State::default() };
        for poll in welcome["polls"].as_array().into_iter().flatten() {
            if poll["state"] != "draft" {
                state.polls.insert(number(&poll["n"]), poll.clone());
            }
        }
        for results in welcome["results"].as_array().into_iter().flatten() {
            state.results.insert(number(&results["poll"]), results.clone());
        }
        state
    }

    /// Takes in one event, as the protocol tells a client to.
    pub fn apply(&mut self, kind: &str, data: &Value) {
        match kind {
            "poll.opened" => {
                let poll = number(&data["n"]);
                if data["results"] == "after_close" && !self.presenter {
                    self.results.remove(&poll);
                }
                self.polls.insert(poll, data.clone());
            }
            "poll.closed" => {
                let poll = number(&data["poll"]["n"]);
                self.polls.insert(poll, data["poll"].clone());
                if !data["results"].is_null() {
                    self.results.insert(poll, data["results"].clone());
                }
            }
            "poll.results" => {
                self.results.insert(number(&data["poll"]), data.clone());
            }
            _ => {}
        }
    }
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
