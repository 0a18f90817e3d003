//! Readings of a process that Linux gives: memory that is its own share, and processor time.
//! Must never be pointed at a process that this program did not start. Called by `fleet`
//! and the yardsticks.

use crate::failure::Failure;

/// Clock ticks a second in `/proc/<pid>/stat`; fixed at 100 on every Linux that runs this.
const TICKS: f64 = 100.0;

/// Proportional set size in bytes: private pages plus its share of shared ones.
pub(super) fn memory_of(pid: i32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<f64>().ok())
        .map(|kib| kib * 1024.0)
        .ok_or_else(|| Failure::told("smaps_rollup without Pss"))
}

/// Processor seconds used so far, user and system together.
pub(super) fn cpu_of(pid: i32) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks_in(&text)
        .map(|ticks| ticks / TICKS)
        .ok_or_else(|| Failure::told("a stat line that makes no sense"))
}

/// Processor seconds of this program.
pub(super) fn own_cpu() -> Result<f64, Failure> {
    cpu_of(i32::try_from(std::process::id()).unwrap_or_default())
}

/// Connections that the system turned away since it started because a listener's queue was full.
pub(super) fn listen_overflows() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "ListenOverflows")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

/// Processor seconds used so far by a process and its children that still live: a PostgreSQL.
pub(super) fn cpu_of_family(parent: i32) -> Result<f64, Failure> {
    let mut sum = cpu_of(parent)?;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // A process may end between two looks; then it does not count.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if parent_in(&stat) == Some(parent) {
            sum += ticks_in(&stat).unwrap_or_default() / TICKS;
        }
    }
    Ok(sum)
}

/// Field 4.
fn parent_in(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Fields 14 and 15, counted after the name, which may itself hold spaces and brackets.
fn ticks_in(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 1 0 99";
        assert_eq!(ticks_in(stat), Some(200.0));
        assert_eq!(parent_in(stat), Some(1));
    }

    #[test]
    fn this_process_has_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(memory_of(pid).unwrap() > 100_000.0);
        assert!(cpu_of(pid).unwrap() >= 0.0);
    }
}
