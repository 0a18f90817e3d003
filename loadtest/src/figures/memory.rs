//! What a joined idle connection costs the server in memory, as the slope of a line through four
//! sizes, and what an idle hall costs it in processor time.
//! Must never measure before the joins' traffic has settled. Called by `figures`.

use std::time::Duration;

use plenum_loadtest::client::{Api, Socket, socket::Raw};
use tokio::task::JoinSet;

use super::crowd::{self, Origin};
use super::sheet::{Sheet, line_through};
use super::{Bench, process};
use crate::failure::Failure;
use crate::presenter::Presenter;
use crate::server::Server;

const PART: &str = "memory";
const SIZES: [u32; 4] = [0, 1_000, 5_000, 10_000];
/// Presence goes out once a second; two rounds of it after the last join.
const SETTLE: Duration = Duration::from_secs(3);
/// How long the idle hall's processor time is watched.
const IDLE: Duration = Duration::from_secs(10);

/// One round, on a server of its own.
pub(super) async fn measure(
    bench: &Bench<'_>,
    server: &Server,
    sheet: &mut Sheet,
    round: u32,
) -> Result<(), Failure> {
    let presenter = Presenter::create(&Api::new(&server.url), None, "Memory").await?;
    let poll = presenter.add_poll("Which?", &["a", "b", "c", "d"]).await?;
    presenter.open(poll).await?;
    let mut points = Vec::new();
    let mut idling = JoinSet::new();
    let mut joined = 0;
    for size in SIZES {
        bench.progress.now(format!("memory, round {}: {size} connections", round + 1));
        let origin = Origin { round, before: joined };
        let members = crowd::join(&server.url, &presenter.code, size - joined, origin).await?;
        joined = size;
        for member in members {
            idling.spawn(idle(member.into_socket()));
        }
        tokio::time::sleep(SETTLE).await;
        if let Some(lost) = idling.try_join_next() {
            crowd::ended(lost)?;
        }
        let bytes = process::memory_of(server.pid)?;
        sheet.add(PART, &format!("PSS with {size} connections"), "MiB", bytes / f64::from(1 << 20));
        points.push((f64::from(size), bytes));
    }
    let (slope, intercept) = line_through(&points);
    sheet.add(PART, "per connection (slope)", "KiB", slope / 1024.0);
    sheet.add(PART, "without connections (intercept)", "MB", intercept / 1e6);

    bench.progress.now(format!("memory, round {}: idle", round + 1));
    let before = process::cpu_of(server.pid)?;
    tokio::time::sleep(IDLE).await;
    let share = (process::cpu_of(server.pid)? - before) / IDLE.as_secs_f64();
    sheet.add(PART, "idle with 10,000 connections", "% of a core", share * 100.0);
    bench.progress.done(&format!("memory {}: {:.2} KiB a connection", round + 1, slope / 1024.0));
    Ok(())
}

/// Reads, and thereby answers pings, until the task is dropped; fails if the server hangs up.
async fn idle(mut socket: Socket) -> Result<(), Failure> {
    loop {
        if let Raw::Closed { code, reason } = socket.recv_raw().await? {
            return Err(Failure::told(format!("an idle connection was closed: {code:?} {reason}")));
        }
    }
}
