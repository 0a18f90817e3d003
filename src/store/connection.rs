//! One connection to PostgreSQL: how it is opened, proved fit and driven, and its prepared statements. Every wait has an end.
//! All connections of the process are opened here, by `Database::open`; the embedded server alone has its database made over
//! its own socket.
//!
//! ```text
//! hosts, the last good one first ─► connect (TLS) ─► is it a primary? of which history? ─► settle the epoch if that is new
//! ```
//! Used by the pool (`mod.rs`), and for connections of their own by `votes`, `wake`, `migrate` and `partitions`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bb8::ManageConnection;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};

use super::StoreError;
use super::history::{History, Identity};
use super::tls::{TlsError, connector};
use super::way::{Way, Wire};
use crate::config::database::Address;
use crate::drain::Drain;
use crate::limits::{CONNECT_WAIT_MAX, HOST_WAIT_MAX, LOCK_TIMEOUT, STATEMENT_TIMEOUT};

/// What a database is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes: the truth.
    Primary,
    /// Follows the primary.
    Replica,
}

/// Where the database is, and what is known of it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    places: Arc<[(Config, Way)]>,
    role: Role,
    state: Arc<State>,
    history: History,
}

#[derive(Debug, Default)]
struct State {
    /// The host that answered last.
    good: AtomicUsize,
    /// Grows when another host, or another history, answers: connections from before are of no use then.
    generation: watch::Sender<u64>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("state", &self.state).finish_non_exhaustive() // it holds a password
    }
}

impl Database {
    /// Opens no connection yet. `history`: shared by everybody who connects.
    ///
    /// # Errors
    /// Where certificates cannot be had.
    pub fn new(address: &Address, role: Role, history: &History) -> Result<Self, TlsError> {
        let places = address.places.iter().map(|place| {
            let tls = connector(place.proof, address.root_certificates.as_deref())?;
            Ok((configured(place.config.clone()), Way::Network(tls)))
        });
        let places = places.collect::<Result<Vec<_>, TlsError>>()?.into();
        Ok(Self { places, role, state: Arc::default(), history: history.clone() })
    }

    /// A simulated primary.
    #[cfg(test)]
    pub(crate) fn simulated(dial: super::way::Dial, history: &History) -> Self {
        let mut config = Config::new();
        config.user("plenum");
        let places = Arc::new([(configured(config), Way::Memory(dial))]);
        Self { places, role: Role::Primary, state: Arc::default(), history: history.clone() }
    }

    /// The same database under another name of ours, so that operators can tell its connections from the others.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.changed(|config| {
            config.application_name(name);
        })
    }

    /// The same database with further server options.
    #[must_use]
    pub(super) fn with_options(&self, further: &str) -> Self {
        self.changed(|config| {
            let options = format!("{} {further}", config.get_options().unwrap_or_default());
            config.options(&options);
        })
    }

    fn changed(&self, change: impl Fn(&mut Config)) -> Self {
        let places = self.places.iter().cloned().map(|(mut config, way)| {
            change(&mut config);
            (config, way)
        });
        Self { places: places.collect(), ..self.clone() }
    }

    /// What is known of its history.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// See [`Link::is_stale`].
    pub(super) fn generation(&self) -> u64 {
        *self.state.generation.borrow()
    }

    /// Waits until another server, or another history, has answered since `generation`. Cancel safe.
    pub(super) fn replaced(&self, generation: u64) -> impl Future<Output = ()> + Send + 'static {
        let mut now = self.state.generation.subscribe();
        async move {
            // Where the sender is gone, so is everybody who connects.
            let _ = now.wait_for(|now| *now != generation).await;
        }
    }

    /// Connects to the first host that will do, the last good one first: authentication, and every question asked to be sure
    /// of the host, included in the time that it has. A primary that is behind another one in its timeline is taken only
    /// where there is no other: it was the primary once, and nobody told it.
    ///
    /// Cancel safe: the connection is dropped with it.
    ///
    /// # Errors
    /// See [`StoreError`]; of the last host tried.
    pub(super) async fn open(&self) -> Result<(Client, Wire), StoreError> {
        let count = self.places.len();
        let wait = if count == 1 { CONNECT_WAIT_MAX } else { HOST_WAIT_MAX };
        let good = self.state.good.load(Ordering::Acquire);
        let mut last = StoreError::NoPrimary;
        let mut outdated = None;
        for nth in (0..count).map(|at| (good + at) % count) {
            let Some((config, way)) = self.places.get(nth) else { continue };
            match timeout(wait, self.open_one(config, way))
                .await
                .unwrap_or(Err(StoreError::TimedOut))
            {
                Ok((client, wire, identity)) if self.is_outdated(identity.as_ref()) => {
                    outdated = Some((client, wire, identity, nth));
                }
                Ok((client, wire, identity)) => {
                    return timeout(wait, self.settle((client, wire), identity, nth))
                        .await
                        .unwrap_or(Err(StoreError::TimedOut));
                }
                Err(error) => last = error,
            }
        }
        match outdated {
            Some((client, wire, identity, nth)) => {
                timeout(wait, self.settle((client, wire), identity, nth))
                    .await
                    .unwrap_or(Err(StoreError::TimedOut))
            }
            None => Err(last),
        }
    }

    async fn open_one(
        &self,
        config: &Config,
        way: &Way,
    ) -> Result<(Client, Wire, Option<Identity>), StoreError> {
        let (client, mut wire) = way.connect(config).await?;
        let identity = match self.role {
            Role::Primary => Some(driven(&mut wire, Identity::read(&client)).await?),
            Role::Replica => None,
        };
        Ok((client, wire, identity))
    }

    fn is_outdated(&self, identity: Option<&Identity>) -> bool {
        identity.is_some_and(|identity| self.history.is_behind(identity))
    }

    /// Nothing is read or written on a history that this process does not know before the epoch is settled for it.
    async fn settle(
        &self,
        (client, mut wire): (Client, Wire),
        identity: Option<Identity>,
        nth: usize,
    ) -> Result<(Client, Wire), StoreError> {
        let moved = self.state.good.swap(nth, Ordering::AcqRel) != nth;
        let mut news = false;
        if identity.is_some_and(|identity| self.history.is_news(&identity)) {
            let replicated = AtomicBool::new(true);
            let settled = watched_wire(&mut wire, &replicated, self.history.settle(&client)).await;
            if !replicated.load(Ordering::Acquire) {
                return Err(StoreError::NotReplicated);
            }
            // Others may have come here at the same time: what they opened is of use.
            news = self.history.learn(settled?);
        }
        if moved || news {
            self.state.generation.send_modify(|generation| *generation += 1);
            tracing::warn!(host = nth, "another database server is used from here on");
        }
        Ok((client, wire))
    }
}

