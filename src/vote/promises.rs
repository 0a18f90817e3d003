//! Who was told to come again, and when: a place in the lane is kept for those who then do. One per vote's place (session,
//! poll, participant), bounded in number and time. Must never keep a place for longer than its grace, and never be asked
//! while there is room for everybody. Owned by `pace.rs`, under its lock; its times are microseconds of that clock.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;

use super::pace::micros;
use crate::limits::{PROMISE_EARLY, PROMISE_GRACE, PROMISES_MAX};

/// The promises of one lane.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// When each may come.
    due: HashMap<u64, u64>,
    /// The same in the order of their times; some are kept or made anew since.
    order: VecDeque<(u64, u64)>,
    /// The latest time that was promised: each moves it on by its own share, so that those who obey come one after
    /// another, not all at once.
    latest: u64,
}

impl Promises {
    /// Forgets those who did not come.
    pub(super) fn expire(&mut self, now: u64) {
        let lapsed = now.saturating_sub(micros(PROMISE_GRACE));
        while let Some((due, place)) = self.order.front().copied()
            && due < lapsed
        {
            self.order.pop_front();
            if self.due.get(&place) == Some(&due) {
                self.due.remove(&place);
            }
        }
    }

    /// Nobody is expected.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether this place was told to come about now.
    pub(super) fn is_due(&self, place: u64, now: u64) -> bool {
        self.due.get(&place).is_some_and(|due| *due <= now + micros(PROMISE_EARLY))
    }

    /// It came.
    pub(super) fn keep(&mut self, place: u64) {
        self.due.remove(&place);
    }

    /// When it may come: as it was told before, if that is still ahead, or `share` after the last one, within `times`. Those
    /// who would come after these come at their end, and share what is kept.
    pub(super) fn make(
        &mut self,
        place: u64,
        now: u64,
        share: u64,
        times: &RangeInclusive<u64>,
    ) -> u64 {
        if let Some(due) = self.due.get(&place)
            && *due > now
        {
            return *due;
        }
        let due = self.latest.max(*times.start()).saturating_add(share).min(*times.end());
        self.latest = due;
        if self.order.len() < PROMISES_MAX {
            self.due.insert(place, due);
            self.order.push_back((due, place));
        }
        due
    }
}
