//! A client begins to follow a session: welcome, then what it missed, then what comes, without a hole and without a double.
//!
//! ```text
//! head of the database ─► the live state reaches it ─► welcome ─► the log, page by page ─► the ring goes on from there
//! ```
//! Whatever is published meanwhile stays in the ring. Never holds a lock over a wait; never lets a replay trip the limit
//! of a slow reader, since it waits for the client between pages. Called by `ws/connection.rs` and `http/stream.rs`.

use std::sync::Arc;

use tokio::time::timeout;

use super::Feed;
use super::hub::Seat;
use super::watched::{Beginning, Watched};
use crate::domain::{Audience, ParticipantId, Poll, Seq, SessionId};
use crate::limits::{
    CATCH_UP_WAIT_MAX, QUERY_WAIT_MAX, REPLAY_BYTES_UNREAD, REPLAY_PAGE_MAX, REPLAY_ROUNDS_MAX,
};
use crate::mutation::mutation;
use crate::outbox::Outbox;
use crate::ring::{Cursor, Ring};
use crate::store::StoreError;
use crate::store::history::Evidence;
use crate::wire::outbound;

/// Where messages go: a WebSocket or an SSE stream.
pub trait Target: Sync {
    /// Takes one message, in parts; `seq` where it is an event.
    fn send(&self, seq: Option<Seq>, parts: &[&str]);
    /// Waits until what was sent is on its way, so that no more waits than a page. Cancel safe.
    fn ready(&self) -> impl Future<Output = Result<(), TargetGone>> + Send;
    /// Goes on with what is in `ring` from `cursor`.
    fn attach(&self, ring: Arc<Ring>, cursor: Cursor);
    /// The socket that the fan-out writes to; `None` for a stream that reads its ring by itself.
    fn socket(&self) -> Option<&Arc<Outbox>>;
}

/// The client is gone or does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetGone;

/// Who begins to follow.
#[derive(Clone, Debug)]
pub enum Who {
    /// The presenter.
    Presenter,
    /// A participant with their token.
    Participant {
        /// Who.
        id: ParticipantId,
        /// To come back with.
        token: String,
        /// Joined a moment ago: has no votes.
        new: bool,
    },
}

/// Where a client was when it left.
#[derive(Clone, Debug)]
pub struct After {
    /// The highest event seen.
    pub seq: Seq,
    /// In which history; left out, in this one.
    pub epoch: Option<String>,
}

/// Why a client cannot follow.
#[derive(Debug)]
pub enum FollowError {
    /// There is no such session.
    NoSession,
    /// The client is gone, or does not read.
    Gone,
    /// Live events keep overtaking the replay.
    Lagging,
    /// The database does not answer.
    Store(StoreError),
}

impl From<StoreError> for FollowError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TargetGone> for FollowError {
    fn from(_: TargetGone) -> Self {
        Self::Gone
    }
}

impl Who {
    /// What they may see.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Presenter => Audience::Presenters,
            Self::Participant { .. } => Audience::Participants,
        }
    }

    fn participant(&self) -> Option<ParticipantId> {
        match self {
            Self::Presenter => None,
            Self::Participant { id, .. } => Some(*id),
        }
    }
}

/// A client follows a session as long as this lives.
#[derive(Debug)]
pub struct Subscription {
    watched: Arc<Watched>,
    audience: Audience,
    participant: Option<ParticipantId>,
    seat: Option<Seat>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            self.watched.channel(self.audience).members.remove(seat);
        }
        self.watched.leave(self.participant);
    }
}

