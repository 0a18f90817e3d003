//! A storm of joins: thousands connect on a timetable, or all at once, and each counts from its
//! moment to its welcome.
//! Must never reuse a connection. Called by `kinds`.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::load::clock::{self, LEAD};
use crate::load::hall::nanoseconds;
use crate::load::sheet::new_histogram;
use crate::load::stage::Stage;
use crate::load::{crowd, process};
use crate::participant::{Participant, Place};

/// No storm takes this long on a server that works.
const WITHIN: Duration = Duration::from_secs(60);
/// Between two storms, for sockets to be closed on both sides.
const REST: Duration = Duration::from_millis(1_500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// How many, and within how many seconds; 0 is all at the same moment.
    storms: Vec<(u32, f64)>,
    rounds: u32,
    /// Storms of the first kind before the first round, for the server to warm up.
    uncounted: u32,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    for nth in 0..asked.uncounted + asked.rounds {
        for (count, seconds) in asked.storms.clone() {
            storm(stage, count, seconds, nth >= asked.uncounted).await?;
        }
    }
    Ok(())
}

async fn storm(
    stage: &mut Stage<'_>,
    count: u32,
    seconds: f64,
    counts: bool,
) -> Result<(), Failure> {
    let over = Duration::from_secs_f64(seconds);
    let name = if seconds > 0.0 {
        format!("{count} joins in {seconds} s")
    } else {
        format!("{count} joins at once")
    };
    let key = if seconds > 0.0 {
        format!("join_{count}_in_{seconds}s")
    } else {
        format!("join_{count}_at_once")
    };
    stage.now(&name);
    let (presenter, _) = stage.session(1).await?;
    let begin = Instant::now() + LEAD;
    let overflows = process::listen_overflows();
    let doors = &stage.doors;
    let places: Vec<_> = (0..count).map(|_| doors.next()).collect();
    let work = come(begin, over, places, presenter.code.clone());
    let work = async {
        timeout(WITHIN, work)
            .await
            .map_err(|_| Failure::told("not everybody could join in time"))?
    };
    let ((members, taken, late), spent) = stage.measured(work).await?;
    if counts {
        let sheet = &mut stage.sheet;
        let strangers = taken.len() != u64::from(count);
        let fault = strangers.then(|| format!("{name}: {} of {count} joined", taken.len()));
        sheet.check("everybody who came joined", fault);
        sheet.latencies(&key, &format!("{name}: to the welcome"), &taken);
        let dropped = process::listen_overflows().zip(overflows).map(|(now, then)| now - then);
        sheet.figure_if(
            &format!("{key}_overflows"),
            &format!("{name}: listen queue overflows"),
            "times",
            dropped,
        );
        sheet.figure_if(
            &format!("{key}_server_cpu"),
            &format!("{name}: server processor time"),
            "s",
            spent.server_cpu,
        );
        sheet.figure(
            &format!("{key}_late_ms"),
            &format!("{name}: latest start, behind its moment"),
            "ms",
            late.as_secs_f64() * 1e3,
        );
        stage.done(&format!("{name}: slowest {:.0} ms", taken.max() as f64 / 1e6));
    }
    for member in members {
        member.leave().await;
    }
    presenter.delete().await?;
    tokio::time::sleep(REST).await;
    Ok(())
}

/// Everybody comes at their moment; who they are, how long each took, how late the latest began.
async fn come(
    begin: Instant,
    over: Duration,
    places: Vec<Place>,
    code: String,
) -> Result<(Vec<Participant>, Histogram<u64>, Duration), Failure> {
    let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
    let (sender, mut due) = mpsc::channel(places.len());
    let moments = clock::even(begin, count, over).into_iter();
    let schedule = moments.map(|moment| (moment, ())).collect();
    let late = clock::run(schedule, move |moment, ()| sender.try_send(moment).is_ok());
    let mut joining = JoinSet::new();
    let mut places = places.into_iter();
    while let (Some(moment), Some(place)) = (due.recv().await, places.next()) {
        let code = code.clone();
        joining.spawn(async move {
            let member = Participant::join(place, &code).await?;
            Ok::<_, Failure>((member, moment.elapsed()))
        });
    }
    let (mut members, mut taken) = (Vec::new(), new_histogram()?);
    while let Some(one) = joining.join_next().await {
        let (member, took) = crowd::ended(one)?;
        taken.saturating_record(nanoseconds(took));
        members.push(member);
    }
    let late = late.await.map_err(|_| Failure::told("the clock's thread ended early"))?;
    Ok((members, taken, late))
}
