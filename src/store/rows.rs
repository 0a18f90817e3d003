//! Columns into the domain. Every reader says what it expected when a column is not so.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::StoreError;
use crate::domain::{Answer, EventKind, LoggedEvent, PollKind, Seq, SessionId, Timestamp};

pub(super) fn column<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T, StoreError> {
    row.try_get(at).map_err(|_| StoreError::Content("a column is missing or of another type"))
}

/// Parses JSON that `sql/functions/10_json.sql` made.
pub(super) fn shape<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::Content("JSON of another shape"))
}

/// An event from six columns: session, seq, at, kind, `results_hidden`, data as text.
pub(super) fn event(row: &Row, first: usize) -> Result<LoggedEvent, StoreError> {
    let kind: &str = column(row, first + 3)?;
    let data: &str = column(row, first + 5)?;
    Ok(LoggedEvent {
        session: SessionId(column::<Uuid>(row, first)?),
        seq: Seq(column(row, first + 1)?),
        at: Timestamp(column(row, first + 2)?),
        kind: EventKind::parse(kind).ok_or(StoreError::Content("an unknown kind of event"))?,
        results_hidden: column(row, first + 4)?,
        data: data.into(),
    })
}

/// A stored answer.
pub(super) fn answer(kind: PollKind, stored: Vec<i16>) -> Result<Answer, StoreError> {
    match (kind, stored.first()) {
        (PollKind::Choice, Some(_)) => Ok(Answer::Choices(stored)),
        (PollKind::Rating, Some(step)) => Ok(Answer::Rating(*step)),
        _ => Err(StoreError::Content("an empty answer")),
    }
}

/// `choice` or `rating`.
pub(super) fn kind(text: &str) -> Result<PollKind, StoreError> {
    match text {
        "choice" => Ok(PollKind::Choice),
        "rating" => Ok(PollKind::Rating),
        _ => Err(StoreError::Content("an unknown kind of poll")),
    }
}
