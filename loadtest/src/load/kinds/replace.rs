//! Instances go while people vote: drained one after the other as in a deployment, or killed. Their
//! clients come back elsewhere, with every event, and send again what had no answer.
//! Must never start an instance in the place of one before it is gone. Called by `kinds`.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;

use super::votes::{self, Round};
use crate::failure::Failure;
use crate::load::check::Losses;
use crate::load::stage::Stage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// A new instance first, then SIGTERM to the oldest, one after the other until all are new.
    Drain,
    /// SIGKILL to the oldest.
    Kill,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    votes: u32,
    seconds: f64,
    how: How,
    /// After the first vote.
    begin_after_seconds: f64,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let round = Round::even(asked.participants, asked.votes, asked.seconds);
    let ready = votes::prepare(stage, &round, "two instances").await?;
    stage.meter.take()?;
    let timetable = votes::timetable(&ready, &round);
    stage.now("voting while instances go");
    let meter = stage.meter.clone();
    let voting = votes::cast(&ready.hall, timetable, meter);
    let fleet = stage.fleet.clone();
    let going = async {
        sleep(Duration::from_secs_f64(asked.begin_after_seconds)).await;
        match asked.how {
            How::Kill => fleet.retire_oldest()?.kill().await,
            How::Drain => {
                for _ in 0..fleet.watch.urls().len() {
                    fleet.start_one().await?;
                    fleet.retire_oldest()?.stop_after(Ok(())).await?;
                }
                Ok(())
            }
        }
    };
    let (_, mut spent) = stage.measured(async { tokio::try_join!(voting, going) }).await?;
    // Who began is not who ended: processor time and metrics cannot be compared.
    (spent.server_cpu, spent.metrics) = (None, None);
    let stories = votes::close(stage, ready, u64::from(asked.votes), Losses::Expected).await?;
    let times = stage.meter.take()?;
    let mut lost = std::collections::BTreeMap::<u16, u64>::new();
    let mut put_off = 0;
    for story in stories.values() {
        story.lost.iter().for_each(|(code, count)| *lost.entry(*code).or_default() += count);
        put_off += story.put_off.values().sum::<u64>();
    }
    votes::report(stage, &times, &spent, asked.votes);
    stage.sheet.figure(
        "lost",
        "Connections lost and made again",
        "connections",
        lost.values().sum::<u64>() as f64,
    );
    // Exact: far below 2⁵³.
    stage.sheet.figure("put_off", "Votes told to try again", "votes", put_off as f64);
    let none = lost.is_empty();
    stage.sheet.check("somebody did lose an instance", none.then(|| "nobody did".to_owned()));
    let abrupt = asked.how == How::Drain && lost.keys().any(|code| *code != 1001);
    stage.sheet.check("a drained instance closes with 1001", abrupt.then(|| format!("{lost:?}")));
    stage.sheet.notes.push(format!("Connections lost, by close code (1006: none came): {lost:?}"));
    stage.done(&format!(
        "{lost:?} lost, slowest back after {:.0} ms",
        times.back.max() as f64 / 1e6
    ));
    Ok(())
}
