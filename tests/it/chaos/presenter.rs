//! The presenter of one session in a fault run: opens polls of every kind, closes each in the middle of its votes, and tries
//! every call again until it succeeds. Must never give a poll to voters before it is open. Called by `crowd`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::watch;

use super::pause;
use super::stage::Stage;
use crate::support::*;

/// Polls that are open at one time.
const OPEN_MAX: usize = 8;
/// How long a poll stays open, in milliseconds.
const STAYS_MS: std::ops::Range<u64> = 800..2_400;
/// One try of a call; then another instance is asked.
const CALL_WITHIN: Duration = Duration::from_secs(6);

/// A poll that takes votes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OpenPoll {
    pub(super) n: u32,
    pub(super) options: usize,
    pub(super) rating: bool,
}

#[derive(Debug)]
pub(super) struct Presenter {
    stage: Arc<Stage>,
    session: Session,
    dice: Rng,
    polls: watch::Sender<Vec<OpenPoll>>,
}

impl Presenter {
    pub(super) fn new(
        stage: &Arc<Stage>,
        session: &Session,
        seed: u64,
        polls: watch::Sender<Vec<OpenPoll>>,
    ) -> Presenter {
        Presenter {
            stage: Arc::clone(stage),
            session: session.clone(),
            dice: Rng::with_seed(seed),
            polls,
        }
    }

    /// Opens and closes until `stop`; then closes everything, and answers with the last event's number.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) -> u64 {
        let mut open: Vec<(Instant, OpenPoll)> = Vec::new();
        while !*stop.borrow() {
            if open.len() < OPEN_MAX {
                let poll = self.open().await;
                let until = Instant::now() + Duration::from_millis(self.dice.u64(STAYS_MS));
                open.push((until, poll.clone()));
                self.polls.send_modify(|polls| polls.push(poll));
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            while let Some(at) = open.iter().position(|(until, _)| *until < Instant::now()) {
                let (_, poll) = open.remove(at);
                self.close(poll.n).await;
            }
        }
        for (_, poll) in open {
            self.close(poll.n).await;
        }
        let end = self.call("PATCH", "", json!({"title": "the end"})).await;
        end["last_seq"].as_u64().unwrap()
    }

    async fn open(&mut self) -> OpenPoll {
        let options = 2 + self.dice.usize(..4);
        let rating = self.dice.usize(..5) == 0;
        let results = ["live", "live", "after_close", "presenter"][self.dice.usize(..4)];
        let mut body = choice(options);
        if rating {
            body = json!({"kind": "rating", "question": "How much?", "max": options});
        }
        body["results"] = json!(results);
        // Tried again it may make a second draft, which nobody ever sees.
        let n = self.call("POST", "/polls", body).await["n"].as_u64().unwrap();
        self.call("POST", &format!("/polls/{n}/open"), Value::Null).await;
        OpenPoll { n: u32::try_from(n).unwrap(), options, rating }
    }

    async fn close(&mut self, n: u32) {
        self.call("POST", &format!("/polls/{n}/close"), Value::Null).await;
        self.polls.send_modify(|polls| polls.retain(|poll| poll.n != n));
    }

    /// A call that is tried on one instance after another until it succeeds.
    async fn call(&mut self, method: &str, rest: &str, body: Value) -> Value {
        let begun = Instant::now();
        loop {
            let api = Api::new(&self.stage.base(self.dice.usize(..)));
            let sent = (!body.is_null()).then_some(&body);
            let path = self.session.path(rest);
            let call = api.call(method, &path, Some(&self.session.presenter), sent);
            let answer = match tokio::time::timeout(CALL_WITHIN, call).await {
                Ok(Ok(answer)) if answer.status < 300 => return answer.json(),
                Ok(Ok(answer)) => {
                    assert_eq!(answer.status, 503, "{method} {rest}: {}", answer.text());
                    answer.text()
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            assert!(begun.elapsed().as_secs() < 90, "{method} {rest}: {answer}");
            pause(&mut self.dice, 20..200).await;
        }
    }
}
