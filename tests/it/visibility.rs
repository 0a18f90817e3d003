//! Who sees counts, and when: the three kinds of `results` on every path that could show them.
//! A participant who may not see counts gets no key `counts` and no number under `votes`.

use crate::support::*;

/// Nothing in a message tells counts or numbers of votes.
#[track_caller]
fn check_hides(what: &str, value: &Value) {
    assert!(!has_key(value, "counts"), "{what} shows counts: {value}");
    assert!(!shows_votes(value), "{what} shows a number of votes: {value}");
}

fn shows_votes(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(name, inner)| name == "votes" && inner.is_number() || shows_votes(inner)),
        Value::Array(list) => list.iter().any(shows_votes),
        _ => false,
    }
}

/// Everything that a participant can read about a session, by name.
async fn everything_read(room: &Room, token: &str) -> Vec<(&'static str, Value)> {
    let join =
        room.api.post("/v1/join", Some(token), Some(&json!({"code": room.code}))).await.unwrap();
    let mut stream = open_stream(room, token).await;
    vec![
        ("session", room.get("", token).await.json()),
        ("polls", room.get("/polls", token).await.json()),
        ("poll", room.get("/polls/1", token).await.json()),
        ("events", room.get("/events?after=0", token).await.json()),
        ("join", join.json()),
        ("welcome", Guest::hello(&room.server.base(), json!({"token": token})).await.welcome),
        ("welcome of a stream", stream.next().await.unwrap().data),
    ]
}

async fn open_stream(room: &Room, token: &str) -> Sse {
    let path = room.path(&format!("/stream?after=0&token={token}"));
    Sse::open(room.server.listen, &path, &[]).await.unwrap()
}

/// The whole of an SSE stream from the start up to the event `last`.
async fn stream_up_to(room: &Room, token: &str, last: i64) -> Vec<Value> {
    let mut stream = open_stream(room, token).await;
    let mut all = Vec::new();
    loop {
        let message = stream.next().await.unwrap().data;
        all.push(message.clone());
        if message["seq"] == last && message["type"] == "event" {
            return all;
        }
    }
}

/// The last event of a log, one that everyone gets.
async fn marker(room: &Room) -> i64 {
    let title = fresh_id();
    room.retitle(&title).await["last_seq"].as_i64().unwrap()
}

async fn up_to(guest: &mut Guest, last: i64) {
    guest.take("the marker", |message| message["seq"] == last && message["type"] == "event").await;
}

#[tokio::test]
async fn live_results_are_seen_by_everyone_all_the_time() {
    let room = Room::open().await;
    let poll = room.poll(choice_seen("live")).await;
    let (mut guest, mut host) = (room.guest().await, room.host().await);
    guest.cast(poll, pick(2)).await;
    let shown = host.results(poll, 1).await;
    assert_eq!(guest.results(poll, 1).await, shown);
    assert_eq!(numbers(&shown["counts"]), [0, 0, 1]);
    let closed = room.close_poll(poll).await;
    let event = guest.event("poll.closed").await;
    assert_eq!((&event["data"]["poll"], &event["data"]["results"]["votes"]), (&closed, &json!(1)));
    assert_eq!(host.event("poll.closed").await["data"], event["data"]);
    let path = format!("/polls/{poll}/results");
    assert_eq!(room.get(&path, &guest.token).await.json(), room.results(poll).await);
    let back = room.resume(&guest.token, 0).await;
    assert_eq!(back.welcome["results"], json!([room.results(poll).await]));
}

#[tokio::test]
async fn presenter_results_are_never_seen_by_participants() {
    let room = Room::open().await;
    let poll = room.poll(choice_seen("presenter")).await;
    let (mut guest, mut host) = (room.guest().await, room.host().await);
    let ack = guest.cast(poll, pick(1)).await;
    assert_eq!(ack["type"], "ack");
    assert_eq!(numbers(&host.results(poll, 1).await["counts"]), [0, 1, 0]);
    let again = guest.cast(poll, pick(2)).await;
    assert_eq!(again["answer"], pick(1), "one's own answer is shown");
    for state in ["open", "closed", "open again"] {
        for (what, read) in everything_read(&room, &guest.token).await {
            check_hides(&format!("{what}, {state}"), &read);
        }
        let path = format!("/polls/{poll}/results");
        check_hides(state, &problem(&room.get(&path, &guest.token).await, 403, "forbidden"));
        match state {
            "open" => room.close_poll(poll).await,
            _ => room.open_poll(poll).await,
        };
    }
    let last = marker(&room).await;
    up_to(&mut guest, last).await;
    up_to(&mut host, last).await;
    guest.received.iter().for_each(|message| check_hides("a message", message));
    let closed = guest.events().into_iter().find(|event| event["kind"] == "poll.closed").unwrap();
    assert!(
        closed["data"].get("results").is_none() && closed["data"]["poll"]["n"] == poll,
        "{closed}"
    );
    assert!(!guest.events().iter().any(|event| event["kind"] == "poll.results"));
    stream_up_to(&room, &guest.token, last).await.iter().for_each(|m| check_hides("the stream", m));
    assert_eq!(host.event("poll.closed").await["data"]["results"]["votes"], 1);
}

