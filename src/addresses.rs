//! What is counted per network address: joins with codes that do not exist. A fixed window of a minute per address, in a
//! bounded map, swept every minute; no address is kept longer than two, and none is ever logged or stored. A hall is one
//! address: who types a code by which somebody there has joined already is let in whatever others there guess. Used by `ws`
//! and `http` before and after a code is looked up; swept by `app/engines.rs`.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::domain::Code;
use crate::limits::{
    ADDRESSES_MAX, FAILED_JOINS_MAX, FAILED_JOINS_WINDOW, USED_CODE_KEEP, USED_CODES_MAX,
};

/// Counts failed joins by address.
#[derive(Debug, Default)]
pub struct FailedJoins {
    windows: DashMap<IpAddr, Window>,
    /// Codes by which somebody at an address has joined, and when last: by a hash that means nothing outside this process.
    used: DashMap<u64, Instant>,
    hashes: RandomState,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    failed: u32,
}

impl FailedJoins {
    /// Whether this address may try this code; if not, after how long it may.
    ///
    /// # Errors
    /// The time until its window ends.
    pub fn check(&self, address: IpAddr, code: &Code) -> Result<(), Duration> {
        let Some(window) = self.windows.get(&address) else { return Ok(()) };
        let left = FAILED_JOINS_WINDOW.saturating_sub(window.since.elapsed());
        let few = window.failed < FAILED_JOINS_MAX || left.is_zero();
        if few || self.used.contains_key(&self.hash(address, code)) { Ok(()) } else { Err(left) }
    }

    /// Notes a code that led somewhere.
    pub fn succeeded(&self, address: IpAddr, code: &Code) {
        let key = self.hash(address, code);
        let noted = self.used.get(&key).map(|at| at.elapsed());
        if noted.is_none_or(|ago| ago > FAILED_JOINS_WINDOW) && self.used.len() < USED_CODES_MAX {
            self.used.insert(key, Instant::now());
        }
    }

    fn hash(&self, address: IpAddr, code: &Code) -> u64 {
        self.hashes.hash_one((address, code.as_str()))
    }

    /// Counts a code that does not exist.
    pub fn count(&self, address: IpAddr) {
        if self.windows.len() >= ADDRESSES_MAX {
            self.sweep();
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

    /// Forgets the addresses whose window is over, and the codes that nobody has used for long.
    pub fn sweep(&self) {
        self.windows.retain(|_, window| window.since.elapsed() < FAILED_JOINS_WINDOW);
        self.used.retain(|_, at| at.elapsed() < USED_CODE_KEEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_stopped_and_its_neighbour_is_not() {
        let joins = FailedJoins::default();
        let [here, there] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        let [new, used] = ["12345678", "87654321"].map(|text| Code::parse(text).unwrap());
        joins.succeeded(here, &used);
        for _ in 0..FAILED_JOINS_MAX {
            assert!(joins.check(here, &new).is_ok());
            joins.count(here);
        }
        assert!(joins.check(here, &new).is_err_and(|left| left <= FAILED_JOINS_WINDOW));
        assert!(joins.check(here, &used).is_ok());
        assert!(joins.check(there, &new).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_forgotten_when_its_minute_is_over() {
        let joins = FailedJoins::default();
        let [early, late] = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
        joins.count(early);
        tokio::time::advance(FAILED_JOINS_WINDOW / 2).await;
        joins.count(late);
        tokio::time::advance(FAILED_JOINS_WINDOW / 2).await;
        joins.sweep();
        let kept: Vec<IpAddr> = joins.windows.iter().map(|window| *window.key()).collect();
        assert_eq!(kept, [late]);
    }
}
