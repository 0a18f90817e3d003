//! Where the knee is: votes on a timetable at one rate after the other, and the latency at each.
//! The capacity is the highest rate that the server still keeps up with, its p99 within bounds.
//! Must never go on beyond a rate that was missed by far. Called by `kinds`.

use std::time::Duration;

use serde::Deserialize;

use super::votes::{self, Round, Spread, Voters};
use crate::failure::Failure;
use crate::load::check::Losses;
use crate::load::sheet::{Series, millis};
use crate::load::stage::Stage;

/// Beyond this multiple of the bound there is nothing left to learn.
const HOPELESS: f64 = 20.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    /// Votes per second, in rising order.
    rates: Vec<u32>,
    seconds: f64,
    p99_ms_at_most: f64,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let (mut knee, mut best) = (Vec::new(), 0.0_f64);
    let mut median = Vec::new();
    for rate in &asked.rates {
        let votes = f64::from(*rate) * asked.seconds;
        let round = Round {
            participants: asked.participants,
            watchers: 0,
            votes: format!("{votes:.0}").parse().unwrap_or(u32::MAX),
            over: Duration::from_secs_f64(asked.seconds),
            spread: Spread::Even,
            voters: Voters::All,
            seed: u64::from(*rate),
            rest_per_second: 0,
        };
        let name = format!("{rate} votes/s");
        let ready = votes::prepare(stage, &round, &name).await?;
        stage.now(&format!("{name} for {} s", asked.seconds));
        stage.meter.take()?;
        let timetable = votes::timetable(&ready, &round);
        let casting = votes::cast(&ready.hall, timetable, stage.meter.clone());
        let (_, spent) = stage.measured(casting).await?;
        votes::close(stage, ready, u64::from(round.votes), Losses::None).await?;
        let times = stage.meter.take()?;
        let p99 = millis(times.ack.value_at_quantile(0.99));
        knee.push((f64::from(*rate), p99));
        median.push((f64::from(*rate), millis(times.ack.value_at_quantile(0.5))));
        stage.sheet.latencies(
            &format!("ack_at_{rate}"),
            &format!("Vote to ack at {rate}/s"),
            &times.ack,
        );
        stage.note_batches(&spent);
        stage.done(&format!(
            "{name}: p99 {p99:.1} ms, server {:.2} cores, generator {:.2}",
            spent.server_cpu.unwrap_or(f64::NAN) / spent.seconds,
            spent.own_cpu / spent.seconds
        ));
        if p99 <= asked.p99_ms_at_most {
            best = best.max(f64::from(*rate));
        }
        if p99 > asked.p99_ms_at_most * HOPELESS {
            break;
        }
    }
    let series = |label: &str, points| Series {
        chart: "Latency by rate: where the knee is".to_owned(),
        label: label.to_owned(),
        x_unit: "votes/s".to_owned(),
        unit: "ms".to_owned(),
        points,
    };
    stage.sheet.series.push(series("ack p99", knee));
    stage.sheet.series.push(series("ack p50", median));
    let label = format!("Highest rate with an ack p99 within {} ms", asked.p99_ms_at_most);
    stage.sheet.figure("capacity", &label, "votes/s", best);
    Ok(())
}
