//! Tests of `live.rs` and `watched.rs` against a naive model: a log written event by event, and votes recounted from
//! scratch. Whatever the order of offers and the moment of joining, a subscriber ends with the state of the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::{
    Audience, EventKind, LoggedEvent, Poll, PollNumber, Results, Seq, Session, SessionId, Timestamp,
};
use crate::feed::live::LiveState;
use crate::feed::since::{Since, Source};
use crate::feed::watched::Watched;
use crate::store::log::Snapshot;

const POLLS: i32 = 3;
const OPTIONS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Open(i32),
    Close(i32),
    Votes(i32, Vec<usize>),
    Rename,
}

fn now() -> Since {
    Since { at: Instant::now(), source: Source::Own }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let poll = 1..=POLLS;
    let step = prop_oneof![
        2 => poll.clone().prop_map(Step::Open),
        1 => poll.clone().prop_map(Step::Close),
        8 => (poll, prop::collection::vec(0..OPTIONS, 1..4)).prop_map(|(poll, votes)| Step::Votes(poll, votes)),
        1 => Just(Step::Rename),
    ];
    prop::collection::vec(step, 1..60)
}

/// The log as the database would write it, with all votes kept one by one.
#[derive(Default)]
struct Model {
    log: Vec<LoggedEvent>,
    open: BTreeMap<i32, bool>,
    votes: BTreeMap<i32, Vec<usize>>,
}

fn mode(poll: i32) -> &'static str {
    ["live", "after_close", "presenter"][usize::try_from(poll - 1).unwrap()]
}

fn poll(n: i32, state: &str) -> Value {
    json!({ "n": n, "kind": "choice", "question": "?", "options": vec!["o"; OPTIONS], "max_choices": 1,
            "results": mode(n), "state": state })
}

impl Model {
    fn recount(&self, poll: i32, seq: i64) -> Results {
        let votes = self.votes.get(&poll).cloned().unwrap_or_default();
        let counts =
            (0..OPTIONS).map(|o| votes.iter().filter(|vote| **vote == o).count() as i64).collect();
        Results { poll: PollNumber(poll), seq: Seq(seq), votes: votes.len() as i64, counts }
    }

    fn log(&mut self, kind: EventKind, results_hidden: bool, data: &Value) {
        let seq = Seq(self.log.len() as i64 + 1);
        let session = SessionId(Uuid::nil());
        self.log.push(LoggedEvent {
            session,
            seq,
            at: Timestamp::now(),
            kind,
            results_hidden,
            data: data.to_string().into(),
        });
    }

    fn step(&mut self, step: &Step) {
        let seq = self.log.len() as i64 + 1;
        match step {
            Step::Open(n) if self.open.get(n) != Some(&true) => {
                self.open.insert(*n, true);
                self.log(EventKind::PollOpened, false, &poll(*n, "open"));
            }
            Step::Close(n) if self.open.get(n) == Some(&true) => {
                self.open.insert(*n, false);
                let data = json!({ "poll": poll(*n, "closed"), "results": self.recount(*n, seq) });
                self.log(EventKind::PollClosed, mode(*n) == "presenter", &data);
            }
            Step::Votes(n, votes) if self.open.get(n) == Some(&true) => {
                self.votes.entry(*n).or_default().extend(votes);
                let data = json!(self.recount(*n, seq));
                self.log(EventKind::PollResults, mode(*n) != "live", &data);
            }
            Step::Rename => {
                self.log(EventKind::SessionUpdated, false, &json!(session(&format!("title {seq}"))))
            }
            _ => {}
        }
    }
}

fn session(title: &str) -> Session {
    serde_json::from_value(json!({
        "id": Uuid::nil(), "code": "12345678", "title": title, "state": "live", "created_at": "2026-11-24T10:00:00Z",
    }))
    .unwrap()
}

fn empty() -> LiveState {
    LiveState::from(Snapshot {
        epoch: String::from("epoch"),
        session: session("title 0"),
        seq: Seq(0),
        polls: vec![],
        results: vec![],
        results_seqs: vec![],
    })
}

/// What one subscriber is sent: replay and ring together, as `replay.rs` does it.
fn catch_up(
    watched: &Watched,
    log: &[LoggedEvent],
    audience: Audience,
    after: Seq,
) -> (Vec<Value>, crate::ring::Cursor) {
    let (mut from, mut sent) = (after, Vec::new());
    loop {
        match watched.splice(audience, from) {
            Ok(cursor) => return (sent, cursor),
            Err((upto, newest)) => {
                for event in log.iter().filter(|event| event.seq > from && event.seq <= upto) {
                    let superseded =
                        event.kind == EventKind::PollResults && !newest.contains(&event.seq.0);
                    if let (false, Some(data)) = (superseded, event.data_for(audience)) {
                        sent.push(json!({ "seq": event.seq, "kind": event.kind.as_str(),
                                          "data": serde_json::from_str::<Value>(&data).unwrap() }));
                    }
                }
                from = upto;
            }
        }
    }
}

fn read_ring(watched: &Watched, audience: Audience, mut cursor: crate::ring::Cursor) -> Vec<Value> {
    let mut out = VecDeque::new();
    watched.channel(audience).ring.read(&mut cursor, usize::MAX, &mut out).unwrap();
    out.iter()
        .map(|bytes| {
            serde_json::from_slice(&bytes[bytes.iter().position(|b| *b == b'{').unwrap()..])
                .unwrap()
        })
        .collect()
}

