//! What the simulated database holds, and what the functions and queries of `sql/` do to it, each at one moment. Knows nothing
//! of connections, waits and faults: locks are taken in `postgres/`, around these calls.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// A row of `polls` with its tally.
#[derive(Clone, Debug)]
pub(super) struct Poll {
    pub(super) n: i32,
    pub(super) kind: &'static str,
    pub(super) size: usize,
    pub(super) max_choices: i16,
    pub(super) results: &'static str,
    pub(super) state: &'static str,
    opened_at: Option<String>,
    closed_at: Option<String>,
    votes: i64,
    counts: Vec<i64>,
    seq: i64,
    pub(super) results_seq: i64,
}

/// A row of `votes`.
#[derive(Clone, Debug)]
pub(super) struct Vote {
    pub(super) poll: i32,
    pub(super) participant: Uuid,
    pub(super) id: Uuid,
    pub(super) answer: Vec<i16>,
    batch: Uuid,
    pub(super) seq: i64,
}

/// A row of `event_log`.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) session: Uuid,
    pub(super) seq: i64,
    pub(super) at: OffsetDateTime,
    pub(super) kind: &'static str,
    pub(super) hidden: bool,
    pub(super) data: String,
}

/// A session and all that belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: Uuid,
    pub(super) code: String,
    title: String,
    pub(super) state: &'static str,
    pub(super) presenter_hash: Vec<u8>,
    pub(super) polls: Vec<Poll>,
    pub(super) votes: Vec<Vote>,
    pub(super) log: Vec<Event>,
}

/// A vote as `cast_votes` gets it.
#[derive(Clone, Debug)]
pub(super) struct Ballot {
    pub(super) session: Uuid,
    pub(super) poll: i32,
    pub(super) participant: Uuid,
    pub(super) id: Uuid,
    pub(super) kind: i16,
    pub(super) top: i16,
    pub(super) width: i16,
    pub(super) answer: String,
}

/// One verdict: its number, the seq that counts the vote, the answer that is stored.
pub(super) type Verdict = (i16, Option<i64>, Option<String>);

/// What a server has on its disk.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) sessions: BTreeMap<Uuid, Session>,
    pub(super) epoch: String,
    pub(super) history: (String, i32),
    pub(super) durability: String,
    /// Instance, session: marks.
    pub(super) presence: BTreeMap<(String, Uuid), Vec<i64>>,
    /// When each instance was last heard, in seconds of the simulation.
    pub(super) instances: BTreeMap<String, (i32, i32, String, i32, f64)>,
}

impl Poll {
    pub(super) fn draft(n: i32, rating: bool, results: &'static str) -> Self {
        let (kind, size, max_choices) = if rating { ("rating", 5, 1) } else { ("choice", 3, 2) };
        Self {
            n,
            kind,
            size,
            max_choices,
            results,
            state: "draft",
            opened_at: None,
            closed_at: None,
            votes: 0,
            counts: vec![0; size],
            seq: 0,
            results_seq: 0,
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut poll = json!({ "n": self.n, "kind": self.kind, "question": "?", "results": self.results,
                               "state": self.state });
        let rating = self.kind == "rating";
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                poll[name] = value;
            }
        };
        set("options", (!rating).then(|| json!(vec!["o"; self.size])));
        set("max_choices", Some(json!(self.max_choices)));
        set("max", rating.then(|| json!(self.size)));
        set("opened_at", self.opened_at.as_ref().map(|at| json!(at)));
        set("closed_at", self.closed_at.as_ref().map(|at| json!(at)));
        poll
    }

    pub(super) fn results(&self) -> Value {
        json!({ "poll": self.n, "seq": self.seq, "votes": self.votes, "counts": self.counts })
    }

    fn takes(&self, ballot: &Ballot) -> bool {
        self.state == "open"
            && ballot.kind == i16::from(self.kind == "rating")
            && usize::try_from(ballot.top).is_ok_and(|top| top < self.size)
            && ballot.width <= self.max_choices
    }

    fn count(&mut self, answer: &[i16]) {
        self.votes += 1;
        let first = i16::from(self.kind == "rating");
        for option in answer {
            self.counts[usize::try_from(option - first).unwrap()] += 1;
        }
    }
}

