//! Brings the schema up to date: numbered files once each, functions whenever theirs are new. The whole run holds one
//! advisory lock, so any number of instances may start together. Never undoes, never changes what an
//! older instance still calls. Called by `app.rs` and `plenum migrate`.

use sha2::{Digest, Sha256};

use super::StoreError;
use super::connection::{Database, Link};
use super::guard::Guard;
use super::rows::column;
use crate::drain::Drain;
use crate::limits::MIGRATION_PAUSE;

/// Any number that nothing else in the database uses.
const LOCK: i64 = 5_203_117_742;
/// However long it takes, but for locks.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=200";
const BOOKS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
        version int PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE IF NOT EXISTS schema_functions (
        checksum text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";

const MIGRATIONS: &[&str] = &[
    include_str!("../../sql/migrations/0001_schema.sql"),
    include_str!("../../sql/migrations/0002_cluster.sql"),
    include_str!("../../sql/migrations/0003_operations.sql"),
];
const FUNCTIONS: &[&str] = &[
    include_str!("../../sql/functions/10_json.sql"),
    include_str!("../../sql/functions/20_sessions.sql"),
    include_str!("../../sql/functions/30_polls.sql"),
    include_str!("../../sql/functions/40_votes.sql"),
    include_str!("../../sql/functions/50_cluster.sql"),
    include_str!("../../sql/functions/60_epoch.sql"),
    include_str!("../../sql/functions/70_operations.sql"),
];

/// What a run did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// Numbered files applied now.
    pub migrations: usize,
    /// The functions were replaced.
    pub functions: bool,
}

/// Brings the schema up to date.
///
/// # Errors
/// See [`StoreError`]; [`StoreError::Content`] where an applied file is not the one that this program has.
pub async fn migrate(database: &Database, drain: &Drain) -> Result<Migrated, StoreError> {
    let _one_at_a_time = Guard::wait(database, drain, LOCK).await?;
    let link = Link::connect(&database.with_options(OPTIONS), drain).await?;
    let client = &link.client;
    client.batch_execute(BOOKS).await?;
    let mut done = Migrated::default();
    for (version, sql) in (1_i32..).zip(MIGRATIONS) {
        let checksum = checksum(&[sql]);
        match client
            .query_opt("SELECT checksum FROM schema_migrations WHERE version = $1", &[&version])
            .await?
        {
            Some(row) if column::<&str>(&row, 0)? == checksum => {}
            Some(_) => {
                return Err(StoreError::Content("a migration was changed after it was applied"));
            }
            None => {
                // One message, so one transaction: all of the file and its entry, or nothing.
                let entry =
                    format!("INSERT INTO schema_migrations VALUES ({version}, '{checksum}')");
                apply(client, &format!("{sql};\n{entry}")).await?;
                done.migrations += 1;
            }
        }
    }
    // Each set of functions is applied once: an older instance that starts later finds its set in the books, and does not
    // put the old functions back.
    let checksum = checksum(FUNCTIONS);
    if client
        .query_opt("SELECT 1 FROM schema_functions WHERE checksum = $1", &[&checksum])
        .await?
        .is_none()
    {
        let entry = format!("INSERT INTO schema_functions VALUES ('{checksum}')");
        apply(client, &format!("{};\n{entry}", FUNCTIONS.join(";\n"))).await?;
        done.functions = true;
    }
    Ok(done)
}

/// Who waits for a table makes everybody who comes later wait behind it, votes too: it lets go soon, and asks again until it
/// gets it.
async fn apply(client: &tokio_postgres::Client, sql: &str) -> Result<(), StoreError> {
    loop {
        match client.batch_execute(sql).await.map_err(StoreError::from) {
            Err(error) if error.is_lock_timeout() => {
                tracing::warn!("a table is in use, by a backup perhaps; the migration tries again");
                tokio::time::sleep(MIGRATION_PAUSE).await;
            }
            applied => return applied,
        }
    }
}

fn checksum(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part.as_bytes()));
    hash.finalize().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
