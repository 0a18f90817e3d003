//! REST: voting, for clients without a WebSocket. The verdicts are those of `socket_votes`.

use crate::support::*;

#[tokio::test]
async fn a_vote_is_201_and_its_repeat_200() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let member = room.join().await;
    let id = fresh_id();
    let first = room.cast(&member.token, &id, poll, pick(1)).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let ack = first.json();
    assert_eq!(
        (&ack["id"], &ack["poll"], &ack["repeat"]),
        (&json!(id), &json!(poll), &json!(false))
    );
    let again = room.cast(&member.token, &id, poll, pick(1)).await;
    assert_eq!((again.status, &again.json()["repeat"]), (200, &json!(true)));
    assert_eq!(again.json()["seq"], ack["seq"]);
    let other = room.cast(&member.token, &id, poll, pick(0)).await;
    assert_eq!(other.status, 200, "the same id is a repeat, whatever its answer");
    assert_eq!(numbers(&room.results(poll).await["counts"]), [0, 1]);
    let back = json!({"code": room.code});
    let back = room.api.post("/v1/join", Some(&member.token), Some(&back)).await.unwrap().json();
    assert_eq!(back["my_votes"], json!({poll.to_string(): pick(1)}));
}

#[tokio::test]
async fn a_vote_over_rest_and_one_over_a_socket_are_the_same_vote() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let ack = guest.cast(poll, pick(0)).await;
    let id = ack["id"].as_str().unwrap();
    let again = room.cast(&guest.token, id, poll, pick(0)).await;
    assert_eq!((again.status, &again.json()["seq"]), (200, &ack["seq"]));
    let other = room.cast(&guest.token, &fresh_id(), poll, pick(0)).await;
    problem(&other, 409, "already_voted");
    guest.results(poll, 1).await;
}

#[tokio::test]
async fn verdicts_follow_what_is_stored() {
    let room = Room::open().await;
    let member = room.join().await;
    let draft = room.draft(choice(2)).await;
    let closed = room.choice(2).await;
    room.close_poll(closed).await;
    for (poll, status, code) in
        [(draft, 404, "not_found"), (99, 404, "not_found"), (closed, 409, "poll_closed")]
    {
        let answer = room.cast(&member.token, &fresh_id(), poll, pick(0)).await;
        problem(&answer, status, code);
    }
    assert_eq!(room.db.count("SELECT count(*) FROM votes").await, 0);
}

#[tokio::test]
async fn answers_that_do_not_fit_are_unprocessable() {
    let room = Room::open().await;
    let member = room.join().await;
    let one = room.choice(3).await;
    let mut several = choice(3);
    several["max_choices"] = json!(2);
    let several = room.poll(several).await;
    let rating = room.poll(json!({"kind": "rating", "question": "q", "max": 5})).await;
    for (poll, answer) in [
        (one, json!({"choices": [3]})),
        (one, json!({"choices": [0, 1]})),
        (one, json!({"choices": []})),
        (one, json!({"rating": 1})),
        (several, json!({"choices": [1, 1]})),
        (several, json!({"choices": [0, 1, 2]})),
        (rating, json!({"rating": 0})),
        (rating, json!({"rating": 6})),
        (rating, json!({"choices": [1]})),
    ] {
        let said = room.cast(&member.token, &fresh_id(), poll, answer.clone()).await;
        assert_eq!(said.status, 422, "{poll} {answer}: {}", said.text());
        problem(&said, 422, "unprocessable");
    }
    for answer in [
        json!({"choices": [-1]}),
        json!({"choices": ["0"]}),
        json!({"choices": [0.5]}),
        json!({"choices": [1e30]}),
        json!({"choices": 0}),
        json!({"rating": "5"}),
        json!({"rating": 1.5}),
        json!({"rating": 99_999_999_999_i64}),
        json!({}),
        json!([0]),
        json!("0"),
        Value::Null,
    ] {
        for poll in [one, rating] {
            let said = room.cast(&member.token, &fresh_id(), poll, answer.clone()).await;
            assert!([400, 422].contains(&said.status), "{poll} {answer}: {}", said.text());
        }
    }
    assert_eq!(room.db.count("SELECT count(*) FROM votes").await, 0);
}

#[tokio::test]
async fn a_vote_needs_an_id_and_a_poll() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let member = room.join().await;
    for body in [
        json!({"poll": poll, "answer": pick(0)}),
        json!({"id": "not a uuid", "poll": poll, "answer": pick(0)}),
        json!({"id": 7, "poll": poll, "answer": pick(0)}),
        json!({"id": fresh_id(), "answer": pick(0)}),
        json!({"id": fresh_id(), "poll": "1", "answer": pick(0)}),
        json!({"id": fresh_id(), "poll": 1.5, "answer": pick(0)}),
        json!({"id": fresh_id(), "poll": poll}),
    ] {
        let said = room.call("POST", "/votes", &member.token, body.clone()).await;
        assert!([400, 422].contains(&said.status), "{body}: {}", said.text());
    }
    for n in [json!(-1), json!(0), json!(4_294_967_297_i64)] {
        let body = json!({"id": fresh_id(), "poll": n, "answer": pick(0)});
        let said = room.call("POST", "/votes", &member.token, body.clone()).await;
        assert!([400, 404, 422].contains(&said.status), "{body}: {}", said.text());
    }
}

#[tokio::test]
async fn only_participants_of_the_session_vote() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let stranger = other.join().await;
    let id = fresh_id();
    problem(&room.cast(&room.presenter, &id, poll, pick(0)).await, 403, "forbidden");
    problem(&room.cast(&stranger.token, &id, poll, pick(0)).await, 401, "invalid_token");
    problem(&room.cast("x", &id, poll, pick(0)).await, 401, "invalid_token");
    assert_eq!(room.results(poll).await["votes"], 0);
}

#[tokio::test]
async fn somebody_elses_id_is_never_a_repeat() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let (first, second) = (room.join().await, room.join().await);
    let id = fresh_id();
    assert_eq!(room.cast(&first.token, &id, poll, pick(0)).await.status, 201);
    let other = room.cast(&second.token, &id, poll, pick(1)).await;
    assert!([201, 422].contains(&other.status), "{}", other.text());
    let votes = if other.status == 201 { 2 } else { 1 };
    assert_eq!(room.results(poll).await["votes"], votes);
}
