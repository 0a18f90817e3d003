//! The whole server in one thread and in time that stands still until everybody waits: two instances, put together as `app.rs`
//! does it, over a PostgreSQL of which only the far end of each connection is made up (`postgres/`), and clients that do what
//! docs/PROTOCOL.md says (`person.rs`). A seed decides what goes wrong, and when. In the end the history checker of
//! `loadtest/` judges, and what it finds is printed with the command that runs that seed again.
//!
//! ```text
//! person ─► pipe ─► ws/connection ─► vote ─► store ─► tokio-postgres ─► pipe ─► postgres/ ─► tables
//!        ◄─ pipe ◄─ outbox ◄─ ring ◄─ feed ◄──┘                            dice: well, late, error, unknown, never
//! ```
//! Tests alone. See docs/TESTING.md.

mod dice;
mod line;
mod person;
mod postgres;
mod stage;
mod storm;
mod tables;
mod trace;
mod verdict;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::auth;
use crate::chance;
use crate::domain::SessionId;
use dice::Dice;
use person::{Manner, Person};
use stage::Stage;
use tables::{Poll, Session, Tables};
use trace::{Keep, Trace};
use world::World;

/// How long a storm lasts.
const STORM_MS: std::ops::Range<u64> = 1_000..4_000;
/// After the storm everybody has everything by then.
const CALM_MAX: Duration = Duration::from_secs(150);
const POLLS: i32 = 4;

/// What came of a seed.
struct Run {
    faults: Vec<String>,
    hash: u64,
    lines: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
    longest_ms: u64,
}

/// Runs one seed to its end.
fn run(seed: u64, keep: Keep) -> Run {
    chance::seed(seed);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, keep))
}

async fn simulate(seed: u64, keep: Keep) -> Run {
    let mut dice = Dice::of(seed, "everything", 0);
    let rooms: Vec<Room> = (0..1 + dice.below(2)).map(|_| Room::new(&mut dice)).collect();
    let tables = Tables {
        sessions: rooms.iter().map(|room| (room.id, room.session.clone())).collect(),
        epoch: String::from("epoch 1"),
        history: (String::from("sim/1"), 1),
        durability: String::from("synchronous standby"),
        presence: BTreeMap::new(),
        instances: BTreeMap::new(),
    };
    let world = World::new(seed, Trace::new(keep), tables);
    if dice.percent(20) {
        world.server.lock().durability = "asynchronous replication";
    }
    let stage = Stage::new(world.clone());
    stage.start().await;
    stage.start().await;
    let until = Instant::now() + dice.ms(STORM_MS);
    let mut people = tokio::task::JoinSet::new();
    for (nth, room) in rooms.iter().enumerate() {
        for person in room.people(&stage, nth, until, &mut dice) {
            people.spawn(person.live());
        }
        let dice = Dice::of(seed, "presenter", nth as u64);
        people.spawn(storm::present(stage.clone(), room.id, POLLS, until, dice));
    }
    if dice.percent(90) {
        storm::blow(stage.clone(), until, Dice::of(seed, "storm", 0)).await;
    }
    tokio::time::sleep_until(until).await;
    world.calm_down();
    if stage.quiet_at.lock().is_some() {
        stage.loose_end();
    }
    stage.calm.store(true, Ordering::Relaxed);
    world.note(|| String::from("calm"));
    let all = async {
        while let Some(ended) = people.join_next().await {
            if let Err(error) = ended {
                stage.fault(format!("somebody panicked: {error}"));
            }
        }
    };
    if tokio::time::timeout(CALM_MAX, all).await.is_err() {
        stage.fault(format!("{} wait for something that never comes", people.len()));
    }
    people.shutdown().await;
    for instance in stage.open() {
        stage.stop(&instance).await;
    }
    verdict::judge(&stage);
    let (faults, counts) = (stage.faults.lock().clone(), stage.counts.lock().clone());
    let longest_ms = stage.longest_ms.load(Ordering::Relaxed);
    Run { faults, hash: world.trace.hash(), lines: world.trace.lines(), counts, longest_ms }
}

/// One session to be.
struct Room {
    id: Uuid,
    session: Session,
    presenter: String,
}

impl Room {
    fn new(dice: &mut Dice) -> Self {
        let id = Uuid::from_u64_pair(dice.bits(), dice.bits());
        let code = format!("{:08}", dice.within(0..100_000_000));
        let (presenter, hash) = auth::new_presenter_token(SessionId(id)).unwrap();
        let visibility = ["live", "live", "after_close", "presenter"];
        let polls = (1..=POLLS).zip(visibility);
        let polls = polls.map(|(n, shown)| Poll::draft(n, n == 2, shown)).collect();
        Self { id, session: Session::new(id, code, hash.to_vec(), polls), presenter }
    }

