//! Fan-out: who follows a session over a socket, in shards, and the tasks that write to them. One shard per worker; each
//! has a task that takes the sessions with news and offers their frames to its sockets. Never waits for a socket: what one
//! does not take at once is its connection's own business. Called by `feed/mod.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::mark::Mark;
use super::since::Since;
use super::watched::Watched;
use crate::domain::Audience;
use crate::drain::{Drain, Phase};
use crate::limits::{FAN_OUT_REST_MAX, FAN_OUT_REST_MIN};
use crate::metrics::Metrics;
use crate::mutation::mutation;
use crate::outbox::{Outbox, Outboxes};
use crate::ring::Run;

/// The sockets that follow one audience of one session.
#[derive(Debug)]
pub(super) struct Members {
    shards: Box<[MemberShard]>,
    /// The next one goes into the shard of this number, modulo.
    joined: AtomicUsize,
}

#[derive(Debug, Default)]
struct MemberShard {
    /// Guards the list and the index of the first frame not offered yet; nothing waits under it.
    list: Mutex<(Outboxes, u64)>,
    /// It is on its shard's list of news.
    marked: Mark,
}

/// A place in [`Members`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    shard: usize,
    key: usize,
}

impl Members {
    /// `first` is where the first one goes: sessions of a few would else all be on one shard.
    pub(super) fn new(shards: usize, first: usize) -> Self {
        let shards = (0..shards).map(|_| MemberShard::default()).collect();
        Self { shards, joined: AtomicUsize::new(first) }
    }

    pub(super) fn add(&self, outbox: Arc<Outbox>) -> Seat {
        let shard = self.joined.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let key = self.shards.get(shard).map_or(0, |members| members.list.lock().0.insert(outbox));
        Seat { shard, key }
    }

    pub(super) fn remove(&self, seat: Seat) {
        if let Some(shard) = self.shards.get(seat.shard) {
            shard.list.lock().0.remove(seat.key);
        }
    }
}

impl MemberShard {
    /// Offers to the sockets from place `at` on, so many of them; says where the next turn begins.
    fn turn(&self, at: usize, run: Option<&Run>, to: u64, written: &mut u64) -> Option<usize> {
        let mut list = self.list.lock();
        let next = list.0.turn(at, |outbox| {
            outbox.advance(run);
            *written += 1;
        });
        if next.is_none() {
            list.1 = to;
        }
        next
    }
}

/// The fan-out tasks.
#[derive(Debug)]
pub(super) struct Hub {
    shards: Box<[Shard]>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Sessions with news, each once per audience: bounded by what is watched.
    news: Mutex<Vec<News>>,
    wake: Notify,
}

#[derive(Debug)]
struct News {
    watched: Arc<Watched>,
    audience: Audience,
    since: Option<Since>,
}

impl Shard {
    /// After a round that took long, and during which more came: as long again, up to a limit. What comes meanwhile leaves
    /// together in the next round, in one write per socket, and whoever else needs the worker gets it. Cancel safe.
    async fn rest_after(&self, round: Duration) {
        if round >= FAN_OUT_REST_MIN && !self.news.lock().is_empty() {
            sleep(round.min(FAN_OUT_REST_MAX)).await;
        }
    }
}

impl Hub {
    pub(super) fn start(shards: usize, drain: &Drain, metrics: &Arc<Metrics>) -> Arc<Self> {
        let shards = (0..shards).map(|_| Shard::default()).collect();
        let hub = Arc::new(Self { shards, metrics: metrics.clone() });
        for number in 0..hub.shards.len() {
            drain.spawn_vital("fan-out", hub.clone().run(number, drain.clone()));
        }
        hub
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Has the frames of a session written that are in its rings since. `since`: when the event was known to be committed.
    pub(super) fn mark(&self, watched: &Arc<Watched>, since: Option<Since>) {
        for audience in Audience::ALL {
            for (shard, members) in
                self.shards.iter().zip(&watched.channel(audience).members.shards)
            {
                if members.marked.raise() {
                    shard.news.lock().push(News { watched: watched.clone(), audience, since });
                    shard.wake.notify_one();
                }
            }
        }
    }

    async fn run(self: Arc<Self>, number: usize, drain: Drain) {
        let Some(shard) = self.shards.get(number) else { return };
        loop {
            let news = std::mem::take(&mut *shard.news.lock());
            if news.is_empty() {
                tokio::select! {
                    biased;
                    () = drain.reached(Phase::Stopping) => return,
                    () = shard.wake.notified() => continue,
                }
            }
            let begun = Instant::now();
            for one in news {
                self.offer(number, &one).await;
            }
            shard.rest_after(begun.elapsed()).await;
        }
    }

    /// Offers what is new in one ring to the sockets of one shard, so many at a time.
    async fn offer(&self, number: usize, news: &News) {
        let channel = news.watched.channel(news.audience);
        let Some(members) = channel.members.shards.get(number) else { return };
        members.marked.lower(); // what comes from here on is marked again
        mutation!("news_told_once", let _ = members.marked.raise(););
        let from = members.list.lock().1;
        let run = channel.ring.run(from);
        let to = channel.ring.head();
        let (mut at, mut written) = (0, 0);
        while let Some(next) = members.turn(at, run.as_ref(), to, &mut written) {
            at = next;
            tokio::task::yield_now().await;
        }
        if written > 0 {
            self.metrics.delivered.inc_by(written * to.saturating_sub(from));
            if let Some(since) = news.since {
                let delivery = self.metrics.delivery_seconds.of(since.source.as_str());
                delivery.observe(since.at.elapsed().as_secs_f64());
            }
        }
    }
}