fn check_stream(sent: &[Value], log: &[LoggedEvent], audience: Audience, after: Seq) {
    let seqs: Vec<i64> = sent.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "order: {seqs:?}");
    assert!(seqs.first().is_none_or(|first| *first > after.0));
    let mut highest = after.0;
    for event in sent {
        assert!(event["prev"].as_i64().is_none_or(|prev| prev <= highest), "a hole before {event}");
        highest = event["seq"].as_i64().unwrap();
    }
    let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
    for event in log.iter().filter(|event| event.seq > after) {
        let Some(data) = event.data_for(audience) else { continue };
        let data: Value = serde_json::from_str(&data).unwrap();
        let found = sent.iter().find(|sent| sent["seq"] == json!(event.seq));
        if let Some(found) = found {
            assert_eq!(
                (&found["data"], found["kind"].as_str()),
                (&data, Some(event.kind.as_str()))
            );
        }
        if event.kind == EventKind::PollResults {
            newest.insert(i32::try_from(data["poll"].as_i64().unwrap()).unwrap(), event.seq.0);
        } else {
            assert!(
                found.is_some(),
                "{} {} is missing in {seqs:?}",
                event.kind.as_str(),
                event.seq
            );
        }
    }
    for (poll, seq) in newest {
        assert!(
            seqs.contains(&seq),
            "the newest results of poll {poll}, event {seq}, are missing in {seqs:?}"
        );
    }
}

proptest! {
    #[test]
    fn the_fold_equals_a_recount_at_every_seq(steps in steps()) {
        let (mut model, mut live) = (Model::default(), empty());
        for step in &steps {
            model.step(step);
            if let Some(event) = model.log.last().filter(|event| event.seq > live.seq) {
                live.apply(event).unwrap();
            }
            for shown in live.results_for(Audience::Presenters) {
                prop_assert_eq!(shown, &model.recount(shown.poll.0, shown.seq.0));
            }
            let open: Vec<i32> = live.polls().filter(|poll| poll.state == crate::domain::PollState::Open)
                .map(|poll: &Poll| poll.n.0).collect();
            let expected: Vec<i32> = model.open.iter().filter(|(_, open)| **open).map(|(n, _)| *n).collect();
            prop_assert_eq!(open, expected);
        }
    }

    /// Offers come twice, early, or not at all; results are flushed whenever; clients join whenever, after whatever.
    #[test]
    fn replay_then_live_is_the_log_for_every_subscriber(
        steps in steps(),
        offers in prop::collection::vec((0_usize..4, any::<bool>()), 60),
        joins in prop::collection::vec((0_usize..60, 0_i64..60), 1..6),
    ) {
        let mut model = Model::default();
        let watched = Arc::new(Watched::new(SessionId(Uuid::nil()), "epoch".into(), empty(), 1));
        let mut subscribers = Vec::new();
        let mut applied = Vec::new();
        let mut take = |event: &LoggedEvent| applied.extend(watched.take(event.clone(), now()).applied);
        for (at, step) in steps.iter().enumerate() {
            model.step(step);
            let (behind, flush) = offers[at % offers.len()];
            if let Some(event) = model.log.len().checked_sub(1 + behind).map(|at| &model.log[at]) {
                take(event);
            }
            for (_, after) in joins.iter().filter(|(joined, _)| *joined == at) {
                // The tailer has brought the live state to the head before a client is let in.
                model.log.iter().for_each(&mut take);
                let after = Seq((*after).min(watched.seq().0));
                for audience in Audience::ALL {
                    let (sent, cursor) = catch_up(&watched, &model.log, audience, after);
                    subscribers.push((audience, after, sent, cursor));
                }
            }
            if flush {
                watched.flush_now();
            }
        }
        model.log.iter().for_each(&mut take);
        watched.flush_now();
        let kinds: Vec<_> = model.log.iter().map(|event| event.kind.clone()).collect();
        prop_assert_eq!(applied, kinds);
        for (audience, after, mut sent, cursor) in subscribers {
            sent.extend(read_ring(&watched, audience, cursor));
            check_stream(&sent, &model.log, audience, after);
        }
    }
}

#[test]
fn participants_never_see_a_count_that_is_hidden_from_them() {
    let mut model = Model::default();
    let mut live = empty();
    for n in 1..=POLLS {
        for step in [Step::Open(n), Step::Votes(n, vec![0, 1]), Step::Close(n), Step::Open(n)] {
            model.step(&step);
            live.apply(model.log.last().unwrap()).unwrap();
            let visible: Vec<i32> =
                live.results_for(Audience::Participants).map(|results| results.poll.0).collect();
            let closed = matches!(step, Step::Close(_));
            let expected = (n == 1 || (n == 2 && closed)) && visible.contains(&n);
            assert_eq!(visible.contains(&n), expected || n == 1, "poll {n} after {step:?}");
        }
    }
}

/// The second between two numbers may fall into a replay.
#[tokio::test]
async fn who_came_back_gets_a_number_although_one_was_sent_during_the_replay() {
    let watched = Watched::new(SessionId(Uuid::nil()), "epoch".into(), empty(), 1);
    assert!(watched.enter(None));
    watched.begin(Audience::Presenters, &[], "").unwrap();
    assert!(watched.publish_presence());
    let seq = watched.seq();
    let mut cursor = watched.splice(Audience::Presenters, seq).unwrap();
    assert!(watched.publish_presence(), "it has not moved, but somebody has had none");
    let ring = &watched.channel(Audience::Presenters).ring;
    assert!(ring.next(&mut cursor).unwrap().is_some());
    assert!(ring.next(&mut cursor).unwrap().is_none());
}
