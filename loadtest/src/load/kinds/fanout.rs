//! How fast and how cheaply one event reaches everyone. A presenter renames the session, which is an
//! event that is never conflated, over kept-alive connections; beside it, in turn, the bare write
//! loop does the same for as many sockets, and the server renames with nobody there, which is what
//! the renaming costs and not the fan-out.
//! Must never count an event as delivered before the last subscriber has it. Called by `kinds`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::board::{self, Board};
use crate::failure::Failure;
use crate::load::clock::{self, LEAD};
use crate::load::crowd::{self, Doors};
use crate::load::process;
use crate::load::stage::Stage;
use crate::load::yard::bare::BareLoop;
use crate::participant::{Participant, Roster};
use crate::presenter::Presenter;

/// Between the last join and the first event: presence goes out once a second.
const SETTLE: Duration = Duration::from_millis(2_500);
const WITHIN: Duration = Duration::from_secs(60);
const IN_ORDER: &str = "every event reached every subscriber, in order, once";

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    subscribers: u32,
    /// Events in each round, as fast as they go.
    events: u32,
    /// On the way at a time. More than one: frames that wait together may leave in one write, and
    /// the bare loop is the one that does so.
    in_flight: u32,
    /// Then so many on a timetable; 0 leaves that out.
    timed_events: u32,
    timed_per_second: f64,
    rounds: u32,
}

/// Who makes events.
#[derive(Clone)]
enum Driver {
    /// The presenter, and how many titles there have been: the same title again is no event.
    Server(Box<Presenter>, Arc<AtomicU32>),
    Bare(Arc<Mutex<BareLoop>>),
}

impl Driver {
    fn of(presenter: &Presenter) -> Driver {
        Driver::Server(Box::new(presenter.clone()), Arc::default())
    }

    async fn publish(&self) -> Result<(), Failure> {
        match self {
            Driver::Server(presenter, titles) => {
                let nth = titles.fetch_add(1, Ordering::Relaxed);
                presenter.rename(&format!("Fan-out {nth:06}")).await
            }
            Driver::Bare(bare) => bare.lock().await.publish().await,
        }
    }
}

/// What one run gave.
struct Done {
    members: Vec<Participant>,
    seconds: f64,
    cpu: Option<f64>,
    from_moment: Histogram<u64>,
    from_first: Histogram<u64>,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let (presenter, _) = stage.session(0).await?;
    stage.now(&format!("{} join", asked.subscribers));
    let mut members = crowd::join(&stage.doors, &presenter.code, asked.subscribers).await?;
    let bytes = length_of_event(&presenter, &mut members).await?;
    let bare = BareLoop::start(bytes, asked.in_flight > 1).await?;
    let roster = Roster::of(vec![bare.url.clone()]);
    let mut bare_members = crowd::join(&Doors::new(roster, true), "-", asked.subscribers).await?;
    let bare = Arc::new(Mutex::new(bare));
    bare.lock().await.take_control().await?;
    sleep(SETTLE).await;
    let (mut first, mut bare_first) = (presenter.last_seq().await? + 1, 1);
    let (lonely, _) = stage.session(0).await?;
    let mut lonely_first = lonely.last_seq().await? + 1;
    let ours = Driver::of(&presenter);
    let alone = Driver::of(&lonely);
    let loop_ = Driver::Bare(Arc::clone(&bare));
    for round in 1..=asked.rounds {
        let name = format!("round {round} of {}", asked.rounds);
        stage.now(&format!("{name}: nobody there"));
        let without = flat(stage, &asked, &alone, (Vec::new(), lonely_first)).await?;
        stage.now(&format!("{name}: {} subscribers", asked.subscribers));
        let own = flat(stage, &asked, &ours, (members, first)).await?;
        stage.now(&format!("{name}: bare write loop"));
        let yard = flat(stage, &asked, &loop_, (bare_members, bare_first)).await?;
        let events = u64::from(asked.events);
        (lonely_first, first, bare_first) =
            (lonely_first + events, first + events, bare_first + events);
        report(stage, &asked, &own, &without, &yard);
        (members, bare_members) = (own.members, yard.members);
        if asked.timed_events > 0 {
            stage.now(&format!("{name}: on a timetable"));
            let own = timed(stage, &asked, &ours, (members, first)).await?;
            let yard = timed(stage, &asked, &loop_, (bare_members, bare_first)).await?;
            let events = u64::from(asked.timed_events);
            (first, bare_first) = (first + events, bare_first + events);
            report_timed(stage, &own, &yard);
            (members, bare_members) = (own.members, yard.members);
        }
    }
    drop((ours, alone, loop_));
    presenter.delete().await?;
    lonely.delete().await?;
    match Arc::into_inner(bare) {
        Some(bare) => bare.into_inner().stop().await,
        None => Ok(()),
    }
}

/// Bytes of one event message of this session, so that the bare loop writes as many.
async fn length_of_event(
    presenter: &Presenter,
    members: &mut [Participant],
) -> Result<usize, Failure> {
    presenter.rename("Fan-out ------").await?;
    let seq = presenter.last_seq().await?;
    let mut bytes = 0;
    for member in members {
        while member.seq < seq {
            let text = member.next().await?;
            let text = text.ok_or_else(|| Failure::told("a subscriber was disconnected"))?;
            if let Some((seq, prev)) = crate::message::place_of(&text) {
                member.note_place(seq, prev)?;
                bytes = text.len();
            }
        }
    }
    Ok(bytes)
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let done = tokio::time::timeout(WITHIN, work).await;
    done.map_err(|_| Failure::told("an event did not reach everyone in time"))?
}

