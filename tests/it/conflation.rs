//! Conflation: newer results stand in for older ones, nothing else is ever left out, and the last
//! value always comes.

use std::time::Instant;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_gives_about_10_results_a_second_and_always_the_last() {
    let flags = ["--message-burst", "1000", "--message-rate", "1000"];
    let room = Room::with(&flags).await;
    let mut polls = Vec::new();
    for _ in 0..25 {
        polls.push(room.choice(2).await);
    }
    let mut watcher = room.guest().await;
    let mut host = room.host().await;
    let begin = Instant::now();
    let ballots = Burst::start(room.guests_at(&room.server, 20).await, &polls, 2).ended().await;
    assert!(ballots.iter().all(Ballot::is_acked));
    let last = *polls.last().unwrap();
    watcher.results(last, 20).await;
    host.results(last, 20).await;
    let took = begin.elapsed().as_secs_f64();
    let stored = room.log(&room.presenter).await;
    let is_results = |event: &&Value| event["kind"] == "poll.results";
    for client in [&watcher, &host] {
        let events = client.events();
        let results: Vec<&Value> = events.iter().filter(is_results).collect();
        assert!(results.len() <= stored.iter().filter(is_results).count());
        for poll in &polls {
            let ours = |event: &&&Value| event["data"]["poll"] == *poll;
            let newest = results.iter().rfind(ours).unwrap();
            assert_eq!(newest["data"]["votes"], 20, "the last value of poll {poll}");
            // 10 a second for each poll, the first at once, and some room for the clock.
            let count = results.iter().filter(|event| ours(event)).count();
            assert!(count as f64 <= 10.0 * took + 3.0, "{count} in {took} s");
        }
    }
}

/// One poll, one vote after another as fast as they are acked, for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_one_poll_come_at_most_about_10_times_a_second() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut watcher = room.guest().await;
    let voters = room.guests_at(&room.server, 150).await;
    let begin = Instant::now();
    for mut voter in voters {
        assert_eq!(voter.cast(poll, pick(0)).await["type"], "ack");
    }
    watcher.results(poll, 150).await;
    let took = begin.elapsed().as_secs_f64();
    let seen = watcher.events().iter().filter(|event| event["kind"] == "poll.results").count();
    assert!(seen as f64 <= 10.0 * took + 2.0, "{seen} in {took} s");
    let log = room.log(&room.presenter).await;
    assert_eq!(log.iter().filter(|event| event["kind"] == "poll.results").count(), 150);
}

/// Other kinds come at once, in order, after the results that were waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_superseded_results_is_ever_left_out() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut watcher = room.guest().await;
    let voters = room.guests_at(&room.server, 40).await;
    let mut expected = Vec::new();
    for (nth, mut voter) in voters.into_iter().enumerate() {
        voter.cast(poll, pick(nth % 2)).await;
        match nth % 4 {
            0 => expected.push(room.retitle(&format!("{nth}")).await["last_seq"].clone()),
            2 => {
                room.close_poll(poll).await;
                room.open_poll(poll).await;
            }
            _ => {}
        }
    }
    let last = room.retitle("the end").await["last_seq"].clone();
    watcher.take("the end", |m| m["seq"] == last && m["type"] == "event").await;
    let events = watcher.events();
    let log = room.log(&watcher.token).await;
    let lasting = |events: &[Value]| -> Vec<Value> {
        let kept = events.iter().filter(|event| event["kind"] != "poll.results");
        kept.map(|event| event["seq"].clone()).collect()
    };
    let first = events[0]["seq"].as_i64().unwrap();
    let log: Vec<Value> = log.into_iter().filter(|e| e["seq"].as_i64().unwrap() >= first).collect();
    assert_eq!(lasting(&events), lasting(&log));
    assert!(expected.iter().all(|seq| lasting(&events).contains(seq)));
    // What a closing says is never older than the last results seen before it.
    let mut seen = 0;
    for event in &events {
        let results =
            if event["kind"] == "poll.closed" { &event["data"]["results"] } else { &event["data"] };
        if let Some(votes) = results["votes"].as_i64() {
            assert!(votes >= seen, "{event}");
            seen = votes;
        }
    }
}

#[tokio::test]
async fn a_single_vote_is_shown_at_once() {
    let room = Room::open().await;
    let mut watcher = room.guest().await;
    for _ in 0..3 {
        let poll = room.choice(2).await;
        watcher.event("poll.opened").await;
        room.guest().await.cast(poll, pick(1)).await;
        let shown = watcher.results(poll, 1).await;
        assert_eq!(numbers(&shown["counts"]), [0, 1]);
    }
}
