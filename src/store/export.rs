//! The votes of a session, page by page, as they stood at one event. Called by `http/export.rs`. Holds no connection and
//! no snapshot between pages, so a slow reader costs the database nothing.

use uuid::Uuid;

use super::replicas::{OldRead, old_read};
use super::rows::{answer, column, kind};
use super::{Param, Store, StoreError};
use crate::domain::{Answer, ParticipantId, PollNumber, Seq, SessionId, Timestamp, VoteId};
use crate::limits::EXPORT_PAGE;

/// Votes are never changed, so "those counted by event $2" is the same set at any later time. Each look-up stands behind
/// OFFSET 0, so that a page reads its own votes and no others, whatever the planner believes of the tables.
const PAGE: OldRead = old_read!(
    "SELECT v.poll, v.participant, v.id, v.answer, v.seq, v.at, p.kind FROM \
    (SELECT v.*, b.seq FROM votes v CROSS JOIN LATERAL \
        (SELECT b.seq FROM vote_batches b WHERE b.session_id = v.session_id AND b.batch = v.batch AND b.poll = v.poll \
         AND b.seq <= $2 OFFSET 0) b \
     WHERE v.session_id = $1 AND (v.poll, v.participant) > ($3, $4) ORDER BY v.poll, v.participant LIMIT $5) v \
    CROSS JOIN LATERAL (SELECT p.kind FROM polls p WHERE p.session_id = v.session_id AND p.n = v.poll OFFSET 0) p \
    ORDER BY v.poll, v.participant",
    "$6",
    "$7",
    "$8"
);

/// One stored vote.
#[derive(Debug)]
pub struct StoredVote {
    /// Chosen by the client.
    pub id: VoteId,
    /// In which poll.
    pub poll: PollNumber,
    /// By whom.
    pub participant: ParticipantId,
    /// What it says.
    pub answer: Answer,
    /// The event that first counted it.
    pub seq: Seq,
    /// When it was stored.
    pub at: Timestamp,
}

impl Store {
    /// The next page of the votes counted up to `upto`, after the last vote of the page before. Empty: that was all.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn votes_page(
        &self,
        session: SessionId,
        upto: Seq,
        after: Option<&StoredVote>,
    ) -> Result<Vec<StoredVote>, StoreError> {
        let (poll, participant) =
            after.map_or((0, Uuid::nil()), |vote| (vote.poll.0, vote.participant.0));
        let params: [Param<'_>; 5] = [&session.0, &upto.0, &poll, &participant, &EXPORT_PAGE];
        let rows = self.query_old(&PAGE, upto, &params).await?;
        rows.iter()
            .map(|row| {
                Ok(StoredVote {
                    poll: PollNumber(column(row, 0)?),
                    participant: ParticipantId(column(row, 1)?),
                    id: VoteId(column(row, 2)?),
                    answer: answer(kind(column(row, 6)?)?, column(row, 3)?)?,
                    seq: Seq(column(row, 4)?),
                    at: Timestamp(column(row, 5)?),
                })
            })
            .collect()
    }
}
