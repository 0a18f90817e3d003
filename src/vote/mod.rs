//! The write path: takes votes, group-commits them, answers each one after the commit. Never answers before, never waits
//! for a socket, never looks at live state.
//!
//! ```text
//! cast ─► lane inbox (bounded) ─► batcher (takes what waits) ─► commit ─► PostgreSQL
//!   └ full, or too slow: overloaded                                └► events offered, then answers
//! ```
//! Called by `ws/reader.rs` and `http/votes.rs`. What it commits reaches clients through the log, like everybody else's.

mod batcher;
mod commit;
mod pace;
mod promises;
mod reply;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use reply::{Answers, Reply, outcome};

use pace::Pace;

use crate::domain::{LoggedEvent, Verdict, Vote};
use crate::drain::{Drain, Phase};
use crate::limits::LANE_VOTES_MAX;
use crate::metrics::Metrics;
use crate::store::connection::Database;

/// Where committed events are offered, with the moment of their commit; it must not wait.
#[derive(Clone)]
pub struct Offer(pub Arc<dyn Fn(LoggedEvent, Instant) + Send + Sync>);

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offer")
    }
}

/// A vote that waits for its batch.
#[derive(Debug)]
struct Waiting {
    vote: Vote,
    reply: Reply,
    since: Instant,
}

/// The way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Votes {
    lanes: Arc<[Lane]>,
    /// The same session, the same lane, in every run.
    hash: BuildHasherDefault<DefaultHasher>,
    drain: Drain,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Lane {
    inbox: mpsc::Sender<Waiting>,
    pace: Arc<Pace>,
}

impl Votes {
    /// Starts `lanes` lanes; each opens its own connection to `database`.
    #[must_use]
    pub fn start(
        database: &Database,
        lanes: usize,
        drain: &Drain,
        metrics: &Arc<Metrics>,
        offer: &Offer,
    ) -> Self {
        let lanes = (0..lanes)
            .map(|_| {
                let (inbox, votes) = mpsc::channel(LANE_VOTES_MAX);
                let pace = Arc::new(Pace::new());
                let committer = commit::Committer::new(
                    database.clone(),
                    drain.clone(),
                    metrics.clone(),
                    offer.clone(),
                    pace.clone(),
                );
                let batcher = batcher::Batcher::new(votes, drain.clone(), metrics.clone());
                drain.spawn_vital("vote lane", batcher.run(committer));
                Lane { inbox, pace }
            })
            .collect();
        Self {
            lanes,
            hash: BuildHasherDefault::new(),
            drain: drain.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Takes a vote and answers `to` when it is known what became of it: after the commit, or at once where the vote is
    /// refused. Never waits.
    pub fn cast(&self, vote: Vote, to: Arc<dyn Answers>) {
        let reply = Reply::new(&vote, to, self.metrics.clone());
        if self.drain.phase() == Phase::Stopping {
            return reply.answer_now(&Verdict::Draining);
        }
        // One session, one lane: an instance never contends with itself for a session's row.
        let lane =
            usize::try_from(self.hash.hash_one(vote.session)).unwrap_or(0) % self.lanes.len();
        let Some(lane) = self.lanes.get(lane) else { return };
        let waiting = lane.inbox.max_capacity() - lane.inbox.capacity();
        if let Err(retry_after_ms) = lane.pace.admit(|| self.place_of(&vote), waiting) {
            return reply.answer_now(&Verdict::Overloaded { retry_after_ms });
        }
        match lane.inbox.try_send(Waiting { vote, reply, since: Instant::now() }) {
            Ok(()) => self.metrics.queue_depth.inc(),
            Err(mpsc::error::TrySendError::Full(refused)) => {
                let place = self.place_of(&refused.vote);
                let retry_after_ms = lane.pace.retry_after_ms(place, waiting);
                refused.reply.answer_now(&Verdict::Overloaded { retry_after_ms });
            }
            Err(mpsc::error::TrySendError::Closed(refused)) => {
                refused.reply.answer_now(&Verdict::Draining)
            }
        }
    }
    /// What stays the same when a vote is tried again.
    fn place_of(&self, vote: &Vote) -> u64 {
        self.hash.hash_one((vote.session, vote.poll, vote.participant))
    }
}
