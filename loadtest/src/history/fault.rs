//! What a check can find: one rule of the protocol's part 5, and where it was broken. Must never hold a fault without the
//! place where to look. Made by `check`, `counts` and `views`.

use std::fmt;

/// The rules, each of which has a test with a history that breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// An acked vote is stored.
    AckedIsStored,
    /// A stored vote is the one that was cast, field by field.
    StoredAsCast,
    /// What is stored was cast by somebody.
    StoredWasCast,
    /// One vote per participant and poll; one row per vote.
    OneVote,
    /// A refused vote is not stored.
    RefusedIsNotStored,
    /// An ack names the event that first counted the vote, the same one each time.
    AckNamesItsEvent,
    /// Results at every `seq` equal a recount of the votes up to it.
    CountsAreExact,
    /// The log counts 1, 2, 3 … without a hole.
    LogIsGapless,
    /// Nothing is accepted after a close.
    CloseIsFinal,
    /// Every client was sent what the log holds.
    SameHistory,
    /// Every client was sent all of it, in order: only results that newer ones stand in for are left out.
    NothingMissed,
    /// What a client knows in the end is what the server holds.
    FinalState,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub rule: Rule,
    /// Where, in words.
    pub what: String,
}

impl Fault {
    pub(super) fn new(rule: Rule, what: String) -> Fault {
        Fault { rule, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.rule, self.what)
    }
}
