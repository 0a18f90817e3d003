//! What instances tell each other: heartbeats and who is present where. Called by `cluster` and `feed/presence.rs`.

use uuid::Uuid;

use super::rows::column;
use super::{Store, StoreError};
use crate::domain::SessionId;
use crate::limits::{INSTANCE_ALIVE, INSTANCE_FORGOTTEN};

const HEARTBEAT: &str = "SELECT instance_id, connections, capacity, state, lag_ms \
    FROM heartbeat($1, $2, $3, $4, $5, make_interval(secs => $6))";
const FORGET: &str = "SELECT forget_instances($1, make_interval(secs => $2))";
const TELL: &str = "SELECT tell_presence($1, $2, $3)";
const TOLD: &str = "SELECT session_id FROM presence WHERE instance_id = $1";
const PRESENT: &str = "SELECT session_id, count(DISTINCT mark) FROM presence p, unnest(p.marks) mark \
    WHERE session_id = ANY($1) AND instance_id = ANY($2) GROUP BY 1";
const ELSEWHERE: &str = "SELECT session_id, marks FROM presence \
    WHERE session_id = ANY($1) AND instance_id = ANY($2)";

/// One instance, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub id: String,
    /// Open streams.
    pub connections: i32,
    /// Participants that it is meant for.
    pub capacity: i32,
    /// `serving` or `draining`.
    pub state: String,
    /// How far its live state was behind the log when it last looked, in milliseconds.
    pub lag_ms: i32,
}

impl Store {
    /// Says that this instance lives; answers with all that do, this one too.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn heartbeat(&self, me: &Instance) -> Result<Vec<Instance>, StoreError> {
        let alive = INSTANCE_ALIVE.as_secs_f64();
        let rows = self
            .query(
                HEARTBEAT,
                &[&me.id, &me.connections, &me.capacity, &me.state, &me.lag_ms, &alive],
            )
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Instance {
                    id: column(row, 0)?,
                    connections: column(row, 1)?,
                    capacity: column(row, 2)?,
                    state: column(row, 3)?,
                    lag_ms: column(row, 4)?,
                })
            })
            .collect()
    }

    /// Forgets an instance, and those that were not seen for long.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn forget_instances(&self, instance: &str) -> Result<(), StoreError> {
        self.query(FORGET, &[&instance, &INSTANCE_FORGOTTEN.as_secs_f64()]).await.map(|_| ())
    }

    /// Says who is present on this instance: marks per session, none where only presenters are; `None` where nobody is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tell_presence(
        &self,
        instance: &str,
        told: &[(SessionId, Option<Vec<i64>>)],
    ) -> Result<(), StoreError> {
        let sessions: Vec<Uuid> = told.iter().map(|(session, _)| session.0).collect();
        let literal = |marks: &Vec<i64>| {
            let list: Vec<String> = marks.iter().map(i64::to_string).collect();
            format!("{{{}}}", list.join(","))
        };
        let marks: Vec<Option<String>> =
            told.iter().map(|(_, marks)| marks.as_ref().map(literal)).collect();
        self.query(TELL, &[&instance, &sessions, &marks]).await.map(|_| ())
    }

    /// Where somebody is present on this instance, as far as the others were told.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn presence_told(&self, instance: &str) -> Result<Vec<SessionId>, StoreError> {
        let rows = self.query(TOLD, &[&instance]).await?;
        rows.iter().map(|row| Ok(SessionId(column(row, 0)?))).collect()
    }

    /// How many distinct participants are present on the `others`, in each of these sessions that has any.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn present(
        &self,
        sessions: &[SessionId],
        others: &[String],
    ) -> Result<Vec<(SessionId, usize)>, StoreError> {
        let sessions: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let rows = self.query(PRESENT, &[&sessions, &others]).await?;
        rows.iter()
            .map(|row| {
                let count = usize::try_from(column::<i64>(row, 1)?).unwrap_or(0);
                Ok((SessionId(column(row, 0)?), count))
            })
            .collect()
    }

    /// Who is present on the `others`, in those of these sessions that anybody follows there.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn presence_of(
        &self,
        sessions: &[SessionId],
        others: &[String],
    ) -> Result<Vec<(SessionId, Vec<i64>)>, StoreError> {
        let sessions: Vec<Uuid> = sessions.iter().map(|session| session.0).collect();
        let rows = self.query(ELSEWHERE, &[&sessions, &others]).await?;
        rows.iter().map(|row| Ok((SessionId(column(row, 0)?), column(row, 1)?))).collect()
    }
}
