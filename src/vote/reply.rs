//! The answer that every vote gets exactly once. Dropped unanswered it says "unknown, send it again", and counts.
//! Made by `vote/mod.rs`, used up by `commit.rs`.

use std::sync::Arc;

use tokio::time::Instant;

use crate::domain::{PollNumber, Verdict, Vote, VoteId};
use crate::metrics::Metrics;

/// Whoever waits for verdicts: a connection, or one REST call. Must not wait in either call.
pub trait Answers: Send + Sync {
    /// Takes a verdict. It may be kept back until [`Answers::flush`], so that several leave in one write.
    fn answer(&self, vote: VoteId, poll: PollNumber, verdict: &Verdict);
    /// Sends what was kept back.
    fn flush(&self);
}

/// The duty to answer one vote.
pub struct Reply {
    to: Option<Arc<dyn Answers>>,
    vote: VoteId,
    poll: PollNumber,
    since: Instant,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply").field("vote", &self.vote).finish_non_exhaustive()
    }
}

impl Reply {
    pub(super) fn new(vote: &Vote, to: Arc<dyn Answers>, metrics: Arc<Metrics>) -> Self {
        Self { to: Some(to), vote: vote.id, poll: vote.poll, since: Instant::now(), metrics }
    }

    /// Answers; the caller flushes what it gets back.
    pub(super) fn answer(mut self, verdict: &Verdict) -> Option<Arc<dyn Answers>> {
        let to = self.to.take()?;
        self.metrics.votes.of(outcome(verdict)).inc();
        self.metrics.vote_seconds.observe(self.since.elapsed().as_secs_f64());
        to.answer(self.vote, self.poll, verdict);
        Some(to)
    }

    pub(super) fn answer_now(self, verdict: &Verdict) {
        if let Some(to) = self.answer(verdict) {
            to.flush();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            tracing::warn!(vote = %self.vote, "vote left unanswered");
            self.metrics.votes.of("unanswered").inc();
            to.answer(self.vote, self.poll, &Verdict::DatabaseUnavailable);
            to.flush();
        }
    }
}

/// The value of the metric's label.
#[must_use]
pub const fn outcome(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::Repeat { .. } => "repeat",
        Verdict::AlreadyVoted { .. } => "already_voted",
        Verdict::PollClosed => "poll_closed",
        Verdict::SessionEnded => "session_ended",
        Verdict::NotFound => "not_found",
        Verdict::Unprocessable => "unprocessable",
        Verdict::Overloaded { .. } => "overloaded",
        Verdict::Draining => "draining",
        Verdict::DatabaseUnavailable => "database_unavailable",
    }
}
