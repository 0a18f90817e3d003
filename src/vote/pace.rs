//! How long a vote would wait in a lane, whether that is in time, and when to come again where it is not. Told by the lane's
//! committer how long each batch took; asked by `vote/mod.rs` before a vote is taken. Never waits, never looks into the
//! queue itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::promises::Promises;
use crate::limits::{BATCH_VOTES_MAX, LANE_WAIT_MAX, OVERLOADED_WAIT_MAX, OVERLOADED_WAIT_MIN};

/// Commits looked back on. Their median forgives one that stood still (a checkpoint, a lock) and still knows a slow
/// database after two.
const COMMITS: usize = 3;
/// While some have been told to come again, this part of a lane is theirs: others find it full so much sooner.
const KEPT_PART: usize = 2;

/// What a lane's way in and its committer share.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// How long a batch takes, in microseconds; 0 until two are known.
    batch_us: AtomicU64,
    /// Guards who was told what; nothing waits under it, and nobody takes it while there is room for all.
    promises: Mutex<Promises>,
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
        Self { started: Instant::now(), batch_us: AtomicU64::new(0), promises: Mutex::default() }
    }

    /// Whether a vote behind `waiting` others is taken. Where some were told to come again, part of the lane is kept for
    /// them, so that who comes when told is taken before who comes for the first time. `place`: of this vote, hashed; the
    /// same whenever it is tried.
    ///
    /// # Errors
    /// When it shall come again, in milliseconds.
    pub(super) fn admit(&self, place: impl FnOnce() -> u64, waiting: usize) -> Result<(), u64> {
        if self.is_in_time(waiting * KEPT_PART) {
            return Ok(());
        }
        let (place, now) = (place(), micros(self.started.elapsed()));
        let mut promises = self.promises.lock();
        promises.expire(now);
        let welcome = promises.is_empty() || promises.is_due(place, now);
        if welcome && self.is_in_time(waiting) {
            promises.keep(place);
            return Ok(());
        }
        Err(self.put_off(&mut promises, place, waiting, now))
    }

    /// When a vote that found the lane full shall come again, in milliseconds.
    pub(super) fn retry_after_ms(&self, place: u64, waiting: usize) -> u64 {
        self.put_off(&mut self.promises.lock(), place, waiting, micros(self.started.elapsed()))
    }

    fn put_off(&self, promises: &mut Promises, place: u64, waiting: usize, now: u64) -> u64 {
        let soonest = now.saturating_add(micros(self.expected(waiting)));
        let latest = now.saturating_add(micros(OVERLOADED_WAIT_MAX));
        let batch = self.batch_us.load(Ordering::Relaxed);
        let share = batch * KEPT_PART as u64 / BATCH_VOTES_MAX as u64;
        let due = promises.make(place, now, share, &(soonest..=latest));
        Duration::from_micros(due.saturating_sub(now))
            .clamp(OVERLOADED_WAIT_MIN, OVERLOADED_WAIT_MAX)
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// Whether a vote behind `waiting` others would be answered in time. Fewer than a batch of them never make it late:
    /// a lane that can only be slow takes what one commit can carry.
    fn is_in_time(&self, waiting: usize) -> bool {
        waiting < BATCH_VOTES_MAX || self.expected(waiting) <= LANE_WAIT_MAX
    }

    /// The batches before it, its own, and half of the one that is on its way.
    fn expected(&self, waiting: usize) -> Duration {
        let batch = Duration::from_micros(self.batch_us.load(Ordering::Relaxed));
        batch.mul_f64(waiting as f64 / BATCH_VOTES_MAX as f64 + 1.5)
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
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
        assert!(pace_after(&[quick, quick, SLOW * 10]).admit(|| 1, 32 * BATCH_VOTES_MAX).is_ok());
        assert!(
            pace_after(&[SLOW * 10]).admit(|| 1, 32 * BATCH_VOTES_MAX).is_ok(),
            "one is no pace"
        );
    }

    #[test]
    fn a_slow_database_is_known_after_two_commits_and_a_quick_one_too() {
        let pace = pace_after(&[SLOW; 2]);
        assert!(pace.admit(|| 1, BATCH_VOTES_MAX - 1).is_ok(), "what the next commit can carry");
        assert!(pace.admit(|| 2, BATCH_VOTES_MAX).is_err());
        let pace = pace_after(&[SLOW, SLOW, SLOW, SLOW / 60, SLOW / 60]);
        assert!(pace.admit(|| 1, 32 * BATCH_VOTES_MAX).is_ok());
    }

    #[test]
    fn the_refused_are_told_to_come_one_after_the_other() {
        let pace = pace_after(&[SLOW; 5]);
        let told = |place| pace.admit(|| place, 2 * BATCH_VOTES_MAX).unwrap_err();
        let first = told(0);
        assert!((1_000..1_100).contains(&first), "three and a half batches: {first}");
        let apart = (1..BATCH_VOTES_MAX as u64).map(told).last().unwrap() - first;
        assert!((500..=610).contains(&apart), "half of two batches is theirs: {apart}");
    }

    #[test]
    fn who_comes_when_told_finds_a_place_that_others_do_not() {
        let mut pace = pace_after(&[SLOW; 5]);
        let told = pace.admit(|| 1, BATCH_VOTES_MAX).unwrap_err();
        assert!(pace.admit(|| 2, BATCH_VOTES_MAX - 1).is_err(), "kept for the one who was told");
        assert!(pace.admit(|| 3, BATCH_VOTES_MAX / 2 - 1).is_ok(), "the other half is not");
        assert!(
            pace.admit(|| 1, BATCH_VOTES_MAX - 1).unwrap_err() <= told,
            "too early: the same time"
        );
        pace.started -= Duration::from_millis(told);
        assert!(pace.admit(|| 4, BATCH_VOTES_MAX - 1).is_err());
        assert!(pace.admit(|| 1, BATCH_VOTES_MAX - 1).is_ok());
    }

    #[test]
    fn a_place_is_not_kept_for_ever() {
        let mut pace = pace_after(&[SLOW; 5]);
        pace.admit(|| 1, BATCH_VOTES_MAX).unwrap_err();
        pace.started -= Duration::from_secs(5);
        assert!(pace.admit(|| 2, BATCH_VOTES_MAX - 1).is_ok());
    }

    #[test]
    fn what_is_promised_has_an_end() {
        let pace = pace_after(&[SLOW; 5]);
        let last = (0..100_000).map(|place| pace.admit(|| place, BATCH_VOTES_MAX)).last();
        assert_eq!(last, Some(Err(10_000)));
        assert_eq!(pace_after(&[]).retry_after_ms(1, 32 * BATCH_VOTES_MAX), 250);
    }
}
