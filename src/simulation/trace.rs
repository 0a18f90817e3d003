//! What happened in a simulation, line by line, with the time: a hash of it, which the same seed must repeat, and the text
//! where somebody wants to read it. No line holds an id that is drawn anew in each run.

use std::time::Duration;

use parking_lot::Mutex;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing: the quickest.
    Nothing,
    /// The hash.
    Hash,
    /// Each line is printed as well.
    Text,
}

#[derive(Debug)]
pub(super) struct Trace {
    keep: Keep,
    hash: Mutex<(u64, Vec<String>)>,
}

impl Trace {
    pub(super) fn new(keep: Keep) -> Self {
        Self { keep, hash: Mutex::new((0xcbf2_9ce4_8422_2325, Vec::new())) }
    }

    pub(super) fn note(&self, at: Duration, what: impl FnOnce() -> String) {
        if self.keep == Keep::Nothing {
            return;
        }
        let line = format!("{:>9.3} {}", at.as_secs_f64(), what());
        if self.keep == Keep::Text {
            println!("{line}");
        }
        let mut hash = self.hash.lock();
        for byte in line.bytes() {
            hash.0 = (hash.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3); // FNV-1a
        }
        hash.1.push(line);
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.hash.lock().1.clone()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.lock().0
    }
}