impl Feed {
    /// Welcomes a client and has it follow the session. Cancel safe: dropped, the client follows nothing.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub async fn follow<T: Target>(
        &self,
        session: SessionId,
        who: &Who,
        after: Option<After>,
        target: &T,
    ) -> Result<Subscription, FollowError> {
        let resumed = match after {
            Some(after) => self.resumable(session, &after).await?,
            None => None,
        };
        let drafts = match who {
            Who::Presenter => self.0.store.polls(session, true).await?,
            Who::Participant { .. } => Vec::new(),
        };
        let (mut subscription, beginning) = self.enter(session, who, &drafts).await?;
        // Read after the state was taken, so that it has every vote that the state counts.
        let my_votes = match who {
            Who::Presenter => None,
            Who::Participant { new: true, .. } => Some(String::from("{}")),
            Who::Participant { id, .. } => {
                Some(outbound::my_votes(&self.0.store.my_votes(session, *id).await?))
            }
        };
        let me = match who {
            Who::Presenter => None,
            Who::Participant { id, token, .. } => Some((id, token.as_str())),
        };
        if resumed.is_some()
            && (self.is_over(&subscription.watched) || resumed > Some(beginning.seq))
        {
            return Err(FollowError::Lagging); // another history began meanwhile
        }
        let seq = resumed.unwrap_or(beginning.seq);
        let head = outbound::welcome_head(seq, resumed.is_some(), me, my_votes.as_deref());
        target.send(None, &[&head, &beginning.state, "}"]);
        if resumed.is_some() {
            target.ready().await?;
        }
        let cursor = match resumed {
            None => beginning.cursor,
            Some(from) => self.replay(&subscription, from, target).await?,
        };
        let channel = subscription.watched.channel(subscription.audience);
        target.attach(channel.ring.clone(), cursor);
        if let Some(outbox) = target.socket() {
            subscription.seat = Some(channel.members.add(outbox.clone()));
            outbox.flush(); // what was published in between
        }
        Ok(subscription)
    }

    /// From where a client can go on; `None` where the state has to stand in for the history. When this returns, the live
    /// state holds what the database held.
    async fn resumable(
        &self,
        session: SessionId,
        after: &After,
    ) -> Result<Option<Seq>, FollowError> {
        let watched = self.watch(session).await?.ok_or(FollowError::NoSession)?;
        let read = async || Ok::<_, StoreError>(self.0.store.head(session).await?.map(Arc::new));
        let head = timeout(QUERY_WAIT_MAX, watched.head.get(read)).await;
        let head = head.unwrap_or(Err(StoreError::TimedOut))?.ok_or(FollowError::NoSession)?;
        if *watched.epoch != *head.epoch {
            // One of the two reads is of a history that is over.
            self.0.store.settle(Evidence::None).await?;
            return Err(FollowError::Lagging);
        }
        mutation!("welcome_from_behind", return Ok(Some(after.seq)));
        if watched.seq() < head.last {
            self.0.hurry.notify_one();
            let reached = timeout(CATCH_UP_WAIT_MAX, watched.reach(head.last)).await;
            reached.map_err(|_| FollowError::Store(StoreError::TimedOut))?;
        }
        let same_history = after.epoch.as_deref().is_none_or(|epoch| epoch == head.epoch);
        let kept = after.seq <= head.last && after.seq.next() >= head.oldest;
        let resumed = (same_history && kept).then_some(after.seq);
        let label = if resumed.is_some() { "true" } else { "false" };
        self.0.metrics.resumed.of(label).inc();
        Ok(resumed)
    }

    async fn enter(
        &self,
        session: SessionId,
        who: &Who,
        drafts: &[Poll],
    ) -> Result<(Subscription, Beginning), FollowError> {
        let (audience, participant) = (who.audience(), who.participant());
        loop {
            let watched = self.watch(session).await?.ok_or(FollowError::NoSession)?;
            if watched.enter(participant) {
                let join_url = self.join_url(&watched.code());
                let begun = watched.begin(audience, drafts, &join_url);
                let subscription = Subscription { watched, audience, participant, seat: None };
                if let Some(beginning) = begun {
                    return Ok((subscription, beginning));
                }
            } else {
                self.forget(&watched);
            }
        }
    }

    /// Sends what the client missed, until the ring can go on.
    async fn replay<T: Target>(
        &self,
        subscription: &Subscription,
        mut from: Seq,
        target: &T,
    ) -> Result<Cursor, FollowError> {
        let Subscription { watched, audience, .. } = subscription;
        let (mut prev, mut read) = (from, 0);
        for round in 0..REPLAY_ROUNDS_MAX {
            let (upto, newest) = match watched.splice(*audience, from) {
                Ok(cursor) => {
                    let metrics = &self.0.metrics;
                    metrics.replays.of(if round == 0 { "ring" } else { "log" }).inc();
                    metrics.replay_events.observe(read as f64);
                    return Ok(cursor);
                }
                Err(missing) => missing,
            };
            let events = self.0.store.replay(watched.id, from, upto, &newest).await?;
            if self.is_over(watched) {
                return Err(FollowError::Lagging); // so may be what was read
            }
            read += events.len();
            let mut unread = 0;
            for event in &events {
                if let Some(text) = outbound::event(event, prev, *audience) {
                    target.send(Some(event.seq), &[&text]);
                    prev = event.seq;
                    unread += text.len();
                }
                if unread > REPLAY_BYTES_UNREAD {
                    target.ready().await?;
                    unread = 0;
                }
            }
            let full = i64::try_from(events.len()).is_ok_and(|count| count >= REPLAY_PAGE_MAX);
            from = match events.last() {
                Some(last) if full => last.seq,
                _ => upto,
            };
            target.ready().await?;
            mutation!("replay_without_splice", {
                let next = watched.channel(*audience).ring.head();
                return Ok(Cursor::new(next, from, next));
            });
        }
        Err(FollowError::Lagging)
    }
}
