//! A participant as the protocol wants one: comes back with `after` and a balancer's cookie whenever the connection ends,
//! waits as `bye` says, and sends a vote again until it has an answer. Checks `seq` and `prev` over all its connections.
//! Must never give a vote up. Called by the tests of rolling restarts and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plenum_loadtest::client::{ConnectOptions, Incoming, Socket};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Ballot, fresh_id, pick};

/// Full-jitter back-off of the protocol, its first steps.
const BACK_OFF_MS: [u64; 4] = [250, 500, 1_000, 2_000];

/// What all of them tell the test while they are at work.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Welcomed now.
    pub(crate) here: AtomicUsize,
    /// Votes acked.
    pub(crate) acked: AtomicUsize,
    /// Times that somebody came back.
    pub(crate) resumed: AtomicUsize,
    /// Attempts to connect that brought no welcome.
    pub(crate) refused: std::sync::Mutex<Vec<String>>,
}

impl Told {
    /// What went wrong when connecting, up to now.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

/// When somebody votes, and in which polls.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    polls: Vec<i64>,
    next: Instant,
    every: Duration,
}

/// One participant.
#[derive(Debug)]
pub(crate) struct Roamer {
    base: String,
    hello: Value,
    cookie: Option<String>,
    told: Arc<Told>,
    highest: i64,
    ballots: Vec<Ballot>,
    /// What was received: kind and data by `seq`.
    pub(crate) events: BTreeMap<i64, (Value, Value)>,
}

impl Roamer {
    /// Nobody yet: joins with `code` when it runs.
    pub(crate) fn new(base: &str, code: &str, told: &Arc<Told>) -> Roamer {
        Roamer {
            base: base.to_owned(),
            hello: json!({"type": "hello", "code": code}),
            cookie: None,
            told: Arc::clone(told),
            highest: 0,
            ballots: Vec::new(),
            events: BTreeMap::new(),
        }
    }

    /// Votes in every poll, the first vote after `first`, and then one `every` so often; stays until all votes are answered and
    /// the event that `last` names has come. What it did and saw.
    pub(crate) async fn run(
        mut self,
        polls: Vec<i64>,
        (first, every): (Duration, Duration),
        mut last: watch::Receiver<i64>,
    ) -> (Vec<Ballot>, Roamer) {
        let mut plan = Plan { polls, next: Instant::now() + first, every };
        plan.polls.reverse();
        let mut come = Instant::now();
        let mut failures = 0;
        loop {
            sleep_until(come).await;
            let Some(mut socket) = self.connect().await else {
                let most = BACK_OFF_MS[failures.min(BACK_OFF_MS.len() - 1)];
                failures += 1;
                come = Instant::now() + Duration::from_millis(jitter(most));
                continue;
            };
            failures = 0;
            self.told.here.fetch_add(1, Ordering::Relaxed);
            let again = self.stay(&mut socket, &mut plan, &mut last).await;
            self.told.here.fetch_sub(1, Ordering::Relaxed);
            match again {
                Some(after) => come = Instant::now() + after,
                None => return (std::mem::take(&mut self.ballots), self),
            }
        }
    }

    /// Up to the welcome; a failure is told.
    async fn connect(&mut self) -> Option<Socket> {
        let cookie = self.cookie.iter().map(|cookie| (String::from("cookie"), cookie.clone()));
        let options = ConnectOptions { headers: cookie.collect(), ..ConnectOptions::default() };
        let mut socket = match Socket::connect_with(&self.base, &options).await {
            Ok(socket) => socket,
            Err(error) => return self.refused(&error.to_string()),
        };
        self.cookie = socket.cookie.take().or(self.cookie.take());
        let _ = socket.send(&self.hello).await; // what became of it is seen below
        let welcome = match socket.recv().await {
            Ok(Incoming::Message(welcome)) if welcome["type"] == "welcome" => welcome,
            other => return self.refused(&format!("{other:?}")),
        };
        if self.hello["token"].is_string() {
            assert_eq!(welcome["resumed"], true, "{welcome}");
            assert_eq!(welcome["seq"], self.highest, "{welcome}");
            assert_eq!(welcome["participant"]["token"], self.hello["token"]);
            self.told.resumed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.highest = welcome["seq"].as_i64().unwrap();
            let token = &welcome["participant"]["token"];
            self.hello = json!({"type": "hello", "token": token, "epoch": welcome["epoch"]});
            self.hello["id"] = welcome["participant"]["id"].clone();
        }
        Some(socket)
    }

