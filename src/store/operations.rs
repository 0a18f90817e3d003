//! What operators and their tools ask: how busy the instances are, who is expected when, and which sessions there are. Called
//! by `cluster/forecast.rs` and `admin.rs`.

use std::time::Duration;

use super::rows::column;
use super::{Store, StoreError};
use crate::domain::{SessionId, Timestamp};
use crate::limits::{INSTANCE_ALIVE, LOAD_ALIVE};

const TELL: &str =
    "SELECT instance_id, cpu, delivery FROM tell_load($1, $2, $3, make_interval(secs => $4))";
/// By sessions_scheduled; presence by the session's part of its key, of instances that live.
const SCHEDULED: &str = "SELECT s.session_id, s.starts_at, s.expected_participants, \
    (SELECT count(DISTINCT mark) FROM presence p, unnest(p.marks) mark WHERE p.session_id = s.session_id \
     AND p.instance_id IN (SELECT instance_id FROM instances WHERE seen_at > now() - make_interval(secs => $4))) \
    FROM sessions s WHERE s.starts_at BETWEEN now() - make_interval(secs => $1) AND now() + make_interval(secs => $2) \
    AND s.state <> 'ended' AND s.expected_participants > 0 ORDER BY s.starts_at, s.session_id LIMIT $3";
/// One page, newest first, by sessions_newest. Only what an operator has to know: no token, no question, no answer.
const LIST: &str = "SELECT s.session_id, s.title, s.state, s.created_at, s.ended_at, \
    (SELECT count(*) FROM polls p WHERE p.session_id = s.session_id), \
    (SELECT coalesce(sum(t.votes), 0)::bigint FROM tallies t WHERE t.session_id = s.session_id) \
    FROM sessions s WHERE ($1::text IS NULL OR s.state = $1) \
    AND ($2::int IS NULL OR coalesce(s.ended_at, s.created_at) < now() - make_interval(days => $2)) \
    AND ($3::timestamptz IS NULL OR (s.created_at, s.session_id) < ($3, $4)) \
    ORDER BY s.created_at DESC, s.session_id DESC LIMIT $5";

/// What an instance says of its load.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its name.
    pub instance: String,
    /// Share of its processors.
    pub cpu: f64,
    /// p95 of event delivery, in seconds.
    pub delivery: f64,
}

/// A session that was announced.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Which.
    pub session: SessionId,
    /// When it is to begin.
    pub starts_at: Timestamp,
    /// Participants that its presenter expects.
    pub expected: i32,
    /// Participants that instances told each other of.
    pub present: i64,
}

/// One session in a list for operators.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which.
    pub session: SessionId,
    /// Its title.
    pub title: String,
    /// As stored.
    pub state: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many polls it has.
    pub polls: i64,
    /// How many votes were counted.
    pub votes: i64,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `scheduled`, `live` or `ended`; left out, any.
    pub state: Option<String>,
    /// Ended, or else created, more than so many days ago.
    pub older_than_days: Option<i32>,
}

impl Store {
    /// Says how busy this instance is; answers with all that said so lately.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tell_load(&self, mine: &Told) -> Result<Vec<Told>, StoreError> {
        let alive = LOAD_ALIVE.as_secs_f64();
        let rows = self.query(TELL, &[&mine.instance, &mine.cpu, &mine.delivery, &alive]).await?;
        rows.iter()
            .map(|row| {
                Ok(Told {
                    instance: column(row, 0)?,
                    cpu: column(row, 1)?,
                    delivery: column(row, 2)?,
                })
            })
            .collect()
    }

    /// Sessions that began at most `late` ago or begin within `ahead`, and expect somebody.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scheduled(
        &self,
        late: Duration,
        ahead: Duration,
        limit: i64,
    ) -> Result<Vec<Scheduled>, StoreError> {
        let (late, ahead) = (late.as_secs_f64(), ahead.as_secs_f64());
        let rows =
            self.query(SCHEDULED, &[&late, &ahead, &limit, &INSTANCE_ALIVE.as_secs_f64()]).await?;
        rows.iter()
            .map(|row| {
                Ok(Scheduled {
                    session: SessionId(column(row, 0)?),
                    starts_at: Timestamp(column(row, 1)?),
                    expected: column(row, 2)?,
                    present: column(row, 3)?,
                })
            })
            .collect()
    }

    /// One page of sessions, newest first, after the last one of the page before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<&Listed>,
        limit: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        let at = after.map(|last| last.created_at.0);
        let session = after.map(|last| last.session.0);
        let params: [super::Param<'_>; 5] =
            [&filter.state, &filter.older_than_days, &at, &session, &limit];
        let rows = self.query(LIST, &params).await?;
        rows.iter()
            .map(|row| {
                Ok(Listed {
                    session: SessionId(column(row, 0)?),
                    title: column(row, 1)?,
                    state: column(row, 2)?,
                    created_at: Timestamp(column(row, 3)?),
                    ended_at: column::<Option<time::OffsetDateTime>>(row, 4)?.map(Timestamp),
                    polls: column(row, 5)?,
                    votes: column(row, 6)?,
                })
            })
            .collect()
    }
}
