//! The partitions of the event log: made a day ahead, dropped whole when their last event is older than 24 h. Called at
//! start and by the janitor in `app.rs`. Never deletes row by row, and never waits long for a lock that votes need.

use time::{Duration, OffsetDateTime};

use super::connection::{Database, Link};
use super::guard::Guard;
use super::rows::column;
use super::{Store, StoreError};
use crate::drain::Drain;
use crate::limits::{EVENTS_KEEP, PARTITION_HOURS, PARTITIONS_AHEAD_HOURS};

const EXISTING: &str = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
    WHERE i.inhparent = 'event_log'::regclass AND NOT i.inhdetachpending";
/// A detach that was cut short has to be finished before any other is possible.
const PENDING: &str = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
    WHERE i.inhparent = 'event_log'::regclass AND i.inhdetachpending";
/// Tables that were made but not attached, or detached but not dropped.
const ORPHANS: &str = "SELECT c.relname::text FROM pg_class c \
    WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relname ~ '^event_log_[0-9]+$' \
    AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'event_log'::regclass)";
const NOW: &str = "SELECT clock_timestamp()";
/// One janitor at a time, over all instances; not the lock of migrations, which may be held for long.
const LOCK: i64 = 5_203_117_743;
/// Attaching takes a lock that goes along with votes; still, nobody waits for it longer than this.
const LOCK_TIMEOUT: &str = "-c lock_timeout=200";
const NAME: &str = "event_log_";

/// Makes the partitions that are missing, then drops those that are over. Another instance that is at it already makes this
/// one do nothing. Cancel safe: every step stands alone.
///
/// # Errors
/// See [`StoreError`]; what was left undone is done by the next run.
pub async fn keep_up(database: &Database, drain: &Drain) -> Result<(), StoreError> {
    let Some(_one_at_a_time) = Guard::unless_held(database, drain, LOCK).await? else {
        return Ok(());
    };
    let link = Link::connect(&database.with_options(LOCK_TIMEOUT), drain).await?;
    let client = &link.client;
    let now: OffsetDateTime = column(&client.query_one(NOW, &[]).await?, 0)?;
    let existing = names(client, EXISTING).await?;
    for start in wanted(now) {
        let name = name(start);
        if !existing.contains(&name) {
            let (from, to) = (start, start + PARTITION_HOURS * 3600);
            // A table made apart and attached takes a weaker lock than CREATE … PARTITION OF.
            let sql = format!(
                "DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (LIKE event_log INCLUDING ALL); \
                 ALTER TABLE event_log ATTACH PARTITION {name} \
                 FOR VALUES FROM (to_timestamp({from})) TO (to_timestamp({to}))"
            );
            client.batch_execute(&sql).await?;
        }
    }
    tidy(client, existing.iter().filter(|name| is_over(name, now))).await
}

/// Old snapshots and long readers may hold any of it up: what fails keeps nothing else from being done.
async fn tidy(
    client: &tokio_postgres::Client,
    over: impl Iterator<Item = &String>,
) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    let mut detached = names(client, ORPHANS).await?;
    let pending = names(client, PENDING).await?;
    let detaches = (pending.iter().map(|name| (name, "FINALIZE")))
        .chain(over.map(|name| (name, "CONCURRENTLY")));
    for (name, how) in detaches {
        let detach = format!("ALTER TABLE event_log DETACH PARTITION {name} {how}");
        match client.batch_execute(&detach).await {
            Ok(()) => detached.push(name.clone()),
            Err(error) => outcome = Err(error.into()),
        }
    }
    for name in detached {
        if let Err(error) = client.batch_execute(&format!("DROP TABLE {name}")).await {
            outcome = Err(error.into());
        }
    }
    outcome
}

async fn names(client: &tokio_postgres::Client, sql: &str) -> Result<Vec<String>, StoreError> {
    client.query(sql, &[]).await?.iter().map(|row| column(row, 0)).collect()
}

impl Store {
    /// Whether the next event has a partition to go to.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn has_partition_for_now(&self) -> Result<bool, StoreError> {
        let names: Vec<String> = self
            .query(EXISTING, &[])
            .await?
            .iter()
            .map(|row| column(row, 0))
            .collect::<Result<_, _>>()?;
        let now = self.query_opt(NOW, &[]).await?.ok_or(StoreError::Content("no clock"))?;
        let now: OffsetDateTime = column(&now, 0)?;
        Ok(names.contains(&name(start_of(now))))
    }
}

/// Starts of the partitions that should exist, in seconds since 1970: the one before (for clocks that step back), this
/// one and those ahead.
fn wanted(now: OffsetDateTime) -> impl Iterator<Item = i64> {
    let this = start_of(now);
    (-1..=PARTITIONS_AHEAD_HOURS / PARTITION_HOURS).map(move |n| this + n * PARTITION_HOURS * 3600)
}

fn start_of(at: OffsetDateTime) -> i64 {
    let width = PARTITION_HOURS * 3600;
    at.unix_timestamp().div_euclid(width) * width
}

fn name(start: i64) -> String {
    format!("{NAME}{start}")
}

/// Whether every event of the partition is older than what is kept. Tables with other names are not ours to drop.
fn is_over(name: &str, now: OffsetDateTime) -> bool {
    let Some(start) = name.strip_prefix(NAME).and_then(|start| start.parse::<i64>().ok()) else {
        return false;
    };
    let end = start + PARTITION_HOURS * 3600;
    OffsetDateTime::from_unix_timestamp(end)
        .is_ok_and(|end| now - end > Duration::try_from(EVENTS_KEEP).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_partition_goes_when_its_last_event_is_a_day_old() {
        let noon = datetime!(2026-11-24 12:00 UTC);
        let partition = name(start_of(noon)); // 12:00 to 16:00
        assert!(!is_over(&partition, datetime!(2026-11-25 15:59 UTC)));
        assert!(is_over(&partition, datetime!(2026-11-25 16:01 UTC)));
        assert!(!is_over("event_log_lasting", datetime!(2030-01-01 00:00 UTC)));
    }

    #[test]
    fn partitions_are_wanted_without_a_hole_for_a_day_ahead() {
        let now = datetime!(2026-11-24 13:30 UTC);
        let starts: Vec<i64> = wanted(now).collect();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == PARTITION_HOURS * 3600));
        assert!(starts.iter().any(|start| *start > now.unix_timestamp() + 20 * 3600));
        assert!(starts.contains(&start_of(now)));
    }
}
