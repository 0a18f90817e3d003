//! Group commit: votes of many participants and sessions share a batch and harm each other never.

use crate::support::*;

/// What one voter is to send, and what must come back.
fn plan(nth: usize, poll: i64) -> (i64, Value, &'static str) {
    match nth % 8 {
        0 => (poll, json!({"choices": [7]}), "unprocessable"),
        1 => (poll, json!({"rating": 3}), "unprocessable"),
        2 => (poll + 900, pick(0), "not_found"),
        3 => (poll, json!({"choices": [0, 1]}), "unprocessable"),
        _ => (poll, pick(nth % 3), "ack"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_vote_harms_no_other_in_its_batch() {
    let room = Room::open().await;
    let poll = room.choice(3).await;
    let mut voters = tokio::task::JoinSet::new();
    for (nth, mut guest) in room.guests_at(&room.server, 160).await.into_iter().enumerate() {
        voters.spawn(async move {
            let (poll, answer, expected) = plan(nth, poll);
            let said = guest.cast(poll, answer).await;
            let got = if said["type"] == "ack" { &said["type"] } else { &said["code"] };
            assert_eq!(got, expected, "{said}");
            usize::from(expected == "ack")
        });
    }
    let acked: usize = within(60, "all are answered", voters.join_all()).await.into_iter().sum();
    assert_eq!(room.results(poll).await["votes"], acked);
    room.check_counts(&room.db).await;
    let batches = room.server.metric("plenum_vote_batch_size_count", &[]).await;
    assert!(batches < 160.0, "{batches} batches for 160 votes sent at once: nothing was grouped");
}

/// Many sessions in the same batches: each gets its own counts, its own gapless log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_share_batches_share_nothing_else() {
    let room = Room::open().await;
    let mut sessions = Vec::new();
    let mut bursts = Vec::new();
    for _ in 0..6 {
        let session = Session::create(&room.api, json!({"title": "One of many"})).await;
        let polls = [session.choice(2).await, session.choice(2).await];
        let guests = session.guests_at(&room.server, 12).await;
        sessions.push(session);
        bursts.push((guests, polls));
    }
    let bursts: Vec<Burst> =
        bursts.into_iter().map(|(guests, polls)| Burst::start(guests, &polls, 2)).collect();
    for (session, burst) in sessions.iter().zip(bursts) {
        let ballots = burst.ended().await;
        assert_eq!(ballots.iter().filter(|ballot| ballot.is_acked()).count(), 24, "{ballots:?}");
        session.check_stored(&room.db, &ballots).await;
        let log = session.log(&session.presenter).await;
        let seqs: Vec<i64> = log.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, (1..=i64::try_from(log.len()).unwrap()).collect::<Vec<_>>());
    }
}

/// A session deleted while its votes lie in a batch with those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_vanishes_harms_no_other_in_its_batch() {
    let room = Room::open().await;
    let polls = [room.choice(2).await, room.choice(2).await, room.choice(2).await];
    let doomed = Session::create(&room.api, json!({"title": "Doomed"})).await;
    let lost = [doomed.choice(2).await, doomed.choice(2).await, doomed.choice(2).await];
    let theirs = Burst::start(doomed.guests_at(&room.server, 15).await, &lost, 2);
    let ours = Burst::start(room.guests_at(&room.server, 15).await, &polls, 2);
    theirs.acked(5).await;
    doomed.call("DELETE", "", &doomed.presenter, Value::Null).await;
    let ballots = ours.ended().await;
    assert!(ballots.iter().all(Ballot::is_acked), "{ballots:?}");
    room.check_stored(&room.db, &ballots).await;
    theirs.ended().await;
}
