//! The visible state of a session: a pure fold of its log. Snapshot of the database at `seq`, then event after event.
//! No I/O, no clock. Owned by `watched.rs`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::{
    Audience, EventKind, LoggedEvent, Poll, PollNumber, Results, ResultsMode, Seq, Session,
};
use crate::mutation::mutation;
use crate::store::log::Snapshot;

/// The state as of `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveState {
    /// The newest event in it.
    pub seq: Seq,
    /// As stored then.
    pub session: Session,
    polls: BTreeMap<PollNumber, Poll>,
    results: BTreeMap<PollNumber, Results>,
    /// The newest `poll.results` of each poll.
    results_seqs: BTreeMap<PollNumber, Seq>,
}

/// The event cannot follow this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Already in it.
    Known,
    /// Others are missing before it.
    Gap,
    /// Its data does not read.
    Unreadable,
}

#[derive(Deserialize)]
struct ClosedPoll {
    poll: Poll,
    results: Results,
}

impl From<Snapshot> for LiveState {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            seq: snapshot.seq,
            session: snapshot.session,
            polls: snapshot.polls.into_iter().map(|poll| (poll.n, poll)).collect(),
            results: snapshot.results.into_iter().map(|results| (results.poll, results)).collect(),
            results_seqs: snapshot.results_seqs.into_iter().collect(),
        }
    }
}

impl LiveState {
    /// Takes the next event. Says of which poll it moved the counts, if that is all it did.
    ///
    /// # Errors
    /// [`Unfit`]; the state is unchanged then.
    pub fn apply(&mut self, event: &LoggedEvent) -> Result<Option<PollNumber>, Unfit> {
        if event.seq <= self.seq {
            mutation!("known_is_taken", return self.fold(event));
            return Err(Unfit::Known);
        }
        if event.seq != self.seq.next() {
            mutation!("gap_is_taken", return self.fold(event));
            return Err(Unfit::Gap);
        }
        self.fold(event)
    }

    fn fold(&mut self, event: &LoggedEvent) -> Result<Option<PollNumber>, Unfit> {
        let mut counted = None;
        match event.kind {
            EventKind::SessionUpdated | EventKind::SessionEnded => {
                self.session = read(&event.data)?
            }
            EventKind::PollOpened => {
                let poll: Poll = read(&event.data)?;
                // Votes of an earlier opening stay.
                self.results.entry(poll.n).or_insert_with(|| Results::zero(&poll, event.seq));
                self.polls.insert(poll.n, poll);
            }
            EventKind::PollClosed => {
                let closed: ClosedPoll = read(&event.data)?;
                self.results.insert(closed.poll.n, closed.results);
                self.polls.insert(closed.poll.n, closed.poll);
            }
            EventKind::PollResults => {
                let results: Results = read(&event.data)?;
                counted = Some(results.poll);
                self.results_seqs.insert(results.poll, event.seq);
                self.results.insert(results.poll, results);
            }
            EventKind::Other(_) => {}
        }
        self.seq = event.seq;
        Ok(counted)
    }

    /// Whether it knows the poll, which it does from its first opening on.
    pub fn has_poll(&self, poll: PollNumber) -> bool {
        self.polls.contains_key(&poll)
    }

    /// Polls that were ever opened, by number.
    pub fn polls(&self) -> impl Iterator<Item = &Poll> {
        self.polls.values()
    }

    /// The results that this audience may see now, by number of the poll.
    pub fn results_for(&self, audience: Audience) -> impl Iterator<Item = &Results> {
        self.polls
            .values()
            .filter(move |poll| poll.results_visible_to(audience))
            .filter_map(|poll| self.results.get(&poll.n))
    }

    /// Whether this audience is shown the newest event: all but results of polls that are not counted before its eyes.
    pub fn newest_is_shown_to(&self, audience: Audience) -> bool {
        let newest = self.results_seqs.iter().find(|(_, seq)| **seq == self.seq);
        audience == Audience::Presenters
            || newest
                .and_then(|(poll, _)| self.polls.get(poll))
                .is_none_or(|poll| poll.results == ResultsMode::Live)
    }

    /// The newest `poll.results` of each poll: the only ones that a replay shows.
    pub fn results_seqs(&self) -> Vec<i64> {
        self.results_seqs.values().map(|seq| seq.0).filter(|seq| *seq > 0).collect()
    }
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Unfit> {
    serde_json::from_str(data).map_err(|_| Unfit::Unreadable)
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
