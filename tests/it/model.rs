//! Properties: whatever a session goes through, a model of twenty lines agrees with the server.
//! Fold = recount, replay + live = log, and conflation loses nothing but superseded results.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::*;

const POLLS: usize = 3;
const VOTERS: usize = 4;
const OPTIONS: usize = 3;

/// One thing that someone does.
#[derive(Debug, Clone)]
enum Step {
    Open(usize),
    Close(usize),
    Vote {
        voter: usize,
        poll: usize,
        option: usize,
    },
    /// Sends the vote that this voter has in this poll again, by way of REST.
    Repeat {
        voter: usize,
        poll: usize,
    },
    Retitle,
    /// A watcher comes back, having forgotten so many of the last events.
    Reconnect {
        watcher: usize,
        forgotten: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let vote = (0..VOTERS, 0..POLLS, 0..OPTIONS);
    prop_oneof![
        2 => (0..POLLS).prop_map(Step::Open),
        1 => (0..POLLS).prop_map(Step::Close),
        6 => vote.prop_map(|(voter, poll, option)| Step::Vote { voter, poll, option }),
        1 => (0..VOTERS, 0..POLLS).prop_map(|(voter, poll)| Step::Repeat { voter, poll }),
        1 => Just(Step::Retitle),
        2 => (0..2_usize, 0..6_i64).prop_map(|(watcher, forgotten)| Step::Reconnect { watcher, forgotten }),
    ]
}

/// What should be the case.
#[derive(Debug, Default)]
struct Model {
    states: HashMap<usize, &'static str>,
    votes: BTreeMap<(usize, usize), (String, usize)>,
    /// How many events other than results the log holds.
    lasting: usize,
}

impl Model {
    /// The type or code of the answer that a fresh vote must get.
    fn verdict(&mut self, voter: usize, poll: usize, id: &str, option: usize) -> &'static str {
        if self.votes.contains_key(&(voter, poll)) {
            return "already_voted";
        }
        match self.states.get(&poll) {
            None => "not_found",
            Some(&"closed") => "poll_closed",
            Some(_) => {
                self.votes.insert((voter, poll), (id.to_owned(), option));
                "ack"
            }
        }
    }

    fn set(&mut self, poll: usize, state: &'static str) {
        if self.states.insert(poll, state) != Some(state) {
            self.lasting += 1;
        }
    }

    fn counts(&self, poll: usize) -> Vec<i64> {
        let mut counts = vec![0; OPTIONS];
        let ours = self.votes.iter().filter(|((_, voted), _)| *voted == poll);
        ours.for_each(|(_, (_, option))| counts[*option] += 1);
        counts
    }
}

/// A session being tried: three polls of the three visibilities, voters, and two who watch.
struct Trial<'a> {
    server: &'a Server,
    session: Session,
    polls: Vec<i64>,
    voters: Vec<Guest>,
    watchers: Vec<Watcher>,
    model: Model,
}

/// One who reads everything, over many connections.
struct Watcher {
    token: String,
    guest: Guest,
    seen: BTreeMap<i64, Value>,
}

impl Watcher {
    /// Notes what the connection brought; what came twice must be the same.
    fn note(&mut self) {
        for event in self.guest.events() {
            let seq = event["seq"].as_i64().unwrap();
            let common = json!([event["kind"], event["at"], event["data"]]);
            let known = self.seen.entry(seq).or_insert_with(|| common.clone());
            assert_eq!(*known, common, "seq {seq} changed");
        }
    }
}

