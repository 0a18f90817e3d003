//! Reads for REST: sessions, polls, results, codes. Called by `http`, `ws` and `feed`.

use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::replicas::{OldRead, old_read};
use super::rows::{column, shape};
use super::{Store, StoreError};
use crate::domain::{Code, Poll, PollNumber, Results, Seq, Session, SessionId, Timestamp};

const SESSION: &str = "SELECT session_json(s)::text, h.last_seq, s.presenter_hash \
    FROM sessions s JOIN session_head h USING (session_id) WHERE s.session_id = $1";
const SESSIONS: &str = "SELECT session_json(s)::text, h.last_seq FROM sessions s JOIN session_head h USING (session_id) \
    WHERE ($1::timestamptz IS NULL OR (s.created_at, s.session_id) < ($1, $2)) \
    ORDER BY s.created_at DESC, s.session_id DESC LIMIT $3";
const CODE: &str = "SELECT session_id FROM session_codes WHERE code = $1";
const POLLS: &str = "SELECT poll_json(p)::text FROM polls p \
    WHERE p.session_id = $1 AND ($2 OR p.state <> 'draft') ORDER BY p.n";
const POLL: OldRead = old_read!(
    "SELECT poll_json(p)::text, results_json(t.poll, t.seq, t.votes, t.counts)::text \
     FROM polls p LEFT JOIN tallies t ON t.session_id = p.session_id AND t.poll = p.n \
     WHERE p.session_id = $1 AND p.n = $2",
    "$3",
    "$4",
    "$5"
);

/// A session with what goes with it.
#[derive(Debug)]
pub struct SessionRow {
    /// As stored.
    pub session: Session,
    /// Its head.
    pub last_seq: Seq,
    /// Of its presenter's secret.
    pub presenter_hash: Vec<u8>,
}

/// Where a page of sessions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEnd {
    /// Of the last session.
    pub created_at: Timestamp,
    /// Its id.
    pub id: SessionId,
}

impl Store {
    /// One session.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
        let Some(row) = self.query_opt(SESSION, &[&id.0]).await? else { return Ok(None) };
        Ok(Some(SessionRow {
            session: shape(column(&row, 0)?)?,
            last_seq: Seq(column(&row, 1)?),
            presenter_hash: column(&row, 2)?,
        }))
    }

    /// Sessions, newest first, after the end of the page before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sessions(
        &self,
        after: Option<PageEnd>,
        limit: i64,
    ) -> Result<Vec<(Session, Seq)>, StoreError> {
        let created_at: Option<OffsetDateTime> = after.map(|end| end.created_at.0);
        let id: Uuid = after.map_or(Uuid::nil(), |end| end.id.0);
        let rows = self.query(SESSIONS, &[&created_at, &id, &limit]).await?;
        rows.iter().map(|row| Ok((shape(column(row, 0)?)?, Seq(column(row, 1)?)))).collect()
    }

    /// Whose code this is. Never cached where it is nobody's: it may be somebody's the moment after.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_of_code(&self, code: &Code) -> Result<Option<SessionId>, StoreError> {
        let row = self.query_opt(CODE, &[&code.as_str()]).await?;
        row.map(|row| Ok(SessionId(column(&row, 0)?))).transpose()
    }

    /// The polls of a session by number; `drafts`: those too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn polls(&self, session: SessionId, drafts: bool) -> Result<Vec<Poll>, StoreError> {
        let rows = self.query(POLLS, &[&session.0, &drafts]).await?;
        rows.iter().map(|row| shape(column(row, 0)?)).collect()
    }

    /// One poll with its results, which it has from its first opening on.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll(
        &self,
        session: SessionId,
        poll: PollNumber,
    ) -> Result<Option<(Poll, Option<Results>)>, StoreError> {
        self.query_opt(POLL.plain, &[&session.0, &poll.0])
            .await?
            .map(|row| with_results(&row))
            .transpose()
    }

    /// As [`Store::poll`], of a session that ended with `last`: nothing changes there any more but by closing a poll, which is an
    /// event too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_of_ended(
        &self,
        session: SessionId,
        poll: PollNumber,
        last: Seq,
    ) -> Result<Option<(Poll, Option<Results>)>, StoreError> {
        let rows = self.query_old(&POLL, last, &[&session.0, &poll.0]).await?;
        rows.first().map(with_results).transpose()
    }
}

fn with_results(row: &Row) -> Result<(Poll, Option<Results>), StoreError> {
    let poll: Poll = shape(column(row, 0)?)?;
    // A draft has no tally: the columns of the join are null, and so is what is made of them.
    let results = match poll.opened_at {
        Some(_) => column::<Option<&str>>(row, 1)?.map(shape).transpose()?,
        None => None,
    };
    Ok((poll, results))
}
