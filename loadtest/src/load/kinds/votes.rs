//! Votes on a timetable: everybody's vote is due at a moment fixed beforehand, and its latency counts
//! from then, so that a stall is charged to every vote that it delayed.
//! Must never count from the send. Called by `kinds`; `capacity` and `replace` use its rounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::load::check::{self, Losses};
use crate::load::clock::{self, LEAD};
use crate::load::crowd;
use crate::load::hall::{Hall, Order, Times, nanoseconds};
use crate::load::sheet::{millis, new_histogram};
use crate::load::stage::{Spent, Stage};
use crate::load::voter::Story;
use crate::presenter::Presenter;

/// Between the last join and the first vote, for the joins' own traffic to settle.
const SETTLE: Duration = Duration::from_millis(1_500);
/// After the last vote was due, for its ack.
const ACKS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How the moments lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spread {
    /// One after the other.
    Even,
    /// Each anywhere, as people do.
    Random,
}

/// Who votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Voters {
    All,
    /// Those on the first instance; the others look on.
    OnFirstInstance,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Who votes, in turn.
    participants: u32,
    /// Who joins, and looks on.
    watchers: u32,
    /// In each round.
    votes: u32,
    seconds: f64,
    spread: Spread,
    voters: Voters,
    rounds: u32,
    /// Rounds before the first, for the server to warm up.
    uncounted: u32,
    /// REST calls by the presenter meanwhile, also on a timetable.
    rest_per_second: u32,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) participants: u32,
    pub(super) watchers: u32,
    pub(super) votes: u32,
    pub(super) over: Duration,
    pub(super) spread: Spread,
    pub(super) voters: Voters,
    pub(super) seed: u64,
    pub(super) rest_per_second: u32,
}

impl Round {
    /// Everybody votes, one after the other, and nobody else looks on.
    pub(super) fn even(participants: u32, votes: u32, seconds: f64) -> Round {
        Round {
            participants,
            watchers: 0,
            votes,
            over: Duration::from_secs_f64(seconds),
            spread: Spread::Even,
            voters: Voters::All,
            seed: 1,
            rest_per_second: 0,
        }
    }
}

/// Everything ready for the first vote.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) presenter: Presenter,
    pub(super) polls: Vec<u32>,
    pub(super) hall: Hall,
    voters: Vec<usize>,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let mut memory = Vec::new();
    for nth in 0..asked.uncounted + asked.rounds {
        let counts = nth >= asked.uncounted;
        let round = Round {
            participants: asked.participants,
            watchers: asked.watchers,
            votes: asked.votes,
            over: Duration::from_secs_f64(asked.seconds),
            spread: asked.spread,
            voters: asked.voters,
            seed: u64::from(nth),
            rest_per_second: asked.rest_per_second,
        };
        let name = if counts {
            format!("round {}", nth + 1 - asked.uncounted)
        } else {
            "warming up".to_owned()
        };
        let ready = prepare(stage, &round, &name).await?;
        stage.now(&format!("{name}: {} votes in {} s", asked.votes, asked.seconds));
        stage.meter.take()?;
        let hall = &ready.hall;
        let timetable = timetable(&ready, &round);
        let rest = rest_probe(&ready.presenter, &round);
        let meter = Arc::clone(&stage.meter);
        let voting = cast(hall, timetable, meter);
        let ((late, rest), spent) =
            stage.measured(async { tokio::try_join!(voting, rest) }).await?;
        memory.extend(stage.fleet.watch.memory());
        let stories = close(stage, ready, u64::from(asked.votes), Losses::None).await?;
        let times = stage.meter.take()?;
        if !counts {
            continue;
        }
        report(stage, &times, &spent, asked.votes);
        stage.sheet.latencies("rest", "REST call meanwhile", &rest);
        stage.sheet.figure(
            "late_ms",
            "Latest send, behind its moment",
            "ms",
            late.as_secs_f64() * 1e3,
        );
        let events: u64 = stories.values().map(|one| one.events).sum();
        let share = events as f64 / spent.seconds;
        stage.sheet.figure("events_per_second", "Events delivered", "1/s", share);
        let each = spent.server_cpu.map(|cpu| cpu / events as f64 * 1e6);
        let label = "Server processor time, all of it, by deliveries";
        stage.sheet.figure_if("server_cpu_per_million", label, "s/million", each);
        stage.done(&format!("{name}: ack p99 {:.2} ms", millis(times.ack.value_at_quantile(0.99))));
    }
    if let (Some(first), Some(last)) = (memory.first(), memory.last()) {
        let mib = f64::from(1 << 20);
        stage.sheet.figure(
            "memory_mib",
            "Memory of the server at the end (PSS)",
            "MiB",
            last / mib,
        );
        let growth = (last - first) / mib;
        stage.sheet.figure("memory_growth_mib", "Memory, last round against first", "MiB", growth);
    }
    Ok(())
}

