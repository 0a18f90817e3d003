//! What a seed decides. Everybody in a simulation has dice of their own, made from the seed and a name, so that one who throws
//! once more or less changes nothing for the others.

use std::ops::Range;
use std::time::Duration;

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice of the one who is called `name`, `nth` of that name.
    pub(super) fn of(seed: u64, name: &str, nth: u64) -> Self {
        let mut dice = Self(seed ^ nth.wrapping_mul(0xd6e8_feb8_6659_fd93));
        for byte in name.bytes() {
            dice.0 = dice.bits() ^ u64::from(byte);
        }
        dice
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.within(0..end as u64)).unwrap()
    }

    pub(super) fn ms(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, share: u64) -> bool {
        self.within(0..100) < share
    }
}
