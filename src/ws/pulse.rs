//! Pings: who is to be pinged when, and the one task that does it for all connections, once a second. A connection then has
//! no clock of its own and is not woken for a ping. Never waits for a socket. Made by `app/engines.rs`; `connection.rs`
//! takes the seats.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::chance;
use crate::drain::{Drain, Phase};
use crate::limits::{PING_EVERY, PING_TICK, PONG_WAIT_MAX};
use crate::outbox::{Outbox, Outboxes};
use crate::wire::frame;

const ROWS: usize = (PING_EVERY.as_millis() / PING_TICK.as_millis()) as usize;
/// Ticks after its ping at which a client that has said nothing is given up.
const PATIENCE: usize = (PONG_WAIT_MAX.as_millis() / PING_TICK.as_millis()) as usize;
const _: () = assert!(0 < PATIENCE && PATIENCE < ROWS);

/// Nothing waits under its lock.
type Row = Mutex<Outboxes>;

/// The connections in as many rows as there are ticks between two pings; each tick pings one row.
#[derive(Debug)]
pub struct Pulse {
    rows: [Row; ROWS],
    /// So many have been; the next one pings the row of this number, modulo.
    ticks: AtomicUsize,
}

/// A place in a row, given up when dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    row: &'a Row,
    key: usize,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.row.lock().remove(self.key);
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
    fn row(&self, tick: usize) -> &Row {
        &self.rows[tick % ROWS]
    }

    /// Does it to everybody in a row, so many at a time. Cancel safe: the rest is left out.
    async fn each(row: &Row, act: impl Fn(&Outbox)) {
        let mut at = 0;
        // The lock is let go before the pause: it belongs to a statement of its own.
        loop {
            let next = row.lock().turn(at, &act);
            let Some(next) = next else { return };
            at = next;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus::IntGauge;
    use tokio::time::{Duration, sleep};

    use super::*;
    use crate::outbox::{Broken, Outlook};
    use crate::socket::Socket;
    use crate::socket::pipe::pipe;

    const JOINED: usize = 100;

    struct Member<'a> {
        answers: bool,
        near: Socket,
        outbox: Arc<Outbox>,
        _seat: Seat<'a>,
        /// When, in seconds.
        pinged: Vec<u64>,
        gone: Option<u64>,
    }

    impl<'a> Member<'a> {
        fn join(pulse: &'a Pulse, answers: bool) -> Self {
            let (near, far) = pipe(1024);
            let outbox = Outbox::new(far);
            let seat = pulse.join(outbox.clone());
            Self { answers, near, outbox, _seat: seat, pinged: Vec::new(), gone: None }
        }

        fn look(&mut self, now: u64) {
            let mut bytes = [0; 64];
            let read = self.near.try_read(&mut bytes).unwrap_or(0);
            match read / frame::ping().len() {
                0 => {}
                1 => {
                    self.pinged.push(now);
                    assert!(!self.answers || self.outbox.heard(), "it was pinged");
                }
                more => panic!("{more} pings in a second"),
            }
            if self.outbox.outlook() == Outlook::Broken(Broken::Gone) {
                self.gone.get_or_insert(now);
            }
        }
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
        let begin = Instant::now();
        let mut members: Vec<_> =
            (0..JOINED).map(|nth| Member::join(&pulse, nth % 2 == 0)).collect();
        sleep(Duration::from_millis(500)).await; // between two ticks
        for _ in 0..(2 * ROWS + PATIENCE + 1) {
            members.iter_mut().for_each(|member| member.look(begin.elapsed().as_secs()));
            sleep(PING_TICK).await;
        }
        let first: BTreeSet<u64> = members.iter().map(|one| one.pinged[0]).collect();
        assert!(first.len() > 8 && first.first() >= Some(&12) && first.last() <= Some(&25));
        for Member { answers, pinged, gone, .. } in &members {
            if *answers {
                assert_eq!((pinged[1], *gone), (pinged[0] + PING_EVERY.as_secs(), None));
            } else {
                let due = pinged[0] + PONG_WAIT_MAX.as_secs();
                assert_eq!((pinged.len(), *gone), (1, Some(due)));
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