    fn refused(&mut self, why: &str) -> Option<Socket> {
        self.told.refused.lock().unwrap().push(why.to_owned());
        None
    }

    /// Until the connection ends, or all is done. After how long to come back, if so.
    async fn stay(
        &mut self,
        socket: &mut Socket,
        plan: &mut Plan,
        last: &mut watch::Receiver<i64>,
    ) -> Option<Duration> {
        for ballot in self.ballots.iter().filter(|ballot| !ballot.is_acked()) {
            let _ = socket.send(&vote(ballot)).await; // a dead socket shows in the next read
        }
        let mut leave: Option<Instant> = None;
        loop {
            let done = plan.polls.is_empty() && self.ballots.iter().all(Ballot::is_acked);
            if done && *last.borrow_and_update() > 0 && self.highest >= *last.borrow() {
                return None;
            }
            tokio::select! {
                incoming = socket.recv() => match incoming.unwrap() {
                    Incoming::Message(message) if message["type"] == "bye" => {
                        let after = message["reconnect_after_ms"].as_u64().unwrap();
                        leave = Some(Instant::now() + Duration::from_millis(after));
                    }
                    Incoming::Message(message) => self.take(&message),
                    Incoming::Closed { .. } => {
                        self.hello["after"] = json!(self.highest);
                        let told = leave.map(|at| at.saturating_duration_since(Instant::now()));
                        return Some(told.unwrap_or(Duration::from_millis(jitter(BACK_OFF_MS[0]))));
                    }
                },
                () = sleep_until(plan.next), if !plan.polls.is_empty() => {
                    plan.next += plan.every;
                    let ballot = self.ballot(plan.polls.pop().unwrap());
                    let _ = socket.send(&vote(&ballot)).await;
                    self.ballots.push(ballot);
                }
                _ = last.changed(), if done => {}
            }
        }
    }

    fn ballot(&self, poll: i64) -> Ballot {
        let text = |name: &str| self.hello[name].as_str().unwrap().to_owned();
        Ballot {
            id: fresh_id(),
            poll,
            participant: text("id"),
            token: text("token"),
            option: usize::from(poll % 2 == 0),
            answer: Value::Null,
        }
    }

    fn take(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "event" => {
                let (seq, prev) =
                    (message["seq"].as_i64().unwrap(), message["prev"].as_i64().unwrap());
                assert!(seq > self.highest, "seq {seq} after {}", self.highest);
                assert!(prev <= self.highest, "a hole: prev {prev} after {}", self.highest);
                self.highest = seq;
                self.events.insert(seq, (message["kind"].clone(), message["data"].clone()));
            }
            "ack" => {
                let of = self.ballots.iter_mut().find(|ballot| message["id"] == ballot.id.as_str());
                of.unwrap().answer = message.clone();
                self.told.acked.fetch_add(1, Ordering::Relaxed);
            }
            // Sent again with the next connection, which a draining instance makes necessary soon.
            "error" => assert_eq!(message["code"], "draining", "refused for good: {message}"),
            _ => {}
        }
    }
}

fn vote(ballot: &Ballot) -> Value {
    json!({"type": "vote", "id": ballot.id, "poll": ballot.poll, "answer": pick(ballot.option)})
}

fn jitter(most: u64) -> u64 {
    let drawn = uuid::Uuid::new_v4().as_u64_pair().1;
    drawn % most
}
