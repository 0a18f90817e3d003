//! How many instances should run, asked every few seconds: gathers what `desired.rs` weighs, tells the result as a metric, and
//! keeps it for whoever asks why. Each instance has its own opinion, made from the same facts; a fresh one has not seen the
//! peak that the others still hold, so autoscalers take the highest. Spawned by `app.rs`; read by `http/ops.rs`.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Cluster;
use super::desired::{Announced, EARLY, Hold, LATE, Load, Policy, Wanted, wanted};
use crate::domain::{SessionId, Timestamp};
use crate::drain::{Drain, Phase};
use crate::limits::{DELIVERY_LOOKS, FORECAST_EVERY, FORECAST_SESSIONS_MAX};
use crate::metrics::{Metrics, Recent};
use crate::store::operations::{Scheduled, Told};
use crate::store::{Store, StoreError};

/// How many participants of a session are here, as far as this instance knows.
pub type Present = Arc<dyn Fn(SessionId) -> usize + Send + Sync>;

/// One announced session in a report.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Which.
    pub session: SessionId,
    /// When it is to begin.
    pub starts_at: Timestamp,
    /// Participants that its presenter expects.
    pub expected_participants: u32,
    /// Participants that are here already.
    pub present: u32,
}

/// One instance in a report.
#[derive(Clone, Debug, Serialize)]
pub struct Reported {
    /// Its name.
    pub id: String,
    /// Open streams.
    pub connections: u32,
    /// Participants that it is meant for.
    pub capacity: u32,
    /// It takes new clients.
    pub serving: bool,
    /// Share of its processors over the last seconds.
    pub cpu: f64,
    /// p95 of event delivery of the last minute, in seconds.
    pub delivery_seconds: f64,
}

/// The number, and everything that led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Instances that should run.
    pub desired_instances: u32,
    /// It is higher than what is wanted now, and stays so until the quiet period is over.
    pub held: bool,
    /// What is wanted now, number by number.
    pub now: Wanted,
    /// The instances that were weighed.
    pub instances: Vec<Reported>,
    /// The sessions that were weighed.
    pub sessions: Vec<Expected>,
    /// Seconds that an instance takes to come up, as the operator said.
    pub start_seconds: u64,
    /// Seconds without a higher number before a lower one is told.
    pub quiet_seconds: u64,
    /// When this was found.
    pub at: Timestamp,
}

/// What was found last. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Forecast {
    policy: Policy,
    /// Guards the report; nothing waits under it.
    last: Arc<Mutex<Option<Report>>>,
}

impl Forecast {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, last: Arc::default() }
    }

    /// What was found last; `None` before the first time.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        self.last.lock().clone()
    }

    /// Looks every few seconds until the instance stops.
    pub async fn run(
        self,
        cluster: Cluster,
        store: Store,
        (drain, metrics): (Drain, Arc<Metrics>),
        present: Present,
    ) {
        let mut ticks = interval(FORECAST_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (begun, mut hold) = (Instant::now(), Hold::default());
        let mut delivery = Recent::new(DELIVERY_LOOKS);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = drain.reached(Phase::Stopping) => return,
            }
            let mine = Told {
                instance: cluster.name().to_owned(),
                cpu: metrics.cpu.get(),
                delivery: delivery.quantile(&metrics.delivery_seconds, 0.95),
            };
            match self.look(&store, &mine).await {
                Ok((told, scheduled)) => {
                    let instances = reported(&cluster, (&drain, &metrics), &told);
                    let sessions = expected(scheduled, &present);
                    let report = self.weigh(&mut hold, begun.elapsed(), instances, sessions);
                    metrics.desired.set(i64::from(report.desired_instances));
                    *self.last.lock() = Some(report);
                }
                Err(error) => tracing::warn!(error = ?error, "no forecast made"),
            }
        }
    }

    async fn look(
        &self,
        store: &Store,
        mine: &Told,
    ) -> Result<(Vec<Told>, Vec<Scheduled>), StoreError> {
        let ahead = self.policy.start + EARLY;
        let told = store.tell_load(mine).await?;
        Ok((told, store.scheduled(LATE, ahead, FORECAST_SESSIONS_MAX).await?))
    }

    fn weigh(
        &self,
        hold: &mut Hold,
        now: Duration,
        instances: Vec<Reported>,
        sessions: Vec<Expected>,
    ) -> Report {
        let at = Timestamp::now();
        let loads: Vec<Load> = instances
            .iter()
            .map(|one| Load {
                connections: one.connections,
                capacity: one.capacity,
                serving: one.serving,
                cpu: one.cpu,
                delivery: one.delivery_seconds,
            })
            .collect();
        let announced: Vec<Announced> = sessions
            .iter()
            .map(|one| Announced {
                starts_in: (one.starts_at.0 - at.0).as_seconds_f64(),
                expected: one.expected_participants,
                present: one.present,
            })
            .collect();
        let wanted = wanted(&self.policy, &loads, &announced);
        let desired = hold.next(&self.policy, now, wanted.wanted);
        Report {
            desired_instances: desired,
            held: desired > wanted.wanted,
            now: wanted,
            instances,
            sessions,
            start_seconds: self.policy.start.as_secs(),
            quiet_seconds: self.policy.quiet.as_secs(),
            at,
        }
    }
}

/// Everybody that lives, with what they told of their load; who has told nothing yet counts as idle.
fn reported(
    cluster: &Cluster,
    (drain, metrics): (&Drain, &Metrics),
    told: &[Told],
) -> Vec<Reported> {
    let instances = cluster.instances(drain, metrics).into_iter();
    instances
        .map(|one| {
            let load = told.iter().find(|told| told.instance == one.id);
            Reported {
                connections: u32::try_from(one.connections).unwrap_or(0),
                capacity: u32::try_from(one.capacity).unwrap_or(0),
                serving: one.state == "serving",
                cpu: load.map_or(0.0, |load| load.cpu),
                delivery_seconds: load.map_or(0.0, |load| load.delivery),
                id: one.id,
            }
        })
        .collect()
}

/// Present is what the table of presence knows, or this instance where it knows of more.
fn expected(scheduled: Vec<Scheduled>, present: &Present) -> Vec<Expected> {
    scheduled
        .into_iter()
        .map(|one| Expected {
            session: one.session,
            starts_at: one.starts_at,
            expected_participants: u32::try_from(one.expected).unwrap_or(0),
            present: u32::try_from(one.present.max(present(one.session) as i64))
                .unwrap_or(u32::MAX),
        })
        .collect()
}
