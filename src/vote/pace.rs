//! How long a vote would wait in a lane, and when to come again where that is too long. Told by the lane's committer how
//! long each batch took; asked by `vote/mod.rs` before a vote is taken. Never waits, never looks into the queue itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits::{BATCH_VOTES_MAX, LANE_WAIT_MAX, OVERLOADED_WAIT_MAX, OVERLOADED_WAIT_MIN};

/// Commits looked back on. Their median forgives one that stood still (a checkpoint, a lock) and still knows a slow
/// database after two.
const COMMITS: usize = 3;

/// What a lane's way in and its committer share.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// How long a batch takes, in microseconds; 0 until two are known.
    batch_us: AtomicU64,
    /// Until when votes have been told to come again, in microseconds since `started`. Each refused vote moves it on by
    /// its own share of a batch, so that those who obey come back as fast as the database takes them, not all at once.
    promised_us: AtomicU64,
}

/// The committer's side: the durations of the last commits, newest last.
#[derive(Debug, Default)]
pub(super) struct Commits {
    recent_us: [u64; COMMITS],
}

impl Commits {
    /// Takes the duration of one more commit into account.
    pub(super) fn took(&mut self, duration: Duration, pace: &Pace) {
        self.recent_us.rotate_left(1);
        self.recent_us[COMMITS - 1] = micros(duration);
        let mut sorted = self.recent_us;
        sorted.sort_unstable();
        pace.batch_us.store(sorted[COMMITS / 2], Ordering::Relaxed);
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            batch_us: AtomicU64::new(0),
            promised_us: AtomicU64::new(0),
        }
    }

    /// Whether a vote behind `waiting` others would be answered in time. Fewer than a batch of them never make it late:
    /// a lane that can only be slow takes what one commit can carry.
    pub(super) fn is_in_time(&self, waiting: usize) -> bool {
        waiting < BATCH_VOTES_MAX || self.expected(waiting) <= LANE_WAIT_MAX
    }

    /// When a vote that was refused behind `waiting` others shall come again, in milliseconds.
    pub(super) fn retry_after_ms(&self, waiting: usize) -> u64 {
        let now = micros(self.started.elapsed());
        let soonest = now.saturating_add(micros(self.expected(waiting)));
        let latest = now.saturating_add(micros(OVERLOADED_WAIT_MAX));
        let share = self.batch_us.load(Ordering::Relaxed) / BATCH_VOTES_MAX as u64;
        let promise = |promised: u64| promised.max(soonest).saturating_add(share).min(latest);
        let before =
            self.promised_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |promised| {
                Some(promise(promised))
            });
        let (Ok(promised) | Err(promised)) = before;
        Duration::from_micros(promise(promised).saturating_sub(now))
            .clamp(OVERLOADED_WAIT_MIN, OVERLOADED_WAIT_MAX)
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// The batches before it, its own, and half of the one that is on its way.
    fn expected(&self, waiting: usize) -> Duration {
        let batch = Duration::from_micros(self.batch_us.load(Ordering::Relaxed));
        batch.mul_f64(waiting as f64 / BATCH_VOTES_MAX as f64 + 1.5)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(300);

    fn pace_after(commits: &[Duration]) -> Pace {
        let pace = Pace::new();
        let mut recent = Commits::default();
        commits.iter().for_each(|&duration| recent.took(duration, &pace));
        pace
    }

    #[test]
    fn one_commit_that_stood_still_refuses_nobody() {
        let quick = Duration::from_millis(5);
        assert!(pace_after(&[quick, quick, SLOW * 10]).is_in_time(32 * BATCH_VOTES_MAX));
        assert!(pace_after(&[SLOW * 10]).is_in_time(32 * BATCH_VOTES_MAX), "one is no pace");
    }

    #[test]
    fn a_slow_database_is_known_after_two_commits_and_a_quick_one_too() {
        let pace = pace_after(&[SLOW; 2]);
        assert!(pace.is_in_time(BATCH_VOTES_MAX - 1), "what the next commit can carry");
        assert!(!pace.is_in_time(BATCH_VOTES_MAX));
        let pace = pace_after(&[SLOW, SLOW, SLOW, SLOW / 60, SLOW / 60]);
        assert!(pace.is_in_time(32 * BATCH_VOTES_MAX));
    }

    #[test]
    fn the_refused_are_told_to_come_one_after_the_other() {
        let pace = pace_after(&[SLOW; 5]);
        let first = pace.retry_after_ms(2 * BATCH_VOTES_MAX);
        assert!((1_000..1_100).contains(&first), "three and a half batches: {first}");
        let last =
            (0..2 * BATCH_VOTES_MAX).map(|_| pace.retry_after_ms(2 * BATCH_VOTES_MAX)).last();
        let apart = last.unwrap() - first;
        assert!((500..=610).contains(&apart), "two batches later: {apart}");
    }

    #[test]
    fn what_is_promised_has_an_end() {
        let pace = pace_after(&[SLOW; 5]);
        let last = (0..100_000).map(|_| pace.retry_after_ms(BATCH_VOTES_MAX)).last();
        assert_eq!(last, Some(10_000));
        assert_eq!(pace_after(&[]).retry_after_ms(32 * BATCH_VOTES_MAX), 250);
    }
}