    fn people(
        &self,
        stage: &Arc<Stage>,
        nth: usize,
        until: Instant,
        dice: &mut Dice,
    ) -> Vec<Person> {
        let mut people = Vec::new();
        let count = 2 + dice.below(5);
        let mut before = None;
        for at in 0..count {
            let presenter = at == 0 && dice.percent(60);
            let (token, second) = match (presenter, before.take()) {
                (true, _) => {
                    (Arc::new(parking_lot::Mutex::new(Some(self.presenter.clone()))), false)
                }
                // The second device of the one before.
                (false, Some(token)) if dice.percent(20) => (token, true),
                (false, _) => (person::Shared::default(), false),
            };
            let slow = dice.percent(15);
            let manner = Manner {
                room: if slow { 300 + dice.below(1_700) } else { 16_384 },
                lag: if slow { dice.ms(20..400) } else { Duration::ZERO },
                stays: if dice.percent(50) { dice.ms(200..2_000) } else { dice.ms(5_000..60_000) },
            };
            let name = (nth * 100 + at) as u64;
            let place = (self.id, self.session.code.clone());
            let mut person = Person::new(stage, name, place, (token.clone(), presenter), manner);
            if !presenter {
                before = Some(token);
                person.means(plan(until, dice), second);
            }
            people.push(person);
        }
        people
    }
}

/// When one votes, and in which polls: mostly each once, at times in one that does not exist, or that spoils its batch.
fn plan(until: Instant, dice: &mut Dice) -> Vec<(Instant, i32)> {
    let long = u64::try_from((until - Instant::now()).as_millis()).unwrap();
    (0..3 + dice.below(5))
        .map(|_| {
            let poll = match dice.within(0..100) {
                0..3 => postgres::CURSED,
                3..6 => 99,
                _ => i32::try_from(1 + dice.below(POLLS as usize)).unwrap(),
            };
            (Instant::now() + dice.ms(0..long), poll)
        })
        .collect()
}

/// How many seeds `make test` runs.
const SEEDS: u64 = 2_000;
/// They are shared out among so many threads.
const THREADS: usize = 2;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The first seed, beginning with the `nth` of every [`THREADS`], that finds a fault; none after the lowest that failed anywhere.
fn first_failed(nth: u64, seeds: u64, lowest: &AtomicU64) -> Option<(u64, Run)> {
    let (mut longest, mut counts) = (0, BTreeMap::<&'static str, u64>::new());
    let mut failed = None;
    for seed in (nth..=seeds).step_by(THREADS) {
        if seed > lowest.load(Ordering::Relaxed) {
            break;
        }
        let run = run(seed, Keep::Nothing);
        longest = longest.max(run.longest_ms);
        run.counts.iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
        if !run.faults.is_empty() {
            lowest.fetch_min(seed, Ordering::Relaxed);
            failed = Some((seed, run));
            break;
        }
    }
    println!("{counts:?}, the longest wait for an answer {longest} ms");
    failed
}

/// PLENUM_SIMULATION_SEEDS runs another number of seeds.
#[test]
fn whatever_a_seed_does_no_vote_is_lost_doubled_or_altered() {
    let seeds = setting("PLENUM_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let lowest = &AtomicU64::new(u64::MAX);
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..)
            .take(THREADS)
            .map(|nth| scope.spawn(move || first_failed(nth, seeds, lowest)))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).min_by_key(|it| it.0)
    });
    if let Some((seed, run)) = failed {
        panic!(
            "seed {seed} failed; this runs it again, line by line:\n    make simulate SEED={seed}\n{}",
            run.faults.join("\n")
        );
    }
}

/// One seed, line by line: the one named by PLENUM_SIMULATION_SEED.
#[test]
fn a_seed() {
    let seed = setting("PLENUM_SIMULATION_SEED");
    let run = run(seed.unwrap_or(1), if seed.is_some() { Keep::Text } else { Keep::Nothing });
    println!("{:?}, the longest wait for an answer {} ms", run.counts, run.longest_ms);
    assert!(run.faults.is_empty(), "{}", run.faults.join("\n"));
}

#[test]
fn a_seed_twice_is_the_same_run_twice() {
    for seed in 1..=40 {
        let (one, two) = (run(seed, Keep::Hash), run(seed, Keep::Hash));
        let differs = one.lines.iter().zip(&two.lines).position(|(one, two)| one != two);
        if let Some(at) = differs {
            let before = one.lines[at.saturating_sub(40)..at].join("\n");
            panic!("seed {seed}, line {at}:\n{before}\n1 {}\n2 {}", one.lines[at], two.lines[at]);
        }
        assert_eq!(one.hash, two.hash, "seed {seed}");
    }
}
