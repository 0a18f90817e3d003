//! Batches of votes: arrays in, verdicts and events out, in one statement that is one transaction. Called by
//! `vote/commit.rs`, on a connection that no one else uses.

use std::sync::Arc;

use tokio::time::timeout;
use tokio_postgres::Row;
use uuid::Uuid;

use super::connection::{Database, Link};
use super::rows::column;
use super::{Param, StoreError};
use crate::domain::{
    Answer, Ballot, EventKind, LoggedEvent, PollNumber, Seq, SessionId, Timestamp, Verdict, Vote,
};
use crate::drain::Drain;
use crate::limits::COMMIT_WAIT_MAX;
use crate::mutation::mutation;

const CAST: &str = "SELECT verdicts, seqs, stored, event_at, event_session, event_seq, event_poll, event_hidden, event_data \
    FROM cast_votes($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The function's statements look everything up by whole keys, so a plan made for its actual arrays is never better; left
/// to itself PostgreSQL plans some of them anew for each batch, a third of the time of a small one.
const GENERIC_PLANS: &str = "-c plan_cache_mode=force_generic_plan";

/// What became of a batch, once it is committed.
#[derive(Debug)]
pub struct Committed {
    /// One per vote, in the order given.
    pub verdicts: Vec<Verdict>,
    /// The events that count them: one per poll touched.
    pub events: Vec<LoggedEvent>,
}

/// A connection that writes votes. Never cancels a statement: a cancel that arrives in the wait for the standby would
/// turn "not replicated" into success.
#[derive(Debug)]
pub struct VoteLink(Link);

/// The votes of a batch as the columns that the function takes.
#[derive(Default)]
struct Columns {
    sessions: Vec<Uuid>,
    polls: Vec<i32>,
    participants: Vec<Uuid>,
    ids: Vec<Uuid>,
    kinds: Vec<i16>,
    tops: Vec<i16>,
    widths: Vec<i16>,
    answers: Vec<String>,
}

impl VoteLink {
    /// Connects.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn connect(database: &Database, drain: &Drain) -> Result<Self, StoreError> {
        let mut link = Link::connect(&database.with_options(GENERIC_PLANS), drain).await?;
        timeout(COMMIT_WAIT_MAX, link.prepared(CAST)).await.map_err(|_| StoreError::TimedOut)??;
        Ok(Self(link))
    }

    /// Whether the connection is known to be gone, or leads to a server that another has taken over from.
    #[must_use]
    pub fn is_over(&self, database: &Database) -> bool {
        self.0.client.is_closed() || self.0.is_stale(database)
    }

    /// Stores a batch. `batch` names it: a retry with the same name finds its own votes and calls them accepted.
    ///
    /// Not cancel safe: after any error but a rolled-back one the outcome is unknown, and the connection must be dropped.
    ///
    /// # Errors
    /// See [`StoreError`]. [`StoreError::NotReplicated`] where the standby was not waited for.
    pub async fn cast(&mut self, batch: Uuid, votes: &[Vote]) -> Result<Committed, StoreError> {
        let c = Columns::of(votes);
        let statement = self.0.prepared(CAST).await?;
        // query waits for ReadyForQuery, which the server sends after the commit.
        let params: [Param<'_>; 9] = [
            &batch,
            &c.sessions,
            &c.polls,
            &c.participants,
            &c.ids,
            &c.kinds,
            &c.tops,
            &c.widths,
            &c.answers,
        ];
        let call = self.0.client.query(&statement, &params);
        let rows = timeout(COMMIT_WAIT_MAX, call).await.map_err(|_| StoreError::TimedOut)??;
        mutation!("warning_is_success", let _ = self.0.take_not_replicated(););
        if self.0.take_not_replicated() {
            return Err(StoreError::NotReplicated);
        }
        let [row] = rows.as_slice() else {
            return Err(StoreError::Content("a batch without its row"));
        };
        let (events, polls) = events(row)?;
        let verdicts = verdicts(row, votes, &events, &polls)?;
        if verdicts.len() == votes.len() {
            Ok(Committed { verdicts, events })
        } else {
            Err(StoreError::Content("not one verdict per vote"))
        }
    }
}