#[tokio::test]
async fn after_close_results_are_seen_while_the_poll_is_closed() {
    let room = Room::open().await;
    let poll = room.poll(choice_seen("after_close")).await;
    let (mut guest, mut host) = (room.guest().await, room.host().await);
    guest.cast(poll, pick(0)).await;
    host.results(poll, 1).await;
    let path = format!("/polls/{poll}/results");
    for (what, read) in everything_read(&room, &guest.token).await {
        check_hides(what, &read);
    }
    problem(&room.get(&path, &guest.token).await, 403, "forbidden");
    room.close_poll(poll).await;
    let closed = guest.event("poll.closed").await;
    assert_eq!(numbers(&closed["data"]["results"]["counts"]), [1, 0, 0]);
    assert_eq!(host.event("poll.closed").await["data"], closed["data"]);
    assert_eq!(room.get(&path, &guest.token).await.json(), closed["data"]["results"]);
    for hello in [json!({"code": room.code}), json!({"token": guest.token, "after": 1})] {
        let other = Guest::hello(&room.server.base(), hello).await;
        assert_eq!(other.welcome["results"], json!([closed["data"]["results"]]));
    }
    room.open_poll(poll).await;
    guest.event("poll.opened").await;
    problem(&room.get(&path, &guest.token).await, 403, "forbidden");
    for (what, read) in everything_read(&room, &guest.token).await {
        // The old poll.closed stays in the log as it was stored.
        if what != "events" {
            check_hides(&format!("{what}, opened again"), &read);
        }
    }
    let mut late = room.guest().await;
    late.cast(poll, pick(1)).await;
    host.results(poll, 2).await;
    room.close_poll(poll).await;
    assert_eq!(numbers(&guest.event("poll.closed").await["data"]["results"]["counts"]), [1, 1, 0]);
    assert!(
        !guest.events().iter().any(|event| event["kind"] == "poll.results"),
        "{:?}",
        guest.events()
    );
}

#[tokio::test]
async fn events_left_out_for_participants_leave_no_hole() {
    let room = Room::open().await;
    let hidden = room.poll(choice_seen("presenter")).await;
    let seen = room.choice(2).await;
    let mut watcher = room.guest().await;
    for mut guest in room.guests_at(&room.server, 4).await {
        guest.cast(hidden, pick(0)).await;
        guest.cast(seen, pick(0)).await;
    }
    let last = marker(&room).await;
    // Guest itself checks seq and prev of every event.
    up_to(&mut watcher, last).await;
    let log = room.log(&watcher.token).await;
    let polls: Vec<i64> = log.iter().filter_map(|event| event["data"]["poll"].as_i64()).collect();
    assert_eq!(polls, [seen; 4]);
    let all = room.log(&room.presenter).await;
    assert_eq!(all.len(), usize::try_from(last).unwrap());
    for event in &log {
        assert!(all.contains(event), "{event}");
    }
    let mut back = room.resume(&watcher.token, 0).await;
    up_to(&mut back, last).await;
    back.received
        .iter()
        .filter(|m| m["kind"] == "poll.results")
        .for_each(|m| assert_eq!(m["data"]["poll"], seen));
}

/// JSON-equal for all receivers of an audience: WebSocket, SSE and GET events.
#[tokio::test]
async fn an_event_is_the_same_on_every_path_of_an_audience() {
    let room = Room::open().await;
    let (mut guest, mut host) = (room.guest().await, room.host().await);
    for results in ["live", "after_close", "presenter"] {
        let poll = room.poll(choice_seen(results)).await;
        guest.cast(poll, pick(0)).await;
        room.close_poll(poll).await;
    }
    room.present("PATCH", "", json!({"state": "ended"})).await;
    let last = marker(&room).await;
    let tokens = [guest.token.clone(), room.presenter.clone()];
    for (client, token) in [&mut guest, &mut host].into_iter().zip(tokens) {
        up_to(client, last).await;
        let log = room.log(&token).await;
        let mut streamed = stream_up_to(&room, &token, last).await;
        streamed.retain(|message| message["type"] == "event");
        let mut received = client.events();
        received.extend(streamed);
        for event in received {
            let known = log.iter().find(|known| known["seq"] == event["seq"]).unwrap();
            for part in ["kind", "at", "data"] {
                assert_eq!(event[part], known[part], "{part} of {event}");
            }
        }
    }
}

#[tokio::test]
async fn a_closed_poll_says_the_same_to_everyone_where_counts_are_live() {
    let room = Room::open().await;
    let polls = [room.choice(2).await, room.poll(choice_seen("after_close")).await];
    room.guest().await.cast(polls[0], pick(1)).await;
    let token = room.join().await.token;
    for poll in polls {
        room.close_poll(poll).await;
    }
    let closed = |log: Vec<Value>| -> Vec<Value> {
        log.into_iter().filter(|event| event["kind"] == "poll.closed").collect()
    };
    let seen = closed(room.log(&token).await);
    assert_eq!(seen, closed(room.log(&room.presenter).await));
    for event in seen {
        assert_eq!(event["data"]["results"]["seq"], event["seq"]);
    }
}
