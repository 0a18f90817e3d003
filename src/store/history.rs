//! Which history of the database this is: the epoch, where it was seen, and what a commit is worth there. The database decides
//! (`sql/functions/60_epoch.sql`); here is what this process knows of it, shared by all its connections. Settled anew by
//! `connection.rs` when another server answers, by `feed/tailer.rs` when the log is behind, and every few seconds by `app.rs`.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use super::rows::column;
use super::{Store, StoreError};
use crate::auth;
use crate::metrics::Metrics;

const SETTLE: &str =
    "SELECT epoch, place, timeline, durability, made FROM settle_epoch($1, $2, $3, $4, $5, $6)";
/// Asked of every connection, so without preparing it. The table may not be there yet; a standby has no timeline of its own.
const IDENTITY: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', \
    (SELECT system_identifier FROM pg_control_system()) || '/' || coalesce(to_regclass('settings')::oid, 0), \
    CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END";

/// What a commit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives whatever stops PostgreSQL, and the loss of power; not the loss of the disk.
    OneNode,
    /// As [`Durability::OneNode`]; a fail-over loses the newest commits.
    Asynchronous,
    /// It is on two machines before it is confirmed.
    Synchronous,
}

impl Durability {
    const ALL: [Self; 3] = [Self::OneNode, Self::Asynchronous, Self::Synchronous];

    /// As the database, the log and the metric say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneNode => "one node",
            Self::Asynchronous => "asynchronous replication",
            Self::Synchronous => "synchronous standby",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The cluster, by its system identifier, and the database in it, by the number of a table: a restored dump has another.
    place: String,
    /// Grows with every promotion.
    timeline: i32,
}

impl Identity {
    /// # Errors
    /// [`StoreError::NoPrimary`] where it takes no writes.
    pub(super) async fn read(client: &Client) -> Result<Self, StoreError> {
        let missing = StoreError::Content("a database without an identity");
        let answer = client.simple_query(IDENTITY).await?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else { return Err(missing) };
        if row.get(0) != Some("f") {
            return Err(StoreError::NoPrimary);
        }
        match (row.get(1), row.get(2).and_then(|timeline| timeline.parse().ok())) {
            (Some(place), Some(timeline)) => Ok(Self { place: place.to_owned(), timeline }),
            _ => Err(missing),
        }
    }
}

/// What is known of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub epoch: Arc<str>,
    /// What a commit is worth.
    pub durability: Durability,
    identity: Identity,
    /// A new epoch was made just now.
    made: bool,
}

impl Known {
    fn read(row: &Row) -> Result<Self, StoreError> {
        let durability: &str = column(row, 3)?;
        Ok(Self {
            epoch: column::<&str>(row, 0)?.into(),
            identity: Identity { place: column(row, 1)?, timeline: column(row, 2)? },
            durability: Durability::parse(durability)
                .ok_or(StoreError::Content("an unknown durability"))?,
            made: column(row, 4)?,
        })
    }

    /// As `settings` has it under `history`.
    fn history(&self) -> String {
        format!("{}/{}", self.identity.place, self.identity.timeline)
    }
}

/// What this process knows; nothing before the schema is there. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    known: Arc<watch::Sender<Option<Known>>>,
    metrics: Arc<Metrics>,
}