/// Session, polls, participants.
pub(super) async fn prepare(
    stage: &mut Stage<'_>,
    round: &Round,
    name: &str,
) -> Result<Ready, Failure> {
    let instances = stage.fleet.watch.urls().len().max(1);
    let voting = match round.voters {
        Voters::All => round.participants as usize,
        Voters::OnFirstInstance => round.participants as usize / instances,
    };
    let polls = u32::try_from((round.votes as usize).div_ceil(voting.max(1))).unwrap_or(u32::MAX);
    stage.now(&format!("{name}: {} join", round.participants + round.watchers));
    let (presenter, polls) = stage.session(polls).await?;
    let count = round.participants + round.watchers;
    let members = crowd::join(&stage.doors, &presenter.code, count).await?;
    let home = stage.fleet.watch.urls().into_iter().next().unwrap_or_default();
    let at_home = members.iter().enumerate().filter(|(_, member)| match round.voters {
        Voters::All => true,
        Voters::OnFirstInstance => member.instance == home,
    });
    let voters: Vec<usize> =
        at_home.map(|(nth, _)| nth).take(round.participants as usize).collect();
    let hall = Hall::seat(members, &stage.meter, &home);
    sleep(SETTLE).await;
    Ok(Ready { presenter, polls, hall, voters })
}

/// When who votes in which poll: all go through the polls in the same order, as a hall does.
pub(super) fn timetable(ready: &Ready, round: &Round) -> Vec<(Instant, (usize, u32))> {
    let begin = Instant::now() + LEAD;
    let mut moments = clock::even(begin, round.votes, round.over);
    if round.spread == Spread::Random {
        let mut random = fastrand::Rng::with_seed(round.seed ^ 0x5eed);
        for moment in &mut moments {
            *moment = begin + round.over.mul_f64(random.f64());
        }
        moments.sort_unstable();
    }
    let polls =
        ready.polls.iter().flat_map(|poll| ready.voters.iter().map(|voter| (*voter, *poll)));
    moments.into_iter().zip(polls).collect()
}

/// Has every vote cast at its moment and waits for the acks; says how late the latest was sent.
pub(super) async fn cast(
    hall: &Hall,
    timetable: Vec<(Instant, (usize, u32))>,
    meter: Arc<crate::load::hall::Meter>,
) -> Result<Duration, Failure> {
    let goal = meter.acks.load(Ordering::Relaxed) + timetable.len() as u64;
    let last = timetable.last().map_or_else(Instant::now, |(moment, _)| *moment);
    let orders: Vec<mpsc::Sender<Order>> = hall.orders.clone();
    let late = clock::run(timetable, move |due, (voter, poll)| {
        orders.get(voter).is_some_and(|one| one.try_send(Order::Vote { poll, due }).is_ok())
    });
    let late = late.await.map_err(|_| Failure::told("the clock's thread ended early"))?;
    while meter.acks.load(Ordering::Relaxed) < goal {
        if last.elapsed() > ACKS_WITHIN {
            break; // the check says which
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(late)
}

/// Reads the results by REST on a timetable, as long as the votes last.
async fn rest_probe(presenter: &Presenter, round: &Round) -> Result<Histogram<u64>, Failure> {
    let mut taken = new_histogram()?;
    let milliseconds = round.over.as_millis() * u128::from(round.rest_per_second);
    let count = u32::try_from(milliseconds / 1_000).unwrap_or(u32::MAX);
    let (sender, mut calls) = mpsc::channel(count.max(1) as usize);
    let schedule = clock::even(Instant::now() + LEAD, count, round.over);
    let schedule = schedule.into_iter().map(|moment| (moment, ())).collect();
    let clock = clock::run(schedule, move |due, ()| sender.try_send(due).is_ok());
    let mut calling = tokio::task::JoinSet::new();
    while let Some(due) = calls.recv().await {
        let presenter = presenter.clone();
        calling.spawn(async move {
            presenter.results(1).await?;
            Ok::<_, Failure>(due.elapsed())
        });
    }
    while let Some(one) = calling.join_next().await {
        taken.saturating_record(nanoseconds(crowd::ended(one)?));
    }
    drop(clock);
    Ok(taken)
}

/// Closes every poll, lets everyone see it, and checks.
pub(super) async fn close(
    stage: &mut Stage<'_>,
    ready: Ready,
    due: u64,
    losses: Losses,
) -> Result<BTreeMap<String, Story>, Failure> {
    stage.now("checking");
    // The presenter may have to ask another instance than at the beginning.
    let presenter = Presenter { api: stage.fleet.api()?, ..ready.presenter };
    for poll in &ready.polls {
        presenter.close(*poll).await?;
    }
    let stories = ready.hall.leave(&presenter).await?;
    check::verify(&mut stage.sheet, &presenter, &stories, due, losses).await?;
    presenter.delete().await?;
    Ok(stories)
}

/// The figures that all rounds of votes have.
pub(super) fn report(stage: &mut Stage<'_>, times: &Times, spent: &Spent, votes: u32) {
    let sheet = &mut stage.sheet;
    sheet.latencies("ack", "Vote to ack", &times.ack);
    sheet.latencies("delivery", "Event to client", &times.delivery);
    let label = "Event to client, another instance";
    sheet.latencies("delivery_elsewhere", label, &times.delivery_elsewhere);
    sheet.latencies("seen", "Vote to counts that hold it", &times.seen);
    sheet.latencies("back", "Lost connection to welcome", &times.back);
    sheet.figure("votes_per_second", "Votes acked", "1/s", f64::from(votes) / spent.seconds);
    let each = |cpu: Option<f64>| cpu.map(|cpu| cpu / f64::from(votes) * 1e6);
    sheet.figure_if("server_cpu_us", "Server processor time", "µs/vote", each(spent.server_cpu));
    sheet.figure_if(
        "postgres_cpu_us",
        "PostgreSQL processor time",
        "µs/vote",
        each(spent.postgres_cpu),
    );
    sheet.figure("client_cores", "Load generator", "cores", spent.own_cpu / spent.seconds);
    stage.note_batches(spent);
}