impl Trial<'_> {
    async fn begin(server: &Server) -> Trial<'_> {
        let session = Session::create(&server.api, json!({"title": "A trial"})).await;
        let mut polls = Vec::new();
        for results in ["live", "after_close", "presenter"] {
            polls.push(session.draft(choice_seen(results)).await);
        }
        let voters = session.guests_at(server, VOTERS).await;
        let mut watchers = Vec::new();
        for token in [session.presenter.clone(), session.join().await.token] {
            let guest = Guest::hello(&server.base(), json!({"token": token, "after": 0})).await;
            watchers.push(Watcher { token, guest, seen: BTreeMap::new() });
        }
        Trial { server, session, polls, voters, watchers, model: Model::default() }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Open(poll) => {
                self.session.open_poll(self.polls[poll]).await;
                self.model.set(poll, "open");
            }
            Step::Close(poll) if self.model.states.contains_key(&poll) => {
                self.session.close_poll(self.polls[poll]).await;
                self.model.set(poll, "closed");
            }
            Step::Vote { voter, poll, option } => self.vote(voter, poll, option).await,
            Step::Repeat { voter, poll } => self.repeat(voter, poll).await,
            Step::Retitle => {
                self.session.retitle(&fresh_id()).await;
                self.model.lasting += 1;
            }
            Step::Reconnect { watcher, forgotten } => {
                let watcher = &mut self.watchers[watcher];
                watcher.note();
                let after = (watcher.guest.highest - forgotten).max(0);
                let hello = json!({"token": watcher.token, "after": after});
                watcher.guest = Guest::hello(&self.server.base(), hello).await;
                assert_eq!(watcher.guest.welcome["resumed"], true);
            }
            Step::Close(_) => {}
        }
    }

    async fn vote(&mut self, voter: usize, poll: usize, option: usize) {
        let id = fresh_id();
        let expected = self.model.verdict(voter, poll, &id, option);
        let said = self.voters[voter].cast_as(&id, self.polls[poll], pick(option)).await;
        let got = if said["type"] == "ack" { &said["type"] } else { &said["code"] };
        assert_eq!(got, expected, "{said}");
        if expected == "already_voted" {
            assert_eq!(said["answer"], pick(self.model.votes[&(voter, poll)].1));
        }
    }

    async fn repeat(&mut self, voter: usize, poll: usize) {
        if let Some((id, option)) = self.model.votes.get(&(voter, poll)) {
            let token = &self.voters[voter].token;
            let said = self.session.cast(token, id, self.polls[poll], pick(*option)).await;
            assert_eq!((said.status, &said.json()["repeat"]), (200, &json!(true)));
        }
    }

    /// Everything that can be read agrees with the model and with itself.
    async fn check(mut self) {
        let last = self.session.retitle("the end").await["last_seq"].as_i64().unwrap();
        self.model.lasting += 1;
        for (poll, n) in self.polls.iter().enumerate() {
            if self.model.states.contains_key(&poll) {
                let results = self.session.results(*n).await;
                assert_eq!(numbers(&results["counts"]), self.model.counts(poll));
            }
        }
        for watcher in &mut self.watchers {
            let is_last = |m: &Value| m["seq"] == last && m["type"] == "event";
            if watcher.guest.highest < last {
                watcher.guest.take("the end", is_last).await;
            }
            watcher.note();
            let log = self.session.log(&watcher.token).await;
            let is_lasting = |event: &&Value| event["kind"] != "poll.results";
            assert_eq!(log.iter().filter(is_lasting).count(), self.model.lasting);
            for event in &log {
                let common = json!([event["kind"], event["at"], event["data"]]);
                match watcher.seen.remove(&event["seq"].as_i64().unwrap()) {
                    Some(seen) => assert_eq!(seen, common),
                    // Left out at the time, and a newer one came: that is what conflation may do.
                    None => assert!(
                        event["kind"] == "poll.results" && superseded(event, &log),
                        "{event}"
                    ),
                }
            }
            assert!(watcher.seen.is_empty(), "never in the log: {:?}", watcher.seen);
        }
    }
}

/// Whether a later event of a log shows newer results of the same poll.
fn superseded(event: &Value, log: &[Value]) -> bool {
    let poll = &event["data"]["poll"];
    let later = log.iter().filter(|other| other["seq"].as_i64() > event["seq"].as_i64());
    later.clone().any(|other| other["data"]["poll"] == *poll || other["data"]["poll"]["n"] == *poll)
}

#[test]
fn whatever_happens_the_model_agrees() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let room = runtime.block_on(Room::with(&["--message-burst", "1000"]));
    // Each case is some 40 round trips to a real server; more cases find more, and take longer.
    let config =
        Config { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..50);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(async {
                let mut trial = Trial::begin(&room.server).await;
                for step in steps {
                    trial.take(step).await;
                }
                trial.check().await;
            });
            Ok(())
        })
        .unwrap();
}
