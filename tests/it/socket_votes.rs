//! WebSocket: votes and their verdicts. Frames and limits are in `socket_protocol`.

use crate::support::*;

#[tokio::test]
async fn a_vote_is_acked_and_its_repeat_says_so() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let id = fresh_id();
    let ack = guest.cast_as(&id, poll, pick(1)).await;
    let expected = json!({"type": "ack", "id": id, "poll": poll, "seq": 2, "repeat": false});
    assert_eq!(ack, expected);
    for answer in [pick(1), pick(0)] {
        let again = guest.cast_as(&id, poll, answer).await;
        assert_eq!(again, json!({"type": "ack", "id": id, "poll": poll, "seq": 2, "repeat": true}));
    }
    // The same UUID in capitals is the same id; the echo may be in either form.
    guest.vote_as(&id.to_uppercase(), poll, pick(1)).await;
    let upper = guest.take("an answer", |m| m["type"] == "ack" || m["type"] == "error").await;
    assert_eq!((&upper["type"], &upper["repeat"]), (&json!("ack"), &json!(true)), "{upper}");
    assert_eq!(room.log(&room.presenter).await.len(), 2, "a repeat makes no event");
}

#[tokio::test]
async fn a_second_vote_shows_the_one_that_counts() {
    let room = Room::open().await;
    let mut several = choice(4);
    several["max_choices"] = json!(2);
    let polls = [
        (room.choice(2).await, pick(1), pick(0)),
        (room.poll(several).await, json!({"choices": [1, 3]}), pick(0)),
        (
            room.poll(json!({"kind": "rating", "question": "q", "max": 9})).await,
            json!({"rating": 9}),
            json!({"rating": 1}),
        ),
    ];
    let mut guest = room.guest().await;
    for (poll, first, second) in polls {
        assert_eq!(guest.cast(poll, first.clone()).await["type"], "ack");
        for other in [first.clone(), second] {
            let error = guest.cast(poll, other).await;
            assert_eq!(
                (&error["type"], &error["code"]),
                (&json!("error"), &json!("already_voted"))
            );
            assert_eq!(error["answer"], first, "{error}");
            assert!(error.get("retry_after_ms").is_none_or(Value::is_null), "final: {error}");
            assert!(!error["message"].as_str().unwrap().is_empty());
        }
    }
    room.check_counts(&room.db).await;
}

#[tokio::test]
async fn several_choices_are_counted_each_and_their_order_does_not_matter() {
    let room = Room::open().await;
    let mut body = choice(4);
    body["max_choices"] = json!(3);
    let poll = room.poll(body).await;
    for (answer, ok) in [
        (json!([0]), true),
        (json!([3, 0]), true),
        (json!([2, 0, 3]), true),
        (json!([0, 1, 2, 3]), false),
        (json!([1, 1]), false),
        (json!([4]), false),
        (json!([]), false),
    ] {
        let said = room.guest().await.cast(poll, json!({"choices": answer})).await;
        assert_eq!(said["type"] == "ack", ok, "{answer}: {said}");
        assert!(ok || said["code"] == "unprocessable", "{answer}: {said}");
    }
    let results = room.results(poll).await;
    assert_eq!((&results["votes"], numbers(&results["counts"])), (&json!(3), vec![3, 0, 1, 2]));
    room.check_counts(&room.db).await;
}

#[tokio::test]
async fn ratings_are_counted_from_one() {
    let room = Room::open().await;
    let poll = room.poll(json!({"kind": "rating", "question": "q", "max": 4})).await;
    for rating in [1, 4, 4, 2] {
        let ack = room.guest().await.cast(poll, json!({"rating": rating})).await;
        assert_eq!(ack["type"], "ack", "{ack}");
    }
    for rating in [0, 5, -1, 256, 257, 65_537] {
        let said = room.guest().await.cast(poll, json!({"rating": rating})).await;
        assert_eq!(said["code"], "unprocessable", "{rating}: {said}");
    }
    assert_eq!(numbers(&room.results(poll).await["counts"]), [1, 1, 0, 2]);
    room.check_counts(&room.db).await;
}

