//! A vote by REST: the same road as over WebSocket, with one answer. Called by `router.rs`.

use std::sync::Arc;

use hyper::Request;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::respond::{self, Answered};
use super::{body, token};
use crate::domain::{PollNumber, SessionId, Verdict, Vote, VoteId};
use crate::vote::Answers;
use crate::wire::inbound::{self, VoteMessage};
use crate::wire::json::Object;
use crate::wire::{Code, Fault, outbound};
use crate::ws::Edge;

/// Hands the one verdict over.
struct Once(Mutex<Option<oneshot::Sender<Verdict>>>);

impl Answers for Once {
    fn answer(&self, _: VoteId, _: PollNumber, verdict: &Verdict) {
        if let Some(to) = self.0.lock().take() {
            let _ = to.send(verdict.clone()); // the caller may have hung up
        }
    }

    fn flush(&self) {}
}

pub(super) async fn cast(
    edge: &Edge,
    request: &mut Request<Incoming>,
    session: SessionId,
) -> Answered {
    let participant = token::participant(edge, request.headers(), session).await?;
    let mut body = body::read(request).await?;
    let vote = inbound::vote(&Object::parse(&mut body)?).map_err(|(_, fault)| fault)?;
    let VoteMessage { id, poll, ballot } = vote;
    let (to, verdict) = oneshot::channel();
    edge.votes.cast(
        Vote { session, poll, participant, id, ballot },
        Arc::new(Once(Mutex::new(Some(to)))),
    );
    // Every vote is answered; should that promise break, the outcome is unknown.
    let verdict = verdict.await.unwrap_or(Verdict::DatabaseUnavailable);
    Ok(match &verdict {
        Verdict::Accepted { seq } => respond::json(201, outbound::ack(id, poll, *seq, false)),
        Verdict::Repeat { seq } => respond::json(200, outbound::ack(id, poll, *seq, true)),
        other => {
            let stored = match other {
                Verdict::AlreadyVoted { stored } => Some(stored),
                _ => None,
            };
            let fault = Fault::of(other).unwrap_or_else(|| {
                Fault::new(Code::DatabaseUnavailable, "send it again with the same id")
            });
            respond::problem(&fault, stored)
        }
    })
}
