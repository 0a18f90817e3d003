//! Reads that need not be of this moment: from a replica that provably has what is asked for, otherwise from the primary.
//!
//! ```text
//! which history, which event? ─► a replica, in one statement: same epoch, same history, that event there? ─► its rows
//!                                  └─ no, late, dead: at most 0.5 s ─► the primary
//! ```
//! The proof stands in the same statement as the read. A replica that follows a primary that was left behind has not got the
//! row of `settings` that the new one wrote, and is never believed. Never fails by itself. Used by `log`, `export` and `reads`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bb8::{Pool, RunError};
use parking_lot::Mutex;
use tokio_postgres::Row;

use super::connection::{Database, Manager};
use super::rows::column;
use super::{Param, Store, StoreError, ask, pool};
use crate::domain::Seq;
use crate::drain::Drain;
use crate::limits::{REPLICA_POOL_SIZE, REPLICA_REST, REPLICA_WAIT_MAX};
use crate::metrics::Metrics;

/// A read, as it is and with its proof.
#[derive(Debug)]
pub(super) struct OldRead {
    /// For the primary. `$1` is the session.
    pub(super) plain: &'static str,
    /// For a replica: made by `old_read!`.
    pub(super) proved: &'static str,
}

/// Makes both forms of a read whose first column is never null. The three numbers follow those of its own parameters.
macro_rules! old_read {
    ($sql:expr, $seq:literal, $epoch:literal, $history:literal) => {
        $crate::store::replicas::OldRead {
            plain: concat!($sql),
            proved: concat!(
                "SELECT e.*, f.fit FROM (SELECT coalesce((SELECT h.last_seq >= ",
                $seq,
                " FROM session_head h WHERE h.session_id = $1 \
                  AND EXISTS (SELECT 1 FROM settings WHERE name = 'epoch' AND value = ",
                $epoch,
                ") AND EXISTS (SELECT 1 FROM settings WHERE name = 'history' AND value = ",
                $history,
                ")), false) AS fit) f LEFT JOIN LATERAL (SELECT * FROM (",
                $sql,
                ") r WHERE f.fit) e ON true"
            ),
        }
    };
}
pub(super) use old_read;

/// The replicas of a database. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Replicas {
    all: Arc<[Replica]>,
    /// They take turns.
    turn: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Replica {
    pool: Pool<Manager>,
    /// Left alone until then.
    rests_until: Mutex<Option<Instant>>,
}

impl Replicas {
    pub(super) fn new(databases: &[Database], drain: &Drain, metrics: &Arc<Metrics>) -> Self {
        let all = databases.iter().map(|database| Replica {
            pool: pool(database, drain, REPLICA_POOL_SIZE, REPLICA_WAIT_MAX),
            rests_until: Mutex::new(None),
        });
        Self { all: all.collect(), turn: Arc::default(), metrics: metrics.clone() }
    }

    /// Those that are not at rest, the next one in turn first.
    fn awake(&self) -> Option<&Replica> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        (0..self.all.len())
            .filter_map(|at| self.all.get((first + at) % self.all.len()))
            .find(|replica| replica.rests_until.lock().is_none_or(|until| until <= now))
    }

    fn missed(&self, reason: &'static str) {
        self.metrics.replica_misses.with_label_values(&[reason]).inc();
    }
}

impl Replica {
    async fn read(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let until = Instant::now() + REPLICA_WAIT_MAX;
        let mut link = self.pool.get().await.map_err(|error| match error {
            RunError::User(error) => error,
            RunError::TimedOut => StoreError::TimedOut,
        })?;
        ask(&mut link, sql, params, until.saturating_duration_since(Instant::now())).await
    }
}

impl Store {
    /// Rows of a read that needs the session up to `seq` and no more: from a replica that has it, otherwise from the primary.
    ///
    /// # Errors
    /// Those of the primary alone; see [`StoreError`].
    pub(super) async fn query_old(
        &self,
        read: &OldRead,
        seq: Seq,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        if let Some(rows) = self.served_by_replica(read, seq, params).await {
            self.metrics.reads.with_label_values(&["replica"]).inc();
            return Ok(rows);
        }
        self.metrics.reads.with_label_values(&["primary"]).inc();
        self.query(read.plain, params).await
    }

    async fn served_by_replica(
        &self,
        read: &OldRead,
        seq: Seq,
        params: &[Param<'_>],
    ) -> Option<Vec<Row>> {
        let replicas = &self.replicas;
        let (epoch, history) = self.history().marks()?;
        if replicas.all.is_empty() {
            return None;
        }
        let Some(replica) = replicas.awake() else {
            replicas.missed("resting");
            return None;
        };
        let proof: [Param<'_>; 3] = [&seq.0, &epoch, &history];
        let all = [params, &proof].concat();
        match replica.read(read.proved, &all).await {
            Ok(rows) => {
                // The proof is the last column; of a page that is empty there is one row, all null but for it.
                let fit = |row: &Row| column::<bool>(row, row.len() - 1).unwrap_or(false);
                if !rows.first().is_some_and(fit) {
                    replicas.missed("behind");
                    return None;
                }
                Some(rows.into_iter().filter(|row| !is_filler(row)).collect())
            }
            Err(error) => {
                tracing::warn!(error = ?error, "a replica did not answer; the primary is asked");
                *replica.rests_until.lock() = Some(Instant::now() + REPLICA_REST);
                replicas.missed(error.class());
                None
            }
        }
    }
}

/// The row that stands for an empty page.
fn is_filler(row: &Row) -> bool {
    row.try_get::<_, Option<Null>>(0).is_ok_and(|first| first.is_none())
}

/// Any value, unread.
struct Null;

impl<'a> tokio_postgres::types::FromSql<'a> for Null {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        _: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self)
    }

    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}