impl Session {
    pub(super) fn new(id: Uuid, code: String, presenter_hash: Vec<u8>, polls: Vec<Poll>) -> Self {
        let title = String::from("simulated");
        Self { id, code, title, state: "live", presenter_hash, polls, votes: vec![], log: vec![] }
    }

    pub(super) fn head(&self) -> i64 {
        self.log.last().map_or(0, |event| event.seq)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "id": self.id, "code": self.code, "title": self.title, "state": self.state,
                "created_at": "2026-11-25T10:00:00.000Z" })
    }

    pub(super) fn poll(&self, n: i32) -> Option<&Poll> {
        self.polls.iter().find(|poll| poll.n == n)
    }

    fn log(&mut self, at: OffsetDateTime, kind: &'static str, hidden: bool, data: String) -> Event {
        let event = Event { session: self.id, seq: self.head() + 1, at, kind, hidden, data };
        self.log.push(event.clone());
        event
    }

    /// `open_poll` and `close_poll`: outcome, the poll, and the event.
    pub(super) fn set_open(
        &mut self,
        at: OffsetDateTime,
        n: i32,
        open: bool,
    ) -> (&'static str, Option<Value>, Option<Event>) {
        let (ended, seq, now) = (self.state == "ended", self.head() + 1, stamp(at));
        let Some(poll) = self.polls.iter_mut().find(|poll| poll.n == n) else {
            return ("not_found", None, None);
        };
        match (poll.state, open) {
            ("open", true) | ("closed", false) => return ("unchanged", Some(poll.json()), None),
            (_, true) if ended => return ("session_ended", None, None),
            ("draft", false) => return ("poll_closed", None, None),
            _ => {}
        }
        let (kind, hidden, data) = if open {
            (poll.state, poll.opened_at, poll.closed_at) = ("open", Some(now), None);
            if poll.seq == 0 {
                poll.seq = seq;
            }
            ("poll.opened", false, poll.json().to_string())
        } else {
            (poll.state, poll.closed_at, poll.seq) = ("closed", Some(now), seq);
            let data = json!({ "poll": poll.json(), "results": poll.results() });
            ("poll.closed", poll.results == "presenter", data.to_string())
        };
        let body = poll.json();
        let event = self.log(at, kind, hidden, data);
        ("changed", Some(body), Some(event))
    }

    /// `patch_session`, as far as title and end go.
    pub(super) fn patch(
        &mut self,
        at: OffsetDateTime,
        patch: &Value,
    ) -> (&'static str, Option<Value>, Option<Event>) {
        let mut kind = "session.updated";
        if let Some(title) = patch["title"].as_str() {
            title.clone_into(&mut self.title);
        }
        if patch["state"] == "ended" {
            (self.state, kind) = ("ended", "session.ended");
        }
        let body = self.json();
        let event = self.log(at, kind, false, body.to_string());
        ("changed", Some(body), Some(event))
    }

    fn stands(&self, ballot: &Ballot) -> Option<&Vote> {
        self.votes
            .iter()
            .find(|vote| vote.poll == ballot.poll && vote.participant == ballot.participant)
    }

    /// Why a vote was not inserted, or what it is.
    fn verdict(&self, ballot: &Ballot, batch: Uuid) -> Verdict {
        if let Some(vote) = self.stands(ballot) {
            let kind = self.poll(ballot.poll).map_or("choice", |poll| poll.kind);
            let list: Vec<String> = vote.answer.iter().map(i16::to_string).collect();
            let stored = format!("{kind}:{{{}}}", list.join(","));
            let number = match (vote.id == ballot.id, vote.batch == batch) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
            return (number, Some(vote.seq), Some(stored));
        }
        let number = match self.poll(ballot.poll) {
            None => 5,
            Some(poll) if poll.state == "draft" => 5,
            _ if self.state == "ended" => 4,
            Some(poll) if poll.state != "open" => 3,
            Some(_) => 6,
        };
        (number, None, None)
    }
}

