//! One lane: takes what waits, has it committed, takes what came meanwhile. No timer: idle, a batch is one vote at once;
//! busy, batches grow by themselves. Owns its inbox. Ends when the instance stops *and* the inbox is empty.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Waiting;
use super::commit::Committer;
use crate::domain::{ParticipantId, PollNumber, SessionId, Verdict};
use crate::drain::{Drain, Phase};
use crate::limits::{BATCH_VOTES_MAX, KEPT_BACK_MAX, KEPT_BACK_OF_ONE_MAX, OVERLOADED_WAIT_MIN};
use crate::metrics::Metrics;

pub(super) struct Batcher {
    inbox: mpsc::Receiver<Waiting>,
    /// Kept back from the batch before; at most [`KEPT_BACK_MAX`].
    kept_back: Vec<Waiting>,
    drain: Drain,
    metrics: Arc<Metrics>,
}

type Place = (SessionId, PollNumber, ParticipantId);

/// A batch that is being put together. It holds one vote of each participant in each poll: the function could not tell a
/// repeat from the vote that it repeats. Some more of each are kept back for the next batches, and beyond that they are told to
/// come again, so that nobody's repeats take the place of others' votes.
#[derive(Default)]
struct Batch {
    votes: Vec<Waiting>,
    kept_back: Vec<Waiting>,
    /// Whose votes it holds, and how many more of theirs are kept back.
    places: HashMap<Place, usize>,
}

impl Batch {
    /// Gives back what comes too often.
    fn add(&mut self, waiting: Waiting) -> Option<Waiting> {
        let vote = &waiting.vote;
        match self.places.entry((vote.session, vote.poll, vote.participant)) {
            Entry::Vacant(place) => {
                place.insert(0);
                self.votes.push(waiting);
            }
            Entry::Occupied(mut more) => {
                if *more.get() >= KEPT_BACK_OF_ONE_MAX || self.kept_back.len() >= KEPT_BACK_MAX {
                    return Some(waiting);
                }
                *more.get_mut() += 1;
                self.kept_back.push(waiting);
            }
        }
        None
    }
}

impl Batcher {
    pub(super) fn new(inbox: mpsc::Receiver<Waiting>, drain: Drain, metrics: Arc<Metrics>) -> Self {
        Self { inbox, kept_back: Vec::new(), drain, metrics }
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
        let mut taken = std::mem::take(&mut self.kept_back);
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
        let mut batch = Batch { places: HashMap::with_capacity(taken.len()), ..Batch::default() };
        for waiting in taken {
            batch.add(waiting).into_iter().for_each(|one| self.put_off(one));
        }
        while batch.votes.len() < BATCH_VOTES_MAX
            && let Ok(waiting) = self.inbox.try_recv()
        {
            batch.add(waiting).into_iter().for_each(|one| self.put_off(one));
        }
        self.kept_back = batch.kept_back;
        self.metrics.queue_depth.sub(i64::try_from(batch.votes.len()).unwrap_or(0));
        Some(batch.votes)
    }

    fn put_off(&self, waiting: Waiting) {
        self.metrics.queue_depth.dec();
        let retry_after_ms = OVERLOADED_WAIT_MIN.as_millis().try_into().unwrap_or(u64::MAX);
        waiting.reply.answer_now(&Verdict::Overloaded { retry_after_ms });
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Ballot, Vote, VoteId};
    use crate::vote::{Answers, Reply};

    /// Those who were told to come again.
    #[derive(Default)]
    struct PutOff(Mutex<Vec<VoteId>>);

    impl Answers for PutOff {
        fn answer(&self, vote: VoteId, _: PollNumber, verdict: &Verdict) {
            if *verdict == (Verdict::Overloaded { retry_after_ms: 250 }) {
                self.0.lock().push(vote);
            }
        }
        fn flush(&self) {}
    }

    /// Every second vote is of participant 0; the others are of one participant each.
    fn crowded(votes: usize, put_off: &Arc<PutOff>, metrics: &Arc<Metrics>) -> Vec<Waiting> {
        let one = |nth: usize| {
            let participant = if nth.is_multiple_of(2) { 0 } else { nth as u128 };
            let vote = Vote {
                session: SessionId(Uuid::nil()),
                poll: PollNumber(1),
                participant: ParticipantId(Uuid::from_u128(participant)),
                id: VoteId(Uuid::from_u128(nth as u128)),
                ballot: Ballot::Unfit,
            };
            let reply = Reply::new(&vote, put_off.clone(), metrics.clone());
            Waiting { vote, reply, since: Instant::now() }
        };
        (0..votes).map(one).collect()
    }

    #[tokio::test]
    async fn the_repeats_of_one_take_no_place_of_others() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let (sender, inbox) = mpsc::channel(4 * BATCH_VOTES_MAX);
        let put_off = Arc::new(PutOff::default());
        for waiting in crowded(3 * BATCH_VOTES_MAX, &put_off, &metrics) {
            sender.try_send(waiting).unwrap();
            metrics.queue_depth.inc();
        }
        let mut batcher = Batcher::new(inbox, Drain::new(metrics.tasks.clone()), metrics.clone());
        let of_others = |batch: &[Waiting]| {
            batch.iter().filter(|waiting| waiting.vote.participant.0 != Uuid::nil()).count()
        };
        let (first, second) =
            (batcher.next_batch().await.unwrap(), batcher.next_batch().await.unwrap());
        assert_eq!((first.len(), second.len()), (BATCH_VOTES_MAX, BATCH_VOTES_MAX / 2 + 2));
        assert_eq!(of_others(&first) + of_others(&second), BATCH_VOTES_MAX / 2 * 3);
        assert_eq!(batcher.kept_back.len(), KEPT_BACK_OF_ONE_MAX);
        let (told, waits) = (put_off.0.lock().len(), metrics.queue_depth.get());
        assert_eq!(usize::try_from(waits).unwrap(), batcher.kept_back.len());
        assert_eq!(
            first.len() + second.len() + batcher.kept_back.len() + told,
            3 * BATCH_VOTES_MAX
        );
    }
}