impl Columns {
    fn of(votes: &[Vote]) -> Self {
        let mut columns = Self::default();
        for vote in votes {
            let (kind, top, width, answer) = match &vote.ballot {
                Ballot::Answer(Answer::Choices(options)) => {
                    let list: Vec<String> = options.iter().map(i16::to_string).collect();
                    let width = i16::try_from(options.len()).unwrap_or(i16::MAX);
                    (
                        0,
                        options.iter().copied().max().unwrap_or(i16::MAX),
                        width,
                        format!("{{{}}}", list.join(",")),
                    )
                }
                Ballot::Answer(Answer::Rating(step)) => (1, step - 1, 1, format!("{{{step}}}")),
                Ballot::Unfit => (2, 0, 0, String::from("{}")),
            };
            columns.sessions.push(vote.session.0);
            columns.polls.push(vote.poll.0);
            columns.participants.push(vote.participant.0);
            columns.ids.push(vote.id.0);
            columns.kinds.push(kind);
            columns.tops.push(top);
            columns.widths.push(width);
            columns.answers.push(answer);
        }
        columns
    }
}

fn events(row: &Row) -> Result<(Vec<LoggedEvent>, Vec<PollNumber>), StoreError> {
    let Some(at) = column::<Option<time::OffsetDateTime>>(row, 3)? else {
        return Ok((Vec::new(), Vec::new()));
    };
    let sessions: Vec<Uuid> = column(row, 4)?;
    let seqs: Vec<i64> = column(row, 5)?;
    let polls: Vec<i32> = column(row, 6)?;
    let hidden: Vec<bool> = column(row, 7)?;
    let data: Vec<String> = column(row, 8)?;
    let events = sessions
        .into_iter()
        .zip(seqs)
        .zip(hidden.into_iter().zip(data))
        .map(|((session, seq), (results_hidden, data))| LoggedEvent {
            session: SessionId(session),
            seq: Seq(seq),
            at: Timestamp(at),
            kind: EventKind::PollResults,
            results_hidden,
            data: Arc::from(data),
        })
        .collect();
    Ok((events, polls.into_iter().map(PollNumber).collect()))
}

fn verdicts(
    row: &Row,
    votes: &[Vote],
    events: &[LoggedEvent],
    polls: &[PollNumber],
) -> Result<Vec<Verdict>, StoreError> {
    let Some(codes) = column::<Option<Vec<i16>>>(row, 0)? else {
        // Every vote was accepted: the seq of each is that of its poll's event.
        let seqs: std::collections::HashMap<_, _> = events
            .iter()
            .zip(polls)
            .map(|(event, poll)| ((event.session, *poll), event.seq))
            .collect();
        return votes
            .iter()
            .map(|vote| {
                seqs.get(&(vote.session, vote.poll)).map(|seq| Verdict::Accepted { seq: *seq })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or(StoreError::Content("an accepted vote without its event"));
    };
    let seqs: Vec<Option<i64>> = column(row, 1)?;
    let stored: Vec<Option<String>> = column(row, 2)?;
    codes
        .into_iter()
        .zip(seqs.into_iter().zip(stored))
        .map(|(code, (seq, stored))| verdict(code, seq, stored.as_deref()))
        .collect::<Option<Vec<_>>>()
        .ok_or(StoreError::Content("an unknown verdict"))
}

fn verdict(code: i16, seq: Option<i64>, stored: Option<&str>) -> Option<Verdict> {
    Some(match code {
        0 => Verdict::Accepted { seq: Seq(seq?) },
        1 => Verdict::Repeat { seq: Seq(seq?) },
        2 => Verdict::AlreadyVoted { stored: stored_answer(stored?)? },
        3 => Verdict::PollClosed,
        4 => Verdict::SessionEnded,
        5 => Verdict::NotFound,
        6 => Verdict::Unprocessable,
        _ => return None,
    })
}

/// Reads `kind:{…}`, as the function writes a stored answer.
fn stored_answer(text: &str) -> Option<Answer> {
    let (kind, list) = text.split_once(':')?;
    let list = list.strip_prefix('{')?.strip_suffix('}')?;
    let options: Vec<i16> = list.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    super::rows::answer(super::rows::kind(kind).ok()?, options).ok()
}
