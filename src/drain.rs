//! Tasks and their end. Every task of the server is spawned here, by name, and counted; the phases of going away are
//! announced here. Owns no other state. Used by everyone who spawns; driven by `app.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{REBALANCE_REFUSES, REBALANCE_SPREAD};

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
    /// Clients that are let go while the instance serves on.
    letting_go: std::sync::Arc<Mutex<LettingGo>>,
    /// Clients: waited for before [`Phase::Stopping`].
    clients: TaskTracker,
    /// Everything else: waited for after it.
    background: TaskTracker,
    alive: IntGauge,
    leaving: std::sync::Arc<AtomicU64>,
    /// Over which clients are sent away, in milliseconds.
    window_ms: std::sync::Arc<AtomicU64>,
}

/// Of all clients, who are woken together, the first so many take a place and go.
#[derive(Debug)]
struct LettingGo {
    /// Cancelled when clients are let go or the instance drains; then the next one takes its place.
    bell: CancellationToken,
    places: usize,
    /// Until then no stream is taken, for it would be one of theirs.
    refuses_until: Option<Instant>,
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
        let draining = CancellationToken::new();
        let bell = draining.child_token();
        Self {
            phase: std::sync::Arc::new(watch::Sender::new(Phase::Serving)),
            draining,
            letting_go: std::sync::Arc::new(Mutex::new(LettingGo {
                bell,
                places: 0,
                refuses_until: None,
            })),
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

    /// Cancelled when clients are sent away, all or some. One for each connection, which looks at it whenever it wakes: none
    /// shares a lock with the others then, and they are told in a fixed order. Whoever it wakes asks [`Drain::leaves`].
    #[must_use]
    pub fn bell(&self) -> CancellationToken {
        self.letting_go.lock().bell.child_token()
    }

    /// Whether the client that the bell woke is sent away, and when it is to come back. Otherwise it needs another bell.
    #[must_use]
    pub fn leaves(&self) -> Option<Duration> {
        if self.phase() < Phase::Draining {
            let mut letting_go = self.letting_go.lock();
            letting_go.places = letting_go.places.checked_sub(1)?;
        }
        Some(self.leave_after())
    }

    /// Sends so many clients away; the instance serves on, and takes no streams for a moment.
    pub fn let_go(&self, clients: usize) {
        self.spread(REBALANCE_SPREAD);
        let mut letting_go = self.letting_go.lock();
        letting_go.places = clients;
        letting_go.refuses_until = Some(Instant::now() + REBALANCE_REFUSES);
        let next = self.draining.child_token();
        std::mem::replace(&mut letting_go.bell, next).cancel();
    }

    /// Whether streams are refused, so that balancers take them elsewhere.
    #[must_use]
    pub fn refuses_streams(&self) -> bool {
        let until = self.letting_go.lock().refuses_until;
        self.phase() >= Phase::Draining || until.is_some_and(|until| Instant::now() < until)
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
        self.spread(window);
        self.advance(Phase::Draining);
    }

    fn spread(&self, window: Duration) {
        self.leaving.store(0, Ordering::Relaxed);
        self.window_ms
            .store(u64::try_from(window.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the next of the leaving clients is to come back: evenly spread over the window, its two ends first, so that
    /// even two clients are as far apart as can be.
    fn leave_after(&self) -> Duration {
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
        let mut shares: Vec<u128> = (0..9).map(|_| drain.leaves().unwrap().as_millis()).collect();
        assert_eq!(shares.get(..2), Some(&[0, 800][..]));
        shares.sort_unstable();
        assert_eq!(shares, [0, 100, 200, 300, 400, 500, 600, 700, 800]);
    }

    #[tokio::test(start_paused = true)]
    async fn some_are_let_go_and_the_others_hear_of_the_next_time_and_of_the_end() {
        let drain = Drain::new(IntGauge::new("tasks", "tasks").unwrap());
        let bell = drain.bell();
        assert!(!bell.is_cancelled() && !drain.refuses_streams());
        drain.let_go(2);
        assert!(bell.is_cancelled() && drain.refuses_streams());
        let told: Vec<Option<Duration>> = (0..4).map(|_| drain.leaves()).collect();
        assert_eq!(told, [Some(Duration::ZERO), Some(REBALANCE_SPREAD), None, None]);
        let next = drain.bell();
        assert!(!next.is_cancelled(), "woken again and again");
        tokio::time::advance(REBALANCE_REFUSES).await;
        assert!(!drain.refuses_streams());
        drain.let_go(1);
        assert!(next.is_cancelled());
        let last = drain.bell();
        drain.begin(Duration::from_secs(1));
        assert!(last.is_cancelled() && drain.bell().is_cancelled());
        assert!((0..4).all(|_| drain.leaves().is_some()), "all leave");
    }
}