#[tokio::test]
async fn verdicts_follow_what_is_stored() {
    let room = Room::open().await;
    let draft = room.draft(choice(2)).await;
    let closed = room.choice(2).await;
    room.close_poll(closed).await;
    let mut guest = room.guest().await;
    for (poll, code) in [(draft, "not_found"), (99, "not_found"), (closed, "poll_closed")] {
        let error = guest.cast(poll, pick(0)).await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{error}");
        assert!(error.get("retry_after_ms").is_none_or(Value::is_null), "final: {error}");
    }
    room.open_poll(closed).await;
    assert_eq!(guest.cast(closed, pick(0)).await["type"], "ack");
}

/// The other instance's live state lags behind on purpose: the database decides.
#[tokio::test]
async fn a_verdict_never_comes_from_a_lagging_instance() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &["--poll-interval-ms", "10000"]).await;
    let mut guest = room.guest_at(&second).await;
    for round in 0..5 {
        let poll = room.choice(2).await;
        let ack = guest.cast(poll, pick(0)).await;
        assert_eq!(ack["type"], "ack", "round {round}: opened elsewhere a moment ago: {ack}");
        room.close_poll(poll).await;
        let mut late = room.guest_at(&second).await;
        assert_eq!(late.cast(poll, pick(0)).await["code"], "poll_closed", "round {round}");
    }
}

#[tokio::test]
async fn a_bad_vote_gets_an_answer_with_its_id_and_leaves_the_rest_alone() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    for mut vote in [
        json!({"poll": poll}),
        json!({"poll": poll, "answer": null}),
        json!({"poll": poll, "answer": []}),
        json!({"poll": poll, "answer": {}}),
        json!({"poll": poll, "answer": {"choices": "0"}}),
        json!({"poll": poll, "answer": {"choices": [null]}}),
        json!({"poll": poll, "answer": {"choices": [0.5]}}),
        json!({"poll": poll, "answer": {"choices": [-1]}}),
        json!({"poll": poll, "answer": {"choices": [1e300]}}),
        json!({"poll": poll, "answer": {"rating": 1}}),
        json!({"poll": poll, "answer": {"choices": vec![0; 3000]}}),
        json!({"poll": "1", "answer": pick(0)}),
        json!({"poll": null, "answer": pick(0)}),
        json!({"answer": pick(0)}),
    ] {
        vote["type"] = json!("vote");
        vote["id"] = json!(fresh_id());
        guest.send(vote.clone()).await;
        let error = guest.error().await;
        let code = error["code"].as_str().unwrap();
        assert!(["bad_request", "unprocessable"].contains(&code), "{vote}: {error}");
        assert_eq!(error["id"], vote["id"], "{error}");
    }
    for poll in [json!(0), json!(-1), json!(4_294_967_297_i64), json!(1e300), json!(1.5)] {
        guest
            .send(json!({"type": "vote", "id": fresh_id(), "poll": poll, "answer": pick(0)}))
            .await;
        let code = guest.error().await["code"].as_str().unwrap().to_owned();
        assert!(
            ["bad_request", "unprocessable", "not_found"].contains(&code.as_str()),
            "{poll}: {code}"
        );
    }
    for id in [json!(null), json!(7), json!("x"), json!("' OR 1=1"), json!({})] {
        guest.send(json!({"type": "vote", "id": id, "poll": poll, "answer": pick(0)})).await;
        let error = guest.error().await;
        assert!(
            ["bad_request", "unprocessable"].contains(&error["code"].as_str().unwrap()),
            "{error}"
        );
        assert!(error.get("id").is_none_or(Value::is_null), "client text is repeated: {error}");
    }
    assert_eq!(guest.cast(poll, pick(0)).await["type"], "ack");
}

#[tokio::test]
async fn a_presenter_cannot_vote() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut host = room.host().await;
    let error = host.cast(poll, pick(0)).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("forbidden")), "{error}");
    assert_eq!(room.results(poll).await["votes"], 0);
}

