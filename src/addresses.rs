//! What is counted per network address: joins with codes that do not exist. A fixed window of a minute per address, in a
//! bounded map; no address is kept longer, and none is ever logged or stored. Used by `ws` and `http` before a code is
//! looked up.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::limits::{ADDRESSES_MAX, FAILED_JOINS_MAX, FAILED_JOINS_WINDOW};

/// Counts failed joins by address.
#[derive(Debug, Default)]
pub struct FailedJoins {
    windows: DashMap<IpAddr, Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    failed: u32,
}

impl FailedJoins {
    /// Whether this address may try a code; if not, after how long it may.
    ///
    /// # Errors
    /// The time until its window ends.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(window) = self.windows.get(&address) else { return Ok(()) };
        let left = FAILED_JOINS_WINDOW.saturating_sub(window.since.elapsed());
        if window.failed < FAILED_JOINS_MAX || left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// Counts a code that does not exist.
    pub fn count(&self, address: IpAddr) {
        if self.windows.len() >= ADDRESSES_MAX {
            self.windows.retain(|_, window| window.since.elapsed() < FAILED_JOINS_WINDOW);
        }
        if self.windows.len() >= ADDRESSES_MAX {
            self.windows.clear(); // a flood from everywhere is not what this protects from
        }
        let mut window = self
            .windows
            .entry(address)
            .or_insert_with(|| Window { since: Instant::now(), failed: 0 });
        if window.since.elapsed() >= FAILED_JOINS_WINDOW {
            *window = Window { since: Instant::now(), failed: 0 };
        }
        window.failed += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_stopped_and_its_neighbour_is_not() {
        let joins = FailedJoins::default();
        let [here, there] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        for _ in 0..FAILED_JOINS_MAX {
            assert!(joins.check(here).is_ok());
            joins.count(here);
        }
        assert!(joins.check(here).is_err_and(|left| left <= FAILED_JOINS_WINDOW));
        assert!(joins.check(there).is_ok());
    }
}
