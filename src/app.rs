//! The life of an instance: database, schema, tasks, listeners, and the way out. The only file that knows everything.
//! Called by `main.rs`.
//!
//! ```text
//! database (own or embedded) ─► migrations ─► feed, lanes ─► listeners ─► ready
//! SIGTERM or /drain ─► announcing: balancers hear of it ─► draining: bye, spread out ─► stopping: last votes committed and answered ─► database stopped
//! ```

pub(crate) mod engines;
mod history;

pub use history::{Task, operate};

use engines::{Base, engines};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep, timeout_at};

use crate::cluster;
use crate::cluster::forecast::Present;
use crate::config::Config;
use crate::drain::{Drain, Phase};
use crate::http::{self, Door};
use crate::metrics::Metrics;
use crate::store::connection::{Database, Link};
use crate::store::embedded::{Embedded, EmbeddedError};
use crate::store::history::Evidence;
use crate::store::{Store, StoreError, TlsError, migrate, partitions, retention};
use crate::ws::Edge;

/// Clients that are sent away per second, so that their return does not storm whoever takes them in.
const LEAVING_PER_SECOND: u32 = 500;
/// They are spread over at least so long (protocol 7, Drain).
const LEAVING_WINDOW_MIN: Duration = Duration::from_millis(1_500);
/// For what is still to do when the drain's time is over.
const STOPPING_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often partitions are looked after; they are made a day ahead.
const JANITOR_EVERY: Duration = Duration::from_secs(600);
/// The janitor's pause where something was left to do.
const JANITOR_AGAIN: Duration = Duration::from_secs(5);
/// Tries to have the partition for now, while other instances are at it.
const PARTITION_TRIES: usize = 100;

/// Why an instance does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no database to be had.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// TLS towards the database cannot be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The database does not do.
    #[error("{0}")]
    Unfit(String),
    /// The database does not answer.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// A listener cannot be had.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What was handed over is open to others, where `--listen` is not.
    #[error(
        "the socket that was handed over listens on {0}, and without a key anybody who reaches it could create sessions: \
         set --api-key, or say --allow-anonymous-create"
    )]
    Open(SocketAddr),
    /// Two metrics have one name, or signals cannot be had.
    #[error("cannot start: {0}")]
    Internal(String),
}

/// A running instance.
#[derive(Debug)]
pub struct App {
    edge: Arc<Edge>,
    embedded: Option<Embedded>,
    drain_max: Duration,
    drain_notice: Duration,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where operators reach it.
    pub ops_listen: SocketAddr,
    /// Where balancers ask how it stands, if they may.
    pub agent_listen: Option<SocketAddr>,
    /// How to connect to its database, where that is its own.
    pub embedded_url: Option<String>,
}