impl History {
    /// Nothing is known.
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self { known: Arc::new(watch::Sender::new(None)), metrics: metrics.clone() }
    }

    /// Names this history.
    #[must_use]
    pub fn epoch(&self) -> Arc<str> {
        self.known.borrow().as_ref().map_or_else(|| "".into(), |known| known.epoch.clone())
    }

    /// Whether this still is the history.
    #[must_use]
    pub fn is_now(&self, epoch: &str) -> bool {
        self.known.borrow().as_ref().is_some_and(|known| *known.epoch == *epoch)
    }

    /// Follows what is known.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Known>> {
        self.known.subscribe()
    }

    /// The epoch, and the history as `settings` has it: what a replica must have to be of use.
    pub(super) fn marks(&self) -> Option<(String, String)> {
        self.known.borrow().as_ref().map(|known| (known.epoch.to_string(), known.history()))
    }

    pub(super) fn is_news(&self, identity: &Identity) -> bool {
        self.known.borrow().as_ref().is_some_and(|known| known.identity != *identity)
    }

    /// The same cluster, before a promotion that is known.
    pub(super) fn is_behind(&self, identity: &Identity) -> bool {
        self.known.borrow().as_ref().is_some_and(|known| {
            known.identity.place == identity.place && identity.timeline < known.identity.timeline
        })
    }

    /// Has the database decide; see [`History::learn`].
    pub(super) async fn settle(&self, client: &Client) -> Result<Known, StoreError> {
        let fresh = fresh()?;
        let known = self.known.borrow().clone();
        let (epoch, place, timeline, durability) = parts(known.as_ref());
        let row = client
            .query_typed_one(
                SETTLE,
                &[
                    (&fresh, Type::TEXT),
                    (&epoch, Type::TEXT),
                    (&place, Type::TEXT),
                    (&timeline, Type::INT4),
                    (&durability, Type::TEXT),
                    (&false, Type::BOOL),
                ],
            )
            .await?;
        Known::read(&row)
    }

    /// From here on this is known; whoever follows drops what belongs to another epoch. Says whether it is another history, or
    /// another server's.
    pub(super) fn learn(&self, now: Known) -> bool {
        for one in Durability::ALL {
            let holds = i64::from(one == now.durability);
            self.metrics.durability.with_label_values(&[one.as_str()]).set(holds);
        }
        let mut moved = false;
        self.known.send_if_modified(|known| {
            moved = known.as_ref().is_some_and(|known| {
                (&known.epoch, &known.identity) != (&now.epoch, &now.identity)
            });
            let durability = now.durability.as_str();
            match known {
                None => tracing::info!(durability, "database found"),
                Some(known) if known.durability != now.durability => {
                    tracing::warn!(durability, "the database's durability has changed");
                }
                Some(_) => {}
            }
            if known.as_ref().is_some_and(|known| known.epoch != now.epoch) || now.made {
                tracing::warn!(made_here = now.made, "the database has another history now");
                self.metrics.epochs.inc();
            }
            let changed = known.as_ref() != Some(&now);
            *known = Some(now);
            changed
        });
        moved
    }
}

type Parts<'a> = (Option<&'a str>, Option<&'a str>, Option<i32>, Option<&'static str>);

fn parts(known: Option<&Known>) -> Parts<'_> {
    (
        known.map(|known| &*known.epoch),
        known.map(|known| known.identity.place.as_str()),
        known.map(|known| known.identity.timeline),
        known.map(|known| known.durability.as_str()),
    )
}

fn fresh() -> Result<String, StoreError> {
    auth::random_text::<32>().map_err(|_| StoreError::Content("no random bytes"))
}

/// What is known about the history that an instance asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Nothing: just look.
    None,
    /// Something that was seen committed is not there any more, or an operator says so.
    Lost,
}

impl Store {
    /// Has the database decide which history this is, and learns it. Makes a new epoch where the facts ask for one, once
    /// however many instances look. Not to be called where another task would be kept waiting.
    ///
    /// # Errors
    /// See [`StoreError`]; nothing is learned then.
    pub async fn settle(&self, evidence: Evidence) -> Result<Known, StoreError> {
        let fresh = fresh()?;
        let known = self.history().known.borrow().clone();
        let (epoch, place, timeline, durability) = parts(known.as_ref());
        let lost = evidence == Evidence::Lost;
        let row = self
            .query_opt(SETTLE, &[&fresh, &epoch, &place, &timeline, &durability, &lost])
            .await?
            .ok_or(StoreError::Content("no epoch"))?;
        let now = Known::read(&row)?;
        self.history().learn(now.clone());
        Ok(now)
    }
}
