//! From when the delivery of an event is counted, and by whose clock. Used by everyone in this room.

use tokio::time::Instant;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A commit of this instance offered it: counted from that commit.
    Own,
    /// It was read from the log: counted from its time there, which is the database's.
    Other,
}

impl Source {
    /// The value of the metric's label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
        }
    }
}

/// When an event was committed, as far as this instance knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) at: Instant,
    pub(super) source: Source,
}

impl Since {
    /// Of two, the one that waited longer.
    pub(super) fn earlier(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }
}
