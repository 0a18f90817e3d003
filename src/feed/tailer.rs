//! Two tasks of the read path: the tailer, which asks the log every 100 ms and sooner when told, and the conflation, which
//! sends results when their turn has come. The log is the truth: offers and hints only save time.
//! Spawned by `feed/mod.rs`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Feed;
use super::since::{Since, Source};
use super::watched::Watched;
use crate::domain::{Seq, SessionId, Timestamp};
use crate::drain::{Drain, Phase};
use crate::limits::EVENTS_READ_MAX;
use crate::mutation::mutation;
use crate::ring::End;
use crate::store::StoreError;
use crate::store::history::Evidence;
use crate::store::log::Tail;

type Poll = JoinHandle<Result<Tail, StoreError>>;

/// Why the log was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AskedBy {
    /// It was time.
    Clock,
    /// A hint, a hole or a full page.
    Word,
}

enum Event {
    Tick(AskedBy),
    Answer(Box<Result<Tail, StoreError>>),
    History,
    Stop,
}

/// Asks the log for what no offer brought.
pub(super) async fn run(feed: Feed, every: Duration, drain: Drain) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One question at a time; a task of its own, so that nothing here waits for the database.
    let mut asked: Option<Poll> = None;
    let mut history = feed.0.store.history().watch();
    history.mark_changed(); // it may have changed before this task began
    let mut asked_by = AskedBy::Clock;
    loop {
        let event = tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => Event::Stop,
            Ok(()) = history.changed() => Event::History,
            answer = answer(&mut asked), if asked.is_some() => Event::Answer(Box::new(answer)),
            () = feed.0.hurry.notified(), if asked.is_none() => Event::Tick(AskedBy::Word),
            _ = ticks.tick(), if asked.is_none() => {
                mutation!("notify_only_tail", continue);
                Event::Tick(AskedBy::Clock)
            }
        };
        match event {
            Event::History => feed.forget_other_histories(),
            Event::Tick(by) => (asked, asked_by) = (feed.ask(&drain), by),
            Event::Answer(answer) => {
                asked = None;
                feed.apply(*answer, asked_by);
            }
            Event::Stop => return,
        }
    }
}

/// Cancel safe: the task lives on in `asked`.
async fn answer(asked: &mut Option<Poll>) -> Result<Tail, StoreError> {
    match asked {
        Some(task) => {
            task.await.unwrap_or(Err(StoreError::Content("the poll of the log panicked")))
        }
        None => std::future::pending().await,
    }
}

impl Feed {
    fn ask(&self, drain: &Drain) -> Option<Poll> {
        for watched in self.all().iter().filter(|watched| watched.retire_if_idle()) {
            self.forget(watched);
        }
        // Whoever asked for these hung up before they were loaded.
        self.0.sessions.retain(|_, slot| slot.get().is_some() || Arc::strong_count(slot) > 1);
        self.0.asking.retain(|_, asked| Arc::strong_count(asked) > 1);
        // Only cursors of one history tell whether it is still whole; what is of another ends by `Event::History`.
        let epoch = self.0.store.history().epoch();
        let cursors: Vec<(SessionId, Seq)> = self
            .all()
            .iter()
            .filter(|watched| watched.epoch == epoch)
            .map(|watched| (watched.id, watched.seq()))
            .collect();
        self.0.metrics.sessions.set(i64::try_from(cursors.len()).unwrap_or(i64::MAX));
        if cursors.is_empty() {
            return None;
        }
        let store = self.0.store.clone();
        Some(drain.spawn_work(async move {
            let tail = store.tail(&cursors).await?;
            mutation!(
                "any_history_is_lost",
                if tail.behind && store.history().is_now(&tail.epoch) {
                    store.settle(Evidence::Lost).await?;
                    return Ok(tail);
                }
            );
            if tail.behind && *epoch == *tail.epoch && store.history().is_now(&epoch) {
                // What was seen committed is gone.
                store.settle(Evidence::Lost).await?;
            } else if !store.history().is_now(&tail.epoch) {
                store.settle(Evidence::None).await?;
            }
            Ok(tail)
        }))
    }

    fn apply(&self, answer: Result<Tail, StoreError>, asked_by: AskedBy) {
        let tail = match answer {
            Ok(tail) => tail,
            Err(error) => return tracing::warn!(error = ?error, "the log did not answer"),
        };
        if tail.behind || !self.0.store.history().is_now(&tail.epoch) {
            // `Event::History` ends what is over; or this answer is late, and of a history that is over.
            return;
        }
        for session in tail.gone {
            self.deleted(session);
        }
        let (now, read_at) = (Instant::now(), Timestamp::now());
        let may_be_full =
            i64::try_from(tail.events.len()).is_ok_and(|many| many >= EVENTS_READ_MAX);
        let mut found = 0;
        let mut oldest = Duration::ZERO;
        for event in tail.events {
            let Some(watched) = self.watched(event.session) else { continue };
            if self.is_over(&watched) || event.seq <= watched.seq() {
                continue; // an offer was faster
            }
            mutation!(
                "global_tail",
                if !crate::mutation::is_newest(event.at) {
                    continue;
                }
            );
            // The clocks of database and instance may differ: an age is only used where it is one.
            let age = Duration::try_from(read_at.0 - event.at.0).unwrap_or_default();
            if event.seq > watched.seq().next() {
                tracing::error!(session = %watched.id, seq = event.seq.0, "hole in the log");
                watched.end(End::Lagging);
                self.forget(&watched);
                self.0.hub.mark(&watched, None);
                continue;
            }
            self.0.metrics.tailed.of("read").inc();
            let at = now.checked_sub(age).unwrap_or(now);
            self.take(&watched, event, Since { at, source: Source::Other });
            oldest = oldest.max(age);
            found += 1;
        }
        let metrics = &self.0.metrics;
        metrics.tail_lag.set(oldest.as_secs_f64());
        metrics.tail_lag_events.set(i64::try_from(found).unwrap_or(i64::MAX));
        if asked_by == AskedBy::Clock {
            metrics.hints_missed.inc_by(found);
        }
        if may_be_full {
            self.0.hurry.notify_one(); // there is more than one page of some session
        }
    }
}

/// Results that wait for their turn. At most one entry per watched session and turn.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    /// Guards the heap; nothing waits under it.
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    wake: Notify,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    watched: Weak<Watched>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl Flushes {
    /// Several entries for one turn are harmless, but events may be many: only the first of a turn is kept.
    pub(super) fn add(&self, at: Instant, watched: &Arc<Watched>) {
        if watched.schedule(at) {
            self.due.lock().push(Reverse(Due { at, watched: Arc::downgrade(watched) }));
            self.wake.notify_one();
        }
    }

    fn next(&self) -> Option<Instant> {
        self.due.lock().peek().map(|Reverse(due)| due.at)
    }

    fn take_due(&self, now: Instant) -> Option<Weak<Watched>> {
        let mut due = self.due.lock();
        if due.peek().is_none_or(|Reverse(first)| first.at > now) {
            return None;
        }
        due.pop().map(|Reverse(first)| first.watched)
    }
}

/// Sends results when their turn has come.
pub(super) async fn run_flushes(feed: Feed, drain: Drain) {
    loop {
        let next = feed.0.flushes.next();
        tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => return,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            () = feed.0.flushes.wake.notified() => {}
        }
        while let Some(watched) = feed.0.flushes.take_due(Instant::now()) {
            if let Some(watched) = watched.upgrade() {
                let taken = watched.flush();
                feed.follow_up(&watched, &taken);
            }
        }
    }
}
