//! The event log and what goes with it: snapshots, tailing, replay. Called by `feed`, and by `http` for pages of
//! events and joins.

use super::replicas::{OldRead, old_read};
use super::rows::{answer, column, event, kind, shape};
use super::{Param, Store, StoreError};
use crate::domain::{
    Answer, LoggedEvent, ParticipantId, Poll, PollNumber, Results, Seq, Session, SessionId,
};
use crate::limits::{EVENTS_READ_MAX, REPLAY_PAGE_MAX};

const SNAPSHOT: &str = include_str!("../../sql/queries/snapshot.sql");
const TAIL: &str = include_str!("../../sql/queries/tail.sql");
const REPLAY: OldRead = old_read!(include_str!("../../sql/queries/replay.sql"), "$6", "$7", "$8");
const RESUME: &str = include_str!("../../sql/queries/resume.sql");
const MY_VOTES: &str = include_str!("../../sql/queries/my_votes.sql");
const PAGE: OldRead = old_read!(
    "SELECT session_id, seq, at, kind, results_hidden, data::text FROM event_log \
     WHERE session_id = $1 AND seq > $2 AND seq <= $5 AND ($3 OR NOT (results_hidden AND kind = 'poll.results')) \
     ORDER BY seq LIMIT $4",
    "$6",
    "$7",
    "$8"
);

/// The visible state of a session as of `seq`.
#[derive(Debug)]
pub struct Snapshot {
    /// The session as stored.
    pub session: Session,
    /// Its head.
    pub seq: Seq,
    /// Polls that were ever opened, by number.
    pub polls: Vec<Poll>,
    /// Their results.
    pub results: Vec<Results>,
    /// The newest `poll.results` event of each, 0 where there is none.
    pub results_seqs: Vec<(PollNumber, Seq)>,
    /// The history that it is of.
    pub epoch: String,
}

/// What the log has for the watched sessions.
#[derive(Debug, Default)]
pub struct Tail {
    /// New events, per session in order.
    pub events: Vec<LoggedEvent>,
    /// Sessions that do not exist any more.
    pub gone: Vec<SessionId>,
    /// The log of a session ends before what was seen of it: history was lost.
    pub behind: bool,
    /// The history that all of it is of.
    pub epoch: String,
}

/// What a returning client is measured against.
#[derive(Debug)]
pub struct Head {
    /// The newest event.
    pub last: Seq,
    /// The oldest event kept; `last + 1` where none is.
    pub oldest: Seq,
    /// Names this history of the database.
    pub epoch: String,
}

impl Store {
    /// The state of a session; `None` where there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn snapshot(&self, session: SessionId) -> Result<Option<Snapshot>, StoreError> {
        let Some(row) = self.query_opt(SNAPSHOT, &[&session.0]).await? else { return Ok(None) };
        let numbers: Vec<i32> = column(&row, 4)?;
        let seqs: Vec<i64> = column(&row, 5)?;
        Ok(Some(Snapshot {
            session: shape(column(&row, 0)?)?,
            seq: Seq(column(&row, 1)?),
            polls: shape(column(&row, 2)?)?,
            results: shape(column(&row, 3)?)?,
            results_seqs: numbers
                .into_iter()
                .map(PollNumber)
                .zip(seqs.into_iter().map(Seq))
                .collect(),
            epoch: column(&row, 6)?,
        }))
    }

    /// What is new since the cursors.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tail(&self, cursors: &[(SessionId, Seq)]) -> Result<Tail, StoreError> {
        let (sessions, seqs): (Vec<_>, Vec<_>) =
            cursors.iter().map(|(session, seq)| (session.0, seq.0)).unzip();
        let mut tail = Tail::default();
        for row in self.query(TAIL, &[&sessions, &seqs, &EVENTS_READ_MAX]).await? {
            if tail.epoch.is_empty() {
                tail.epoch = column(&row, 8)?;
            }
            tail.behind |= column::<Option<bool>>(&row, 7)?.unwrap_or(false);
            if column::<Option<bool>>(&row, 6)?.unwrap_or(false) {
                tail.gone.push(SessionId(column(&row, 0)?));
            } else if column::<Option<i64>>(&row, 1)?.is_some() {
                tail.events.push(event(&row, 0)?);
            }
        }
        Ok(tail)
    }

    /// One page of what a client missed after `after`, up to `upto`; `newest`: the newest results of each poll.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn replay(
        &self,
        session: SessionId,
        after: Seq,
        upto: Seq,
        newest: &[i64],
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let params: [Param<'_>; 5] = [&session.0, &after.0, &upto.0, &newest, &REPLAY_PAGE_MAX];
        let rows = self.query_old(&REPLAY, upto, &params).await?;
        rows.iter().map(|row| event(row, 0)).collect()
    }

    /// What a returning client is measured against; `None` where the session is gone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn head(&self, session: SessionId) -> Result<Option<Head>, StoreError> {
        let Some(row) = self.query_opt(RESUME, &[&session.0]).await? else { return Ok(None) };
        Ok(Some(Head {
            last: Seq(column(&row, 0)?),
            oldest: Seq(column(&row, 1)?),
            epoch: column(&row, 2)?,
        }))
    }

    /// Every vote of one participant in a session.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn my_votes(
        &self,
        session: SessionId,
        participant: ParticipantId,
    ) -> Result<Vec<(PollNumber, Answer)>, StoreError> {
        let rows = self.query(MY_VOTES, &[&session.0, &participant.0]).await?;
        rows.iter()
            .map(|row| {
                Ok((PollNumber(column(row, 0)?), answer(kind(column(row, 1)?)?, column(row, 2)?)?))
            })
            .collect()
    }

    /// A page of the log as REST shows it, up to `upto`. `all`: hidden results too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        session: SessionId,
        (after, upto): (i64, Seq),
        all: bool,
        limit: i64,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let params: [Param<'_>; 5] = [&session.0, &after, &all, &limit, &upto.0];
        let rows = self.query_old(&PAGE, upto, &params).await?;
        rows.iter().map(|row| event(row, 0)).collect()
    }
}
