//! Between rows and the domain. Owns every connection to PostgreSQL; nobody else writes SQL. Every change is one
//! autocommit call of an SQL function: tokio-postgres answers `Ok` to a commit that the server turned into a rollback, so
//! there is no transaction here that could be. (`guard` opens one that changes nothing.)
//! `control` and `reads` serve REST, `log` the feed, `votes` the lanes; `migrate`, `settings`, `partitions` and `embedded`
//! belong to the life of an instance.

pub mod cluster;
pub mod connection;
pub mod control;
pub mod embedded;
mod error;
pub mod export;
mod guard;
pub mod history;
pub mod log;
pub mod migrate;
pub mod operations;
pub mod partitions;
pub mod reads;
pub mod replicas;
pub mod retention;
mod rows;
pub mod settings;
mod tls;
pub mod votes;
pub mod wake;
pub(crate) mod way;

use std::sync::Arc;
use std::time::Duration;

use bb8::{Pool, RunError};
use prometheus::IntGauge;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

pub use connection::Link;
use connection::{Database, Manager};
pub use error::StoreError;
use history::History;
use replicas::Replicas;
pub use tls::TlsError;

use crate::drain::Drain;
use crate::limits::{POOL_SIZE, POOL_WAIT_MAX, QUERY_WAIT_MAX};
use crate::metrics::Metrics;

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// The database, for everything but votes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool<Manager>,
    database: Database,
    replicas: Replicas,
    metrics: Arc<Metrics>,
}

/// One more in a gauge, until it is dropped.
struct Counted<'a>(&'a IntGauge);

impl<'a> Counted<'a> {
    fn one(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Store {
    /// Opens no connection yet.
    #[must_use]
    pub fn new(
        database: &Database,
        replicas: &[Database],
        drain: &Drain,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.pool_max.set(i64::from(POOL_SIZE));
        let pool = pool(database, drain, POOL_SIZE, POOL_WAIT_MAX);
        let replicas = Replicas::new(replicas, drain, &metrics);
        Self { pool, database: database.clone(), replicas, metrics }
    }

    /// What is known of the database's history.
    #[must_use]
    pub fn history(&self) -> &History {
        self.database.history()
    }

    /// Runs one prepared statement of this crate on a connection of the pool.
    ///
    /// Cancel safe in that nothing leaks; a statement that was sent may still take effect.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn query(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let _timer = self.metrics.query_seconds.start_timer();
        let result = self.run(sql, params).await;
        self.observe(result)
    }

    /// As [`Store::query`], for a statement that answers with one row or none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn query_opt(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    async fn run(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let waiting = Counted::one(&self.metrics.pool_waiting);
        let mut link = loop {
            let mut link = self.pool.get().await.map_err(|error| match error {
                RunError::User(error) => error,
                RunError::TimedOut => StoreError::TimedOut,
            })?;
            // What broke while it lay idle is thrown away; the pool makes another.
            if !link.client.is_closed() && !link.is_stale(&self.database) {
                break link;
            }
            link.spent = true;
        };
        drop(waiting);
        let _used = Counted::one(&self.metrics.pool_used);
        let answer = ask(&mut link, sql, params, QUERY_WAIT_MAX).await;
        if link.is_stale(&self.database) {
            return Err(StoreError::NoPrimary); // it may be of a history that is over
        }
        answer
    }

    fn observe<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.metrics.database_errors.of(error.class()).inc();
        }
        let state = self.pool.state();
        self.metrics.pool_open.set(i64::from(state.connections));
        self.metrics.pool_idle.set(i64::from(state.idle_connections));
        result
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.query("SELECT 1", &[]).await.map(|_| ())
    }
}

fn pool(database: &Database, drain: &Drain, size: u32, wait: Duration) -> Pool<Manager> {
    Pool::builder()
        .max_size(size)
        .connection_timeout(wait)
        // A query says soon enough whether its connection lives; a test would be a round trip more for each.
        .test_on_check_out(false)
        .build_unchecked(Manager { database: database.clone(), drain: drain.clone() })
}

/// Asks one question on one connection, which is spent where the answer does not come, or comes from a standby.
async fn ask(
    link: &mut Link,
    sql: &'static str,
    params: &[Param<'_>],
    wait: Duration,
) -> Result<Vec<Row>, StoreError> {
    let answer = async {
        let statement = link.prepared(sql).await?;
        Ok(link.client.query(&statement, params).await?)
    };
    let answer = timeout(wait, answer).await.unwrap_or(Err(StoreError::TimedOut));
    link.spent = match &answer {
        Err(StoreError::TimedOut) => true,
        Err(error) => error.is_read_only(),
        Ok(_) => false,
    };
    if link.take_not_replicated() {
        return Err(StoreError::NotReplicated);
    }
    answer
}
