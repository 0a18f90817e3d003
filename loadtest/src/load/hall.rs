//! A hall full of participants, each a task of its own that votes when told to, reads and checks
//! every frame, and comes back when its connection is lost.
//! Must never count a vote whose ack was not read, nor an event out of its place. Called by the kinds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::crowd;
use super::sheet::new_histogram;
use super::voter::{Story, Voter};
use crate::failure::Failure;
use crate::participant::Participant;
use crate::presenter::Presenter;

/// Orders that may wait for one participant, who follows them at once unless it is reconnecting.
const ORDERS_MAX: usize = 4_096;
/// How long the last event may take to reach everyone, and the last vote its ack.
const LAST_WITHIN: Duration = Duration::from_secs(40);
/// Histograms of one kind, so that tasks on different threads seldom meet.
const SHARDS: usize = 8;

/// What all participants of a scenario mark together.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) acks: AtomicU64,
    pub(super) events: AtomicU64,
    /// Since it was last looked at, in nanoseconds.
    pub(super) slowest_ack: AtomicU64,
    shards: Vec<Mutex<Times>>,
}

/// Latencies in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Times {
    /// From the moment a vote was due to its ack.
    pub(super) ack: Histogram<u64>,
    /// From an event's time in the log to its arrival, on the instance where votes are cast.
    pub(super) delivery: Histogram<u64>,
    /// The same, on any other instance.
    pub(super) delivery_elsewhere: Histogram<u64>,
    /// From the moment a vote was due to counts that hold it, on its own connection.
    pub(super) seen: Histogram<u64>,
    /// From a lost connection to the next welcome.
    pub(super) back: Histogram<u64>,
    /// From the moment of a return to having every event missed meanwhile.
    pub(super) caught_up: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Times, Failure> {
        let new = new_histogram;
        Ok(Times {
            ack: new()?,
            delivery: new()?,
            delivery_elsewhere: new()?,
            seen: new()?,
            back: new()?,
            caught_up: new()?,
        })
    }

    fn all(&mut self) -> [&mut Histogram<u64>; 6] {
        let Times { ack, delivery, delivery_elsewhere, seen, back, caught_up } = self;
        [ack, delivery, delivery_elsewhere, seen, back, caught_up]
    }
}

impl Meter {
    pub(super) fn new() -> Result<Meter, Failure> {
        let shards = (0..SHARDS).map(|_| Ok(Mutex::new(Times::new()?)));
        Ok(Meter {
            acks: AtomicU64::new(0),
            events: AtomicU64::new(0),
            slowest_ack: AtomicU64::new(0),
            shards: shards.collect::<Result<_, Failure>>()?,
        })
    }

    /// Marks something in the shard of one participant.
    pub(super) fn mark(&self, shard: usize, mark: impl FnOnce(&mut Times)) {
        if let Some(times) = self.shards.get(shard % SHARDS) {
            mark(&mut times.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(super) fn acked(&self, shard: usize, latency: Duration) {
        let nanoseconds = nanoseconds(latency);
        self.acks.fetch_add(1, Ordering::Relaxed);
        self.slowest_ack.fetch_max(nanoseconds, Ordering::Relaxed);
        self.mark(shard, |times| times.ack.saturating_record(nanoseconds));
    }

    /// How many have every event that they missed.
    pub(super) fn caught_up(&self) -> u64 {
        let count = |shard: &Mutex<Times>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).caught_up.len()
        };
        self.shards.iter().map(count).sum()
    }

    /// Everything marked since the last call, merged.
    pub(super) fn take(&self) -> Result<Times, Failure> {
        let mut merged = Times::new()?;
        for shard in &self.shards {
            let mut times = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (all, one) in merged.all().into_iter().zip(times.all()) {
                // Both have the same bounds.
                all.add(&*one).unwrap_or_default();
                one.reset();
            }
        }
        Ok(merged)
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a participant is told to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Cast a vote that was due at a moment.
    Vote { poll: u32, due: Instant },
    /// Drop the connection, and stay away until told to return.
    Drop,
    /// Come back, and say when every event up to `seq` is there.
    Return { seq: u64, due: Instant },
    /// Read no more for a while, and then find out what became of the connection.
    Sleep(Duration),
    /// Go home once every vote is answered and every event up to `seq` is there.
    Leave { seq: u64 },
}

/// Participants, joined, each with its task.
#[derive(Debug)]
pub(super) struct Hall {
    pub(super) orders: Vec<mpsc::Sender<Order>>,
    tasks: JoinSet<Result<Story, Failure>>,
    meter: Arc<Meter>,
    home: String,
}

impl Hall {
    /// Seats participants who have joined. `home`: the instance where votes are cast.
    pub(super) fn seat(members: Vec<Participant>, meter: &Arc<Meter>, home: &str) -> Hall {
        let (orders, tasks) = (Vec::new(), JoinSet::new());
        let mut hall = Hall { orders, tasks, meter: Arc::clone(meter), home: home.to_owned() };
        members.into_iter().for_each(|member| hall.add(member));
        hall
    }

    /// Seats one more.
    pub(super) fn add(&mut self, member: Participant) {
        let (orders, to_follow) = mpsc::channel(ORDERS_MAX);
        let (meter, nth) = (Arc::clone(&self.meter), self.orders.len());
        self.tasks.spawn(Voter::new(member, to_follow, meter, nth, &self.home).run());
        self.orders.push(orders);
    }

    /// Whoever is told what; the participants are numbered as they were seated.
    pub(super) fn tell(&self, nth: usize, order: Order) -> Result<(), Failure> {
        let orders = self.orders.get(nth).ok_or_else(|| Failure::told("nobody sits there"))?;
        orders.try_send(order).map_err(|_| Failure::told("a participant follows no orders"))
    }

    /// Waits until everyone has every answer and every event up to the end of the log.
    pub(super) async fn leave(
        mut self,
        presenter: &Presenter,
    ) -> Result<BTreeMap<String, Story>, Failure> {
        let seq = presenter.last_seq().await?;
        for orders in &self.orders {
            // Who has failed already says so below.
            let _ = orders.try_send(Order::Leave { seq });
        }
        let mut stories = BTreeMap::new();
        let all = async {
            while let Some(one) = self.tasks.join_next().await {
                let story = crowd::ended(one)?;
                stories.insert(story.participant.clone(), story);
            }
            Ok::<_, Failure>(())
        };
        let outcome = timeout(LAST_WITHIN, all).await;
        match outcome {
            Ok(done) => done?,
            Err(_) => {
                let missing = self.tasks.len();
                return Err(Failure::told(format!(
                    "{missing} participants did not get every answer and event in time"
                )));
            }
        }
        Ok(stories)
    }
}
