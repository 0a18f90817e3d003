//! The five promises of `docs/PROTOCOL.md` (part 5), each by name, without any fault injected.
//! What is promised under faults is in `faults`.

use std::collections::{BTreeMap, HashMap};

use crate::support::*;

#[tokio::test]
async fn promise_1_a_vote_can_be_read_by_anyone_when_its_ack_arrives() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let sql = room.db.sql().await;
    for mut guest in room.guests_at(&room.server, 25).await {
        let ack = guest.cast(poll, pick(1)).await;
        assert_eq!(ack["type"], "ack", "{ack}");
        let query = "SELECT count(*) FROM votes WHERE id::text = $1";
        let count: i64 =
            sql.query_one(query, &[&ack["id"].as_str().unwrap()]).await.unwrap().get(0);
        assert_eq!(count, 1);
    }
}

#[tokio::test]
async fn promise_1_no_accepted_vote_is_changed_by_another_one() {
    let room = Room::open().await;
    let poll = room.choice(3).await;
    let mut guest = room.guest().await;
    let first = guest.cast(poll, pick(0)).await;
    let other = guest.cast(poll, pick(1)).await;
    assert_eq!((&other["code"], &other["answer"]), (&json!("already_voted"), &pick(0)));
    let id = first["id"].as_str().unwrap();
    let again = guest.cast_as(id, poll, pick(2)).await;
    assert_eq!((&again["repeat"], &again["seq"]), (&json!(true), &first["seq"]));
    let stored = stored_votes(&room.db, &room.id).await;
    assert_eq!(stored, HashMap::from([(id.to_owned(), (poll, guest.id.clone(), vec![0]))]));
}

/// Presenters and participants on two instances, both voting, one marker at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_2_everyone_sees_the_same_events_in_the_same_order_on_two_instances() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut watchers = vec![
        room.host().await,
        Guest::hello(&second.base(), json!({"token": room.presenter})).await,
        room.guest().await,
        room.guest_at(&second).await,
    ];
    let polls = [room.choice(3).await, room.by(&second).choice(3).await];
    let mut voters = room.guests_at(&room.server, 15).await;
    voters.extend(room.guests_at(&second, 15).await);
    let burst = Burst::start(voters, &polls, 3);
    burst.acked(10).await;
    room.by(&second).close_poll(polls[0]).await;
    room.open_poll(polls[0]).await;
    room.by(&second).retitle("in the middle").await;
    let ballots = burst.ended().await;
    room.close_poll(polls[1]).await;
    let last = room.by(&second).retitle("the end").await["last_seq"].as_i64().unwrap();
    let mut seen: Vec<BTreeMap<i64, Value>> = Vec::new();
    for watcher in &mut watchers {
        watcher
            .take("the last event", |message| message["seq"] == last && message["type"] == "event")
            .await;
        seen.push(watcher.events().iter().map(shared_part).collect());
    }
    let log: BTreeMap<i64, Value> =
        room.log(&room.presenter).await.iter().map(shared_part).collect();
    assert_eq!(room.by(&second).log(&room.presenter).await, room.log(&room.presenter).await);
    assert_eq!(
        log.keys().copied().collect::<Vec<_>>(),
        (1..=last).collect::<Vec<_>>(),
        "a hole in the log"
    );
    seen.iter().for_each(|seen| check_history(seen, &log));
    let acked: Vec<Ballot> = ballots.into_iter().filter(Ballot::is_acked).collect();
    room.check_stored(&room.db, &acked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_3_counts_equal_the_votes_committed_up_to_their_seq() {
    let room = Room::open().await;
    let polls = [room.choice(3).await, room.choice(4).await];
    let guests = room.guests_at(&room.server, 40).await;
    let ballots = Burst::start(guests, &polls, 3).ended().await;
    assert!(ballots.iter().all(Ballot::is_acked));
    let query = "SELECT v.poll::bigint, b.seq, v.answer::int[] FROM votes v
                 JOIN vote_batches b USING (session_id, poll, batch)";
    let votes = room.db.sql().await.query(query, &[]).await.unwrap();
    let mut checked = 0;
    for event in room.log(&room.presenter).await {
        if event["kind"] != "poll.results" {
            continue;
        }
        assert_eq!(event["data"]["seq"], event["seq"]);
        let mut counts = vec![0; event["data"]["counts"].as_array().unwrap().len()];
        let mut count = 0;
        for row in &votes {
            let (poll, seq, answer): (i64, i64, Vec<i32>) = (row.get(0), row.get(1), row.get(2));
            if event["data"]["poll"] == poll && seq <= event["seq"].as_i64().unwrap() {
                answer.iter().for_each(|option| counts[*option as usize] += 1);
                count += 1;
            }
        }
        assert_eq!(
            (numbers(&event["data"]["counts"]), &event["data"]["votes"]),
            (counts, &json!(count))
        );
        checked += 1;
    }
    assert!(checked >= 2, "the log holds results of both polls");
    room.check_stored(&room.db, &ballots).await;
}

/// The ack names the event that first counts the vote.
#[tokio::test]
async fn promise_3_the_seq_of_an_ack_is_that_of_the_results_that_first_hold_the_vote() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    for mut guest in room.guests_at(&room.server, 5).await {
        let ack = guest.cast(poll, pick(1)).await;
        let log = room.log(&room.presenter).await;
        let at = log.iter().position(|event| event["seq"] == ack["seq"]).unwrap();
        assert_eq!(log[at]["kind"], "poll.results");
        let before = log[..at].iter().rfind(|event| event["kind"] == "poll.results");
        let votes = |event: &Value| event["data"]["votes"].as_i64().unwrap();
        assert_eq!(votes(&log[at]), before.map_or(0, votes) + 1);
    }
}

