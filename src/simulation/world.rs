//! The simulated database server as all instances share it: its tables, its locks, its clock, who listens, and the weather, which
//! decides what becomes of each call. Never does anything by itself; `storm.rs` changes the weather, `postgres/` asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::sync::{RwLock, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dice::Dice;
use super::tables::Tables;
use super::trace::Trace;

/// The clock of the database when a simulation begins.
const BEGAN: OffsetDateTime = datetime!(2026-11-25 10:00 UTC);

/// What becomes of one call.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// It takes effect after a while, and the answer comes after another.
    Answered { before: Duration, after: Duration },
    /// Rolled back, and so said.
    Refused { before: Duration, state: &'static str },
    /// The connection breaks, before it took effect or after.
    Cut { before: Duration, effect: bool },
    /// No answer ever; it takes effect by then, if at all.
    Silent { effect: Option<Duration> },
    /// It takes effect, and the server warns that its standby was not waited for.
    Unreplicated { before: Duration },
}

/// How likely each fate is, in percent; what is left is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mood {
    pub(super) refused: u64,
    pub(super) cut: u64,
    pub(super) silent: u64,
    pub(super) unreplicated: u64,
    /// Of the answered ones, so many are slow.
    pub(super) slow: u64,
    /// Of hints, so many are lost, and so many doubled or late.
    pub(super) hints_lost: u64,
}

/// What may be wrong just now.
#[derive(Debug, Default)]
pub(super) struct Weather {
    pub(super) mood: Mood,
    /// No connection is taken before that.
    pub(super) down_until: Option<Instant>,
    /// By instance: nothing comes through before that.
    pub(super) frozen_until: BTreeMap<usize, Instant>,
    /// The server refuses batches that hold a vote in `CURSED`, as one with a fault in its functions would.
    pub(super) cursed: bool,
    /// These instances reach nothing any more.
    pub(super) lost: Vec<usize>,
}

/// Which server this is.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) place: String,
    pub(super) timeline: i32,
    pub(super) durability: &'static str,
}

type PollLock = Arc<RwLock<()>>;
type Listener = (usize, mpsc::Sender<String>);

/// The database, and everything around it that a seed decides.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) trace: Trace,
    pub(super) tables: Mutex<Tables>,
    pub(super) server: Mutex<Server>,
    pub(super) weather: Mutex<Weather>,
    pub(super) listeners: Mutex<Vec<Listener>>,
    /// How often another server took over, and how often a new epoch was made.
    pub(super) fail_overs: AtomicU64,
    pub(super) epochs: AtomicU64,
    /// Votes that a batch found or wrote whose commit waited for the standby, as far as it has to.
    pub(super) replicated: Mutex<BTreeSet<Uuid>>,
    /// By session and poll.
    polls: Mutex<BTreeMap<(Uuid, i32), PollLock>>,
    /// By session: the row of `session_head`.
    heads: Mutex<BTreeMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
    /// Ends all connections that were opened until now.
    end: Mutex<CancellationToken>,
    began: Instant,
}

impl World {
    pub(super) fn new(seed: u64, trace: Trace, tables: Tables) -> Arc<Self> {
        let server =
            Server { place: String::from("sim/1"), timeline: 1, durability: "synchronous standby" };
        Arc::new(Self {
            seed,
            trace,
            tables: Mutex::new(tables),
            server: Mutex::new(server),
            weather: Mutex::new(Weather { cursed: true, ..Weather::default() }),
            listeners: Mutex::default(),
            fail_overs: AtomicU64::default(),
            epochs: AtomicU64::default(),
            replicated: Mutex::default(),
            polls: Mutex::default(),
            heads: Mutex::default(),
            end: Mutex::default(),
            began: Instant::now(),
        })
    }

    /// The time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The database's clock, which shows whole milliseconds.
    pub(super) fn clock(&self) -> OffsetDateTime {
        BEGAN + Duration::from_millis(u64::try_from(self.elapsed().as_millis()).unwrap())
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.trace.note(self.elapsed(), what);
    }

    /// Ends when the server does.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.lock().clone()
    }

    /// The server dies: connections and what is under way on them end; what has taken effect stays.
    pub(super) fn crash(&self, down: Duration) {
        self.weather.lock().down_until = Some(Instant::now() + down);
        self.listeners.lock().clear();
        std::mem::take(&mut *self.end.lock()).cancel();
    }

    /// From here on nothing goes wrong; who is lost stays lost.
    pub(super) fn calm_down(&self) {
        let mut weather = self.weather.lock();
        let lost = std::mem::take(&mut weather.lost);
        *weather = Weather { lost, ..Weather::default() };
    }

    /// Whether this instance gets a connection now.
    pub(super) fn takes(&self, instance: usize) -> bool {
        let weather = self.weather.lock();
        weather.down_until.is_none_or(|until| until <= Instant::now())
            && !weather.lost.contains(&instance)
    }

    /// Waits until bytes come through to and from this instance.
    pub(super) async fn thaw(&self, instance: usize) {
        loop {
            let until = {
                let weather = self.weather.lock();
                if weather.lost.contains(&instance) {
                    None
                } else {
                    Some(weather.frozen_until.get(&instance).copied())
                }
            };
            match until {
                None => std::future::pending().await,
                Some(Some(until)) if until > Instant::now() => sleep_until(until).await,
                Some(_) => return,
            }
        }
    }

    pub(super) fn poll_lock(&self, session: Uuid, poll: i32) -> PollLock {
        self.polls.lock().entry((session, poll)).or_default().clone()
    }

    pub(super) fn head_lock(&self, session: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        self.heads.lock().entry(session).or_default().clone()
    }

    /// What becomes of a call, as these dice say.
    pub(super) fn fate(&self, dice: &mut Dice) -> Fate {
        let mood = self.weather.lock().mood;
        let before = if dice.percent(mood.slow) { dice.ms(100..2_500) } else { dice.ms(0..12) };
        let roll = dice.within(0..100);
        let (refused, cut) = (mood.refused, mood.refused + mood.cut);
        let silent = cut + mood.silent;
        match roll {
            _ if roll < refused => {
                const STATES: [&str; 5] = ["40P01", "55P03", "57014", "53200", "25006"];
                Fate::Refused { before, state: STATES[dice.below(STATES.len())] }
            }
            _ if roll < cut => Fate::Cut { before, effect: dice.percent(50) },
            _ if roll < silent => {
                Fate::Silent { effect: dice.percent(60).then(|| dice.ms(1..9_000)) }
            }
            _ if roll < silent + mood.unreplicated => Fate::Unreplicated { before },
            _ => {
                let late = dice.percent(mood.slow);
                let after = if late { dice.ms(100..2_500) } else { dice.ms(0..8) };
                Fate::Answered { before, after }
            }
        }
    }
}
