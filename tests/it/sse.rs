//! Server-sent events: the messages of the WebSocket, one way, resumed by `Last-Event-ID`.
//! What may be seen there is in `visibility`.

use crate::support::*;

async fn open(room: &Room, query: &str, headers: &[&str]) -> Sse {
    let path = room.path(&format!("/stream{query}"));
    Sse::open(room.server.listen, &path, headers).await.unwrap()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[tokio::test]
async fn a_stream_begins_with_the_welcome_and_goes_on_with_events() {
    let room = Room::open().await;
    let member = room.join().await;
    let mut stream = open(&room, "", &[&bearer(&member.token)]).await;
    let welcome = stream.next().await.unwrap();
    assert_eq!(welcome.data["type"], "welcome");
    assert_eq!(
        (&welcome.data["seq"], &welcome.data["session"]["id"]),
        (&json!(0), &json!(room.id))
    );
    assert!(welcome.id.is_none_or(|id| id == "0"));
    let poll = room.choice(2).await;
    room.cast(&member.token, &fresh_id(), poll, pick(1)).await;
    for (seq, kind) in [(1, "poll.opened"), (2, "poll.results")] {
        let message = stream.next_of(kind).await;
        assert_eq!(message.id, Some(seq.to_string()));
        let data = &message.data;
        assert_eq!(
            (&data["type"], &data["seq"], &data["prev"]),
            (&json!("event"), &json!(seq), &json!(seq - 1))
        );
    }
}

#[tokio::test]
async fn a_token_may_come_in_the_query_as_event_source_sends_no_headers() {
    let room = Room::open().await;
    for token in [room.presenter.clone(), room.join().await.token] {
        let mut stream = open(&room, &format!("?token={token}"), &[]).await;
        assert_eq!(stream.next().await.unwrap().data["type"], "welcome");
    }
    for query in ["", "?token=", "?token=forged"] {
        let path = room.path(&format!("/stream{query}"));
        let refused = Sse::open(room.server.listen, &path, &[]).await.unwrap_err();
        assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("invalid_token")));
    }
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let path = room.path(&format!("/stream?token={}", other.presenter));
    assert_eq!(Sse::open(room.server.listen, &path, &[]).await.unwrap_err().status, 401);
    let path = room.path(&format!("/stream?token={}&after=x", room.presenter));
    assert_eq!(Sse::open(room.server.listen, &path, &[]).await.unwrap_err().status, 400);
}

#[tokio::test]
async fn last_event_id_resumes_and_wins_over_after() {
    let room = Room::open().await;
    for title in ["1", "2", "3", "4", "5"] {
        room.retitle(title).await;
    }
    let token = bearer(&room.presenter);
    for (query, header, after) in [
        ("?after=3", None, 3),
        ("", Some("Last-Event-ID: 2"), 2),
        ("?after=0", Some("Last-Event-ID: 4"), 4),
        ("?after=5", Some("Last-Event-ID: 0"), 0),
        ("?after=5", None, 5),
    ] {
        let mut headers = vec![token.as_str()];
        headers.extend(header);
        let mut stream = open(&room, query, &headers).await;
        let welcome = stream.next().await.unwrap().data;
        assert_eq!(
            (&welcome["seq"], &welcome["resumed"]),
            (&json!(after), &json!(true)),
            "{query} {header:?}"
        );
        for seq in after + 1..=5 {
            assert_eq!(stream.next_of("event").await.data["seq"], seq);
        }
    }
    let mut fresh = open(&room, "", &[&token]).await;
    let welcome = fresh.next().await.unwrap().data;
    assert_eq!((&welcome["seq"], &welcome["resumed"]), (&json!(5), &json!(false)));
    let mut ahead = open(&room, "?after=77", &[&token]).await;
    let welcome = ahead.next().await.unwrap().data;
    assert_eq!((&welcome["seq"], &welcome["resumed"]), (&json!(5), &json!(false)));
}

#[tokio::test]
async fn a_participants_welcome_on_a_stream_holds_their_votes() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let member = room.join().await;
    room.cast(&member.token, &fresh_id(), poll, pick(1)).await;
    let mut stream = open(&room, "", &[&bearer(&member.token)]).await;
    let welcome = stream.next().await.unwrap().data;
    assert_eq!(welcome["my_votes"], json!({poll.to_string(): pick(1)}));
}

#[tokio::test]
async fn a_stream_ends_when_its_session_is_deleted() {
    let room = Room::open().await;
    let mut stream = open(&room, "", &[&bearer(&room.presenter)]).await;
    stream.next().await.unwrap();
    assert_eq!(room.call("DELETE", "", &room.presenter, Value::Null).await.status, 204);
    while let Some(message) = stream.next().await {
        assert_ne!(message.data["type"], "event", "{message:?}");
    }
}

/// The same burst on both kinds of connection, with the same outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_follows_a_burst_to_its_end() {
    let room = Room::open().await;
    let polls = [room.choice(3).await, room.choice(3).await];
    let mut stream = open(&room, "", &[&bearer(&room.presenter)]).await;
    stream.next().await.unwrap();
    let ballots = Burst::start(room.guests_at(&room.server, 30).await, &polls, 3).ended().await;
    assert!(ballots.iter().all(Ballot::is_acked));
    let last = room.retitle("the end").await["last_seq"].clone();
    let mut highest = 0;
    let mut newest = std::collections::HashMap::new();
    loop {
        let message = stream.next().await.expect("the stream goes on").data;
        if message["type"] != "event" {
            continue;
        }
        let seq = message["seq"].as_i64().unwrap();
        assert!(seq > highest && (highest == 0 || message["prev"].as_i64().unwrap() <= highest));
        highest = seq;
        if message["seq"] == last {
            break;
        }
        newest.insert(message["data"]["poll"].as_i64().unwrap(), message["data"].clone());
    }
    for poll in polls {
        assert_eq!(newest[&poll], room.results(poll).await);
    }
}
