//! Pings: who is to be pinged when, and the one task that does it for all connections, once a second. A connection then has
//! no clock of its own and is not woken for a ping. Never waits for a socket. Made by `app/engines.rs`; `connection.rs`
//! takes the seats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::chance;
use crate::drain::{Drain, Phase};
use crate::limits::{PING_EVERY, PING_TICK, PONG_WAIT_MAX, WRITES_PER_TURN_MAX};
use crate::outbox::Outbox;
use crate::wire::frame;

const ROWS: usize = (PING_EVERY.as_millis() / PING_TICK.as_millis()) as usize;
/// Ticks after its ping at which a client that has said nothing is given up.
const PATIENCE: usize = (PONG_WAIT_MAX.as_millis() / PING_TICK.as_millis()) as usize;
const _: () = assert!(0 < PATIENCE && PATIENCE < ROWS);

/// The connections in as many rows as there are ticks between two pings; each tick pings one row.
#[derive(Debug)]
pub struct Pulse {
    /// Nothing waits under their locks.
    rows: [Mutex<Slab<Arc<Outbox>>>; ROWS],
    /// So many have been; the next one pings the row of this number, modulo.
    ticks: AtomicUsize,
}

/// A place in a row, given up when dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    row: &'a Mutex<Slab<Arc<Outbox>>>,
    key: usize,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut row = self.row.lock();
        row.try_remove(self.key);
        if row.is_empty() {
            *row = Slab::new(); // a storm that left keeps no memory
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self { rows: std::array::from_fn(|_| Mutex::default()), ticks: AtomicUsize::new(0) }
    }
}

impl Pulse {
    /// Has a connection pinged from now on. The first ping comes at a random point of the second half of the time between
    /// two, so that those who joined together are not pinged together.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a small positive number"
    )]
    pub(super) fn join(&self, outbox: Arc<Outbox>) -> Seat<'_> {
        let ahead = ROWS / 2 + ((ROWS / 2) as f64 * chance::share()) as usize;
        let row = self.row(self.ticks.load(Ordering::Relaxed) + ahead);
        Seat { row, key: row.lock().insert(outbox) }
    }

    /// Pings until the instance stops.
    pub(crate) async fn run(self: Arc<Self>, drain: Drain) {
        let mut ticks = interval_at(Instant::now() + PING_TICK, PING_TICK);
        // A process that was frozen goes on where it was: nobody is given up for a tick that came early.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = drain.reached(Phase::Stopping) => return,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    async fn tick(&self) {
        let now = self.ticks.fetch_add(1, Ordering::Relaxed);
        Self::each(self.row(now), |outbox| outbox.ping(frame::ping())).await;
        Self::each(self.row(now + ROWS - PATIENCE), Outbox::give_up_if_silent).await;
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is below the number of rows")]
    fn row(&self, tick: usize) -> &Mutex<Slab<Arc<Outbox>>> {
        &self.rows[tick % ROWS]
    }

    /// Does it to everybody in a row, so many at a time. Cancel safe: the rest is left out.
    async fn each(row: &Mutex<Slab<Arc<Outbox>>>, act: impl Fn(&Outbox)) {
        let mut at = 0;
        loop {
            let end = {
                let row = row.lock();
                let end = (at + WRITES_PER_TURN_MAX).min(row.capacity());
                (at..end).filter_map(|key| row.get(key)).for_each(|outbox| act(outbox));
                if end == row.capacity() {
                    return;
                }
                end
            };
            at = end;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntGauge;
    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::outbox::{Broken, Outlook};
    use crate::socket::Socket;
    use crate::socket::pipe::pipe;

    const JOINED: usize = 100;

    fn pings(socket: &Socket) -> usize {
        let mut bytes = [0; 64];
        socket.try_read(&mut bytes).map_or(0, |read| read / frame::ping().len())
    }

    fn started() -> (Arc<Pulse>, Drain) {
        let (pulse, drain) =
            (Arc::<Pulse>::default(), Drain::new(IntGauge::new("t", "t").unwrap()));
        drain.spawn_vital("pulse", pulse.clone().run(drain.clone()));
        (pulse, drain)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_answers_is_pinged_at_its_time_and_whoever_does_not_is_given_up() {
        let (pulse, _drain) = started();
        let members: Vec<_> = (0..JOINED)
            .map(|nth| {
                let (near, far) = pipe(1024);
                let outbox = Outbox::new(far);
                (nth % 2 == 0, near, outbox.clone(), pulse.join(outbox), Vec::new(), None)
            })
            .collect();
        let (begin, mut members) = (Instant::now(), members);
        sleep(Duration::from_millis(500)).await; // between two ticks
        for _ in 0..(2 * ROWS + PATIENCE + 1) {
            for (answers, near, outbox, _, pinged, gone) in &mut members {
                match pings(near) {
                    0 => {}
                    1 => {
                        pinged.push(begin.elapsed().as_secs());
                        assert!(!*answers || outbox.heard(), "it was pinged");
                    }
                    more => panic!("{more} pings in a second"),
                }
                if outbox.outlook() == Outlook::Broken(Broken::Gone) {
                    gone.get_or_insert(begin.elapsed().as_secs());
                }
            }
            sleep(PING_TICK).await;
        }
        let first: std::collections::BTreeSet<u64> = members.iter().map(|one| one.4[0]).collect();
        assert!(first.len() > 8 && first.first() >= Some(&12) && first.last() <= Some(&25));
        for (answers, _, _, _, pinged, gone) in &members {
            match answers {
                true => assert_eq!((pinged[1], *gone), (pinged[0] + PING_EVERY.as_secs(), None)),
                false => {
                    assert_eq!(
                        (pinged.len(), *gone),
                        (1, Some(pinged[0] + PONG_WAIT_MAX.as_secs()))
                    );
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_is_not_kept() {
        let (pulse, _drain) = started();
        let outbox = Outbox::new(pipe(1024).0);
        let seat = pulse.join(outbox.clone());
        assert_eq!(Arc::strong_count(&outbox), 2);
        drop(seat);
        assert_eq!(Arc::strong_count(&outbox), 1);
    }
}
