//! What a connected client sends: votes are cast, pings answered, faults told. Never waits; everything goes to the outbox,
//! which the caller flushes once per wake. Called by `connection.rs`.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::edge::{Edge, Rules};
use super::hello::Joined;
use crate::domain::{PollNumber, Verdict, Vote, VoteId};
use crate::limits::RATE_REFUSALS_MAX;
use crate::outbox::Outbox;
use crate::vote::Answers;
use crate::wire::frame::Incoming;
use crate::wire::inbound::{self, ClientMessage, VoteMessage};
use crate::wire::{Close, Code, Fault, frame, outbound};

/// The client as the write path sees it.
pub(super) struct Client {
    pub(super) outbox: Arc<Outbox>,
    /// Votes without an answer yet.
    in_flight: AtomicUsize,
}

impl Client {
    pub(super) fn new(outbox: Arc<Outbox>) -> Arc<Self> {
        Arc::new(Self { outbox, in_flight: AtomicUsize::new(0) })
    }

    /// Every vote of this client has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) == 0
    }

    fn tell(&self, id: Option<VoteId>, fault: &Fault) {
        self.outbox.queue(text(&outbound::error(id, fault, None)));
    }
}

impl Answers for Client {
    fn answer(&self, vote: VoteId, poll: PollNumber, verdict: &Verdict) {
        let message = match verdict {
            Verdict::Accepted { seq } => outbound::ack(vote, poll, *seq, false),
            Verdict::Repeat { seq } => outbound::ack(vote, poll, *seq, true),
            other => {
                let stored = match other {
                    Verdict::AlreadyVoted { stored } => Some(stored),
                    _ => None,
                };
                let Some(fault) = Fault::of(other) else { return };
                outbound::error(Some(vote), &fault, stored)
            }
        };
        self.outbox.queue(text(&message));
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    fn flush(&self) {
        self.outbox.flush();
        self.outbox.wake.notify_one(); // somebody may wait for the last answer before closing
    }
}

/// Handles messages after the hello.
pub(super) struct Reader {
    joined: Joined,
    limiter: DefaultDirectRateLimiter,
    refusals: u32,
}

impl Reader {
    pub(super) fn new(joined: Joined, rules: &Rules) -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota =
            Quota::per_second(number(rules.message_rate)).allow_burst(number(rules.message_burst));
        Self { joined, limiter: RateLimiter::direct(quota), refusals: 0 }
    }

    /// Handles one message. Breaks with the close code that it earns, if it does.
    pub(super) fn handle(
        &mut self,
        edge: &Edge,
        client: &Arc<Client>,
        incoming: Incoming<'_>,
    ) -> ControlFlow<Option<Close>> {
        match incoming {
            Incoming::Text(bytes) => self.message(edge, client, bytes),
            Incoming::Binary => ControlFlow::Break(Some(Close::Malformed)),
            Incoming::Ping(payload) => {
                client.outbox.queue(frame::pong(payload));
                ControlFlow::Continue(())
            }
            Incoming::Pong => ControlFlow::Continue(()),
            Incoming::Close => ControlFlow::Break(Some(Close::Done)),
        }
    }

    fn message(
        &mut self,
        edge: &Edge,
        client: &Arc<Client>,
        bytes: &mut [u8],
    ) -> ControlFlow<Option<Close>> {
        let message = inbound::message(bytes);
        if let Err(refused) = self.limiter.check() {
            self.refusals += 1;
            if self.refusals > RATE_REFUSALS_MAX {
                return ControlFlow::Break(Some(Close::TooMany));
            }
            let id = match &message {
                Ok(ClientMessage::Vote(vote)) => Some(vote.id),
                Ok(ClientMessage::Ping) => None,
                Err((id, _)) => *id,
            };
            let wait = refused.wait_time_from(DefaultClock::default().now()).as_millis();
            let fault = Fault::new(Code::RateLimited, "too many messages; slow down")
                .retry_after(u64::try_from(wait).unwrap_or(1_000).max(50));
            client.tell(id, &fault);
            return ControlFlow::Continue(());
        }
        self.refusals = self.refusals.saturating_sub(1);
        match message {
            Ok(ClientMessage::Ping) => client.outbox.queue(text(outbound::PONG)),
            Ok(ClientMessage::Vote(vote)) => self.vote(edge, client, vote),
            Err((id, fault)) => client.tell(id, &fault),
        }
        ControlFlow::Continue(())
    }

    fn vote(&self, edge: &Edge, client: &Arc<Client>, vote: VoteMessage) {
        let Some(participant) = self.joined.participant else {
            let fault = Fault::new(Code::Forbidden, "a presenter does not vote");
            return client.tell(Some(vote.id), &fault);
        };
        let VoteMessage { id, poll, ballot } = vote;
        client.in_flight.fetch_add(1, Ordering::AcqRel);
        edge.votes.cast(
            Vote { session: self.joined.session, poll, participant, id, ballot },
            client.clone(),
        );
    }
}

fn text(message: &str) -> bytes::Bytes {
    frame::text(&[message.as_bytes()])
}
