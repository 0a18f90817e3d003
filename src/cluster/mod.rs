//! The instances of one database: this one's heartbeat, and what the others say of themselves. Nothing here is needed for
//! an answer to be right; it is for operators, balancers, and for knowing whether anybody listens. Spawned by `app/engines.rs`; read by
//! `http/ops.rs` and, through a closure, by whoever asks whether there are others.

mod agent;
pub mod desired;
#[cfg(test)]
mod desired_tests;
pub mod forecast;
mod share;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::drain::{Drain, Phase};
use crate::limits::HEARTBEAT_EVERY;
use crate::metrics::{Metrics, Processor};
use crate::store::Store;
pub use crate::store::cluster::Instance;
pub use agent::{Standing, answer};
use share::Share;

/// The instances that live, as far as this one knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cluster {
    me: Arc<str>,
    capacity: i32,
    seen: Arc<watch::Sender<Vec<Instance>>>,
}

impl Cluster {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(instance_id: &str, capacity: u32) -> Self {
        let capacity = i32::try_from(capacity).unwrap_or(i32::MAX);
        Self { me: instance_id.into(), capacity, seen: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// Everybody, by name: this instance as it is now, the others as they said last.
    #[must_use]
    pub fn instances(&self, drain: &Drain, metrics: &Metrics) -> Vec<Instance> {
        let mut instances = self.seen.borrow().clone();
        instances.retain(|one| *one.id != *self.me);
        instances.push(self.myself(drain, metrics));
        instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        instances
    }

    /// The name of this instance.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.me
    }

    /// How many others live.
    #[must_use]
    pub fn others(&self) -> usize {
        self.seen.borrow().iter().filter(|one| *one.id != *self.me).count()
    }

    /// Follows who lives.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<Instance>> {
        self.seen.subscribe()
    }

    /// Says twice a second that this instance lives, and hears who else does, until it stops; then says goodbye. With
    /// `rebalance` lets clients go where there are fewer.
    pub async fn run(self, store: Store, drain: Drain, metrics: Arc<Metrics>, rebalance: bool) {
        let mut share = Share::Held(0);
        let mut processor = Processor::watch();
        let mut ticks = interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.reached(Phase::Stopping) => break,
                _ = ticks.tick() => {}
            }
            metrics.cpu.set(processor.ratio());
            match store.heartbeat(&self.myself(&drain, &metrics)).await {
                Ok(instances) => {
                    metrics.instances.set(i64::try_from(instances.len()).unwrap_or(i64::MAX));
                    metrics.imbalance.set(imbalance(&instances));
                    if rebalance && drain.phase() == Phase::Serving {
                        match share.surplus(&self.me, &instances, Instant::now()) {
                            0 => {}
                            clients => drain.let_go(clients),
                        }
                    }
                    self.seen.send_replace(instances);
                }
                Err(error) => tracing::warn!(error = ?error, "heartbeat not written"),
            }
        }
        if let Err(error) = store.forget_instances(&self.me).await {
            tracing::warn!(error = ?error, "goodbye not said");
        }
    }

    fn myself(&self, drain: &Drain, metrics: &Metrics) -> Instance {
        let state = if drain.phase() >= Phase::Announcing { "draining" } else { "serving" };
        Instance {
            id: self.me.to_string(),
            connections: i32::try_from(metrics.connections.get()).unwrap_or(i32::MAX),
            capacity: self.capacity,
            state: state.to_owned(),
            lag_ms: lag_ms(metrics.tail_lag.get()),
        }
    }
}

/// Whole milliseconds, as instances tell them; a lag is never negative.
fn lag_ms(seconds: f64) -> i32 {
    let lag = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    i32::try_from(lag.as_millis()).unwrap_or(i32::MAX)
}

/// The most connections of one instance, by the mean of all; 1 is perfect, and what nobody has is balanced.
#[must_use]
pub fn imbalance(instances: &[Instance]) -> f64 {
    let most = instances.iter().map(|one| one.connections).max().unwrap_or(0);
    let all: f64 = instances.iter().map(|one| f64::from(one.connections)).sum();
    if all <= 0.0 { 1.0 } else { f64::from(most) * instances.len() as f64 / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connections: &[i32], expected: f64) {
        let instances: Vec<Instance> = connections
            .iter()
            .map(|connections| Instance {
                id: String::new(),
                connections: *connections,
                capacity: 500,
                state: String::from("serving"),
                lag_ms: 0,
            })
            .collect();
        assert!((imbalance(&instances) - expected).abs() < 1e-9, "{connections:?}");
    }

    #[test]
    fn imbalance_is_the_fullest_by_the_mean() {
        check(&[], 1.0);
        check(&[0, 0], 1.0);
        check(&[100, 100], 1.0);
        check(&[300, 100], 1.5);
    }
}
