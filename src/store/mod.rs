//! Between rows and the domain. Owns every connection to PostgreSQL; nobody else writes SQL. Every change is one
//! autocommit call of an SQL function: tokio-postgres answers `Ok` to a commit that the server turned into a rollback, so
//! there is no transaction here that could be.
//! `control` and `reads` serve REST, `log` the feed, `votes` the lanes; `migrate`, `settings`, `partitions` and `embedded`
//! belong to the life of an instance.

pub mod cluster;
pub mod connection;
pub mod control;
pub mod embedded;
mod error;
pub mod export;
pub mod log;
pub mod migrate;
pub mod partitions;
pub mod reads;
mod rows;
pub mod settings;
pub mod votes;
pub mod wake;

use std::sync::Arc;

use bb8::{Pool, RunError};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

pub use connection::Link;
use connection::Manager;
pub use error::StoreError;

use crate::limits::{POOL_SIZE, POOL_WAIT_MAX, QUERY_WAIT_MAX};
use crate::metrics::Metrics;

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// The database, for everything but votes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool<Manager>,
    /// For connections of one's own.
    config: Arc<tokio_postgres::Config>,
    metrics: Arc<Metrics>,
}

impl Store {
    /// Opens no connection yet. `config`: from [`connection::config`].
    #[must_use]
    pub fn new(config: tokio_postgres::Config, metrics: Arc<Metrics>) -> Self {
        let pool = Pool::builder()
            .max_size(POOL_SIZE)
            .connection_timeout(POOL_WAIT_MAX)
            // A query says soon enough whether its connection lives; a test would be a round trip more for each.
            .test_on_check_out(false)
            .build_unchecked(Manager::new(config.clone()));
        Self { pool, config: Arc::new(config), metrics }
    }

    /// How to connect, for connections of one's own.
    #[must_use]
    pub fn config(&self) -> &tokio_postgres::Config {
        &self.config
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
        let result = timeout(QUERY_WAIT_MAX, self.run(sql, params))
            .await
            .unwrap_or(Err(StoreError::TimedOut));
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
        let mut link = loop {
            let link = self.pool.get().await.map_err(|error| match error {
                RunError::User(error) => error,
                RunError::TimedOut => StoreError::TimedOut,
            })?;
            // What broke while it lay idle is thrown away; the pool makes another.
            if !link.client.is_closed() {
                break link;
            }
        };
        let statement = link.prepared(sql).await?;
        Ok(link.client.query(&statement, params).await?)
    }

    fn observe<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.metrics.database_errors.with_label_values(&[error.class()]).inc();
        }
        let state = self.pool.state();
        self.metrics.pool.with_label_values(&["open"]).set(i64::from(state.connections));
        self.metrics.pool.with_label_values(&["idle"]).set(i64::from(state.idle_connections));
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
