//! What a scenario runs on: the fleet, the sheet, the terminal; and the readings around each phase,
//! with a sampler beside it that draws processor time, memory and rates over time.
//! Must never leave a sampler running after its phase. Called by the kinds.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};

use super::crowd::Doors;
use super::fleet::Fleet;
use super::hall::Meter;
use super::metrics::Metrics;
use super::process;
use super::progress::Progress;
use super::scenario::Scenario;
use super::sheet::{Bars, Series, Sheet};
use crate::failure::Failure;
use crate::presenter::Presenter;

/// Between two samples: fine enough for a burst of two seconds.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// Samples between two looks at memory, which the kernel has to add up.
const SAMPLES_PER_MEMORY: u32 = 4;

/// Everything that a scenario's work needs.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) progress: &'a Progress,
    pub(super) fleet: Arc<Fleet>,
    pub(super) doors: Doors,
    pub(super) meter: Arc<Meter>,
    pub(super) sheet: Sheet,
    began: Instant,
    samples: Vec<Sample>,
}

/// What a phase cost.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) seconds: f64,
    pub(super) server_cpu: Option<f64>,
    pub(super) postgres_cpu: Option<f64>,
    pub(super) own_cpu: f64,
    /// What the servers' metrics gained.
    pub(super) metrics: Option<Metrics>,
}

