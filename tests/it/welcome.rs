//! The welcome: the whole visible state as of `seq`, and coming back with `after` and `epoch`.
//! Who sees which counts is in `visibility`.

use crate::support::*;

#[tokio::test]
async fn a_newcomer_gets_the_whole_state() {
    let room = Room::open().await;
    let open = room.choice(2).await;
    room.draft(choice(2)).await;
    let closed = room.choice(3).await;
    room.guest().await.cast(closed, pick(2)).await;
    room.close_poll(closed).await;
    let head = room.log(&room.presenter).await.len();
    let guest = room.guest().await;
    let welcome = &guest.welcome;
    assert_eq!((&welcome["seq"], &welcome["resumed"]), (&json!(head), &json!(false)));
    assert_eq!((&welcome["heartbeat_ms"], &welcome["my_votes"]), (&json!(25_000), &json!({})));
    assert!(!guest.id.is_empty() && !guest.token.is_empty(), "{welcome}");
    assert!(welcome["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()), "{welcome}");
    let session = room.get("", &guest.token).await.json();
    for name in ["id", "code", "title", "state", "created_at", "join_url"] {
        assert_eq!(welcome["session"][name], session[name], "{name}");
    }
    let expected = room.get("/polls", &guest.token).await.json();
    assert_eq!(welcome["polls"], expected["polls"]);
    let of =
        |n: i64| welcome["results"].as_array().unwrap().iter().find(|results| results["poll"] == n);
    assert_eq!(numbers(&of(closed).unwrap()["counts"]), [0, 0, 1]);
    assert!(of(open).is_none_or(|results| results["votes"] == 0));
}

#[tokio::test]
async fn a_presenter_sees_drafts_and_all_results() {
    let room = Room::open().await;
    room.draft(choice(2)).await;
    let hidden = room.poll(choice_seen("presenter")).await;
    room.guest().await.cast(hidden, pick(0)).await;
    let host = room.host().await;
    let polls = room.present("GET", "/polls", Value::Null).await;
    assert_eq!(host.welcome["polls"], polls["polls"]);
    assert_eq!(
        host.welcome["results"].as_array().unwrap().iter().find(|r| r["poll"] == hidden).unwrap()["votes"],
        1
    );
    assert!(host.welcome.get("presenter_token").is_none());
}

#[tokio::test]
async fn my_votes_hold_open_and_closed_polls_alike() {
    let room = Room::open().await;
    let mut several = choice(4);
    several["max_choices"] = json!(3);
    let polls = [
        room.choice(2).await,
        room.poll(several).await,
        room.poll(json!({"kind": "rating", "question": "q", "max": 5})).await,
    ];
    let mut guest = room.guest().await;
    guest.cast(polls[0], pick(1)).await;
    guest.cast(polls[1], json!({"choices": [3, 0]})).await;
    guest.cast(polls[2], json!({"rating": 4})).await;
    room.close_poll(polls[0]).await;
    room.guest().await.cast(polls[1], pick(2)).await;
    let back = room.resume(&guest.token, 0).await;
    let mut mine = back.welcome["my_votes"].clone();
    mine["2"]["choices"].as_array_mut().unwrap().sort_by_key(Value::as_i64);
    assert_eq!(mine, json!({"1": pick(1), "2": {"choices": [0, 3]}, "3": {"rating": 4}}));
}

#[tokio::test]
async fn resuming_within_the_log_keeps_seq_and_shows_the_state_of_now() {
    let room = Room::open().await;
    let mut guest = room.guest().await;
    let poll = room.choice(2).await;
    guest.cast(poll, pick(0)).await;
    room.retitle("changed").await;
    let head = i64::try_from(room.log(&room.presenter).await.len()).unwrap();
    for after in [0, 1, head] {
        let back = room.resume(&guest.token, after).await;
        assert_eq!((&back.welcome["resumed"], &back.welcome["seq"]), (&json!(true), &json!(after)));
        assert_eq!(back.welcome["session"]["title"], "changed");
        assert_eq!(back.welcome["polls"][0]["n"], poll);
        assert_eq!(back.welcome["results"][0]["votes"], 1);
        assert_eq!(back.welcome["my_votes"][poll.to_string()], pick(0));
        assert_eq!(back.id, guest.id);
    }
}

#[tokio::test]
async fn ahead_of_the_log_or_of_another_epoch_the_state_stands_in() {
    let room = Room::open().await;
    let guest = room.guest().await;
    room.choice(2).await;
    let head = json!(room.log(&room.presenter).await.len());
    let epoch = guest.welcome["epoch"].clone();
    for (hello, resumed) in [
        (json!({"after": 1_000_000}), false),
        (json!({"after": 2}), false),
        (json!({"after": 1}), true),
        (json!({"after": 1, "epoch": epoch}), true),
        (json!({"after": 0, "epoch": "another"}), false),
        (json!({"epoch": epoch}), false),
        (json!({}), false),
    ] {
        let mut with_token = hello.clone();
        with_token["token"] = json!(guest.token);
        let back = Guest::hello(&room.server.base(), with_token).await;
        assert_eq!(back.welcome["resumed"], resumed, "{hello}");
        assert_eq!(back.welcome["seq"], head, "{hello}");
    }
}

/// What the log no longer holds cannot be resumed; the last event before its beginning can.
#[tokio::test]
async fn behind_the_log_the_state_stands_in() {
    let room = Room::open().await;
    let guest = room.guest().await;
    for title in ["a", "b", "c", "d", "e"] {
        room.retitle(title).await;
    }
    room.db.sql().await.execute("DELETE FROM event_log WHERE seq <= 3", &[]).await.unwrap();
    let server = Server::start(&room.db).await;
    for (after, resumed) in [(0, false), (2, false), (3, true), (4, true), (5, true)] {
        let hello = json!({"token": guest.token, "after": after});
        let back = Guest::hello(&server.base(), hello).await;
        assert_eq!(back.welcome["resumed"], resumed, "after {after}");
        assert_eq!(back.welcome["seq"], if resumed { after } else { 5 });
    }
    let page = room.by(&server).get("/events?after=0", &guest.token).await.json();
    assert_eq!((&page["oldest_seq"], &page["last_seq"]), (&json!(4), &json!(5)));
}

#[tokio::test]
async fn the_epoch_is_one_for_all_instances_and_outlives_them() {
    let mut room = Room::open().await;
    let second = Server::start(&room.db).await;
    let epoch = room.guest().await.welcome["epoch"].clone();
    assert_eq!(room.guest_at(&second).await.welcome["epoch"], epoch);
    room.server.kill9();
    let third = Server::start(&room.db).await;
    assert_eq!(room.guest_at(&third).await.welcome["epoch"], epoch);
}

/// An instance that has not yet heard of an event catches up before it answers.
#[tokio::test]
async fn an_instance_that_is_behind_catches_up_before_it_welcomes() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &["--poll-interval-ms", "10000"]).await;
    let guest = room.guest_at(&second).await;
    for n in 1..=10 {
        room.retitle(&format!("{n}")).await;
        let back = Guest::hello(&second.base(), json!({"token": guest.token, "after": n})).await;
        assert_eq!((&back.welcome["resumed"], &back.welcome["seq"]), (&json!(true), &json!(n)));
    }
}

