//! One connection to PostgreSQL: how it is configured, opened and driven, and its prepared statements. Every wait has an
//! end. Used by the pool (`mod.rs`), and for connections of their own by `votes`, `migrate` and `partitions`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8::ManageConnection;
use bb8_postgres::PostgresConnectionManager;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};

use super::StoreError;
use crate::drain::Drain;
use crate::limits::{CONNECT_WAIT_MAX, LOCK_TIMEOUT, STATEMENT_TIMEOUT};

/// How to connect: what `url` says, with time-outs for everything that can hang. Keepalives notice a peer that
/// acknowledged a query and then vanished; the default would be after two hours.
///
/// # Errors
/// Where `url` is none.
pub fn config(url: &str) -> Result<Config, tokio_postgres::Error> {
    let mut config: Config = url.parse()?;
    let mut options = format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=10000 \
         -c synchronous_commit=on -c timezone=UTC -c jit=off",
        STATEMENT_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis()
    );
    if let Some(own) = config.get_options() {
        options = format!("{options} {own}");
    }
    config
        .options(&options)
        .application_name("plenum")
        .connect_timeout(Duration::from_secs(3))
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    Ok(config)
}

/// A connection with its prepared statements.
#[derive(Debug)]
pub struct Link {
    pub(crate) client: Client,
    statements: HashMap<&'static str, Statement>,
}

impl Link {
    fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new() }
    }

    /// The statement, prepared once per connection.
    ///
    /// # Errors
    /// Where PostgreSQL refuses it.
    pub async fn prepared(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

/// A connection outside of the pool, with its own eye on what the server says beside its answers.
#[derive(Debug)]
pub struct OwnLink {
    pub(crate) link: Link,
    /// The server warned that a commit did not wait for its standby.
    not_replicated: Arc<AtomicBool>,
}

impl OwnLink {
    /// Connects within [`CONNECT_WAIT_MAX`], authentication included.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn connect(config: &Config, drain: &Drain) -> Result<Self, StoreError> {
        let (client, mut connection) = timeout(CONNECT_WAIT_MAX, config.connect(NoTls))
            .await
            .map_err(|_| StoreError::TimedOut)??;
        let not_replicated = Arc::new(AtomicBool::new(false));
        let seen = not_replicated.clone();
        // Ends when the client is dropped or the server is gone; every query then says so itself.
        drain.spawn_work(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|cx| connection.poll_message(cx)).await
            {
                if let AsyncMessage::Notice(notice) = message
                    && notice.message().contains("synchronous replication")
                {
                    seen.store(true, Ordering::Release);
                }
            }
        });
        Ok(Self { link: Link::new(client), not_replicated })
    }

    /// Whether a commit since the last call went without its standby.
    #[must_use]
    pub fn take_not_replicated(&self) -> bool {
        self.not_replicated.swap(false, Ordering::AcqRel)
    }
}

/// Opens connections for the pool.
#[derive(Debug)]
pub struct Manager(PostgresConnectionManager<NoTls>);

impl Manager {
    pub(super) fn new(config: Config) -> Self {
        Self(PostgresConnectionManager::new(config, NoTls))
    }
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = StoreError;

    async fn connect(&self) -> Result<Link, StoreError> {
        let client = timeout(CONNECT_WAIT_MAX, self.0.connect())
            .await
            .map_err(|_| StoreError::TimedOut)??;
        Ok(Link::new(client))
    }

    async fn is_valid(&self, link: &mut Link) -> Result<(), StoreError> {
        Ok(self.0.is_valid(&mut link.client).await?)
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        self.0.has_broken(&mut link.client)
    }
}
