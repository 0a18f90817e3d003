//! Tasks and their end. Every task of the server is spawned here, by name, and counted; the phases of going away are
//! announced here. Owns no other state. Used by everyone who spawns; driven by `app.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes work.
    Serving,
    /// It takes work still, while balancers hear that they shall bring no more.
    Announcing,
    /// It sends its clients away and takes no new ones.
    Draining,
    /// Connections are gone; background tasks finish what they hold and end.
    Stopping,
}

/// The life of the instance, shared by all tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: std::sync::Arc<watch::Sender<Phase>>,
    /// Cancelled from [`Phase::Draining`] on.
    draining: CancellationToken,
    /// Clients: waited for before [`Phase::Stopping`].
    clients: TaskTracker,
    /// Everything else: waited for after it.
    background: TaskTracker,
    alive: IntGauge,
    leaving: std::sync::Arc<AtomicU64>,
    /// Over which clients are sent away, in milliseconds.
    window_ms: std::sync::Arc<AtomicU64>,
}

struct Counted(IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drain {
    /// Serving; `alive` counts the tasks that live.
    #[must_use]
    pub fn new(alive: IntGauge) -> Self {
        Self {
            phase: std::sync::Arc::new(watch::Sender::new(Phase::Serving)),
            draining: CancellationToken::new(),
            clients: TaskTracker::new(),
            background: TaskTracker::new(),
            alive,
            leaving: std::sync::Arc::default(),
            window_ms: std::sync::Arc::default(),
        }
    }

    /// Spawns the task of one client's connection. Cancel safe: the task lives on.
    #[expect(clippy::disallowed_methods, reason = "the one place where clients' tasks are spawned")]
    pub fn spawn_client(&self, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.clients.track_future(self.counted(future)));
    }

    /// Spawns a short piece of work that must be finished before the process ends.
    #[expect(clippy::disallowed_methods, reason = "the one place where pieces of work are spawned")]
    pub fn spawn_work<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        tokio::spawn(self.background.track_future(self.counted(future)))
    }

    /// Spawns what drives a connection of the pool: neither counted nor waited for, since it ends with its connection.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the pool's connections are driven from"
    )]
    pub fn spawn_driver(&self, driver: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(driver);
    }

    /// Spawns a task without which the instance is worth nothing: should it panic, the process ends, and its clients find
    /// another instance or the restarted one.
    #[expect(clippy::disallowed_methods, reason = "the one place where vital tasks are spawned")]
    pub fn spawn_vital(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.spawn_work(future);
        tokio::spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(task = name, "vital task panicked, ending the process");
                std::process::abort();
            }
        });
    }

    /// Not an async block, which would hold the future twice: once as what it was given, and once as what it waits for.
    fn counted<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.alive.inc();
        let counted = Counted(self.alive.clone());
        future.map(move |output| {
            drop(counted);
            output
        })
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Cancelled when clients are sent away. One for each connection, which looks at it whenever it wakes: none shares a lock
    /// with the others then, and they are told in a fixed order.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.child_token()
    }

    /// Waits until the phase is at least `phase`. Cancel safe.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives in self, so this cannot fail.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }

    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = (*now).max(phase);
            later
        });
        if phase >= Phase::Draining {
            self.draining.cancel();
        }
    }

    /// How many clients' tasks live.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Waits until every client's task has ended. Cancel safe.
    pub async fn clients_gone(&self) {
        self.clients.close();
        self.clients.wait().await;
    }

    /// Waits until every other task has ended. Cancel safe.
    pub async fn background_gone(&self) {
        self.background.close();
        self.background.wait().await;
    }

    /// Begins to send clients away, spread over `window`.
    pub fn begin(&self, window: Duration) {
        self.window_ms
            .store(u64::try_from(window.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.advance(Phase::Draining);
    }

    /// When the next of the leaving clients is to come back: evenly spread over the window, its two ends first, so that
    /// even two clients are as far apart as can be.
    #[must_use]
    pub fn leave_after(&self) -> Duration {
        let window = Duration::from_millis(self.window_ms.load(Ordering::Relaxed));
        let share = match self.leaving.fetch_add(1, Ordering::Relaxed) {
            0 => 0.0,
            1 => 1.0,
            n => van_der_corput(n - 1),
        };
        window.mul_f64(share)
    }
}

/// The n-th point of the sequence ½, ¼, ¾, ⅛ …: evenly spread however many are taken.
fn van_der_corput(n: u64) -> f64 {
    let (mut n, mut share, mut half) = (n, 0.0, 0.5);
    while n > 0 {
        if n & 1 == 1 {
            share += half;
        }
        n >>= 1;
        half /= 2.0;
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_clients_are_spread_over_the_whole_window() {
        let drain = Drain::new(IntGauge::new("tasks", "tasks").unwrap());
        drain.begin(Duration::from_millis(800));
        let mut shares: Vec<u128> = (0..9).map(|_| drain.leave_after().as_millis()).collect();
        assert_eq!(shares.get(..2), Some(&[0, 800][..]));
        shares.sort_unstable();
        assert_eq!(shares, [0, 100, 200, 300, 400, 500, 600, 700, 800]);
    }
}
