//! Changes of sessions and polls: each one call of a function in `sql/functions/`. Called by `http`.

use tokio_postgres::Row;
use uuid::Uuid;

use super::rows::{column, event};
use super::{Param, Store, StoreError};
use crate::auth::PresenterHash;
use crate::domain::{Draft, LoggedEvent, PollNumber, SessionId, Timestamp};
use crate::limits::POLLS_MAX;

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Changed,
    /// It was so already.
    Unchanged,
    /// No such session or poll.
    NotFound,
    /// The session is over.
    SessionEnded,
    /// Not a draft any more.
    NotDraft,
    /// Not open.
    PollClosed,
    /// The session has as many polls as it may have.
    Full,
    /// The draft is not what the caller read: read it again.
    Stale,
    /// Every code that was tried is taken: draw others.
    CodesTaken,
}

/// A change: its outcome, the thing changed as JSON, and the event that was logged, if one was.
#[derive(Debug)]
pub struct Change {
    /// What came of it.
    pub outcome: Outcome,
    /// The session or poll afterwards, as `10_json.sql` shapes it.
    pub body: Option<String>,
    /// The event, to be offered to the tailer.
    pub event: Option<LoggedEvent>,
}

/// A session to be.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Its id.
    pub id: SessionId,
    /// Codes to try, in this order.
    pub codes: &'a [String],
    /// 1–300 code points.
    pub title: &'a str,
    /// When it is to begin.
    pub starts_at: Option<Timestamp>,
    /// How many are expected.
    pub expected_participants: Option<i32>,
    /// Of its presenter's secret.
    pub presenter_hash: PresenterHash,
}

macro_rules! call {
    ($function:literal, $session:literal) => {
        concat!(
            "SELECT outcome, body::text, ",
            $session,
            ", seq, at, kind, results_hidden, data::text FROM ",
            $function
        )
    };
}

impl Store {
    /// Creates a session.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn create_session(&self, new: &NewSession<'_>) -> Result<Change, StoreError> {
        let starts_at = new.starts_at.map(|at| at.0);
        let hash = new.presenter_hash.as_slice();
        let sql = call!("create_session($1, $2, $3, $4, $5, $6)", "$1::uuid");
        self.change(
            sql,
            &[&new.id.0, &new.codes, &new.title, &starts_at, &new.expected_participants, &hash],
        )
        .await
    }

    /// Sets the fields of `patch`, which have been checked; null clears.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn patch_session(
        &self,
        session: SessionId,
        patch: &str,
    ) -> Result<Change, StoreError> {
        self.change(call!("patch_session($1, $2::text::jsonb)", "$1::uuid"), &[&session.0, &patch])
            .await
    }

    /// Deletes a session and all that belongs to it. The answer has a body where rows of it are left, which nobody can reach any
    /// more: [`super::retention::keep_up`] removes them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_session(&self, session: SessionId) -> Result<Change, StoreError> {
        self.change(call!("delete_session($1)", "$1::uuid"), &[&session.0]).await
    }

    /// Adds a draft.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn create_poll(
        &self,
        session: SessionId,
        draft: &Draft,
    ) -> Result<Change, StoreError> {
        let sql = call!("create_poll($1, $2, $3, $4, $5, $6, $7, $8)", "$1::uuid");
        let (kind, results) = (draft.kind.as_str(), draft.results.as_str());
        self.change(
            sql,
            &[
                &session.0,
                &kind,
                &draft.question,
                &draft.options,
                &draft.size,
                &draft.max_choices,
                &results,
                &POLLS_MAX,
            ],
        )
        .await
    }

    /// Replaces a draft, if it still is `expected` (the poll's JSON as read before).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn replace_draft(
        &self,
        session: SessionId,
        poll: PollNumber,
        expected: &str,
        draft: &Draft,
    ) -> Result<Change, StoreError> {
        let sql =
            call!("replace_draft($1, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $9)", "$1::uuid");
        let (kind, results) = (draft.kind.as_str(), draft.results.as_str());
        self.change(
            sql,
            &[
                &session.0,
                &poll.0,
                &expected,
                &kind,
                &draft.question,
                &draft.options,
                &draft.size,
                &draft.max_choices,
                &results,
            ],
        )
        .await
    }

    /// Deletes a draft.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete_draft(
        &self,
        session: SessionId,
        poll: PollNumber,
    ) -> Result<Change, StoreError> {
        self.change(call!("delete_draft($1, $2)", "$1::uuid"), &[&session.0, &poll.0]).await
    }

    /// Opens a poll, for the first time or again.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_poll(
        &self,
        session: SessionId,
        poll: PollNumber,
    ) -> Result<Change, StoreError> {
        self.change(call!("open_poll($1, $2)", "$1::uuid"), &[&session.0, &poll.0]).await
    }

    /// Closes a poll. No vote is accepted that commits after its event.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn close_poll(
        &self,
        session: SessionId,
        poll: PollNumber,
    ) -> Result<Change, StoreError> {
        self.change(call!("close_poll($1, $2)", "$1::uuid"), &[&session.0, &poll.0]).await
    }

    async fn change(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Change, StoreError> {
        let row = self
            .query_opt(sql, params)
            .await?
            .ok_or(StoreError::Content("a change without a row"))?;
        read(&row)
    }
}

fn read(row: &Row) -> Result<Change, StoreError> {
    let outcome = match column::<&str>(row, 0)? {
        "changed" => Outcome::Changed,
        "unchanged" => Outcome::Unchanged,
        "not_found" => Outcome::NotFound,
        "session_ended" => Outcome::SessionEnded,
        "poll_not_draft" => Outcome::NotDraft,
        "poll_closed" => Outcome::PollClosed,
        "full" => Outcome::Full,
        "stale" => Outcome::Stale,
        "codes_taken" => Outcome::CodesTaken,
        _ => return Err(StoreError::Content("an unknown outcome")),
    };
    let logged = column::<Option<i64>>(row, 3)?.is_some();
    let _: Uuid = column(row, 2)?;
    Ok(Change { outcome, body: column(row, 1)?, event: logged.then(|| event(row, 2)).transpose()? })
}