#[tokio::test]
async fn one_token_may_be_used_by_any_number_of_connections() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut first = room.guest().await;
    let mut second = room.resume(&first.token, 0).await;
    let mut third = room.resume(&first.token, 1).await;
    let ack = second.cast(poll, pick(1)).await;
    let same = first.cast_as(ack["id"].as_str().unwrap(), poll, pick(1)).await;
    assert_eq!((&same["repeat"], &same["seq"]), (&json!(true), &ack["seq"]));
    third.send_text("no json").await;
    third.error().await;
    third.leave().await;
    for guest in [&mut first, &mut second] {
        guest.results(poll, 1).await;
    }
    let (mut one, mut other) = (room.host().await, room.host().await);
    room.retitle("to both").await;
    one.event("session.updated").await;
    other.event("session.updated").await;
}

#[tokio::test]
async fn get_events_pages_through_the_log() {
    let room = Room::open().await;
    for n in 0..7 {
        room.retitle(&format!("{n}")).await;
    }
    let first = room.get("/events?after=0&limit=3", &room.presenter).await.json();
    let seqs = |page: &Value| -> Vec<i64> {
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["seq"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(
        (seqs(&first), &first["last_seq"], &first["oldest_seq"]),
        (vec![1, 2, 3], &json!(7), &json!(1))
    );
    assert_eq!(seqs(&room.get("/events?after=3&limit=3", &room.presenter).await.json()), [4, 5, 6]);
    assert_eq!(seqs(&room.get("/events", &room.presenter).await.json()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(seqs(&room.get("/events?after=7", &room.presenter).await.json()), [0_i64; 0]);
    assert_eq!(seqs(&room.get("/events?after=99999", &room.presenter).await.json()), [0_i64; 0]);
    for query in ["after=x", "limit=x", "after=1.5", "after=-", "limit=1e3"] {
        let answer = room.get(&format!("/events?{query}"), &room.presenter).await;
        problem(&answer, 400, "bad_request");
    }
}

/// A scheduled session becomes live by time alone, without an event.
#[tokio::test]
async fn who_comes_after_the_start_is_told_that_it_is_live() {
    let room = Room::open().await;
    let soon = r#"SELECT to_char(now() AT TIME ZONE 'UTC' + interval '2 s', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#;
    let starts_at: String = room.db.sql().await.query_one(soon, &[]).await.unwrap().get(0);
    let session =
        Session::create(&room.api, json!({"title": "Soon", "starts_at": starts_at})).await;
    let _stays = session.guest_at(&room.server).await;
    let state = async || {
        let joined = room.api.post("/v1/join", None, Some(&json!({"code": session.code}))).await;
        joined.unwrap().json()["session"]["state"].clone()
    };
    assert_eq!(state().await, "scheduled");
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    assert_eq!(state().await, "live");
}