/// As fast as they go, never more on the way than asked.
async fn flat(
    stage: &mut Stage<'_>,
    asked: &Parameters,
    driver: &Driver,
    (members, first): (Vec<Participant>, u64),
) -> Result<Done, Failure> {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let board = Board::new(first, count, asked.events, asked.in_flight, &stage.meter);
    let reading = board.read(members);
    let pid = match driver {
        Driver::Server(..) => None,
        Driver::Bare(bare) => Some(bare.lock().await.pid),
    };
    let before = pid.map(process::cpu_of).transpose()?;
    let each = asked.events / asked.in_flight;
    let work = async {
        let mut driving = JoinSet::new();
        for _ in 0..asked.in_flight {
            let (driver, board) = (driver.clone(), Arc::clone(&board));
            driving.spawn(async move {
                let mut sent = Vec::new();
                for _ in 0..each {
                    board.take_turn().await?;
                    sent.push(board.now());
                    driver.publish().await?;
                }
                Ok::<_, Failure>(sent)
            });
        }
        let mut sent = Vec::new();
        while let Some(one) = driving.join_next().await {
            sent.extend(crowd::ended(one)?);
        }
        Ok((board::collect(reading).await?, sent))
    };
    let ((received, mut sent), spent) = stage.measured(in_time(work)).await?;
    stage.sheet.check(IN_ORDER, received.faults.iter().cloned());
    sent.sort_unstable();
    let cpu = match (pid, before) {
        (Some(pid), Some(before)) => Some(process::cpu_of(pid)? - before),
        _ => spent.server_cpu,
    };
    let (from_moment, from_first) = received.latencies(&sent)?;
    Ok(Done { members: received.members, seconds: spent.seconds, cpu, from_moment, from_first })
}

/// Each at its moment, whether the one before has arrived or not.
async fn timed(
    stage: &mut Stage<'_>,
    asked: &Parameters,
    driver: &Driver,
    (members, first): (Vec<Participant>, u64),
) -> Result<Done, Failure> {
    let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let board = Board::new(first, count, asked.timed_events, asked.timed_events, &stage.meter);
    let reading = board.read(members);
    let over = Duration::from_secs_f64(f64::from(asked.timed_events) / asked.timed_per_second);
    let moments = clock::even(Instant::now() + LEAD, asked.timed_events, over);
    let since: Vec<u64> = moments.iter().map(|moment| board.at(*moment)).collect();
    let work = async {
        let (sender, mut due) = mpsc::channel(asked.timed_events.max(1) as usize);
        let clock = clock::run(moments.into_iter().map(|at| (at, ())).collect(), move |_, ()| {
            sender.try_send(()).is_ok()
        });
        let mut calling = JoinSet::new();
        while due.recv().await.is_some() {
            let driver = driver.clone();
            calling.spawn(async move { driver.publish().await });
        }
        while let Some(one) = calling.join_next().await {
            crowd::ended(one)?;
        }
        drop(clock);
        board::collect(reading).await
    };
    let (received, spent) = stage.measured(in_time(work)).await?;
    stage.sheet.check(IN_ORDER, received.faults.iter().cloned());
    let (from_moment, from_first) = received.latencies(&since)?;
    let members = received.members;
    Ok(Done { members, seconds: spent.seconds, cpu: spent.server_cpu, from_moment, from_first })
}

fn report(stage: &mut Stage<'_>, asked: &Parameters, own: &Done, alone: &Done, yard: &Done) {
    let deliveries = f64::from(asked.subscribers) * f64::from(asked.events);
    let million = |cpu: Option<f64>| cpu.map(|cpu| cpu / deliveries * 1e6);
    let net = own.cpu.zip(alone.cpu).map(|(own, alone)| (own - alone).max(0.0));
    let sheet = &mut stage.sheet;
    sheet.figure("deliveries", "Deliveries", "1/s", deliveries / own.seconds);
    sheet.figure_if(
        "cpu",
        "Server processor time, with the REST calls",
        "s/million",
        million(own.cpu),
    );
    sheet.figure_if(
        "cpu_net",
        "Server processor time of the fan-out (less the same with nobody there)",
        "s/million",
        million(net),
    );
    let call = alone.cpu.map(|cpu| cpu / f64::from(asked.events) * 1e6);
    sheet.figure_if("call_us", "Server processor time of one call with nobody there", "µs", call);
    sheet.figure(
        "bare_deliveries",
        "Bare write loop: deliveries",
        "1/s",
        deliveries / yard.seconds,
    );
    sheet.figure_if("bare_cpu", "Bare write loop: processor time", "s/million", million(yard.cpu));
    if asked.in_flight == 1 {
        sheet.latencies("request", "One at a time, from the call", &own.from_moment);
    }
    sheet.latencies("first", "From the first subscriber that had it", &own.from_first);
    sheet.latencies("bare_first", "Bare write loop, from the first that had it", &yard.from_first);
    let cost = million(net).unwrap_or(f64::NAN);
    stage.done(&format!(
        "{:.0} deliveries/s, {cost:.2} s of server CPU per million",
        deliveries / own.seconds
    ));
}

fn report_timed(stage: &mut Stage<'_>, own: &Done, yard: &Done) {
    let sheet = &mut stage.sheet;
    let label = "On a timetable, from the moment the call was due";
    sheet.latencies("timed", label, &own.from_moment);
    let label = "On a timetable, from the first that had it";
    sheet.latencies("timed_first", label, &own.from_first);
    sheet.latencies(
        "bare_timed",
        "Bare write loop on a timetable, from the moment",
        &yard.from_moment,
    );
    sheet.latencies(
        "bare_timed_first",
        "Bare write loop on a timetable, from the first",
        &yard.from_first,
    );
}
