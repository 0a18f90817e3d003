//! `plenum admin`: sessions listed, exported and erased straight in the database, with or without instances that run. Changes
//! nothing but what `erase` is told by id. Called by `main.rs`.

use std::io::{self, Write as _};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::config::database::{Address, EXPECTED};
use crate::domain::SessionId;
use crate::drain::Drain;
use crate::http::export::{Export, Format};
use crate::limits::SESSIONS_PAGE_MAX;
use crate::metrics::Metrics;
use crate::store::connection::{Database, Role};
use crate::store::history::History;
use crate::store::operations::{Filter, Listed};
use crate::store::{Store, StoreError, TlsError, retention};
use crate::wire::outbound;

/// Of `plenum admin`.
#[derive(Args, Clone)]
pub struct Arguments {
    /// PostgreSQL to use
    #[arg(long, env = "PLENUM_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
    #[command(subcommand)]
    action: Action,
}

impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments").field("action", &self.action).finish_non_exhaustive()
    }
}

#[derive(Subcommand, Clone, Debug)]
enum Action {
    /// List sessions, newest first, one JSON object a line
    List {
        /// Only those in this state
        #[arg(long)]
        state: Option<State>,
        /// Only those that ended, or else were created, more than so many days ago
        #[arg(long, value_name = "DAYS")]
        older_than_days: Option<u16>,
    },
    /// Write a session with all its polls and votes to standard output
    Export {
        /// Its id
        session: Uuid,
        /// How it looks
        #[arg(long, default_value = "json")]
        format: Shape,
    },
    /// Erase a session with all its votes, for good
    Erase {
        /// Its id
        session: Uuid,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum State {
    Scheduled,
    Live,
    Ended,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Shape {
    Json,
    Csv,
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address of the database does not read.
    #[error("--database-url: {EXPECTED}")]
    Url,
    /// Certificates cannot be had.
    #[error("the connection to the database cannot be protected")]
    Tls(#[from] TlsError),
    /// The database does not answer as it should.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// There is no such session.
    #[error("there is no session with this id")]
    NoSession,
    /// The export did not come to its end.
    #[error("the export broke off; what was written is not whole")]
    BrokenOff,
    /// What was asked for could not be written.
    #[error("standard output takes no more")]
    Output(#[from] io::Error),
    /// Two metrics have one name.
    #[error("cannot start: {0}")]
    Internal(String),
}

impl Arguments {
    /// Does what was asked.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn run(self) -> Result<(), AdminError> {
        let metrics = Metrics::new().map_err(|error| AdminError::Internal(error.to_string()))?;
        let metrics = Arc::new(metrics);
        let drain = Drain::new(metrics.tasks.clone());
        let address = Address::parse(&self.database_url).ok_or(AdminError::Url)?;
        let database = Database::new(&address, Role::Primary, &History::new(&metrics))?;
        let store = Store::new(&database, &[], &drain, metrics);
        match self.action {
            Action::List { state, older_than_days } => {
                let state = state.map(|state| format!("{state:?}").to_lowercase());
                let older_than_days = older_than_days.map(i32::from);
                list(&store, &Filter { state, older_than_days }).await
            }
            Action::Export { session, format } => export(&store, SessionId(session), format).await,
            Action::Erase { session } => erase(&database, &drain, SessionId(session)).await,
        }
    }
}

async fn list(store: &Store, filter: &Filter) -> Result<(), AdminError> {
    let mut last: Option<Listed> = None;
    loop {
        let page = store.list(filter, last.as_ref(), SESSIONS_PAGE_MAX).await?;
        let mut out = io::stdout().lock();
        for one in &page {
            let line = json!({
                "id": one.session, "title": one.title, "state": one.state, "created_at": one.created_at,
                "ended_at": one.ended_at, "polls": one.polls, "votes": one.votes,
            });
            writeln!(out, "{line}")?;
        }
        match page.into_iter().next_back() {
            Some(end) => last = Some(end),
            None => return Ok(()),
        }
    }
}

async fn export(store: &Store, session: SessionId, format: Shape) -> Result<(), AdminError> {
    let row = store.session(session).await?.ok_or(AdminError::NoSession)?;
    let mut shown = outbound::session(&row.session, 0, row.last_seq, "");
    if let Some(fields) = shown.as_object_mut() {
        // What is live, and what only an instance knows.
        fields.remove("participants");
        fields.remove("join_url");
    }
    let format = match format {
        Shape::Json => Format::Json,
        Shape::Csv => Format::Csv,
    };
    let mut export = Export::begin(store.clone(), &row, &shown, format).await?;
    while let Some(chunk) = export.next().await {
        io::stdout().lock().write_all(&chunk.map_err(|_| AdminError::BrokenOff)?)?;
    }
    Ok(io::stdout().lock().flush()?)
}

/// Gone for everybody when the first step is done; returns when its rows are gone too.
async fn erase(database: &Database, drain: &Drain, session: SessionId) -> Result<(), AdminError> {
    if !retention::begin(database, drain, session).await? {
        return Err(AdminError::NoSession);
    }
    while !retention::keep_up(database, drain, None).await?.finished {
        sleep(retention::BUSY_PAUSE).await; // an instance's janitor is at it, or there is much
    }
    tracing::info!(%session, "erased");
    Ok(())
}
