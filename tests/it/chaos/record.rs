//! What the clients of one session write down while things break: the lines of the history, and when each vote was first
//! sent and finally answered. Must never leave out a try. Called by `crowd`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use plenum_loadtest::history::Line;
use tokio::sync::Notify;
use uuid::Uuid;

#[derive(Debug, Default)]
pub(super) struct Record {
    lines: Mutex<Vec<Line>>,
    /// First sent, finally answered.
    votes: Mutex<HashMap<Uuid, (Instant, Option<Instant>)>>,
    acks: AtomicU64,
    acked: Notify,
}

/// What clients had of one fault.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Outage {
    /// Votes sent and not answered when it began.
    pub(super) in_flight: usize,
    /// The longest that a vote waited for its answer, counted from the fault's beginning.
    pub(super) longest: Duration,
}

impl Record {
    pub(super) fn note(&self, line: Line) {
        match &line {
            Line::Invoke(cast) => {
                self.votes.lock().entry(cast.id).or_insert((Instant::now(), None));
            }
            Line::Ok { id, .. } => {
                self.answered(*id);
                self.acks.fetch_add(1, Ordering::Relaxed);
                self.acked.notify_waiters();
            }
            _ => {}
        }
        self.lines.lock().push(line);
    }

    /// The vote will not be sent again.
    pub(super) fn answered(&self, id: Uuid) {
        if let Some((_, answered)) = self.votes.lock().get_mut(&id) {
            answered.get_or_insert_with(Instant::now);
        }
    }

    /// Waits until so many more votes are acked.
    pub(super) async fn more_acks(&self, more: u64) {
        let goal = self.acks.load(Ordering::Relaxed) + more;
        loop {
            let acked = self.acked.notified();
            if self.acks.load(Ordering::Relaxed) >= goal {
                return;
            }
            acked.await;
        }
    }

    pub(super) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lines.lock())
    }

    /// What a fault between two moments did.
    pub(super) fn during(&self, begun: Instant, ended: Instant) -> Outage {
        let mut outage = Outage::default();
        for (sent, answered) in self.votes.lock().values() {
            let Some(answered) = answered else { continue };
            if *sent > ended || *answered < begun {
                continue;
            }
            outage.in_flight += usize::from(*sent <= begun);
            outage.longest = outage.longest.max(answered.duration_since((*sent).max(begun)));
        }
        outage
    }
}
