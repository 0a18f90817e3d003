//! The yardsticks: what the machine does without the server, taken in the same run, so that a
//! figure can be read as a ratio on any machine.
//! Must never be kinder to the server than to the yardstick. Called by the kinds.

pub(super) mod bare;
pub(super) mod database;
pub(super) mod pgbench;
pub(super) mod slow;
