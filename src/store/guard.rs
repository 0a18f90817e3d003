//! Work that one instance at a time does, over all of them: an advisory lock, held by a transaction that stays open on a
//! connection of its own. A lock of the connection itself would be left behind where a pooler in transaction mode hands that
//! connection on, and nobody would get it ever again. Holds no row, no table and no snapshot. Called by `migrate`, `partitions`
//! and `retention`.

use tokio_postgres::SimpleQueryMessage;

use super::StoreError;
use super::connection::{Database, Link};
use crate::drain::Drain;

/// Gives the lock back when it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    _held_by: Link,
}

impl Guard {
    /// Waits for the lock of that number. Cancel safe.
    pub(super) async fn wait(
        database: &Database,
        drain: &Drain,
        number: i64,
    ) -> Result<Self, StoreError> {
        let link = connect(database, drain).await?;
        let sql = format!("BEGIN; SELECT pg_advisory_xact_lock({number})");
        link.client.batch_execute(&sql).await?;
        Ok(Self { _held_by: link })
    }

    /// The lock of that number; `None` where somebody else has it. Cancel safe.
    pub(super) async fn unless_held(
        database: &Database,
        drain: &Drain,
        number: i64,
    ) -> Result<Option<Self>, StoreError> {
        let link = connect(database, drain).await?;
        // Not prepared: the answer of a prepared one stays open until the next, and with it a snapshot that a partition's
        // detaching and every vacuum would wait for.
        let sql = format!("BEGIN; SELECT pg_try_advisory_xact_lock({number})");
        let said = link.client.simple_query(&sql).await?;
        let got = said.iter().any(
            |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t")),
        );
        Ok(got.then_some(Self { _held_by: link }))
    }
}

/// The work takes as long as it takes, and so may waiting for it.
async fn connect(database: &Database, drain: &Drain) -> Result<Link, StoreError> {
    let patient = database.with_options(
        "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0",
    );
    Link::connect(&patient, drain).await
}