#[tokio::test]
async fn pipelined_votes_are_all_answered_and_counted() {
    let room = Room::open().await;
    let mut polls = Vec::new();
    for _ in 0..40 {
        polls.push(room.choice(3).await);
    }
    let mut guest = room.guest().await;
    let mut ids = Vec::new();
    for poll in &polls {
        ids.push(guest.vote(*poll, pick(2)).await);
    }
    for (id, poll) in ids.iter().zip(&polls) {
        let ack = guest.verdict(id).await;
        assert_eq!((&ack["type"], &ack["poll"]), (&json!("ack"), &json!(poll)));
    }
    assert_eq!(stored_votes(&room.db, &room.id).await.len(), 40);
    room.check_counts(&room.db).await;
}

/// The same vote many times at once, on two instances: stored once, one answer is no repeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_vote_sent_at_once_from_everywhere_is_stored_once() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let poll = room.choice(2).await;
    let token = room.join().await.token;
    let id = fresh_id();
    let mut guests = Vec::new();
    for nth in 0..20 {
        let base = if nth % 2 == 0 { room.server.base() } else { second.base() };
        guests.push(Guest::hello(&base, json!({"token": token})).await);
    }
    let mut senders = tokio::task::JoinSet::new();
    for mut guest in guests {
        let id = id.clone();
        senders.spawn(async move { guest.cast_as(&id, poll, pick(1)).await });
    }
    let acks = within(SOON, "all are answered", senders.join_all()).await;
    assert!(
        acks.iter().all(|ack| ack["type"] == "ack" && ack["seq"] == acks[0]["seq"]),
        "{acks:?}"
    );
    assert_eq!(acks.iter().filter(|ack| ack["repeat"] == false).count(), 1);
    assert_eq!(room.results(poll).await["votes"], 1);
    room.check_counts(&room.db).await;
}

/// Two different votes of one participant at the same time: one counts, the other learns which.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_votes_at_once_one_counts_and_the_other_is_told() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    for _ in 0..10 {
        let poll = room.choice(2).await;
        let mut first = room.guest().await;
        let mut other = Guest::hello(&second.base(), json!({"token": first.token})).await;
        let (one, two) = tokio::join!(first.cast(poll, pick(0)), other.cast(poll, pick(1)));
        let (error, kept) = if one["type"] == "ack" { (two, pick(0)) } else { (one, pick(1)) };
        assert_eq!((&error["code"], &error["answer"]), (&json!("already_voted"), &kept));
    }
    room.check_counts(&room.db).await;
}

/// Sent in one packet, behind a vote that keeps the writer busy, so that they share a batch.
#[tokio::test]
async fn a_vote_and_its_repeats_in_one_batch_are_told_apart() {
    let room = Room::open().await;
    for _ in 0..10 {
        let (busy, poll) = (room.choice(2).await, room.choice(2).await);
        let mut socket = RawSocket::join(&room.server, &room.code).await;
        let (same, other) = (fresh_id(), fresh_id());
        let mut packet = Vec::new();
        for (id, poll) in
            [(&fresh_id(), busy), (&same, poll), (&same, poll), (&other, poll), (&same, poll)]
        {
            let vote = json!({"type": "vote", "id": id, "poll": poll, "answer": pick(0)});
            packet.extend(frame(TEXT, vote.to_string().as_bytes()));
        }
        socket.bytes(&packet).await;
        let mut acks = Vec::new();
        for _ in 0..4 {
            let ack = socket.message("ack").await;
            if ack["id"] == same.as_str() {
                acks.push(ack["repeat"].as_bool().unwrap());
            }
        }
        acks.sort_unstable();
        assert_eq!(acks, [false, true, true]);
        let again = room.results(poll).await;
        assert_eq!((&again["votes"], numbers(&again["counts"])), (&json!(1), vec![1, 0]));
    }
    room.check_counts(&room.db).await;
}
