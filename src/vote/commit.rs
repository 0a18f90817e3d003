//! A batch on its way into the database and its answers on their way out. Decides alone what is tried again, what is
//! split and what is given up. Owns the lane's connection. Never answers before the commit; never lets one bad vote sink
//! its batch.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::pace::{Commits, Pace};
use super::{Offer, Waiting};
use crate::chance;
use crate::domain::{Verdict, Vote};
use crate::drain::Drain;
use crate::limits::{RETRY_PAUSE_MAX, RETRY_PAUSE_MIN, VOTE_WAIT_MAX};
use crate::metrics::Metrics;
use crate::mutation::mutation;
use crate::store::StoreError;
use crate::store::connection::Database;
use crate::store::votes::{Committed, VoteLink};

pub(super) struct Committer {
    database: Database,
    link: Option<VoteLink>,
    /// Answers of the batch before, written while the next one commits.
    answering: Option<JoinHandle<()>>,
    drain: Drain,
    metrics: Arc<Metrics>,
    offer: Offer,
    pace: Arc<Pace>,
    commits: Commits,
}

/// What to do with a batch that was not committed.
enum Next {
    /// Nothing of it is stored: the same again.
    Again,
    /// A vote in it is the reason, and what is stored of the others will be told as a repeat.
    Split,
    /// Perhaps it is stored: the same ids again, on another connection.
    Reconnect,
}

impl Committer {
    pub(super) fn new(
        database: Database,
        drain: Drain,
        metrics: Arc<Metrics>,
        offer: Offer,
        pace: Arc<Pace>,
    ) -> Self {
        let commits = Commits::default();
        Self { database, link: None, answering: None, drain, metrics, offer, pace, commits }
    }

