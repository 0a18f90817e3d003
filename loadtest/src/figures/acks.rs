//! How long a vote waits for its ack: 400 participants, one vote each at a moment drawn before,
//! measured from that moment, so that a stall is charged to every vote that it delayed.
//! Must never count from the send. Called by `figures`.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plenum_loadtest::client::{Api, SocketReceiver, SocketSender, socket::Raw};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::crowd::{self, Origin};
use super::sheet::Sheet;
use super::{Bench, process};
use crate::failure::Failure;
use crate::message::Message;
use crate::presenter::Presenter;
use crate::random::Random;
use crate::server::Server;

const PART: &str = "acks";
const PARTICIPANTS: u32 = 400;
const SPREAD: Duration = Duration::from_secs(2);
/// Between the last join and the first vote, for the joins' own traffic to settle.
const SETTLE: Duration = Duration::from_millis(1_500);
/// No ack takes this long on a server that works.
const WITHIN: Duration = Duration::from_secs(30);

/// All rounds, after one that is not counted.
pub(super) async fn measure(
    bench: &Bench<'_>,
    server: &Server,
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    let api = Api::new(&server.url);
    for round in 0..=bench.arguments.rounds {
        bench.progress.now(format!("acks, round {round} of {}", bench.arguments.rounds));
        let before = process::cpu_of(server.pid)?;
        let latencies = one_round(&api, &server.url, round).await?;
        let cpu = process::cpu_of(server.pid)? - before;
        if round == 0 {
            continue;
        }
        let p99 = latencies.value_at_quantile(0.99);
        bench.progress.done(&format!("acks {round}: p99 {} µs", p99 / 1_000));
        sheet.add_latencies(PART, "vote to ack", &latencies);
        sheet.add(PART, "server processor time, joins included", "s", cpu);
    }
    Ok(())
}

async fn one_round(api: &Api, url: &str, round: u32) -> Result<Histogram<u64>, Failure> {
    let presenter = Presenter::create(api, None, "Acks").await?;
    let poll = presenter.add_poll("Which?", &["a", "b", "c", "d"]).await?;
    presenter.open(poll).await?;
    let members =
        crowd::join(url, &presenter.code, PARTICIPANTS, Origin { round, before: 0 }).await?;
    tokio::time::sleep(SETTLE).await;

    let begin = Instant::now() + Duration::from_millis(100);
    let moments = Arc::new(moments(begin, u64::from(round)));
    let mut random = Random::seeded(u64::from(round));
    let mut receiving = JoinSet::new();
    let mut senders = Vec::new();
    for (member, moment) in members.into_iter().zip(moments.iter()) {
        let vote = uuid::Uuid::new_v4().to_string();
        let answer = json!({ "choices": [random.below(4)] });
        let ballot = json!({ "type": "vote", "id": vote, "poll": poll, "answer": answer });
        let (sender, receiver) = member.into_socket().split();
        senders.push((sender, ballot.to_string()));
        receiving.spawn(until_acked(receiver, vote, *moment));
    }
    let casting = cast(senders, moments);
    let collecting = collect(&mut receiving);
    let (_senders, latencies) = timeout(WITHIN, async { tokio::try_join!(casting, collecting) })
        .await
        .map_err(|_| Failure::told("not every vote was acked in time"))??;

    presenter.close(poll).await?;
    let stored = presenter.export().await?.json();
    let stored = stored.get("votes").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    if stored != PARTICIPANTS as usize {
        return Err(Failure::told(format!("{PARTICIPANTS} votes were acked, {stored} are stored")));
    }
    presenter.delete().await?;
    Ok(latencies)
}

/// When each vote is due, in order.
fn moments(begin: Instant, seed: u64) -> Vec<Instant> {
    let mut random = Random::seeded(seed ^ 0x5eed);
    let mut moments: Vec<Instant> =
        (0..PARTICIPANTS).map(|_| begin + SPREAD.mul_f64(random.fraction())).collect();
    moments.sort_unstable();
    moments
}

/// Sends each ballot at its moment, and hands the senders back, so that no socket is half closed.
async fn cast(
    mut senders: Vec<(SocketSender, String)>,
    moments: Arc<Vec<Instant>>,
) -> Result<Vec<(SocketSender, String)>, Failure> {
    let (due, mut is_due) = mpsc::channel(PARTICIPANTS as usize);
    // A thread of its own: the runtime's timer is a millisecond coarse, as long as an ack takes.
    thread::spawn(move || {
        for moment in moments.iter() {
            while let Some(wait) = moment.checked_duration_since(Instant::now()) {
                thread::park_timeout(wait);
            }
            if due.blocking_send(()).is_err() {
                return;
            }
        }
    });
    for (sender, ballot) in &mut senders {
        is_due.recv().await.ok_or_else(|| Failure::told("the clock thread ended early"))?;
        sender.send_text(ballot).await?;
    }
    Ok(senders)
}

async fn collect(
    receiving: &mut JoinSet<Result<Duration, Failure>>,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = new_histogram()?;
    while let Some(one) = receiving.join_next().await {
        let nanoseconds = u64::try_from(crowd::ended(one)?.as_nanos()).unwrap_or(u64::MAX);
        latencies.saturating_record(nanoseconds);
    }
    Ok(latencies)
}

/// Nanoseconds up to a minute, three digits exact.
pub(super) fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_max(60_000_000_000, 3)
        .map_err(|error| Failure::told(format!("no histogram: {error}")))
}

/// Reads until the ack, and past it until the poll closes, so that broadcasts go on being read.
async fn until_acked(
    mut receiver: SocketReceiver,
    vote: String,
    moment: Instant,
) -> Result<Duration, Failure> {
    loop {
        let Raw::Text(text) = receiver.recv_raw().await? else {
            return Err(Failure::told("a connection was lost while votes were cast"));
        };
        let message = Message::parse(&text)?;
        match message.name {
            "ack" if message.id == Some(&vote) => {
                let latency = moment.elapsed();
                read_on(receiver);
                return Ok(latency);
            }
            "error" => {
                let code = message.code.unwrap_or_default();
                return Err(Failure::told(format!("a vote was refused: {code}")));
            }
            _ => {}
        }
    }
}

/// Goes on reading until the session is deleted, which closes the connection.
#[expect(clippy::disallowed_methods, reason = "ends with its connection; nobody waits for it")]
fn read_on(mut receiver: SocketReceiver) {
    tokio::spawn(async move { while let Ok(Raw::Text(_)) = receiver.recv_raw().await {} });
}
