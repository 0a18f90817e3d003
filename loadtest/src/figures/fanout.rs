//! How fast and how cheaply one event reaches everyone: polls are opened and closed, which is
//! never conflated, one event at a time and with 16 on the way.
//! Must never count an event as delivered before the last subscriber has it. Called by `figures`.

mod subscriber;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plenum_loadtest::client::Api;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::acks::new_histogram;
use super::crowd::{self, Origin};
use super::sheet::Sheet;
use super::{Bench, process};
use crate::failure::Failure;
use crate::presenter::Presenter;
use crate::server::Server;
use subscriber::{Board, Received, receive};

const PART: &str = "fan-out";
/// Subscribers, and events per round: enough processor time for a clock of 10 ms.
const SHAPES: [(u32, u32); 2] = [(500, 800), (5_000, 160)];
/// Events on the way at a time.
const IN_FLIGHT: [u32; 2] = [1, 16];
/// Between the last join and the first event: presence goes out once a second.
const SETTLE: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(120);

/// All shapes, all rounds.
pub(super) async fn measure(
    bench: &Bench<'_>,
    server: &Server,
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    let api = Api::new(&server.url);
    for round in 0..bench.arguments.rounds {
        for (nth, (subscribers, events)) in (0_u32..).zip(SHAPES) {
            for (mth, in_flight) in (0_u32..).zip(IN_FLIGHT) {
                let shape = Shape { subscribers, events, in_flight };
                bench.progress.now(format!("fan-out, round {}: {}", round + 1, shape.name()));
                let run = round * 4 + nth * 2 + mth;
                let done = one_run(&api, server, &shape, run).await?;
                let rate = done.deliveries / done.seconds;
                bench.progress.done(&format!(
                    "fan-out {}: {} {rate:.0}/s",
                    round + 1,
                    shape.name()
                ));
                done.put_down(&shape, sheet);
            }
        }
    }
    Ok(())
}

struct Shape {
    subscribers: u32,
    events: u32,
    in_flight: u32,
}

impl Shape {
    fn name(&self) -> String {
        format!("{} subscribers, {} in flight:", self.subscribers, self.in_flight)
    }
}

struct Done {
    deliveries: f64,
    seconds: f64,
    cpu: f64,
    from_request: Option<Histogram<u64>>,
    from_first: Histogram<u64>,
}

impl Done {
    fn put_down(&self, shape: &Shape, sheet: &mut Sheet) {
        let name = shape.name();
        let rate = self.deliveries / self.seconds;
        sheet.add(PART, &format!("{name} deliveries"), "1/s", rate);
        let cost = self.cpu / self.deliveries * 1e6;
        sheet.add(PART, &format!("{name} server processor time"), "s/million", cost);
        if let Some(from_request) = &self.from_request {
            sheet.add_latencies(PART, &format!("{name} from request"), from_request);
        }
        sheet.add_latencies(PART, &format!("{name} from first"), &self.from_first);
    }
}

async fn one_run(api: &Api, server: &Server, shape: &Shape, run: u32) -> Result<Done, Failure> {
    let presenter = Presenter::create(api, None, "Fan-out").await?;
    let mut polls = Vec::new();
    for _ in 0..shape.in_flight {
        polls.push(presenter.add_poll("Which?", &["a", "b", "c", "d"]).await?);
    }
    let origin = Origin { round: run, before: 0 };
    let members = crowd::join(&server.url, &presenter.code, shape.subscribers, origin).await?;
    tokio::time::sleep(SETTLE).await;

    let first = members.iter().map(|member| member.seq).max().unwrap_or_default() + 1;
    let board = Arc::new(Board::new(first, shape.subscribers, shape.events, shape.in_flight));
    let mut receiving = JoinSet::new();
    for member in members {
        receiving.spawn(receive(member, Arc::clone(&board)));
    }
    let cpu = process::cpu_of(server.pid)?;
    let began = Instant::now();
    let work = async {
        let requests = drive(&presenter, &polls, shape, &board).await?;
        let mut received = Vec::new();
        while let Some(one) = receiving.join_next().await {
            received.push(crowd::ended(one)?);
        }
        Ok::<_, Failure>((requests, received))
    };
    let (requests, received) = timeout(WITHIN, work)
        .await
        .map_err(|_| Failure::told("an event did not reach everyone in time"))??;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = process::cpu_of(server.pid)? - cpu;
    let (from_request, from_first) = latencies(&board, &requests, &received, shape)?;
    presenter.delete().await?;
    let deliveries = f64::from(shape.subscribers) * f64::from(shape.events);
    Ok(Done { deliveries, seconds, cpu, from_request, from_first })
}

/// Opens and closes polls, never more events on the way than the shape says; returns when each
/// request was sent, in order (which is that of the events where one is on the way at a time).
async fn drive(
    presenter: &Presenter,
    polls: &[u32],
    shape: &Shape,
    board: &Arc<Board>,
) -> Result<Vec<u64>, Failure> {
    let each = shape.events / shape.in_flight;
    let mut driving = JoinSet::new();
    for poll in polls.iter().copied() {
        let (presenter, board) = (presenter.clone(), Arc::clone(board));
        driving.spawn(async move {
            let mut sent = Vec::new();
            for nth in 0..each {
                board.take_turn().await?;
                sent.push(board.now());
                if nth % 2 == 0 {
                    presenter.open(poll).await?;
                } else {
                    presenter.close(poll).await?;
                }
            }
            Ok::<_, Failure>(sent)
        });
    }
    let mut sent = Vec::new();
    while let Some(one) = driving.join_next().await {
        sent.extend(crowd::ended(one)?);
    }
    Ok(sent)
}

/// Latencies of all deliveries, from the request and from the first delivery of the same event.
fn latencies(
    board: &Board,
    requests: &[u64],
    received: &[Received],
    shape: &Shape,
) -> Result<(Option<Histogram<u64>>, Histogram<u64>), Failure> {
    let (mut from_request, mut from_first) = (new_histogram()?, new_histogram()?);
    for nth in 0..shape.events as usize {
        let times = || received.iter().filter_map(|one| one.at.get(nth).copied());
        let first = times().min().unwrap_or_default();
        let request = requests.get(nth).copied().unwrap_or_default();
        for time in times() {
            from_first.saturating_record(time - first);
            from_request.saturating_record(time.saturating_sub(request));
        }
    }
    if from_first.len() != u64::from(shape.events) * u64::from(shape.subscribers) {
        return Err(Failure::told(format!("{} deliveries are missing", board.missing())));
    }
    Ok(((shape.in_flight == 1).then_some(from_request), from_first))
}
