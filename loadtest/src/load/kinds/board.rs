//! Subscribers of the fan-out, who do nothing but read, and the board on which they mark what they
//! have. Must never lock anything on the way of a delivery: a counter per event is all they share.
//! Called by `fanout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::load::crowd;
use crate::load::hall::{Meter, nanoseconds};
use crate::load::sheet::new_histogram;
use crate::message::{Message, place_of};
use crate::participant::Participant;

/// Who has which event, and how many more may be made now.
#[derive(Debug)]
pub(super) struct Board {
    epoch: Instant,
    /// The `seq` of the first event that counts.
    first: u64,
    subscribers: u32,
    /// For each event, how many subscribers have it.
    arrived: Vec<AtomicU32>,
    turns: Semaphore,
    meter: Arc<Meter>,
}

/// What the subscribers had, when, and the subscribers.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) members: Vec<Participant>,
    /// For each subscriber, when it had each event, in nanoseconds on the board's clock.
    times: Vec<Vec<u64>>,
    /// What was not in order, or not once; whoever saw it reads no more.
    pub(super) faults: Vec<String>,
}

/// A subscriber that had everything, or what was wrong; and when it had each event.
type Heard = (Result<Participant, Failure>, Vec<u64>);

impl Board {
    pub(super) fn new(
        first: u64,
        subscribers: u32,
        events: u32,
        in_flight: u32,
        meter: &Arc<Meter>,
    ) -> Arc<Board> {
        Arc::new(Board {
            epoch: Instant::now(),
            first,
            subscribers,
            arrived: (0..events).map(|_| AtomicU32::new(0)).collect(),
            turns: Semaphore::new(in_flight as usize),
            meter: Arc::clone(meter),
        })
    }

    /// Nanoseconds since the board was made.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }

    /// A moment on the board's clock.
    pub(super) fn at(&self, moment: Instant) -> u64 {
        nanoseconds(moment.saturating_duration_since(self.epoch))
    }

    /// Waits until one more event may be on the way.
    pub(super) async fn take_turn(&self) -> Result<(), Failure> {
        if self.subscribers == 0 {
            return Ok(());
        }
        let turn = self.turns.acquire().await.map_err(|_| Failure::told("the board is gone"))?;
        // Given back by the last subscriber that has the event, not by this task.
        turn.forget();
        Ok(())
    }

    fn mark(&self, seq: u64) -> Result<(), Failure> {
        let nth = seq.checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        let counter = nth.and_then(|nth| self.arrived.get(nth));
        self.count(counter.ok_or_else(|| Failure::told("an event that nobody asked for"))?);
        Ok(())
    }

    fn count(&self, counter: &AtomicU32) {
        if counter.fetch_add(1, Ordering::Relaxed) + 1 == self.subscribers {
            self.meter.events.fetch_add(u64::from(self.subscribers), Ordering::Relaxed);
            self.turns.add_permits(1);
        }
    }

    /// Lets every member read until every event has come, in order, none missing.
    pub(super) fn read(self: &Arc<Board>, members: Vec<Participant>) -> JoinSet<Heard> {
        let mut reading = JoinSet::new();
        for member in members {
            reading.spawn(receive(member, Arc::clone(self)));
        }
        reading
    }
}

/// Collects what all subscribers had.
pub(super) async fn collect(mut reading: JoinSet<Heard>) -> Result<Received, Failure> {
    let mut received = Received::default();
    while let Some(one) = reading.join_next().await {
        let (member, times) = crowd::ended(one.map(Ok))?;
        match member {
            Ok(member) => received.members.push(member),
            Err(fault) => received.faults.push(fault.to_string()),
        }
        received.times.push(times);
    }
    Ok(received)
}

async fn receive(mut member: Participant, board: Arc<Board>) -> Heard {
    let mut at = Vec::with_capacity(board.arrived.len());
    match follow(&mut member, &board, &mut at).await {
        Ok(()) => (Ok(member), at),
        Err(fault) => {
            // The others go on without it.
            board.arrived.iter().skip(at.len()).for_each(|counter| board.count(counter));
            (Err(fault), at)
        }
    }
}

/// Notes in `at` when each event came.
async fn follow(member: &mut Participant, board: &Board, at: &mut Vec<u64>) -> Result<(), Failure> {
    while at.len() < board.arrived.len() {
        let Some(text) = member.next().await? else {
            return Err(Failure::told("a subscriber was disconnected"));
        };
        let now = board.now();
        if let Some((seq, prev)) = place_of(&text) {
            member.note_place(seq, prev)?;
        } else {
            let message = Message::parse(&text)?;
            if message.name != "event" {
                continue;
            }
            member.note(&message)?;
        }
        board.mark(member.seq)?;
        at.push(now);
    }
    Ok(())
}

impl Received {
    /// Latencies of all deliveries: from the moment that belongs to each event, and from the first
    /// subscriber that had it.
    pub(super) fn latencies(
        &self,
        since: &[u64],
    ) -> Result<(Histogram<u64>, Histogram<u64>), Failure> {
        let (mut from_moment, mut from_first) = (new_histogram()?, new_histogram()?);
        for (nth, moment) in since.iter().enumerate() {
            let times = || self.times.iter().filter_map(|one| one.get(nth).copied());
            let first = times().min().unwrap_or_default();
            for time in times() {
                from_first.saturating_record(time - first);
                from_moment.saturating_record(time.saturating_sub(*moment));
            }
        }
        Ok((from_moment, from_first))
    }
}
