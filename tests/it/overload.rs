//! Three times the votes that the database takes: what is accepted is answered soon, the rest is told when to come again,
//! and whoever obeys is taken. The slow database is a real one with a trigger that sleeps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::*;

/// A batch takes this long at least, so that 1,000 votes in `COMMIT` is what the database takes.
const COMMIT: Duration = Duration::from_millis(400);
const SOCKETS: usize = 4;
/// Each socket sends so many votes every `BEAT`: together three times what the database takes.
const VOTES_PER_BEAT: i64 = 188;
const BEAT: Duration = Duration::from_millis(100);
const OVERLOAD: Duration = Duration::from_secs(8);
/// So long after its beginning the first come who obey: the pace is known by then, and they are told to come while it lasts.
const KNOWN_AFTER: Duration = Duration::from_millis(1_200);
const OBEDIENT: usize = 10;
/// An accepted vote waits a second at most; this much besides is the machine's, which tests in parallel keep busy. With
/// no bound but the number of votes, the last of them would wait for ten.
const SLACK: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Seen {
    answered: Vec<Duration>,
    refused: usize,
}

/// Votes for polls that are not there go all the way to the database, as others do, and need no participants.
async fn too_many(base: String, code: String, first: i64) -> Seen {
    let mut socket = bare(&base, &code).await;
    let (mut sent, mut seen) = (HashMap::new(), Seen::default());
    let (begun, mut next) = (Instant::now(), first);
    let mut beat = tokio::time::interval(BEAT);
    while begun.elapsed() < OVERLOAD || !sent.is_empty() {
        tokio::select! {
            _ = beat.tick(), if begun.elapsed() < OVERLOAD => {
                let votes: Vec<String> = (next..next + VOTES_PER_BEAT).map(|poll| {
                    let id = fresh_id();
                    sent.insert(id.clone(), Instant::now());
                    json!({"type": "vote", "id": id, "poll": poll, "answer": pick(0)}).to_string()
                }).collect();
                next += VOTES_PER_BEAT;
                socket.send_texts(&votes).await.unwrap();
            }
            message = socket.recv() => {
                let Incoming::Message(message) = message.unwrap() else { panic!("closed") };
                let Some(since) = message["id"].as_str().and_then(|id| sent.remove(id)) else { continue };
                match message["code"].as_str().unwrap() {
                    "overloaded" => seen.refused += 1,
                    _ => seen.answered.push(since.elapsed()),
                }
            }
        }
    }
    seen
}

/// Casts one vote as a client that obeys; how often it had to come again, and what it was told at last.
async fn obey(voter: &mut Guest, poll: i64) -> (usize, Value) {
    let id = fresh_id();
    for tries in 0..20 {
        let verdict = voter.cast_as(&id, poll, pick(1)).await;
        let Some(again) = verdict["retry_after_ms"].as_u64() else { return (tries, verdict) };
        assert_eq!(verdict["code"], "overloaded");
        assert!((250..=10_000).contains(&again), "{again}");
        tokio::time::sleep(Duration::from_millis(again)).await;
    }
    panic!("told to come again twenty times")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_answered_soon_and_the_rest_at_once() {
    let room = Room::with(&ONE_LANE).await;
    let poll = room.choice(2).await;
    let obedient = room.guests_at(&room.server, OBEDIENT).await;
    let mut voter = room.guest().await;
    let sql = room.db.sql().await;
    let slow = format!(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_sleep({}); RETURN NULL; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON votes EXECUTE FUNCTION slow()",
        COMMIT.as_secs_f64()
    );
    sql.batch_execute(&slow).await.unwrap();
    let mut crowd = JoinSet::new();
    for nth in 0..SOCKETS {
        let first = 1_000 + 1_000_000 * i64::try_from(nth).unwrap();
        crowd.spawn(too_many(room.server.base(), room.code.clone(), first));
    }
    tokio::time::sleep(KNOWN_AFTER).await;
    let mut obeying = JoinSet::new();
    for mut guest in obedient {
        obeying.spawn(async move { obey(&mut guest, poll).await });
    }
    let mut tries = Vec::new();
    for (returns, verdict) in obeying.join_all().await {
        assert_eq!(verdict["type"], "ack", "after {returns} returns: {verdict}");
        tries.push(returns);
    }

    let (mut answered, mut refused) = (Vec::new(), 0);
    for seen in crowd.join_all().await {
        answered.extend(seen.answered);
        refused += seen.refused;
    }
    answered.sort();
    let p95 = answered[answered.len() * 95 / 100];
    println!("{} answered, p95 {p95:?}; {refused} refused; returns {tries:?}", answered.len());
    assert!(p95 < Duration::from_secs(1) + SLACK, "accepted votes waited {p95:?}");
    assert!(refused > answered.len(), "{refused} refused of three times too many");
    assert!(tries.iter().all(|&returns| returns <= 1), "the times told are not kept: {tries:?}");

    sql.batch_execute("DROP TRIGGER slow ON votes").await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = room.choice(2).await;
    let (tries, verdict) = obey(&mut voter, second).await;
    assert_eq!((tries, &verdict["type"]), (0, &json!("ack")), "full speed again");
}

/// The last of a long queue waits no longer for a database that is away than the first: ten seconds, and the try that is
/// under way then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_queue_gives_up_together() {
    const QUEUED: i64 = 10_000;
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &ONE_LANE).await;
    let room = Room::on(server, db).await;
    let mut guest = bare(&room.server.base(), &room.code).await;
    proxy.freeze();
    let begun = Instant::now();
    let vote = |n| json!({"type": "vote", "id": fresh_id(), "poll": n, "answer": pick(0)});
    let votes: Vec<String> = (1_000..1_000 + QUEUED).map(|n| vote(n).to_string()).collect();
    guest.send_texts(&votes).await.unwrap();
    let mut answered = 0;
    while answered < QUEUED {
        let Incoming::Message(message) = guest.recv().await.unwrap() else { panic!("closed") };
        if message["type"] == "error" {
            assert_eq!(message["code"], "database_unavailable");
            answered += 1;
        }
    }
    let took = begun.elapsed();
    println!("given up after {took:?}");
    assert!(took < Duration::from_secs(25), "the last was answered after {took:?}");
}
