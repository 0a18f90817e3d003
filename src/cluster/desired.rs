//! How many instances should run: a pure function of what is connected, how busy and how slow the instances are, and who is
//! expected before another one could be up. Knows no clock and no database. Called by `forecast.rs`, and by the simulation
//! that compares it with other policies (`bench/scaling`).

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::mutation::mutation;

/// Of an instance's capacity, before another one is wanted (ADR-004: 80 %).
pub const FILLED: f64 = 0.8;
/// Of its processors (ADR-004: 70 %).
pub const BUSY: f64 = 0.7;
/// Seconds of event delivery, p95 (ADR-004: 100 ms).
pub const SLOW: f64 = 0.1;
/// Slow though less busy than this is no want of processors but of the database or the network: one more instance would be
/// one more that waits. Half of [`BUSY`].
pub const SLOW_BUSY_MIN: f64 = 0.35;
/// People come before a session begins: most within five minutes. Picked by eye.
pub const EARLY: Duration = Duration::from_secs(5 * 60);
/// Who has not come a quarter of an hour after the beginning is not waited for. Picked by eye.
pub const LATE: Duration = Duration::from_secs(15 * 60);

/// What the operator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long it takes from the wish for an instance to its readiness.
    pub start: Duration,
    /// A lower number is told only after this long without a higher one.
    pub quiet: Duration,
    /// Never fewer.
    pub min: u32,
    /// Never more, but for what is connected already.
    pub max: u32,
}

/// One instance, as it says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Open streams.
    pub connections: u32,
    /// Participants that it is meant for.
    pub capacity: u32,
    /// It takes new clients.
    pub serving: bool,
    /// Share of its processors.
    pub cpu: f64,
    /// p95 of event delivery, in seconds.
    pub delivery: f64,
}

/// A session that was announced.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    /// Seconds from now; negative: it has begun.
    pub starts_in: f64,
    /// Participants that its presenter expects.
    pub expected: u32,
    /// Participants that are here already.
    pub present: u32,
}

/// How many instances are wanted now, and why: each number by itself, the highest counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wanted {
    /// Open streams of all instances.
    pub connections: u32,
    /// Participants that one instance is meant for.
    pub capacity_each: u32,
    /// Instances that take new clients.
    pub serving: u32,
    /// Mean share of processors of those.
    pub cpu: f64,
    /// The worst p95 of event delivery, in seconds.
    pub delivery: f64,
    /// Participants who are expected within the time that an instance takes to come up, and are not here yet.
    pub arriving: u32,
    /// So that what is connected fills 80 % at most.
    pub by_connections: u32,
    /// So that the processors are used to 70 % at most.
    pub by_cpu: u32,
    /// One more than serve, while events are slow and processors busy; otherwise 0.
    pub by_delivery: u32,
    /// So that what is connected and what arrives fill 80 % at most.
    pub by_forecast: u32,
    /// What is connected by capacity: below it nobody may go.
    pub floor: u32,
    /// The highest of these, within the operator's bounds.
    pub wanted: u32,
}

/// Weighs everything.
#[must_use]
pub fn wanted(policy: &Policy, instances: &[Load], announced: &[Announced]) -> Wanted {
    let serving: Vec<&Load> = instances.iter().filter(|one| one.serving).collect();
    let connections: u32 = instances.iter().map(|one| one.connections).sum();
    let capacity_each = mean(serving.iter().map(|one| f64::from(one.capacity))).max(1.0);
    let cpu = mean(serving.iter().map(|one| one.cpu));
    let delivery = serving.iter().map(|one| one.delivery).fold(0.0, f64::max);
    let ahead = (policy.start + EARLY).as_secs_f64();
    let arriving: u32 = announced
        .iter()
        .filter(|one| one.starts_in <= ahead && one.starts_in >= -LATE.as_secs_f64())
        .map(|one| one.expected.saturating_sub(one.present))
        .fold(0, u32::saturating_add);
    let serve = whole(serving.len() as f64);
    let (here, coming) = (f64::from(connections), f64::from(arriving));
    let slow = delivery > SLOW && cpu >= SLOW_BUSY_MIN;
    let by_connections = whole(here / (FILLED * capacity_each));
    let by_cpu = whole(f64::from(serve) * cpu / BUSY);
    let by_delivery = if slow { serve.saturating_add(1) } else { 0 };
    let by_forecast = whole((here + coming) / (FILLED * capacity_each));
    let floor = whole(here / capacity_each);
    let most = by_connections.max(by_cpu).max(by_delivery).max(by_forecast);
    Wanted {
        connections,
        capacity_each: whole(capacity_each),
        serving: serve,
        cpu,
        delivery,
        arriving,
        by_connections,
        by_cpu,
        by_delivery,
        by_forecast,
        floor,
        wanted: most.min(policy.max).max(policy.min).max(floor),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len();
    if count == 0 { 0.0 } else { values.sum::<f64>() / count as f64 }
}

/// Upwards, a hair of rounding aside; not a number counts as none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn whole(value: f64) -> u32 {
    (value - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Up at once, down after a quiet period: the highest number wanted within it. Bounded: a number is forgotten when a higher
/// one follows.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    /// Moments and numbers; numbers fall from front to back.
    recent: VecDeque<(Duration, u32)>,
}

impl Hold {
    /// Takes what is wanted at `now` (by any clock that only goes forward); answers with what to tell.
    pub fn next(&mut self, policy: &Policy, now: Duration, wanted: u32) -> u32 {
        mutation!("down_at_once", return wanted);
        while self.recent.back().is_some_and(|(_, number)| *number <= wanted) {
            self.recent.pop_back();
        }
        self.recent.push_back((now, wanted));
        while self.recent.front().is_some_and(|(at, _)| *at + policy.quiet < now) {
            self.recent.pop_front();
        }
        self.recent.front().map_or(wanted, |(_, number)| *number)
    }
}
