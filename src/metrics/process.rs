//! How much of the machine this process uses and may use. Reads clocks and files of the system; where they are missing
//! (an empty root has no /proc), it says 0, never fails. Called by `metrics.rs` and by the heartbeat.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// How much a new measurement counts against what was known: with two a second, one half of it is 3 s old.
const SMOOTHING: f64 = 0.1;

/// The processor time of this process, by what it may use.
#[derive(Debug)]
pub struct Processor {
    looked: Instant,
    used: f64,
    ratio: f64,
    processors: f64,
}

impl Processor {
    /// Begins to look.
    #[must_use]
    pub fn watch() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            looked: Instant::now(),
            used: used_seconds(),
            ratio: 0.0,
            processors: processors as f64,
        }
    }

    /// The share used over the last seconds; 1 is all that the process may use.
    pub fn ratio(&mut self) -> f64 {
        let (now, used) = (Instant::now(), used_seconds());
        let seconds = now.duration_since(self.looked).as_secs_f64();
        if seconds > 0.0 {
            let share = (used - self.used) / seconds / self.processors;
            self.ratio += SMOOTHING * (share - self.ratio);
            (self.looked, self.used) = (now, used);
        }
        self.ratio
    }
}

fn used_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// Bytes: the smallest limit of the control groups above this process, or the machine's memory.
pub(super) fn memory_limit() -> i64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let mut folder = std::path::PathBuf::from(format!("/sys/fs/cgroup{group}"));
    let mut limits = Vec::new();
    while folder.starts_with("/sys/fs/cgroup") {
        let text = std::fs::read_to_string(folder.join("memory.max")).unwrap_or_default();
        limits.extend(text.trim().parse::<i64>());
        folder.pop();
    }
    let machine = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    limits.extend(total(&machine));
    limits.into_iter().min().unwrap_or(0)
}

/// Of `/proc/meminfo`, which counts in units of 1,024 bytes.
fn total(meminfo: &str) -> Option<i64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<i64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_ratio() {
        let mut processor = Processor::watch();
        let begin = Instant::now();
        let mut sum = 0_u64;
        while begin.elapsed().as_millis() < 20 {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert!(processor.ratio() > 0.0, "{processor:?} {sum}");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(total("MemFree: 5 kB\nMemTotal:       2048 kB\n"), Some(2_097_152));
        assert_eq!(total(""), None);
    }
}