#[derive(Debug)]
struct Sample {
    at: f64,
    server_cpu: Option<f64>,
    postgres_cpu: Option<f64>,
    own_cpu: f64,
    memory: Option<f64>,
    acks: u64,
    events: u64,
    slowest_ack: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        scenario: &'a Scenario,
        progress: &'a Progress,
        fleet: Arc<Fleet>,
    ) -> Result<Stage<'a>, Failure> {
        let doors = Doors::new(fleet.roster.clone(), fleet.is_on_loopback());
        Ok(Stage {
            scenario,
            progress,
            fleet,
            doors,
            meter: Arc::new(Meter::new()?),
            sheet: Sheet::default(),
            began: Instant::now(),
            samples: Vec::new(),
        })
    }

    /// What the person at the terminal sees.
    pub(super) fn now(&self, text: &str) {
        self.progress.now(format!("{}: {text}", self.scenario.name));
    }

    /// Something that was found.
    pub(super) fn done(&self, text: &str) {
        self.progress.done(&format!("{}: {text}", self.scenario.name));
    }

    /// A session with so many polls, all open.
    pub(super) async fn session(&self, polls: u32) -> Result<(Presenter, Vec<u32>), Failure> {
        self.session_with(polls, "live").await
    }

    /// As `session`, but participants see no counts.
    pub(super) async fn hidden_session(
        &self,
        polls: u32,
    ) -> Result<(Presenter, Vec<u32>), Failure> {
        self.session_with(polls, "presenter").await
    }

    async fn session_with(
        &self,
        polls: u32,
        results: &str,
    ) -> Result<(Presenter, Vec<u32>), Failure> {
        let key = self.fleet.api_key.as_deref();
        let presenter = Presenter::create(&self.fleet.api()?, key, &self.scenario.title).await?;
        let polls = presenter.open_polls(polls, results).await?;
        Ok((presenter, polls))
    }

    /// Does a phase's work with readings before and after it, and samples meanwhile.
    pub(super) async fn measured<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<(T, Spent), Failure> {
        let watch = Arc::clone(&self.fleet.watch);
        let before = watch.metrics().await;
        let (server, postgres) = (watch.server_cpu(), watch.postgres_cpu());
        let own = process::own_cpu()?;
        let began = Instant::now();
        let value = {
            let sampling = self.sample();
            tokio::select! {
                value = work => value?,
                failure = sampling => return Err(failure),
            }
        };
        let minus = |now: Option<f64>, then: Option<f64>| Some(now? - then?);
        let spent = Spent {
            seconds: began.elapsed().as_secs_f64(),
            server_cpu: minus(watch.server_cpu(), server),
            postgres_cpu: minus(watch.postgres_cpu(), postgres),
            own_cpu: process::own_cpu()? - own,
            metrics: match (watch.metrics().await, before) {
                (Some(now), Some(before)) => Some(now.since(&before)),
                _ => None,
            },
        };
        Ok((value, spent))
    }

    /// Samples until dropped. Cancel safe: a sample is whole or not there.
    async fn sample(&mut self) -> Failure {
        let watch = Arc::clone(&self.fleet.watch);
        let mut ticks = interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut nth = 0_u32;
        loop {
            ticks.tick().await;
            let own_cpu = match process::own_cpu() {
                Ok(seconds) => seconds,
                Err(failure) => return failure,
            };
            self.samples.push(Sample {
                at: self.began.elapsed().as_secs_f64(),
                server_cpu: watch.server_cpu(),
                postgres_cpu: watch.postgres_cpu(),
                own_cpu,
                memory: if nth.is_multiple_of(SAMPLES_PER_MEMORY) { watch.memory() } else { None },
                acks: self.meter.acks.load(Ordering::Relaxed),
                events: self.meter.events.load(Ordering::Relaxed),
                slowest_ack: self.meter.slowest_ack.swap(0, Ordering::Relaxed),
            });
            nth += 1;
        }
    }

    /// Notes how votes were batched, from the servers' own histogram.
    pub(super) fn note_batches(&mut self, spent: &Spent) {
        let Some(metrics) = &spent.metrics else { return };
        let bars = metrics.buckets("plenum_vote_batch_size");
        let (batches, votes) = (
            metrics.sum("plenum_vote_batch_size_count"),
            metrics.sum("plenum_vote_batch_size_sum"),
        );
        if let (Some(batches), Some(votes)) = (batches, votes)
            && batches > 0.0
        {
            self.sheet.figure("batch_votes", "Votes per batch, mean", "votes", votes / batches);
        }
        match self.sheet.bars.iter_mut().find(|one| one.label == "Batch sizes") {
            Some(known) => {
                for (known, new) in known.bars.iter_mut().zip(bars) {
                    known.1 += new.1;
                }
            }
            None => self.sheet.bars.push(Bars {
                label: "Batch sizes".to_owned(),
                unit: "batches of up to so many votes".to_owned(),
                bars,
            }),
        }
    }

    /// Turns the samples into series; called once, at the end.
    pub(super) fn finish(mut self) -> Sheet {
        let samples = std::mem::take(&mut self.samples);
        let rate = |value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
            let pairs = samples.iter().zip(samples.iter().skip(1));
            pairs
                // Between two phases there are no samples, and the gap says nothing.
                .filter(|(one, two)| two.at - one.at < 4.0 * SAMPLE_EVERY.as_secs_f64())
                .filter_map(|(one, two)| {
                    Some((two.at, (value(two)? - value(one)?) / (two.at - one.at)))
                })
                .collect()
        };
        let mut add = |chart: &str, label: &str, unit: &str, points: Vec<(f64, f64)>| {
            if points.iter().any(|(_, value)| *value > 0.0) {
                self.sheet.series.push(Series {
                    chart: chart.to_owned(),
                    label: label.to_owned(),
                    x_unit: "s".to_owned(),
                    unit: unit.to_owned(),
                    points,
                });
            }
        };
        add("Votes acked", "acks", "1/s", rate(&|one| Some(one.acks as f64)));
        add("Events delivered", "events", "1/s", rate(&|one| Some(one.events as f64)));
        let slowest = samples.iter().filter(|one| one.slowest_ack > 0);
        let slowest = slowest.map(|one| (one.at, one.slowest_ack as f64 / 1e6)).collect();
        add("Slowest ack in each quarter of a second", "slowest ack", "ms", slowest);
        add("Processor", "server", "cores", rate(&|one| one.server_cpu));
        add("Processor", "PostgreSQL", "cores", rate(&|one| one.postgres_cpu));
        add("Processor", "load generator", "cores", rate(&|one| Some(one.own_cpu)));
        let memory =
            samples.iter().filter_map(|one| Some((one.at, one.memory? / f64::from(1 << 20))));
        add("Memory of the server (PSS)", "server", "MiB", memory.collect());
        self.sheet
    }
}
