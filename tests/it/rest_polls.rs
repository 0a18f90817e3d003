//! REST: making, reading, changing, opening and closing polls, and their results.
//! Who sees the counts is in `visibility`.

use crate::rest_sessions::is_time;
use crate::support::*;

#[tokio::test]
async fn a_draft_has_the_defaults_filled_in() {
    let room = Room::open().await;
    let made = room.call("POST", "/polls", &room.presenter, choice(2)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let mut expected = choice(2);
    for (name, value) in [
        ("n", json!(1)),
        ("max_choices", json!(1)),
        ("results", json!("live")),
        ("state", json!("draft")),
    ] {
        expected[name] = value;
    }
    assert_eq!(made.json(), expected);
    let rating = json!({"kind": "rating", "question": "How?", "max": 5, "results": "presenter"});
    let rating = room.present("POST", "/polls", rating).await;
    assert_eq!(
        (&rating["n"], &rating["max"], &rating["results"]),
        (&json!(2), &json!(5), &json!("presenter"))
    );
    assert!(rating.get("options").is_none(), "{rating}");
    assert_eq!(rating["max_choices"], 1, "the contract leaves out the options alone");
    assert_eq!(room.log(&room.presenter).await.len(), 0, "drafts make no events");
}

#[tokio::test]
async fn a_wrong_poll_is_refused_and_its_field_named() {
    let room = Room::open().await;
    let with = |name: &str, value: Value| {
        let mut body = choice(3);
        body[name] = value;
        body
    };
    let rating = |max: Value| json!({"kind": "rating", "question": "q", "max": max});
    for (field, body) in [
        ("kind", with("kind", json!("essay"))),
        ("kind", with("kind", Value::Null)),
        ("question", with("question", json!(""))),
        ("question", with("question", json!("x".repeat(301)))),
        ("question", with("question", json!(["x"]))),
        ("options", with("options", json!([]))),
        ("options", with("options", json!(["one"]))),
        ("options", with("options", json!(["a", ""]))),
        ("options", with("options", json!(["a", 7]))),
        ("options", with("options", json!("ab"))),
        ("options", with("options", json!(["a", "x".repeat(201)]))),
        ("options", with("options", json!(vec!["x"; 51]))),
        ("max_choices", with("max_choices", json!(0))),
        ("max_choices", with("max_choices", json!(4))),
        ("max_choices", with("max_choices", json!(-1))),
        ("max_choices", with("max_choices", json!("2"))),
        ("results", with("results", json!("never"))),
        ("max", rating(json!(1))),
        ("max", rating(json!(11))),
        ("max", rating(Value::Null)),
        ("max", rating(json!(1e40))),
    ] {
        let answer = room.call("POST", "/polls", &room.presenter, body.clone()).await;
        assert!([400, 422].contains(&answer.status), "{body}: {}", answer.text());
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        let said = problem(&answer, answer.status, &code);
        let named = said["field"].as_str().unwrap_or_default();
        assert!(named.starts_with(field), "{body}: {said}");
    }
    let polls = room.present("GET", "/polls", Value::Null).await;
    assert_eq!(polls, json!({"polls": []}));
}

#[tokio::test]
async fn the_limits_of_a_poll_are_inclusive() {
    let room = Room::open().await;
    let long = json!({
        "kind": "choice", "question": "\u{1f600}".repeat(300),
        "options": vec!["\u{e9}".repeat(200); 50], "max_choices": 50,
    });
    let made = room.present("POST", "/polls", long.clone()).await;
    assert_eq!((&made["question"], &made["options"]), (&long["question"], &long["options"]));
    for max in [2, 10] {
        let body = json!({"kind": "rating", "question": "q", "max": max});
        assert_eq!(room.present("POST", "/polls", body).await["max"], max);
    }
}

#[tokio::test]
async fn participants_see_open_and_closed_polls_only() {
    let room = Room::open().await;
    let member = room.join().await;
    let open = room.choice(2).await;
    let draft = room.draft(choice(2)).await;
    let closed = room.choice(2).await;
    room.close_poll(closed).await;
    let ns = |body: Value| -> Vec<i64> {
        let polls = body["polls"].as_array().unwrap().clone();
        polls.iter().map(|poll| poll["n"].as_i64().unwrap()).collect()
    };
    assert_eq!(ns(room.present("GET", "/polls", Value::Null).await), [open, draft, closed]);
    assert_eq!(ns(room.get("/polls", &member.token).await.json()), [open, closed]);
    assert_eq!(ns(room.join().await.body), [open, closed]);
    let path = format!("/polls/{draft}");
    problem(&room.get(&path, &member.token).await, 404, "not_found");
    problem(&room.get(&format!("{path}/results"), &member.token).await, 404, "not_found");
    assert_eq!(room.get(&path, &room.presenter).await.status, 200);
    let seen = room.get(&format!("/polls/{closed}"), &member.token).await.json();
    assert_eq!(seen, room.get(&format!("/polls/{closed}"), &room.presenter).await.json());
}

#[tokio::test]
async fn drafts_can_be_changed_and_deleted_and_others_cannot() {
    let room = Room::open().await;
    let n = room.draft(choice(2)).await;
    let path = format!("/polls/{n}");
    let changed = room
        .present(
            "PATCH",
            &path,
            json!({"question": "Better?", "options": ["a", "b", "c"], "max_choices": 2}),
        )
        .await;
    assert_eq!((&changed["question"], &changed["max_choices"]), (&json!("Better?"), &json!(2)));
    assert_eq!(changed["options"], json!(["a", "b", "c"]));
    let fewer = room.call("PATCH", &path, &room.presenter, json!({"options": ["only one"]})).await;
    problem(&fewer, 422, "unprocessable");
    assert_eq!(room.present("GET", &path, Value::Null).await, changed, "refused whole");
    room.open_poll(n).await;
    for _state in ["open", "closed"] {
        let answer = room.call("PATCH", &path, &room.presenter, json!({"question": "?"})).await;
        problem(&answer, 409, "poll_not_draft");
        problem(
            &room.call("DELETE", &path, &room.presenter, Value::Null).await,
            409,
            "poll_not_draft",
        );
        room.close_poll(n).await;
    }
    let second = room.draft(choice(2)).await;
    let gone = room.call("DELETE", &format!("/polls/{second}"), &room.presenter, Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    problem(&room.get(&format!("/polls/{second}"), &room.presenter).await, 404, "not_found");
    assert_eq!(room.draft(choice(2)).await, second + 1, "numbers are never used twice");
}

#[tokio::test]
async fn opening_and_closing_are_idempotent_and_make_one_event_each() {
    let room = Room::open().await;
    let n = room.draft(choice(2)).await;
    let opened = room.open_poll(n).await;
    assert!(opened["state"] == "open" && is_time(&opened["opened_at"]), "{opened}");
    assert_eq!(room.open_poll(n).await, opened);
    let closed = room.close_poll(n).await;
    assert!(closed["state"] == "closed" && is_time(&closed["closed_at"]), "{closed}");
    assert_eq!(room.close_poll(n).await, closed);
    let again = room.open_poll(n).await;
    assert_eq!(again["state"], "open");
    let log = room.log(&room.presenter).await;
    let kinds: Vec<&str> = log.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["poll.opened", "poll.closed", "poll.opened"]);
    assert_eq!(
        (&log[0]["data"], &log[1]["data"]["poll"], &log[2]["data"]),
        (&opened, &closed, &again)
    );
}

#[tokio::test]
async fn a_poll_opened_again_keeps_its_votes() {
    let room = Room::open().await;
    let n = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(n, pick(1)).await;
    room.close_poll(n).await;
    let mut other = room.guest().await;
    assert_eq!(other.cast(n, pick(0)).await["code"], "poll_closed");
    room.open_poll(n).await;
    assert_eq!(other.cast(n, pick(0)).await["type"], "ack");
    assert_eq!(guest.cast(n, pick(0)).await["code"], "already_voted");
    assert_eq!(numbers(&room.results(n).await["counts"]), [1, 1]);
    room.check_counts(&room.db).await;
}

#[tokio::test]
async fn polls_of_an_ended_session_cannot_be_made_or_opened() {
    let room = Room::open().await;
    let draft = room.draft(choice(2)).await;
    room.present("PATCH", "", json!({"state": "ended"})).await;
    let answer =
        room.call("POST", &format!("/polls/{draft}/open"), &room.presenter, Value::Null).await;
    problem(&answer, 409, "session_ended");
    problem(&room.call("POST", "/polls", &room.presenter, choice(2)).await, 409, "session_ended");
}

#[tokio::test]
async fn unknown_polls_are_not_found() {
    let room = Room::open().await;
    let member = room.join().await;
    for n in ["1", "0", "99999", "-1", "4294967297", "99999999999999999999999", "x", "1.0", "%31x"]
    {
        for token in [&room.presenter, &member.token] {
            for path in [format!("/polls/{n}"), format!("/polls/{n}/results")] {
                problem(&room.get(&path, token).await, 404, "not_found");
            }
        }
        let answer =
            room.call("POST", &format!("/polls/{n}/open"), &room.presenter, Value::Null).await;
        problem(&answer, 404, "not_found");
    }
}

#[tokio::test]
async fn results_have_one_count_for_each_option_from_the_start() {
    let room = Room::open().await;
    let choice = room.choice(4).await;
    let rating = room.poll(json!({"kind": "rating", "question": "q", "max": 3})).await;
    assert_eq!(numbers(&room.results(choice).await["counts"]), [0; 4]);
    assert_eq!(numbers(&room.results(rating).await["counts"]), [0; 3]);
    let mut guest = room.guest().await;
    let ack = guest.cast(rating, json!({"rating": 3})).await;
    let expected = json!({"poll": rating, "seq": ack["seq"], "votes": 1, "counts": [0, 0, 1]});
    assert_eq!(room.results(rating).await, expected, "at once where it was acked");
    assert_eq!(room.get(&format!("/polls/{rating}/results"), &guest.token).await.json(), expected);
}

#[tokio::test]
async fn results_on_another_instance_follow_within_200_ms() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let poll = room.choice(2).await;
    let mut watcher = room.guest_at(&second).await;
    for votes in 1..=5 {
        room.guest().await.cast(poll, pick(0)).await;
        watcher.results(poll, votes).await;
        assert_eq!(room.by(&second).results(poll).await["votes"], votes);
    }
}

/// Also shows that so many polls cost a welcome nothing but its size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_may_have_1_000_polls() {
    let room = Room::open().await;
    let mut makers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let session = room.session.clone();
        makers.spawn(async move {
            for _ in 0..100 {
                session.draft(choice(2)).await;
            }
        });
    }
    makers.join_all().await;
    room.open_poll(1000).await;
    let polls = room.present("GET", "/polls", Value::Null).await;
    let numbers: Vec<i64> =
        polls["polls"].as_array().unwrap().iter().map(|poll| poll["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=1000).collect::<Vec<i64>>());
    assert_eq!(room.host().await.welcome["polls"].as_array().unwrap().len(), 1000);
    assert_eq!(room.guest().await.welcome["polls"].as_array().unwrap().len(), 1);
}
