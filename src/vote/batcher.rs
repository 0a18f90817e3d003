//! One lane: takes what waits, has it committed, takes what came meanwhile. No timer: idle, a batch is one vote at once;
//! busy, batches grow by themselves. Owns its inbox. Ends when the instance stops *and* the inbox is empty.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Waiting;
use super::commit::Committer;
use crate::domain::{ParticipantId, PollNumber, SessionId};
use crate::drain::{Drain, Phase};
use crate::limits::BATCH_VOTES_MAX;
use crate::metrics::Metrics;

pub(super) struct Batcher {
    inbox: mpsc::Receiver<Waiting>,
    /// Votes kept back from the batch before, which already had one of the same participant in the same poll.
    kept_back: VecDeque<Waiting>,
    drain: Drain,
    metrics: Arc<Metrics>,
}

type Place = (SessionId, PollNumber, ParticipantId);

impl Batcher {
    pub(super) fn new(inbox: mpsc::Receiver<Waiting>, drain: Drain, metrics: Arc<Metrics>) -> Self {
        Self { inbox, kept_back: VecDeque::new(), drain, metrics }
    }

    /// Not cancel safe: it holds votes.
    pub(super) async fn run(mut self, mut committer: Committer) {
        while let Some(batch) = self.next_batch().await {
            let now = Instant::now();
            for waiting in &batch {
                self.metrics.queue_seconds.observe(now.duration_since(waiting.since).as_secs_f64());
            }
            self.metrics.batch_votes.observe(batch.len() as f64);
            committer.commit(batch).await;
        }
        committer.finish().await;
    }

    async fn next_batch(&mut self) -> Option<Vec<Waiting>> {
        let mut taken: Vec<Waiting> = self.kept_back.drain(..).collect();
        if taken.is_empty() {
            // Both are cancel safe: a vote is either in the inbox or in `taken`.
            let received = tokio::select! {
                biased;
                received = self.inbox.recv_many(&mut taken, BATCH_VOTES_MAX) => received,
                () = self.drain.reached(Phase::Stopping) => {
                    self.inbox.close();
                    self.inbox.recv_many(&mut taken, BATCH_VOTES_MAX).await
                }
            };
            if received == 0 {
                return None;
            }
        }
        while taken.len() < BATCH_VOTES_MAX
            && let Ok(waiting) = self.inbox.try_recv()
        {
            taken.push(waiting);
        }
        let (batch, kept_back) = one_per_place(taken);
        self.kept_back = kept_back;
        self.metrics.queue_depth.sub(i64::try_from(batch.len()).unwrap_or(0));
        Some(batch)
    }
}

/// The first vote of each participant in each poll, and the rest: in one batch the function could not tell a repeat from
/// the vote that it repeats.
fn one_per_place(taken: Vec<Waiting>) -> (Vec<Waiting>, VecDeque<Waiting>) {
    let mut places: HashSet<Place> = HashSet::with_capacity(taken.len());
    let (mut batch, mut kept_back) = (Vec::with_capacity(taken.len()), VecDeque::new());
    for waiting in taken {
        let vote = &waiting.vote;
        if places.insert((vote.session, vote.poll, vote.participant)) {
            batch.push(waiting);
        } else {
            kept_back.push_back(waiting);
        }
    }
    (batch, kept_back)
}
