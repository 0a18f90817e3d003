//! What a joined idle connection costs the server in memory, as the slope of a line through several
//! sizes, and what an idle hall costs it in processor time.
//! Must never measure before the joins' traffic has settled. Called by `kinds`.

use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::load::crowd;
use crate::load::sheet::{Series, line_through};
use crate::load::stage::Stage;
use crate::participant::Participant;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Connections at which memory is looked at, in rising order.
    sizes: Vec<u32>,
    /// After the last join of a size; presence goes out once a second.
    settle_seconds: f64,
    /// How long the idle hall's processor time is watched.
    idle_seconds: f64,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let (presenter, _) = stage.session(1).await?;
    let mut points = Vec::new();
    let mut idling = JoinSet::new();
    for size in &asked.sizes {
        stage.now(&format!("{size} connections"));
        let joined = u32::try_from(idling.len()).unwrap_or(u32::MAX);
        let more = size.saturating_sub(joined);
        for member in crowd::join(&stage.doors, &presenter.code, more).await? {
            idling.spawn(idle(member));
        }
        sleep(Duration::from_secs_f64(asked.settle_seconds)).await;
        if let Some(bytes) = stage.fleet.watch.memory() {
            let mib = bytes / f64::from(1 << 20);
            stage.sheet.figure(
                &format!("pss_{size}_mib"),
                &format!("Memory with {size} connections (PSS)"),
                "MiB",
                mib,
            );
            points.push((f64::from(*size), bytes));
        }
    }
    let size = asked.sizes.last().copied().unwrap_or_default();
    stage.now(&format!("{size} connections, idle for {} s", asked.idle_seconds));
    let (metrics, watching) = (stage.fleet.watch.metrics().await, asked.idle_seconds);
    let resting = async {
        sleep(Duration::from_secs_f64(watching)).await;
        Ok(())
    };
    let ((), spent) = stage.measured(resting).await?;
    let connected = metrics.and_then(|metrics| metrics.sum("plenum_connections"));
    let lost = idling.try_join_next();
    let lost = lost.map(|one| match crowd::ended(one) {
        Ok(()) => "a connection ended".to_owned(),
        Err(failure) => failure.to_string(),
    });
    stage.sheet.check("no idle connection was lost", lost);
    let short = connected.filter(|count| *count < f64::from(size));
    stage
        .sheet
        .check("the server counts as many connections", short.map(|count| format!("{count}")));
    let share = spent.server_cpu.map(|cpu| cpu / spent.seconds * 100.0);
    stage.sheet.figure_if(
        "idle_percent",
        &format!("Server processor time, {size} idle"),
        "% of a core",
        share,
    );
    line(stage, points);
    drop(idling);
    presenter.delete().await
}

/// What one connection costs, and none.
fn line(stage: &mut Stage<'_>, points: Vec<(f64, f64)>) {
    if points.len() > 1 {
        let (slope, intercept) = line_through(&points);
        stage.sheet.figure("slope_kib", "Memory per connection (slope)", "KiB", slope / 1024.0);
        stage.sheet.figure(
            "intercept_mb",
            "Memory without connections (intercept)",
            "MB",
            intercept / 1e6,
        );
        stage.done(&format!("{:.2} KiB a connection", slope / 1024.0));
        stage.sheet.series.push(Series {
            chart: "Memory by connections (PSS)".to_owned(),
            label: "server".to_owned(),
            x_unit: "connections".to_owned(),
            unit: "MiB".to_owned(),
            points: points
                .into_iter()
                .map(|(size, bytes)| (size, bytes / f64::from(1 << 20)))
                .collect(),
        });
    }
}

/// Reads, and thereby answers pings, until the task is dropped; fails if the server hangs up.
async fn idle(mut member: Participant) -> Result<(), Failure> {
    loop {
        if let Err(code) = member.next_or_code().await? {
            return Err(Failure::told(format!("an idle connection was closed with {code}")));
        }
    }
}
