//! What can go wrong with the database, as far as a caller acts on it.

use tokio_postgres::error::{Severity, SqlState};

/// A statement that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer in time: the statement may have taken effect.
    #[error("the database did not answer in time")]
    TimedOut,
    /// PostgreSQL said no, or the connection broke.
    #[error("the database refused a statement or broke off")]
    Postgres(#[from] tokio_postgres::Error),
    /// No host of the database takes writes just now.
    #[error("no server of the database takes writes")]
    NoPrimary,
    /// The standby was not waited for: committed here, perhaps nowhere else.
    #[error("the wait for the synchronous standby was cut short")]
    NotReplicated,
    /// A row that this program cannot read; it or the schema is wrong.
    #[error("unexpected content: {0}")]
    Content(&'static str),
}

impl StoreError {
    /// PostgreSQL rolled the statement back and said so: nothing of it is stored.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        error.as_db_error().is_some_and(|error| {
            // FATAL and PANIC, and everything about connections, leave it open whether the commit happened.
            error.parsed_severity() == Some(Severity::Error)
                && (!matches!(error.code().code().get(..2), Some("08" | "57" | "58" | "XX"))
                    || *error.code() == SqlState::QUERY_CANCELED)
        })
    }

    /// The same statement may succeed when it is sent again, without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut | Self::NotReplicated | Self::NoPrimary => true,
            Self::Content(_) => false,
            Self::Postgres(_) => match self.state() {
                None => true, // the connection
                Some(state) => {
                    matches!(
                        state.code().get(..2),
                        // connection, transaction rollback, resources, operator intervention, system, lock not available
                        Some("08" | "40" | "53" | "57" | "58" | "55")
                    ) || *state == SqlState::READ_ONLY_SQL_TRANSACTION
                }
            },
        }
    }

    /// The statement ended on a database that has become a standby: another connection may find the primary.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.state() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// It waited for a lock for longer than it was allowed to.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        self.state() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// For the metric: few values, none of them from outside.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::TimedOut => "timeout",
            Self::NotReplicated => "not_replicated",
            Self::NoPrimary => "read_only",
            Self::Content(_) => "content",
            Self::Postgres(_) => match self.state().and_then(|state| state.code().get(..2)) {
                None | Some("08") => "connection",
                Some("23") => "constraint",
                Some("25") => "read_only",
                Some("40") => "conflict",
                Some("53") => "resources",
                Some("55") => "lock",
                Some("57") => "shutdown_or_timeout",
                Some(_) => "other",
            },
        }
    }

    fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Postgres(error) => error.code(),
            _ => None,
        }
    }
}
