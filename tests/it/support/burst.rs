//! Many participants who vote as fast as they are answered, and what they remember of it: the
//! memory against which the stored votes are checked after something was killed.
//! Must never count a vote as accepted that was not acked. Called by tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Guest, Server, Session, TestDb, fresh_id, pick, within};

/// One vote as its participant remembers it.
#[derive(Debug, Clone)]
pub(crate) struct Ballot {
    pub(crate) id: String,
    pub(crate) poll: i64,
    pub(crate) participant: String,
    pub(crate) token: String,
    pub(crate) option: usize,
    /// The answer that came, null if none did.
    pub(crate) answer: Value,
}

impl Ballot {
    pub(crate) fn is_acked(&self) -> bool {
        self.answer["type"] == "ack"
    }
}

/// Voters at work, each in a task of its own.
#[derive(Debug)]
pub(crate) struct Burst {
    voters: JoinSet<Vec<Ballot>>,
    acks: Arc<Acks>,
}

#[derive(Debug, Default)]
struct Acks {
    count: AtomicUsize,
    changed: Notify,
}

impl Burst {
    /// Lets every guest vote in every poll, in order, the next vote when the last is answered.
    pub(crate) fn start(guests: Vec<Guest>, polls: &[i64], options: usize) -> Burst {
        let mut burst = Burst { voters: JoinSet::new(), acks: Arc::default() };
        for (nth, guest) in guests.into_iter().enumerate() {
            let (polls, acks) = (polls.to_vec(), Arc::clone(&burst.acks));
            burst.voters.spawn(vote_in_all(guest, polls, (nth, options), acks));
        }
        burst
    }

    /// Waits until so many votes were acked.
    pub(crate) async fn acked(&self, count: usize) {
        within(60, "votes are acked", async {
            loop {
                let changed = self.acks.changed.notified();
                if self.acks.count.load(Ordering::Relaxed) >= count {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }

    /// How many votes were acked by now.
    pub(crate) fn count(&self) -> usize {
        self.acks.count.load(Ordering::Relaxed)
    }

    /// Waits for all voters; what they remember.
    pub(crate) async fn ended(self) -> Vec<Ballot> {
        let ballots = within(90, "every voter is done", self.voters.join_all()).await;
        ballots.into_iter().flatten().collect()
    }
}

async fn vote_in_all(
    mut guest: Guest,
    polls: Vec<i64>,
    (nth, options): (usize, usize),
    acks: Arc<Acks>,
) -> Vec<Ballot> {
    let mut ballots = Vec::new();
    for poll in polls {
        let option = (nth + usize::try_from(poll).unwrap()) % options;
        let mut ballot = Ballot {
            id: fresh_id(),
            poll,
            participant: guest.id.clone(),
            token: guest.token.clone(),
            option,
            answer: Value::Null,
        };
        let vote = json!({"type": "vote", "id": ballot.id, "poll": poll, "answer": pick(option)});
        if !guest.try_send(&vote).await {
            ballots.push(ballot);
            break;
        }
        let open = loop {
            match guest.receive().await {
                Err(_) => break false,
                Ok(answer) if answer["id"] == ballot.id.as_str() => {
                    ballot.answer = answer;
                    break true;
                }
                Ok(_) => {}
            }
        };
        if ballot.is_acked() {
            acks.count.fetch_add(1, Ordering::Relaxed);
            acks.changed.notify_waiters();
        }
        ballots.push(ballot);
        if !open {
            break;
        }
    }
    ballots
}

impl Session {
    /// So many connections to `server` that joined anew, made together.
    pub(crate) async fn guests_at(&self, server: &Server, count: usize) -> Vec<Guest> {
        let mut joining = JoinSet::new();
        for _ in 0..count {
            let (base, hello) = (server.base(), json!({"code": self.code}));
            joining.spawn(async move { Guest::hello(&base, hello).await });
        }
        joining.join_all().await
    }

    /// Sends every vote that is not acked again with its own id until it is; all must be in the end.
    pub(crate) async fn finish(&self, ballots: &mut [Ballot]) {
        for ballot in ballots.iter_mut().filter(|ballot| !ballot.is_acked()) {
            let answer =
                self.cast(&ballot.token, &ballot.id, ballot.poll, pick(ballot.option)).await;
            assert!([200, 201].contains(&answer.status), "{}", answer.text());
            ballot.answer = json!({"type": "ack"});
        }
    }

    /// Every acked ballot is stored once, unchanged, and nothing is stored that nobody sent.
    pub(crate) async fn check_stored(&self, db: &TestDb, ballots: &[Ballot]) {
        let mut stored = stored_votes(db, &self.id).await;
        for ballot in ballots {
            let Some(found) = stored.remove(&ballot.id) else {
                assert!(!ballot.is_acked(), "an acked vote is lost: {ballot:?}");
                continue;
            };
            let expected = (ballot.poll, ballot.participant.clone(), vec![ballot.option]);
            assert_eq!(found, expected, "a vote was changed: {ballot:?}");
        }
        assert!(stored.is_empty(), "stored but never sent: {stored:?}");
        self.check_counts(db).await;
    }

    /// The newest results of every poll that was ever opened equal the stored votes.
    pub(crate) async fn check_counts(&self, db: &TestDb) {
        let stored = stored_votes(db, &self.id).await;
        let polls = self.present("GET", "/polls", Value::Null).await;
        for poll in polls["polls"].as_array().unwrap() {
            let n = poll["n"].as_i64().unwrap();
            if poll["state"] == "draft" {
                continue;
            }
            let results = self.results(n).await;
            let mut counts = vec![0; results["counts"].as_array().unwrap().len()];
            let first = usize::from(poll["kind"] == "rating");
            let ours = || stored.values().filter(|(poll, ..)| *poll == n);
            ours().flat_map(|(.., answer)| answer).for_each(|option| counts[option - first] += 1);
            assert_eq!(super::numbers(&results["counts"]), counts, "poll {n}: {results}");
            assert_eq!(results["votes"], ours().count(), "poll {n}");
        }
    }
}

/// Every stored vote of a session by its id; an id that is there twice fails the test.
pub(crate) async fn stored_votes(
    db: &TestDb,
    session: &str,
) -> HashMap<String, (i64, String, Vec<usize>)> {
    let query = "SELECT id::text, poll::bigint, participant::text, answer::int[] FROM votes
                 WHERE session_id::text = $1";
    let rows = db.sql().await.query(query, &[&session]).await.unwrap();
    let count = rows.len();
    let stored: HashMap<_, _> = rows
        .iter()
        .map(|row| {
            let answer: Vec<i32> = row.get(3);
            let answer =
                answer.into_iter().map(|option| usize::try_from(option).unwrap()).collect();
            (row.get(0), (row.get(1), row.get(2), answer))
        })
        .collect();
    assert_eq!(stored.len(), count, "one id is stored twice");
    stored
}
