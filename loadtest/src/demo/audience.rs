//! The participants of the demonstration: they join together, vote at moments of their own, and
//! stay until they see the poll close.
//! Must never count a vote that was not acked. Called by `demo`.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::DemoArguments;
use crate::failure::Failure;
use crate::message::{Message, Results};
use crate::participant::{Participant, Place};

/// How popular the options are: a clear winner makes bars worth watching.
const WEIGHTS: [u32; 4] = [23, 46, 22, 9];
/// Joins under way at a time; below any listen backlog.
const JOINING_AT_ONCE: usize = 64;
/// A server that says `overloaded` without a time is asked again after this long.
const DEFAULT_RETRY: u64 = 250;

/// What one participant saw.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) participant: String,
    pub(super) vote: String,
    pub(super) choice: usize,
    /// The `seq` of the ack; `None` where none came.
    pub(super) acked: Option<u64>,
    /// The code of a final refusal.
    pub(super) refused: Option<String>,
    /// The results in the `poll.closed` that this participant received.
    pub(super) closed: Option<Results>,
    pub(super) returns: u32,
}

/// All participants, joined.
#[derive(Debug)]
pub(super) struct Audience {
    poll: u32,
    joined: Vec<Participant>,
    voting: JoinSet<Result<Outcome, Failure>>,
}

impl Audience {
    /// Brings everyone in, a bounded number at a time.
    pub(super) async fn join(
        arguments: &DemoArguments,
        url: &str,
        code: &str,
        poll: u32,
    ) -> Result<Audience, Failure> {
        let mut joined = Vec::new();
        let mut joining = JoinSet::new();
        for _ in 0..arguments.participants {
            let (place, code) = (Place::at(url), code.to_owned());
            joining.spawn(async move { Participant::join(place, &code).await });
            if joining.len() >= JOINING_AT_ONCE
                && let Some(one) = joining.join_next().await
            {
                joined.push(finished(one)?);
            }
        }
        while let Some(one) = joining.join_next().await {
            joined.push(finished(one)?);
        }
        Ok(Audience { poll, joined, voting: JoinSet::new() })
    }

    /// Lets everyone vote at a moment of their own within `spread`; each ack is told on `acks`.
    pub(super) fn vote(&mut self, spread: Duration, seed: u64, acks: &mpsc::Sender<()>) {
        let mut random = fastrand::Rng::with_seed(seed);
        let begin = Instant::now();
        for participant in self.joined.drain(..) {
            // The mean of two draws: few at the ends, most in the middle, as people are.
            let moment = f64::midpoint(random.f64(), random.f64());
            let voter = Voter {
                participant,
                poll: self.poll,
                // Not seeded: an id names one vote for ever, on whatever server.
                vote: uuid::Uuid::new_v4().to_string(),
                choice: weighted(&mut random, &WEIGHTS),
                at: begin + spread.mul_f64(moment),
                acks: acks.clone(),
            };
            self.voting.spawn(voter.run());
        }
    }

    /// Waits until everyone saw the poll close; who did not in time counts as failed.
    pub(super) async fn finish(mut self, within: Duration) -> Vec<Result<Outcome, Failure>> {
        let mut outcomes = Vec::new();
        let all = async {
            while let Some(one) = self.voting.join_next().await {
                outcomes.push(finished(one));
            }
        };
        let late = timeout(within, all).await.is_err();
        if late {
            let missing = self.voting.len();
            outcomes.push(Err(Failure::told(format!("{missing} never saw the poll close"))));
        }
        outcomes
    }
}

fn finished<T>(one: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    one.unwrap_or_else(|error| Err(Failure::told(format!("a task of this program: {error}"))))
}

/// One participant with a vote in mind.
struct Voter {
    participant: Participant,
    poll: u32,
    vote: String,
    choice: usize,
    at: Instant,
    acks: mpsc::Sender<()>,
}

impl Voter {
    /// Votes once, again with the same id where the answer did not come or said to try again,
    /// and stays until the poll closes.
    async fn run(mut self) -> Result<Outcome, Failure> {
        let ballot = json!({
            "type": "vote", "id": self.vote, "poll": self.poll, "answer": { "choices": [self.choice] }
        })
        .to_string();
        let mut outcome = Outcome {
            participant: self.participant.id.clone(),
            vote: self.vote,
            choice: self.choice,
            acked: None,
            refused: None,
            closed: None,
            returns: 0,
        };
        let mut send_at = Some(self.at);
        while outcome.closed.is_none() {
            tokio::select! {
                () = sleep_until(send_at.unwrap_or(self.at)), if send_at.is_some() => {
                    send_at = None;
                    self.participant.send(&ballot).await;
                }
                text = self.participant.next() => match text? {
                    Some(text) => {
                        let again = take_in(&text, &mut self.participant, &mut outcome)?;
                        send_at = again.map(|wait| Instant::now() + wait).or(send_at);
                        if is_ack(&text) {
                            // The receiver ends early only when the demonstration gives up.
                            let _ = self.acks.send(()).await;
                        }
                    }
                    None => {
                        self.participant.come_back().await?;
                        if outcome.acked.is_none() && outcome.refused.is_none() {
                            send_at = Some(self.at.max(Instant::now()));
                        }
                    }
                },
            }
        }
        outcome.returns = self.participant.returns;
        self.participant.leave().await;
        Ok(outcome)
    }
}

fn is_ack(text: &[u8]) -> bool {
    Message::parse(text).is_ok_and(|message| message.name == "ack")
}

/// Applies one message; returns how long to wait before voting again, where that was asked for.
fn take_in(
    text: &[u8],
    participant: &mut Participant,
    outcome: &mut Outcome,
) -> Result<Option<Duration>, Failure> {
    let message = Message::parse(text)?;
    match message.name {
        "event" => {
            participant.note(&message)?;
            if message.is_event("poll.closed") {
                let results = message.results();
                outcome.closed =
                    Some(results.ok_or_else(|| Failure::told("poll.closed without results"))?);
            }
        }
        "ack" if message.id == Some(&outcome.vote) => {
            if outcome.acked.is_some() && message.seq != outcome.acked {
                return Err(Failure::told("two acks of one vote differ"));
            }
            outcome.acked = message.seq;
        }
        "ack" => return Err(Failure::told("an ack of somebody else's vote")),
        "error" => {
            let code = message.code.unwrap_or_default();
            if matches!(code, "overloaded" | "draining" | "database_unavailable" | "rate_limited") {
                let wait = message.retry_after_ms.unwrap_or(DEFAULT_RETRY);
                return Ok(Some(Duration::from_millis(wait)));
            }
            outcome.refused = Some(code.to_owned());
        }
        _ => {}
    }
    Ok(None)
}

/// An index of `weights`, each as likely as its weight.
fn weighted(random: &mut fastrand::Rng, weights: &[u32]) -> usize {
    let mut left = random.u32(..weights.iter().sum::<u32>());
    let chosen = weights.iter().position(|weight| {
        let is_here = left < *weight;
        left = left.saturating_sub(*weight);
        is_here
    });
    chosen.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_roughly() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            counts[weighted(&mut random, &[60, 30, 10])] += 1;
        }
        assert!(counts[0].abs_diff(6_000) < 300 && counts[2].abs_diff(1_000) < 200, "{counts:?}");
    }
}
