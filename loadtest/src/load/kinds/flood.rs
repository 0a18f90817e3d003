//! Votes on a timetable, first in peace, then beside hostile clients, one kind of them after the other: what refusing them
//! costs the server, and how much later everybody else has an event.
//! Must never count what was not sent, nor let a crowd live on after its part of a round. Called by `kinds`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::votes::{self, Round};
use crate::failure::Failure;
use crate::load::check::Losses;
use crate::load::sheet::{millis, new_histogram};
use crate::load::stage::Stage;
use plenum_loadtest::client::socket::Raw;
use plenum_loadtest::client::{ClientError, ConnectOptions, LeanSocket};

/// For the crowd to be at its full number before the first vote.
const SETTLE: Duration = Duration::from_millis(500);
/// Messages that one hostile client sends at a time.
const MESSAGES: u32 = 20;
/// Longer than any message may be.
const GIANT_BYTES: usize = 100_000;

/// What a hostile client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Flood {
    /// Connects with a code that is nobody's.
    Codes,
    /// Votes for polls that are not there, far beyond the rate; comes again when closed.
    Messages,
    /// Sends a request's head that never ends.
    Heads,
    /// Sends a first message that is too long.
    Giants,
}

impl Flood {
    const fn name(self) -> &'static str {
        match self {
            Self::Codes => "guessed codes",
            Self::Messages => "messages beyond the rate",
            Self::Heads => "heads that never end",
            Self::Giants => "messages too long",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::Messages => "messages",
            Self::Heads => "heads",
            Self::Giants => "giants",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    votes: u32,
    seconds: f64,
    floods: Vec<Flood>,
    /// In each, peace and every kind once, so that what the machine does meanwhile befalls all alike.
    rounds: u32,
    /// Hostile clients at a time.
    clients: u8,
    /// What all of them do in a second: connections, or messages.
    per_second: u32,
}

/// What one part of a round showed.
struct Seen {
    delivery: Histogram<u64>,
    ack: Histogram<u64>,
    /// Of the server, per second.
    cpu: Option<f64>,
    attempts_per_second: f64,
}

/// What all rounds showed of one kind. Ten events a second are few: their latencies are put together, and one slow write of
/// the disk is then one of many.
struct Tally {
    flood: Option<Flood>,
    delivery: Histogram<u64>,
    ack: Histogram<u64>,
}

impl Tally {
    fn of(flood: Option<Flood>) -> Result<Tally, Failure> {
        Ok(Tally { flood, delivery: new_histogram()?, ack: new_histogram()? })
    }

    fn add(&mut self, seen: &Seen) -> Result<(), Failure> {
        let told = |error: hdrhistogram::AdditionError| Failure::told(error.to_string());
        self.delivery.add(&seen.delivery).map_err(told)?;
        self.ack.add(&seen.ack).map_err(told)
    }