/// With time-outs for everything that can hang. Keepalives notice a peer that acknowledged a query and then vanished; the
/// default would be after two hours.
fn configured(mut config: Config) -> Config {
    let options = format!(
        "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=10000 \
         -c timezone=UTC -c jit=off {} -c synchronous_commit=on",
        STATEMENT_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        config.get_options().unwrap_or_default()
    );
    config
        .options(&options)
        .application_name("plenum")
        .connect_timeout(Duration::from_secs(3))
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(3)
        .tcp_user_timeout(Duration::from_secs(10));
    config
}

/// Runs a query on a connection that nobody drives yet.
async fn driven<T>(
    wire: &mut Wire,
    query: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    watched_wire(wire, &AtomicBool::new(true), query).await
}

async fn watched_wire<T>(
    wire: &mut Wire,
    replicated: &AtomicBool,
    query: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let drive = async {
        loop {
            match std::future::poll_fn(|cx| wire.poll_message(cx)).await {
                Some(Ok(message)) if is_not_replicated(&message) => {
                    replicated.store(false, Ordering::Release);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return StoreError::from(error),
                None => return StoreError::Content("a connection ended"),
            }
        }
    };
    tokio::select! {
        biased;
        answer = query => answer,
        error = drive => Err(error),
    }
}

/// The server warns that a commit did not wait for its standby. Known by the place in the server that says so: the words are
/// in the language of `lc_messages`.
fn is_not_replicated(message: &AsyncMessage) -> bool {
    matches!(message, AsyncMessage::Notice(notice) if notice.routine() == Some("SyncRepWaitForLSN"))
}

/// A connection with its prepared statements, and an eye on what the server says beside its answers.
#[derive(Debug)]
pub struct Link {
    pub(crate) client: Client,
    statements: HashMap<&'static str, Statement>,
    /// The server warned that a commit did not wait for its standby.
    not_replicated: Arc<AtomicBool>,
    generation: u64,
    /// Not to be used again: what it was asked last is not answered, or it leads to a standby.
    pub(super) spent: bool,
}

impl Link {
    /// Connects; the driver is waited for when the instance stops.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn connect(database: &Database, drain: &Drain) -> Result<Self, StoreError> {
        let (link, driver) = Self::undriven(database).await?;
        drain.spawn_work(driver);
        Ok(link)
    }

    /// The driver ends when the link is dropped, the server is gone, or another one has taken over; every query then says so
    /// itself, one that a frozen server never answers too.
    async fn undriven(
        database: &Database,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StoreError> {
        let (client, mut wire) = database.open().await?;
        let not_replicated = Arc::new(AtomicBool::new(false));
        let generation = database.generation();
        let seen = not_replicated.clone();
        let drive = async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| wire.poll_message(cx)).await {
                if is_not_replicated(&message) {
                    seen.store(true, Ordering::Release);
                }
            }
        };
        let replaced = database.replaced(generation);
        let driver = async move {
            tokio::select! {
                biased;
                () = replaced => {}
                () = drive => {}
            }
        };
        let statements = HashMap::new();
        Ok((Self { client, statements, not_replicated, generation, spent: false }, driver))
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

    /// Whether a commit since the last call went without its standby.
    #[must_use]
    pub fn take_not_replicated(&self) -> bool {
        self.not_replicated.swap(false, Ordering::AcqRel)
    }

    /// Whether another server has taken over since: what this one says may be of a history that is over.
    #[must_use]
    pub fn is_stale(&self, database: &Database) -> bool {
        self.generation != database.generation()
    }
}

/// Opens connections for the pool.
#[derive(Debug)]
pub struct Manager {
    pub(super) database: Database,
    pub(super) drain: Drain,
}

impl ManageConnection for Manager {
    type Connection = Link;
    type Error = StoreError;

    async fn connect(&self) -> Result<Link, StoreError> {
        let (link, driver) = Link::undriven(&self.database).await?;
        self.drain.spawn_driver(driver);
        Ok(link)
    }

    async fn is_valid(&self, link: &mut Link) -> Result<(), StoreError> {
        Ok(link.client.simple_query("").await.map(|_| ())?)
    }

    fn has_broken(&self, link: &mut Link) -> bool {
        link.spent || link.client.is_closed() || link.is_stale(&self.database)
    }
}