impl Tables {
    /// `cast_votes`: a verdict per vote (none where all were accepted), and the events.
    pub(super) fn cast(
        &mut self,
        at: OffsetDateTime,
        batch: Uuid,
        ballots: &[Ballot],
        fit: &[bool],
    ) -> (Option<Vec<Verdict>>, Vec<Event>) {
        let mut touched: BTreeMap<(Uuid, i32), Vec<usize>> = BTreeMap::new();
        let mut inserted = 0;
        for (ballot, fit) in ballots.iter().zip(fit) {
            let Some(session) = self.sessions.get_mut(&ballot.session) else { continue };
            let Some(answer) = fit.then(|| numbers(&ballot.answer)) else { continue };
            if session.stands(ballot).is_some() {
                continue;
            }
            inserted += 1;
            let (poll, participant, id) = (ballot.poll, ballot.participant, ballot.id);
            session.votes.push(Vote { poll, participant, id, answer, batch, seq: 0 });
            touched.entry((session.id, poll)).or_default().push(session.votes.len() - 1);
        }
        let mut events = Vec::new();
        for ((session, n), places) in touched {
            let session = self.sessions.get_mut(&session).unwrap();
            let seq = session.head() + 1;
            let poll = session.polls.iter_mut().find(|poll| poll.n == n).unwrap();
            for place in places {
                session.votes[place].seq = seq;
                poll.count(&session.votes[place].answer);
            }
            (poll.seq, poll.results_seq) = (seq, seq);
            let (hidden, data) = (poll.results != "live", poll.results().to_string());
            events.push(session.log(at, "poll.results", hidden, data));
        }
        let verdicts = (inserted < ballots.len()).then(|| {
            let of = |ballot: &Ballot| match self.sessions.get(&ballot.session) {
                Some(session) => session.verdict(ballot, batch),
                None => (5, None, None),
            };
            ballots.iter().map(of).collect()
        });
        (verdicts, events)
    }

    /// Whether each vote's poll takes it now.
    pub(super) fn fit(&self, ballots: &[Ballot]) -> Vec<bool> {
        ballots
            .iter()
            .map(|ballot| {
                let poll = self.sessions.get(&ballot.session).and_then(|it| it.poll(ballot.poll));
                poll.is_some_and(|poll| poll.takes(ballot))
            })
            .collect()
    }

    /// `settle_epoch`: whether a new epoch was made. `knows`: the caller's epoch, place, timeline and durability.
    pub(super) fn settle(
        &mut self,
        (place, timeline, durability): (&str, i32, &str),
        fresh: &str,
        knows: (Option<String>, Option<String>, Option<i32>, Option<String>),
        lost: bool,
    ) -> bool {
        let synchronous = "synchronous standby";
        let (stored_place, stored_timeline) = &self.history;
        let (epoch, its_place, its_timeline, its_durability) = knows;
        let lossy = stored_place != place
            || *stored_timeline > timeline
            || (*stored_timeline < timeline && self.durability != synchronous)
            || (epoch.as_ref() == Some(&self.epoch)
                && (lost
                    || its_place.is_some_and(|it| it != place)
                    || its_timeline.is_some_and(|it| it > timeline)
                    || (its_timeline.is_some_and(|it| it < timeline)
                        && its_durability.is_some_and(|it| it != synchronous))));
        if lossy {
            fresh.clone_into(&mut self.epoch);
        }
        self.history = (place.to_owned(), timeline);
        durability.clone_into(&mut self.durability);
        lossy
    }
}

/// Reads `{1,2}`.
fn numbers(list: &str) -> Vec<i16> {
    list.trim_matches(['{', '}']).split(',').filter_map(|number| number.parse().ok()).collect()
}

pub(super) fn stamp(at: OffsetDateTime) -> String {
    crate::domain::Timestamp(at).to_string()
}
