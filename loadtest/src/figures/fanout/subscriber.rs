//! One subscriber of the fan-out part, and the board on which all of them mark what they have.
//! Must never lock anything on the way of a delivery: a counter per event is all they share.
//! Called by `fanout`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::failure::Failure;
use crate::message::Message;
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
}

/// When one subscriber had each event, in nanoseconds on the board's clock.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) at: Vec<u64>,
}

impl Board {
    pub(super) fn new(first: u64, subscribers: u32, events: u32, in_flight: u32) -> Board {
        Board {
            epoch: Instant::now(),
            first,
            subscribers,
            arrived: (0..events).map(|_| AtomicU32::new(0)).collect(),
            turns: Semaphore::new(in_flight as usize),
        }
    }

    /// Nanoseconds since the board was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until one more event may be on the way.
    pub(super) async fn take_turn(&self) -> Result<(), Failure> {
        let turn = self.turns.acquire().await.map_err(|_| Failure::told("the board is gone"))?;
        // Given back by the last subscriber that has the event, not by this task.
        turn.forget();
        Ok(())
    }

    fn mark(&self, seq: u64) -> Result<(), Failure> {
        let nth = seq.checked_sub(self.first).and_then(|nth| usize::try_from(nth).ok());
        let counter = nth.and_then(|nth| self.arrived.get(nth));
        let counter = counter.ok_or_else(|| Failure::told("an event that nobody asked for"))?;
        if counter.fetch_add(1, Ordering::Relaxed) + 1 == self.subscribers {
            self.turns.add_permits(1);
        }
        Ok(())
    }

    /// Deliveries that never came.
    pub(super) fn missing(&self) -> u64 {
        let short = |one: &AtomicU32| u64::from(self.subscribers - one.load(Ordering::Relaxed));
        self.arrived.iter().map(short).sum()
    }
}

/// Reads until every event has come, in order, none missing.
pub(super) async fn receive(
    mut member: Participant,
    board: std::sync::Arc<Board>,
) -> Result<Received, Failure> {
    let mut at = Vec::with_capacity(board.arrived.len());
    while at.len() < board.arrived.len() {
        let Some(text) = member.next().await? else {
            return Err(Failure::told("a subscriber was disconnected"));
        };
        let message = Message::parse(&text)?;
        if message.name == "event" {
            at.push(board.now());
            member.note(&message)?;
            board.mark(member.seq)?;
        }
    }
    Ok(Received { at })
}