    /// Notes what others had beside it; how late an event was is returned, in milliseconds.
    fn note(&self, stage: &mut Stage<'_>) -> f64 {
        let [delivery, ack] =
            [&self.delivery, &self.ack].map(|times| millis(times.value_at_quantile(0.95)));
        let name = self.flood.map_or("in peace", Flood::name);
        let (key, beside) = match self.flood {
            Some(flood) => (flood.key(), format!("Beside {}:", flood.name())),
            None => ("calm", "In peace:".to_owned()),
        };
        let label = format!("{beside} event to client, p95");
        stage.sheet.figure(&format!("{key}_p95_ms"), &label, "ms", delivery);
        let label = format!("{beside} ack, p95");
        stage.sheet.figure(&format!("{key}_ack_p95_ms"), &label, "ms", ack);
        stage.done(&format!("{name}: p95 {delivery:.1} ms, of acks {ack:.1}"));
        delivery
    }
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let kinds = [None].into_iter().chain(asked.floods.iter().copied().map(Some));
    let mut tallies = kinds.map(Tally::of).collect::<Result<Vec<_>, _>>()?;
    part(stage, &asked, None).await?; // to warm up
    for _ in 0..asked.rounds {
        let mut calm_cpu = None;
        for tally in &mut tallies {
            let seen = part(stage, &asked, tally.flood).await?;
            tally.add(&seen)?;
            match tally.flood {
                Some(flood) => note_costs(stage, flood, &seen, calm_cpu),
                None => calm_cpu = seen.cpu,
            }
        }
    }
    let mut worst: f64 = 0.0;
    for tally in &tallies {
        let p95 = tally.note(stage);
        worst = worst.max(tally.flood.map_or(0.0, |_| p95));
    }
    let label = "Event to client beside the worst of them, p95";
    stage.sheet.figure("flooded_p95_ms", label, "ms", worst);
    Ok(())
}

fn note_costs(stage: &mut Stage<'_>, flood: Flood, seen: &Seen, calm_cpu: Option<f64>) {
    let (name, key, rate) = (flood.name(), flood.key(), seen.attempts_per_second);
    stage.sheet.figure(&format!("{key}_rate"), &format!("{name}: tries"), "1/s", rate);
    let cost = seen.cpu.zip(calm_cpu).map(|(cpu, calm)| (cpu - calm) / rate * 1e6);
    let label = format!("{name}: server processor time");
    stage.sheet.figure_if(&format!("{key}_cpu_us"), &label, "µs/try", cost);
    let cost = cost.unwrap_or(f64::NAN);
    stage.done(&format!("{name}: {rate:.0}/s, {cost:.0} µs each"));
}

async fn part(
    stage: &mut Stage<'_>,
    asked: &Parameters,
    flood: Option<Flood>,
) -> Result<Seen, Failure> {
    let round = Round::even(asked.participants, asked.votes, asked.seconds);
    let name = flood.map_or("in peace", Flood::name);
    let ready = votes::prepare(stage, &round, name).await?;
    stage.now(name);
    let attempts = Arc::new(AtomicU64::new(0));
    let mut crowd = JoinSet::new();
    let url = stage.fleet.watch.urls().into_iter().next().unwrap_or_default();
    let every = Duration::from_secs_f64(f64::from(asked.clients) / f64::from(asked.per_second));
    let on_loopback = stage.fleet.is_on_loopback();
    if let Some(flood) = flood {
        for nth in 1..=asked.clients {
            let client = Client {
                url: url.clone(),
                source: on_loopback.then(|| IpAddr::V4(Ipv4Addr::new(127, 66, 0, nth))),
                code: ready.presenter.code.clone(),
                every,
                attempts: Arc::clone(&attempts),
            };
            crowd.spawn(client.run(flood));
        }
    }
    sleep(SETTLE).await;
    stage.meter.take()?;
    let before = attempts.load(Ordering::Relaxed);
    let timetable = votes::timetable(&ready, &round);
    let voting = votes::cast(&ready.hall, timetable, Arc::clone(&stage.meter));
    let (_, spent) = stage.measured(voting).await?;
    let made = attempts.load(Ordering::Relaxed) - before;
    // Before the last counts: they may wait for their turn, a tenth of a second after those before, as in peace. And before
    // the crowd leaves, which keeps this process busy more than the server.
    let times = stage.meter.take()?;
    crowd.shutdown().await;
    votes::close(stage, ready, u64::from(asked.votes), Losses::None).await?;
    Ok(Seen {
        delivery: times.delivery,
        ack: times.ack,
        cpu: spent.server_cpu.map(|cpu| cpu / spent.seconds),
        attempts_per_second: made as f64 / spent.seconds,
    })
}

/// A hostile client.
struct Client {
    url: String,
    source: Option<IpAddr>,
    code: String,
    every: Duration,
    attempts: Arc<AtomicU64>,
}

impl Client {
    /// For ever. It minds no error: being refused is what it is for.
    async fn run(self, flood: Flood) {
        let mut beat = interval(self.every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut held = Vec::new();
        loop {
            beat.tick().await;
            let _ = match flood {
                Flood::Codes => self.guess().await,
                Flood::Messages => self.chatter().await,
                Flood::Heads => self.half_a_head(&mut held).await,
                Flood::Giants => self.giant().await,
            };
        }
    }

    fn count(&self, tries: u64) {
        self.attempts.fetch_add(tries, Ordering::Relaxed);
    }

    async fn open(&self) -> Result<LeanSocket, ClientError> {
        self.count(1);
        let options = ConnectOptions { source: self.source, ..ConnectOptions::default() };
        LeanSocket::connect_with(&self.url, &options).await
    }

    async fn guess(&self) -> Result<(), ClientError> {
        let mut socket = self.open().await?;
        socket.send_text(r#"{"type":"hello","code":"00000000"}"#).await?;
        socket.next().await.map(drop)
    }

    async fn chatter(&self) -> Result<(), ClientError> {
        let mut socket = self.open().await?;
        socket.send_text(&format!(r#"{{"type":"hello","code":"{}"}}"#, self.code)).await?;
        let vote = r#"{"type":"vote","id":"9b2d7c1e-3f4a-4c55-8e21-5a0c6d7e8f90","poll":999999,"answer":{"choices":[0]}}"#;
        let votes = [vote; MESSAGES as usize];
        let mut beat = interval(self.every * MESSAGES);
        loop {
            tokio::select! {
                _ = beat.tick() => {
                    socket.send_texts(&votes).await?;
                    self.count(MESSAGES.into());
                }
                frame = socket.next() => if matches!(frame?, Raw::Closed { .. }) { return Ok(()) },
            }
        }
    }

    async fn half_a_head(&self, held: &mut Vec<TcpStream>) -> Result<(), ClientError> {
        self.count(1);
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: example\r\nX-Slow: ").await?;
        held.push(stream); // until the server has had enough of it
        Ok(())
    }

    async fn giant(&self) -> Result<(), ClientError> {
        let mut socket = self.open().await?;
        socket.send_text(&"x".repeat(GIANT_BYTES)).await?;
        socket.next().await.map(drop)
    }
}
