//! Small random numbers that only spread things apart: pauses, pings. Nothing secret is drawn here. In a simulation they
//! come from its seed, so that the same seed gives the same run. Used by `vote` and `ws`.

/// Anything from 0 to 1, evenly.
#[must_use]
pub fn share() -> f64 {
    f64::from(bits()) / f64::from(u32::MAX)
}

#[cfg(not(test))]
fn bits() -> u32 {
    getrandom::u32().unwrap_or(0)
}

#[cfg(test)]
use seeded::bits;
#[cfg(test)]
pub(crate) use seeded::seed;

/// Per thread, since a simulation has one of its own.
#[cfg(test)]
mod seeded {
    use std::cell::Cell;

    thread_local!(static STATE: Cell<u64> = const { Cell::new(1) });

    pub(crate) fn seed(seed: u64) {
        STATE.set(seed | 1);
    }

    /// xorshift64.
    pub(super) fn bits() -> u32 {
        let mut state = STATE.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        u32::try_from(state >> 32).unwrap_or(0)
    }
}
