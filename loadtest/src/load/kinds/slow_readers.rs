//! Some do not read: phones in pockets. The others must not notice, the server's memory must stay
//! bounded, and whoever wakes up comes back and gets everything.
//! Must never take a slow reader's loss for a loss of events. Called by `kinds`.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::load::check::{self, Losses};
use crate::load::crowd;
use crate::load::hall::{Hall, Order};
use crate::load::sheet::millis;
use crate::load::stage::Stage;

/// Options of the poll: the largest that the protocol allows, so that sockets fill soon.
const OPTIONS: usize = 50;
const OPTION_CHARS: usize = 200;
const SETTLE: Duration = Duration::from_millis(1_500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    /// How many of them stop reading.
    slow: u32,
    /// Large events meanwhile, on a timetable.
    events: u32,
    per_second: f64,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let (presenter, _) = stage.session(0).await?;
    let options: Vec<String> = (0..OPTIONS).map(|nth| format!("{nth:x<OPTION_CHARS$}")).collect();
    let body = json!({ "kind": "choice", "question": "Which?", "options": options });
    let path = format!("/v1/sessions/{}/polls", presenter.session);
    let made = presenter.api.post(&path, Some(&presenter.token), Some(&body)).await?;
    Failure::unless_ok("creating a poll", made)?;
    let members = crowd::join(&stage.doors, &presenter.code, asked.participants).await?;
    let home = stage.fleet.watch.urls().into_iter().next().unwrap_or_default();
    let hall = Hall::seat(members, &stage.meter, &home);
    sleep(SETTLE).await;
    let before = stage.fleet.watch.memory();
    stage.meter.take()?;
    let over = Duration::from_secs_f64(f64::from(asked.events) / asked.per_second);
    for nth in 0..asked.slow as usize {
        hall.tell(nth, Order::Sleep(over + SETTLE))?;
    }
    stage.now(&format!("{} of {} do not read", asked.slow, asked.participants));
    let work = async {
        let begin = Instant::now();
        for nth in 0..asked.events {
            let due = begin + over.mul_f64(f64::from(nth) / f64::from(asked.events));
            tokio::time::sleep_until(due.into()).await;
            if nth % 2 == 0 {
                presenter.open(1).await?;
            } else {
                presenter.close(1).await?;
            }
        }
        Ok(())
    };
    let ((), spent) = stage.measured(work).await?;
    let grown = stage
        .fleet
        .watch
        .memory()
        .zip(before)
        .map(|(now, before)| (now - before) / f64::from(1 << 20));
    let times = stage.meter.take()?;
    stage.sheet.latencies("delivery", "Event to client, of those who read", &times.delivery);
    stage.sheet.figure_if("grown_mib", "Memory gained by the server (PSS)", "MiB", grown);
    let closed = spent.metrics.as_ref().map(|metrics| {
        let codes = metrics.by_label("plenum_connections_closed_total", "code");
        codes.iter().filter(|(code, _)| code == "4413").map(|(_, count)| count).sum()
    });
    stage.sheet.figure_if("closed_4413", "Slow readers sent away (4413)", "connections", closed);
    stage.done(&format!(
        "p95 {:.1} ms of those who read",
        millis(times.delivery.value_at_quantile(0.95))
    ));
    stage.now("everybody reads again");
    presenter.close(1).await?;
    let stories = hall.leave(&presenter).await?;
    check::verify(&mut stage.sheet, &presenter, &stories, 0, Losses::Expected).await?;
    let lost: u64 = stories.values().flat_map(|one| one.lost.values()).sum();
    let too_many = lost > u64::from(asked.slow);
    stage
        .sheet
        .check("nobody who reads lost the connection", too_many.then(|| format!("{lost} lost")));
    presenter.delete().await
}