    /// Commits a batch and sees to its answers. Returns when the next batch may be sent.
    pub(super) async fn commit(&mut self, batch: Vec<Waiting>) {
        // While the database was away these waited behind others. One more try for each batch of a long queue would have
        // the last of them wait for minutes.
        let now = Instant::now();
        let overdue = |waiting: &Waiting| now.duration_since(waiting.since) > VOTE_WAIT_MAX;
        let (overdue, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(overdue);
        self.give_up(overdue);
        let mut parts = if batch.is_empty() { vec![] } else { vec![batch] };
        while let Some(part) = parts.pop() {
            if let Some(mut rest) = self.commit_part(part).await {
                let half = rest.split_off(rest.len() / 2);
                parts.extend([half, rest]);
            }
        }
    }

    /// Waits until every answer is written.
    pub(super) async fn finish(&mut self) {
        if let Some(answering) = self.answering.take() {
            // A panic in there has been reported; the replies it held have answered for themselves.
            let _ = answering.await;
        }
    }

    /// Gives back a batch that has to be split.
    async fn commit_part(&mut self, batch: Vec<Waiting>) -> Option<Vec<Waiting>> {
        let (votes, replies): (Vec<Vote>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.vote, (waiting.reply, waiting.since))).unzip();
        let together = |votes: Vec<Vote>, replies: Vec<_>| {
            votes
                .into_iter()
                .zip(replies)
                .map(|(vote, (reply, since))| Waiting { vote, reply, since })
                .collect()
        };
        // The name stays the same over retries, so that a retry knows its own votes; a part of a split gets its own.
        let name = Uuid::now_v7();
        mutation!("ack_before_commit", return self.answer_unasked(name, &votes, replies).await);
        let mut pause = RETRY_PAUSE_MIN;
        loop {
            let error = match self.try_once(name, &votes).await {
                Ok(committed) => {
                    self.answer(committed, together(votes, replies)).await;
                    return None;
                }
                Err(error) => error,
            };
            let oldest = replies.iter().map(|(_, since)| *since).min();
            let overdue = oldest.is_none_or(|since| since.elapsed() > VOTE_WAIT_MAX);
            match self.next(&error) {
                Next::Split if votes.len() > 1 => return Some(together(votes, replies)),
                // Alone and refused: a fault of ours, not the voter's. It is not stored; a later server may take it.
                Next::Split => return self.give_up(together(votes, replies)),
                Next::Again | Next::Reconnect if overdue => {
                    return self.give_up(together(votes, replies));
                }
                Next::Again => {}
                Next::Reconnect => {
                    mutation!("unknown_is_no", {
                        let put_off = Verdict::Draining;
                        replies.into_iter().for_each(|(reply, _)| reply.answer_now(&put_off));
                        return None;
                    });
                    self.link = None;
                }
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn try_once(&mut self, name: Uuid, votes: &[Vote]) -> Result<Committed, StoreError> {
        let mut link = match self.link.take() {
            Some(link) if !link.is_over(&self.database) => link,
            _ => VoteLink::connect(&self.database, &self.drain).await?,
        };
        let sent = Instant::now();
        mutation!("new_name_on_retry", {
            let result = link.cast(Uuid::now_v7(), votes).await;
            self.link = Some(link);
            return result;
        });
        let mut result = link.cast(name, votes).await;
        if result.is_ok() && link.is_over(&self.database) {
            // Committed on a server that another has taken over from: only what that one has counts.
            result = Err(StoreError::NoPrimary);
        }
        if result.is_ok() {
            let took = sent.elapsed();
            self.metrics.commit_seconds.observe(took.as_secs_f64());
            self.commits.took(took, &self.pace);
        }
        self.link = Some(link);
        result
    }

    #[cfg(plenum_mutation)]
    async fn answer_unasked(
        &mut self,
        name: Uuid,
        votes: &[Vote],
        replies: Vec<(super::Reply, Instant)>,
    ) -> Option<Vec<Waiting>> {
        let accepted = Verdict::Accepted { seq: crate::domain::Seq(1) };
        replies.into_iter().for_each(|(reply, _)| reply.answer_now(&accepted));
        for event in self.try_once(name, votes).await.ok()?.events {
            (self.offer.0)(event, Instant::now());
        }
        None
    }

    fn next(&self, error: &StoreError) -> Next {
        let next = match error {
            _ if error.is_read_only() => Next::Reconnect,
            _ if error.is_rolled_back() && error.is_transient() => Next::Again,
            // Committed, and the answer makes no sense: whichever vote it is must not hold up the others, which are repeats now.
            StoreError::Content(_) if self.link.is_some() => Next::Split,
            StoreError::Content(_) => Next::Reconnect,
            _ if error.is_rolled_back() => Next::Split,
            _ => Next::Reconnect,
        };
        let reason = error.class();
        self.metrics.batch_retries.of(reason).inc();
        self.metrics.database_errors.of(reason).inc();
        tracing::warn!(reason, error = ?error, "batch not committed");
        next
    }

    fn give_up(&self, batch: Vec<Waiting>) -> Option<Vec<Waiting>> {
        for waiting in batch {
            waiting.reply.answer_now(&Verdict::DatabaseUnavailable);
        }
        None
    }

    /// Offers the events, then answers: whoever has an ack finds its event in this instance's live state. The answers are
    /// written by a task of their own while the next batch commits; there is never more than one such task.
    async fn answer(&mut self, committed: Committed, batch: Vec<Waiting>) {
        let at = Instant::now();
        for event in committed.events {
            (self.offer.0)(event, at);
        }
        self.finish().await;
        self.answering = Some(self.drain.spawn_work(async move {
            let mut answered: Vec<_> = batch
                .into_iter()
                .zip(&committed.verdicts)
                .filter_map(|(waiting, verdict)| waiting.reply.answer(verdict))
                .collect();
            // One write per connection, however many of its votes the batch had.
            let mut told = HashSet::with_capacity(answered.len());
            answered.retain(|to| told.insert(std::ptr::from_ref(&**to).addr()));
            answered.iter().for_each(|to| to.flush());
        }));
    }
}

/// Between half of `pause` and all of it, so that lanes and instances do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + (pause / 2).mul_f64(chance::share())
}
