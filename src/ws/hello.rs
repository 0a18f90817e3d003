//! From the first message to a subscription: who it is, which session, and what they see first. Called by `connection.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::timeout;
use uuid::Uuid;

use super::edge::{CodeRefused, Edge};
use crate::auth::Token;
use crate::domain::{ParticipantId, Seq, SessionId};
use crate::feed::{After, FollowError, Subscription, Target, TargetGone, Who};
use crate::limits::CLIENT_TAKE_MAX;
use crate::outbox::{Outbox, Outlook};
use crate::ring::{Cursor, Ring};
use crate::wire::inbound::{Hello, HelloFault};
use crate::wire::{Close, frame};

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) session: SessionId,
    /// `None`: the presenter, who does not vote.
    pub(super) participant: Option<ParticipantId>,
    /// Undone when the connection ends.
    pub(super) _subscription: Subscription,
}

struct Socket<'a>(&'a Arc<Outbox>);

impl Target for Socket<'_> {
    fn send(&self, _: Option<Seq>, parts: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        self.0.preload(frame::text(&parts));
    }

    async fn ready(&self) -> Result<(), TargetGone> {
        self.0.flush();
        let taken = async {
            loop {
                match self.0.outlook() {
                    Outlook::Idle => return Ok(()),
                    Outlook::Broken(_) => return Err(TargetGone),
                    Outlook::Blocked { .. } => {
                        self.0.socket.writable().await.map_err(|_| TargetGone)?;
                        self.0.unblock();
                    }
                }
            }
        };
        timeout(CLIENT_TAKE_MAX, taken).await.unwrap_or(Err(TargetGone))
    }

    fn attach(&self, ring: Arc<Ring>, cursor: Cursor) {
        self.0.subscribe(ring, cursor);
    }

    fn socket(&self) -> Option<&Arc<Outbox>> {
        Some(self.0)
    }
}

/// Lets a client in.
///
/// # Errors
/// The close code that it gets instead; `None` where it is gone.
pub(super) async fn admit(
    edge: &Edge,
    outbox: &Arc<Outbox>,
    hello: Result<Hello, HelloFault>,
    from: IpAddr,
) -> Result<Joined, Option<Close>> {
    let hello = hello.map_err(|fault| match fault {
        HelloFault::Malformed => Close::Malformed,
        HelloFault::NoSession => {
            edge.failed_joins.count(from);
            Close::NoSession
        }
    })?;
    let (session, who, after) = identify(edge, hello, from).await?;
    let participant = match &who {
        Who::Participant { id, .. } => Some(*id),
        Who::Presenter => None,
    };
    let followed = edge.feed.follow(session, &who, after, &Socket(outbox)).await;
    let subscription = followed.map_err(|error| match error {
        FollowError::NoSession => Some(Close::NoSession),
        FollowError::Gone => None,
        FollowError::Lagging => Some(Close::Lagging),
        FollowError::Store(error) => Some(unavailable(&error)),
    })?;
    Ok(Joined { session, participant, _subscription: subscription })
}

async fn identify(
    edge: &Edge,
    hello: Hello,
    from: IpAddr,
) -> Result<(SessionId, Who, Option<After>), Close> {
    match hello {
        Hello::Code(code) => {
            let session =
                edge.session_of_code(&code, from).await.map_err(|refused| match refused {
                    CodeRefused::Unknown => Close::NoSession,
                    CodeRefused::TooMany(_) => Close::TooMany,
                    CodeRefused::Store(error) => unavailable(&error),
                })?;
            let id = ParticipantId(Uuid::now_v7());
            let token = edge.signer.participant_token(session, id);
            Ok((session, Who::Participant { id, token, new: true }, None))
        }
        Hello::Token { token, after, epoch } => {
            let after = after.map(|seq| After { seq: Seq(seq), epoch });
            match edge.read_token(&token) {
                Some(Token::Participant { session, participant: id }) => {
                    Ok((session, Who::Participant { id, token, new: false }, after))
                }
                Some(Token::Presenter { session, hash }) => {
                    match edge.is_presenter(session, &hash).await {
                        Ok(true) => Ok((session, Who::Presenter, after)),
                        Ok(false) => Err(Close::InvalidToken),
                        Err(error) => Err(unavailable(&error)),
                    }
                }
                None => Err(Close::InvalidToken),
            }
        }
    }
}

fn unavailable(error: &crate::store::StoreError) -> Close {
    tracing::warn!(error = ?error, "hello not answered");
    Close::TryLater
}
