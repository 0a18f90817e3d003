//! The end of a session's data: taken away from everybody at once, then removed from the tables in bounded steps, so that no
//! statement runs long and votes of others go first. One instance at a time does it, over all of them. Called by the
//! janitor in `app.rs` and by `admin.rs`.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use super::StoreError;
use super::connection::{Database, Link};
use super::guard::Guard;
use super::rows::column;
use crate::domain::SessionId;
use crate::drain::{Drain, Phase};
use crate::limits::{ERASE_PAUSE, ERASE_ROWS_MAX, ERASE_SESSIONS_MAX, ERASE_STEPS_MAX};
use crate::mutation::mutation;

/// One at a time, over all instances; a number of its own, so that partitions never wait for it.
const LOCK: i64 = 5_203_117_744;
const EXPIRED: &str = "SELECT session_id FROM sessions \
    WHERE ended_at < now() - make_interval(days => $1) ORDER BY ended_at LIMIT $2";
const BEGIN: &str = "SELECT begin_erasure($1)";
const STEP: &str = "SELECT erase_step($1)";

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Sessions that are gone for everybody.
    pub sessions: usize,
    /// Steps that removed their rows.
    pub steps: usize,
    /// Nothing is left to do.
    pub finished: bool,
}

/// Erases sessions that ended more than `days` ago (`None`: none), and goes on with what was begun. Another instance that is
/// at it makes this one do nothing. Cancel safe: every step stands alone, and the next run goes on.
///
/// # Errors
/// See [`StoreError`]; what was left undone is done by the next run.
pub async fn keep_up(
    database: &Database,
    drain: &Drain,
    days: Option<u32>,
) -> Result<Erased, StoreError> {
    let mut erased = Erased::default();
    let Some(_one_at_a_time) = Guard::unless_held(database, drain, LOCK).await? else {
        return Ok(erased);
    };
    let link = Link::connect(database, drain).await?;
    let client = &link.client;
    if let Some(days) = days.and_then(|days| i32::try_from(days).ok()) {
        mutation!(
            "live_sessions_expire",
            client
                .batch_execute("UPDATE sessions SET ended_at = coalesce(ended_at, created_at)")
                .await?
        );
        for row in client.query(EXPIRED, &[&days, &ERASE_SESSIONS_MAX]).await? {
            let session: Uuid = column(&row, 0)?;
            client.query_one(BEGIN, &[&session]).await?;
            erased.sessions += 1;
        }
    }
    while erased.steps < ERASE_STEPS_MAX && drain.phase() < Phase::Stopping {
        let removed: i64 = column(&client.query_one(STEP, &[&ERASE_ROWS_MAX]).await?, 0)?;
        if removed == 0 {
            erased.finished = true;
            break;
        }
        erased.steps += 1;
        sleep(ERASE_PAUSE).await;
    }
    Ok(erased)
}

/// Takes one session away from everybody. Its rows go with the next [`keep_up`]. `false`: there is none.
///
/// # Errors
/// See [`StoreError`].
pub async fn begin(
    database: &Database,
    drain: &Drain,
    session: SessionId,
) -> Result<bool, StoreError> {
    let link = Link::connect(database, drain).await?;
    column(&link.client.query_one(BEGIN, &[&session.0]).await?, 0)
}

/// Pause between two looks while another instance erases.
pub const BUSY_PAUSE: Duration = Duration::from_millis(200);