impl App {
    /// Starts an instance. When this returns it is ready.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let embedded = match &config.database_url {
            Some(_) => None,
            None => Some(Embedded::start(&config.data_dir).await?),
        };
        let (drain_max, drain_notice) = (config.drain, config.drain_notice);
        match Self::serve(config, embedded.as_ref().map(Embedded::url)).await {
            Ok((edge, [listen, ops_listen], agent_listen)) => {
                let embedded_url = embedded.as_ref().map(Embedded::url);
                Ok(Self {
                    edge,
                    embedded,
                    drain_max,
                    drain_notice,
                    listen,
                    ops_listen,
                    agent_listen,
                    embedded_url,
                })
            }
            Err(error) => {
                if let Some(embedded) = embedded
                    && let Err(error) = embedded.stop().await
                {
                    tracing::warn!(error = %error, "the database was not stopped");
                }
                Err(error)
            }
        }
    }

    async fn serve(
        config: Config,
        embedded_url: Option<String>,
    ) -> Result<(Arc<Edge>, [SocketAddr; 2], Option<SocketAddr>), StartError> {
        // First of all: what cannot be listened on is found out before anything is done.
        // Sockets that systemd holds open over a restart come first: public, then operations.
        let mut handed = ListenFd::from_env();
        let (public, listen) = bind(config.listen, handed.take_tcp_listener(0))?;
        if !listen.ip().is_loopback() && config.api_key.is_none() && !config.anonymous_create {
            return Err(StartError::Open(listen));
        }
        let (operations, ops_listen) = bind(config.ops_listen, handed.take_tcp_listener(1))?;
        let (agent, agent_listen) =
            config.agent_listen.map(|at| bind(at, Ok(None))).transpose()?.unzip();
        let metrics =
            Arc::new(Metrics::new().map_err(|error| StartError::Internal(error.to_string()))?);
        metrics.capacity.set(i64::from(config.capacity));
        metrics.connections_max.set(i64::try_from(config.max_connections).unwrap_or(i64::MAX));
        let drain = Drain::new(metrics.tasks.clone());
        let (database, replicas) = history::databases(&config, embedded_url, &metrics)?;
        let store = open(&config, (&database, &replicas), &drain, &metrics).await?;
        let secret = match config.secret.clone() {
            Some(secret) => secret,
            None => store.setting("secret").await?,
        };
        let base = Base { store, database: database.clone(), drain: drain.clone(), metrics };
        let edge = engines(&config, base, &secret, listen);
        foresee(&edge);
        let leftovers = edge.leftovers.clone();
        let tidy = janitor(database, drain.clone(), config.retain_days, leftovers);
        drain.spawn_vital("janitor", tidy);
        drain.spawn_vital("public listener", http::accept(public, Door::Public, edge.clone()));
        drain.spawn_vital(
            "operations listener",
            http::accept(operations, Door::Operations, edge.clone()),
        );
        if let Some(agent) = agent {
            let asked = edge.clone();
            let answers = cluster::answer(agent, drain, move || asked.standing());
            edge.drain.spawn_vital("agent listener", answers);
        }
        Ok((edge, [listen, ops_listen], agent_listen))
    }

    /// Serves until told to stop, then drains. A second signal ends the process at once: votes in flight stay unanswered,
    /// and their clients send them again.
    ///
    /// # Errors
    /// Where the embedded database does not stop.
    pub async fn run(self, mut signals: Signals) -> Result<(), StartError> {
        tokio::select! {
            () = signals.next() => {}
            () = self.edge.asked_to_drain.notified() => {}
        }
        let stop = async {
            self.leave().await;
            match self.embedded {
                Some(embedded) => embedded.stop().await,
                None => Ok(()),
            }
        };
        tokio::select! {
            stopped = stop => Ok(stopped?),
            () = signals.next() => {
                tracing::warn!("second signal, ending at once");
                std::process::exit(1);
            }
        }
    }

    async fn leave(&self) {
        let Edge { drain, metrics, .. } = &*self.edge;
        let deadline = Instant::now() + self.drain_max;
        metrics.draining.set(1);
        if !self.drain_notice.is_zero() {
            tracing::info!(
                notice_ms = self.drain_notice.as_millis(),
                "leaving, balancers are told"
            );
            drain.advance(Phase::Announcing);
            // Whoever a balancer still brings meanwhile is served like everybody else.
            sleep(self.drain_notice).await;
        }
        let clients = u32::try_from(metrics.connections.get()).unwrap_or(0);
        let window = Duration::from_secs(u64::from(clients / LEAVING_PER_SECOND));
        let left = deadline.saturating_duration_since(Instant::now());
        let longest = left.saturating_sub(Duration::from_secs(1));
        let window = window.min(longest).max(LEAVING_WINDOW_MIN);
        tracing::info!(clients, window_ms = window.as_millis(), "draining");
        drain.begin(window);
        let gone = async {
            while metrics.connections.get() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        // Everybody has been told to be gone by then; the rest of the time is for who does not listen.
        let _ =
            timeout_at(deadline.max(Instant::now() + window + Duration::from_millis(500)), gone)
                .await;
        drain.advance(Phase::Stopping);
        let finished = async {
            drain.background_gone().await;
            drain.clients_gone().await;
        };
        if timeout_at(Instant::now() + STOPPING_WAIT_MAX, finished).await.is_err() {
            tracing::warn!(clients = drain.clients(), "left before everybody was gone");
        }
        tracing::info!("stopped");
    }
}