/// Many rounds, because the moment that matters is short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_closing_in_mid_burst_is_exact() {
    const VOTERS: usize = 20;
    let room = Room::with(&["--message-burst", "1000", "--message-rate", "1000"]).await;
    let mut polls = Vec::new();
    for _ in 0..15 {
        polls.push(room.choice(2).await);
    }
    let mut refused = 0;
    for (round, poll) in polls.iter().enumerate() {
        let guests = room.guests_at(&room.server, VOTERS).await;
        // Another moment each round: together with the first votes, or after some acks.
        let burst = Burst::start(guests, &[*poll], 2);
        if round % 3 > 0 {
            burst.acked(round).await;
        }
        let closed = room.close_poll(*poll).await;
        assert_eq!(closed["state"], "closed");
        let ballots = burst.ended().await;
        let acked = ballots.iter().filter(|ballot| ballot.is_acked()).count();
        for ballot in ballots.iter().filter(|ballot| !ballot.is_acked()) {
            assert_eq!(ballot.answer["code"], "poll_closed", "{ballot:?}");
            refused += 1;
        }
        let log = room.log(&room.presenter).await;
        let event = log.iter().rfind(|event| event["kind"] == "poll.closed").unwrap();
        let results = &event["data"]["results"];
        assert_eq!((&results["poll"], &results["seq"]), (&json!(poll), &event["seq"]));
        assert_eq!(results["votes"], acked, "counts in poll.closed are final");
        assert_eq!(room.results(*poll).await["votes"], acked);
        let late = |later: &&Value| later["seq"].as_i64() > event["seq"].as_i64();
        assert_eq!(log.iter().filter(late).count(), 0, "nothing follows the closing");
    }
    assert!(refused > 0, "no round met votes in flight: the test tested nothing");
    room.check_counts(&room.db).await;
}

#[tokio::test]
async fn promise_5_resuming_anywhere_gives_every_lasting_event_once_in_order() {
    let room = Room::open().await;
    let mut guest = room.guest().await;
    for round in 0..4 {
        let poll = room.poll(choice_seen(["live", "after_close", "presenter"][round % 3])).await;
        guest.cast(poll, pick(round % 3)).await;
        room.close_poll(poll).await;
        room.retitle(&format!("round {round}")).await;
    }
    for token in [room.presenter.clone(), guest.token.clone()] {
        let log = room.log(&token).await;
        let head = log.last().unwrap()["seq"].as_i64().unwrap();
        for after in 0..=head {
            let mut back = room.resume(&token, after).await;
            assert_eq!(
                (&back.welcome["resumed"], &back.welcome["seq"]),
                (&json!(true), &json!(after))
            );
            if after < head {
                back.take("the head", |message| {
                    message["seq"] == head && message["type"] == "event"
                })
                .await;
            }
            let missed = |event: &&Value| event["seq"].as_i64().unwrap() > after;
            let lasting = |event: &&Value| event["kind"] != "poll.results";
            let expected: Vec<_> =
                log.iter().filter(missed).filter(lasting).map(shared_part).collect();
            let got: Vec<_> = back.events().iter().filter(lasting).map(shared_part).collect();
            assert_eq!(got, expected, "after {after}");
            for event in back.events() {
                assert!(
                    log.iter().any(|known| shared_part(known) == shared_part(&event)),
                    "{event}"
                );
            }
        }
    }
}

/// What happens between two connections is delivered by replay, and joined to what is live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_5_reconnecting_during_a_burst_leaves_no_hole() {
    let room = Room::with(&["--message-burst", "1000", "--message-rate", "1000"]).await;
    let mut polls = Vec::new();
    for _ in 0..12 {
        polls.push(room.choice(2).await);
    }
    let mut watcher = room.host().await;
    let burst = Burst::start(room.guests_at(&room.server, 15).await, &polls, 2);
    let mut lasting = Vec::new();
    for (round, poll) in polls.iter().enumerate() {
        burst.acked(round * 10).await;
        room.close_poll(*poll).await;
        let after = watcher.highest;
        lasting.extend(watcher.events());
        watcher = room.resume(&room.presenter, after).await;
    }
    burst.ended().await;
    let last = room.retitle("the end").await["last_seq"].as_i64().unwrap();
    watcher.take("the end", |message| message["seq"] == last && message["type"] == "event").await;
    lasting.extend(watcher.events());
    lasting.retain(|event| event["kind"] != "poll.results");
    let mut log = room.log(&room.presenter).await;
    let first = lasting[0]["seq"].as_i64().unwrap();
    log.retain(|event| event["kind"] != "poll.results" && event["seq"].as_i64().unwrap() >= first);
    let shared = |events: &[Value]| events.iter().map(shared_part).collect::<Vec<_>>();
    assert_eq!(shared(&lasting), shared(&log));
}
