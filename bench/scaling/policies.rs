//! Three ways to decide on the number of instances. Two are the server's own function, with and without what is announced.
//! Called by `main.rs`.

use std::time::Duration;

use plenum::cluster::desired::{Announced, Hold, Load, Policy, wanted};

/// Participants of one instance.
pub(crate) const CAPACITY: u32 = 500;
/// Seconds from the decision to a ready instance, where a machine decides.
pub(crate) const START: u64 = 120;
/// Minutes that a person takes to see the alert and to add an instance (ADR-004: 5 to 10).
const PERSON_SECONDS: f64 = 600.0;
/// A person takes one away after an hour below 40 %.
const PERSON_QUIET: f64 = 3_600.0;

const POLICY: Policy =
    Policy { start: Duration::from_secs(START), quiet: Duration::from_secs(600), min: 1, max: 20 };

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A person, by the alert at 80 %.
    Manual,
    /// `plenum_desired_instances` without what is announced.
    Reactive,
    /// `plenum_desired_instances`.
    Predictive,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Manual, Self::Reactive, Self::Predictive];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual thresholds",
            Self::Reactive => "reactive",
            Self::Predictive => "predictive",
        }
    }
}

/// A decision in the making.
#[derive(Debug, Default)]
pub(crate) struct Decider {
    hold: Hold,
    above_since: Option<f64>,
    below_since: Option<f64>,
}

impl Decider {
    /// How many should run, with so many connected on so many instances.
    pub(crate) fn decide(
        &mut self,
        kind: Kind,
        now: f64,
        (connected, run): (u32, u32),
        announced: &[Announced],
    ) -> u32 {
        if kind == Kind::Manual {
            return self.person(now, connected, run);
        }
        let load = |number: u32| Load {
            connections: connected / run + u32::from(number < connected % run),
            capacity: CAPACITY,
            serving: true,
            cpu: 0.0,
            delivery: 0.0,
        };
        let loads: Vec<Load> = (0..run).map(load).collect();
        let announced = if kind == Kind::Predictive { announced } else { &[] };
        let number = wanted(&POLICY, &loads, announced).wanted;
        self.hold.next(&POLICY, Duration::from_secs_f64(now), number)
    }

    fn person(&mut self, now: f64, connected: u32, run: u32) -> u32 {
        let filled = f64::from(connected) / f64::from(run * CAPACITY);
        self.above_since = (filled >= 0.8).then(|| self.above_since.unwrap_or(now));
        self.below_since = (filled < 0.4 && run > 1).then(|| self.below_since.unwrap_or(now));
        if self.above_since.is_some_and(|since| now - since >= PERSON_SECONDS) {
            self.above_since = None;
            return run + 1;
        }
        if self.below_since.is_some_and(|since| now - since >= PERSON_QUIET) {
            self.below_since = None;
            return run - 1;
        }
        run
    }
}