/// SIGTERM and SIGINT. Caught from the first moment on, so that one that comes while the instance starts still stops all that
/// was started, as soon as it has.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on signals are caught.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The socket that was handed over, or one of its own.
fn bind(
    at: SocketAddr,
    handed: std::io::Result<Option<std::net::TcpListener>>,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { at, source };
    let listener = match handed.map_err(failed)? {
        Some(handed) => {
            handed.set_nonblocking(true).map_err(failed)?;
            TcpListener::from_std(handed).map_err(failed)?
        }
        None => http::listen(at).map_err(failed)?,
    };
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Opens the database: is it fit, is its schema ours, is there a partition for the next event.
async fn open(
    config: &Config,
    (database, replicas): (&Database, &[Database]),
    drain: &Drain,
    metrics: &Arc<Metrics>,
) -> Result<Store, StartError> {
    let store = Store::new(database, replicas, drain, metrics.clone());
    let facts = match store.facts().await {
        // The pool says no more than that it has tried; whoever starts an instance wants to know why.
        Err(StoreError::TimedOut) => {
            Link::connect(database, drain).await?;
            store.facts().await?
        }
        facts => facts?,
    };
    if facts.too_old {
        return Err(StartError::Unfit(String::from("PostgreSQL 14 or newer is needed")));
    }
    if !facts.unsafe_settings.is_empty() {
        let found = facts.unsafe_settings.join(", ");
        if !config.allow_unsafe_database {
            return Err(StartError::Unfit(format!(
                "{found} in the database: it would lose votes that it confirmed. Turn it on, \
                 or start with --allow-unsafe-database if these votes do not matter"
            )));
        }
        tracing::warn!(found, "the database can lose what it confirmed");
    }
    let migrated = migrate::migrate(database, drain).await?;
    tracing::info!(
        migrations = migrated.migrations,
        functions = migrated.functions,
        "schema up to date"
    );
    store.settle(Evidence::None).await?;
    for _ in 0..PARTITION_TRIES {
        if store.has_partition_for_now().await? {
            return Ok(store);
        }
        partitions::keep_up(database, drain).await?;
    }
    Err(StartError::Unfit(String::from("the event log has no partition for now")))
}

/// Has the edge's forecast made, with what this instance knows of who is here.
fn foresee(edge: &Arc<Edge>) {
    let feed = edge.feed.clone();
    let present: Present = Arc::new(move |session| feed.participants_known(session));
    let sight = (edge.drain.clone(), edge.metrics.clone());
    let weigh = edge.forecast.clone().run(edge.cluster.clone(), edge.store.clone(), sight, present);
    edge.drain.spawn_vital("forecast", weigh);
}

/// Looks after the partitions of the log, after sessions whose time is over, and after what a deletion left.
async fn janitor(
    database: Database,
    drain: Drain,
    retain_days: Option<u32>,
    leftovers: Arc<Notify>,
) {
    let mut ticks = interval(JANITOR_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if let Err(error) = partitions::keep_up(&database, &drain).await {
                    tracing::warn!(error = ?error, "partitions not looked after");
                }
            }
            () = leftovers.notified() => {}
            () = drain.reached(Phase::Stopping) => return,
        }
        match retention::keep_up(&database, &drain, retain_days).await {
            Ok(erased) => {
                if erased.sessions > 0 {
                    tracing::info!(sessions = erased.sessions, "ended sessions erased");
                }
                if !erased.finished {
                    // There is much, or another instance is at it, and may have looked for the last time.
                    tokio::select! {
                        () = sleep(JANITOR_AGAIN) => leftovers.notify_one(),
                        () = drain.reached(Phase::Stopping) => return,
                    }
                }
            }
            Err(error) => tracing::warn!(error = ?error, "sessions not erased"),
        }
    }
}
