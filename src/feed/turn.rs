//! When the counts of one session may go out: at most ten times a second, the first at once, and while votes keep coming
//! right after one of them rather than right before. Must never hold counts back longer than the two limits that it goes by.
//! Owned by `watched.rs`, under its lock.

use tokio::time::Instant;

use crate::limits::{RESULTS_EVERY, RESULTS_FRESH_WAIT};

/// The turns of one session.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// When counts last went out.
    sent: Option<Instant>,
    /// Counts that came in since.
    news: u32,
}

impl Turn {
    /// Counts came in.
    pub(super) fn note(&mut self) {
        self.news = self.news.saturating_add(1);
    }

    /// Counts go out.
    pub(super) fn sent(&mut self, now: Instant) {
        *self = Self { sent: Some(now), news: 0 };
    }

    /// From when on counts may go out that came in just now; `None`: at once.
    pub(super) fn due(&self) -> Option<Instant> {
        self.sent.map(|sent| sent + RESULTS_EVERY)
    }

    /// When counts go out that have waited. Where so many came that the next ones are about to, they wait for those, for a
    /// moment: everybody then sees the newest count when it is new, and no vote waits longer on average, since a turn
    /// that ends with a vote keeps no vote waiting for its end.
    pub(super) fn latest(&self) -> Option<Instant> {
        let lively = RESULTS_FRESH_WAIT * self.news >= RESULTS_EVERY;
        self.due().map(|due| if lively { due + RESULTS_FRESH_WAIT } else { due })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_goes_at_once() {
        let mut turn = Turn::default();
        turn.note();
        assert_eq!((turn.due(), turn.latest()), (None, None));
    }

    #[test]
    fn a_few_wait_for_their_turn_and_no_longer() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        turn.sent(now);
        for _ in 0..4 {
            turn.note();
        }
        assert_eq!(turn.due(), Some(now + Duration::from_millis(100)));
        assert_eq!(turn.latest(), turn.due());
    }

    #[test]
    fn many_wait_for_the_next_one_and_not_forever() {
        let (mut turn, now) = (Turn::default(), Instant::now());
        turn.sent(now);
        for _ in 0..5 {
            turn.note();
        }
        assert_eq!(turn.due(), Some(now + Duration::from_millis(100)));
        assert_eq!(turn.latest(), Some(now + Duration::from_millis(120)));
        turn.sent(now + Duration::from_millis(104));
        assert_eq!(turn.latest(), Some(now + Duration::from_millis(204)));
    }
}
