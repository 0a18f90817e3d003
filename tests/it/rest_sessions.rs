//! REST: creating, listing, reading and changing sessions. Deleting is in `delete`.

use crate::support::*;

/// Exactly three decimals and `Z`.
pub(crate) fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

fn is_url_safe(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
}

async fn create(api: &Api, token: Option<&str>, body: Value) -> Answer {
    api.post("/v1/sessions", token, Some(&body)).await.unwrap()
}

#[tokio::test]
async fn a_created_session_is_live_and_complete() {
    let room = Room::open().await;
    let body = &room.body;
    assert!(is_url_safe(&body["id"]) && is_url_safe(&body["presenter_token"]), "{body}");
    assert!(
        room.code.len() == 8 && room.code.bytes().all(|digit| digit.is_ascii_digit()),
        "{body}"
    );
    assert!(is_time(&body["created_at"]), "{body}");
    assert!(body["join_url"].as_str().unwrap().starts_with("http"), "{body}");
    assert_eq!((&body["state"], &body["title"]), (&json!("live"), &json!("A test")));
    assert_eq!((&body["participants"], &body["last_seq"]), (&json!(0), &json!(0)));
    let read = room.get("", &room.presenter).await.json();
    let mut expected = body.clone();
    expected.as_object_mut().unwrap().remove("presenter_token");
    assert_eq!(read, expected, "the token is shown once");
}

#[tokio::test]
async fn a_session_that_starts_later_is_scheduled_and_can_be_made_live() {
    let room = Room::open().await;
    let body = json!({"title": "Later", "starts_at": "2099-12-31T23:30:00.123+02:00", "expected_participants": 400});
    let later = Session::create(&room.api, body).await;
    assert_eq!(later.body["state"], "scheduled");
    assert_eq!(later.body["starts_at"], "2099-12-31T21:30:00.123Z");
    assert_eq!(later.body["expected_participants"], 400);
    let live = later.present("PATCH", "", json!({"state": "live"})).await;
    assert_eq!(live["state"], "live");
    assert_eq!(later.log(&later.presenter).await[0]["kind"], "session.updated");
    let past =
        Session::create(&room.api, json!({"title": "Now", "starts_at": "2001-01-01T00:00:00Z"}))
            .await;
    assert_eq!(
        (&past.body["state"], &past.body["starts_at"]),
        (&json!("live"), &json!("2001-01-01T00:00:00.000Z"))
    );
}

#[tokio::test]
async fn text_is_kept_exactly_and_counted_in_code_points() {
    let room = Room::open().await;
    for title in [
        " leading and trailing \n",
        "<b>&amp;\"'\\ / \u{7f} \u{2028} e\u{301} \u{e9} \u{feff}",
        &"\u{1f600}".repeat(300),
        "x",
    ] {
        let made = Session::create(&room.api, json!({"title": title})).await;
        assert_eq!(made.body["title"], title);
        assert_eq!(made.get("", &made.presenter).await.json()["title"], title);
        let joined = made.join().await;
        assert_eq!(joined.body["session"]["title"], title);
    }
    for title in [String::new(), "\u{1f600}".repeat(301)] {
        let answer = create(&room.api, None, json!({"title": title})).await;
        assert_eq!(problem(&answer, 422, "unprocessable")["field"], "title");
    }
}

#[tokio::test]
async fn a_wrong_field_is_named_and_nothing_is_created() {
    let room = Room::open().await;
    for (field, body) in [
        ("title", json!({})),
        ("title", json!({"title": null})),
        ("title", json!({"title": 7})),
        ("title", json!({"title": ["x"]})),
        ("starts_at", json!({"title": "x", "starts_at": "tomorrow"})),
        ("starts_at", json!({"title": "x", "starts_at": 5})),
        ("expected_participants", json!({"title": "x", "expected_participants": -1})),
        ("expected_participants", json!({"title": "x", "expected_participants": 1.5})),
        ("expected_participants", json!({"title": "x", "expected_participants": "many"})),
        ("expected_participants", json!({"title": "x", "expected_participants": 1e300})),
    ] {
        let answer = create(&room.api, None, body.clone()).await;
        let code = if answer.status == 400 { "bad_request" } else { "unprocessable" };
        let said = problem(&answer, if code == "bad_request" { 400 } else { 422 }, code);
        assert_eq!(said["field"], field, "{body}");
    }
    assert_eq!(room.db.count("SELECT count(*) FROM sessions").await, 1);
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let room = Room::open().await;
    let made =
        Session::create(&room.api, json!({"title": "x", "id": "mine", "later": {"a": [1]}})).await;
    assert_ne!(made.id, "mine");
}

#[tokio::test]
async fn with_an_api_key_only_its_holder_creates_and_lists() {
    let db = TestDb::fresh().await;
    let server =
        Server::plain(&["--database-url", &db.url(), "--api-key", "the ~key, any text"]).await;
    let right = Some("the ~key, any text");
    let made = create(&server.api, right, json!({"title": "x"})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let presenter = made.json()["presenter_token"].as_str().unwrap().to_owned();
    for token in [None, Some("the ~key, any tex"), Some(""), Some(presenter.as_str())] {
        problem(&create(&server.api, token, json!({"title": "x"})).await, 401, "invalid_token");
        problem(&server.api.get("/v1/sessions", token).await.unwrap(), 401, "invalid_token");
    }
    let not_bearer = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Basic the ~key, any text\r\n\
                      Content-Length: 13\r\n\r\n{\"title\":\"x\"}";
    assert_eq!(exchange(server.listen, not_bearer).await.status, 401);
    let listed = server.api.get("/v1/sessions", right).await.unwrap().json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    let path = format!("/v1/sessions/{}", made.json()["id"].as_str().unwrap());
    problem(&server.api.get(&path, right).await.unwrap(), 401, "invalid_token");
}

/// A key is any text, and a header any bytes.
#[tokio::test]
async fn an_api_key_need_not_be_ascii() {
    let db = TestDb::fresh().await;
    let server = Server::plain(&["--database-url", &db.url(), "--api-key", "schlüssel"]).await;
    let list = "GET /v1/sessions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer schlüssel\r\n\r\n";
    assert_eq!(exchange(server.listen, list).await.status, 200);
}

/// Without a time ahead nothing is scheduled.
#[tokio::test]
async fn taking_the_start_away_makes_a_session_live() {
    let room = Room::open().await;
    for starts_at in [Value::Null, json!("2001-01-01T00:00:00Z")] {
        let body = json!({"title": "Later", "starts_at": "2099-12-31T23:30:00Z"});
        let session = Session::create(&room.api, body).await;
        assert_eq!(session.get("", &session.presenter).await.json()["state"], "scheduled");
        let patched = session.present("PATCH", "", json!({"starts_at": starts_at})).await;
        assert_eq!(patched["state"], "live", "{patched}");
    }
}

#[tokio::test]
async fn listing_by_pages_shows_every_session_once() {
    let room = Room::open().await;
    let mut expected = vec![room.id.clone()];
    for n in 0..6 {
        expected.push(Session::create(&room.api, json!({"title": format!("{n}")})).await.id);
    }
    let mut found = Vec::new();
    let mut path = "/v1/sessions?limit=3".to_owned();
    loop {
        let page = room.api.get(&path, None).await.unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
        let page = page.json();
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 3);
        for session in sessions {
            assert!(session.get("presenter_token").is_none());
            found.push(session["id"].as_str().unwrap().to_owned());
        }
        if page["next_cursor"].is_null() {
            break;
        }
        assert!(is_url_safe(&page["next_cursor"]), "{page}");
        path = format!("/v1/sessions?limit=3&cursor={}", page["next_cursor"].as_str().unwrap());
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    for query in ["limit=x", "limit=-1", "limit=0.5", "cursor=%00", "cursor=zzzzz"] {
        let answer = room.api.get(&format!("/v1/sessions?{query}"), None).await.unwrap();
        assert!([400, 422].contains(&answer.status), "{query}: {}", answer.status);
    }
}

#[tokio::test]
async fn every_change_makes_one_event_and_none_makes_none() {
    let room = Room::open().await;
    let changed =
        room.present("PATCH", "", json!({"title": "New", "expected_participants": 9})).await;
    assert_eq!((&changed["title"], &changed["last_seq"]), (&json!("New"), &json!(1)));
    room.present("PATCH", "", json!({"title": "New"})).await;
    room.present("PATCH", "", json!({})).await;
    room.present("PATCH", "", json!({"state": "ended"})).await;
    let log = room.log(&room.presenter).await;
    let kinds: Vec<&str> = log.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["session.updated", "session.ended"]);
    assert_eq!(log[0]["data"]["title"], "New");
    assert_eq!(log[1]["data"]["state"], "ended");
    for event in &log {
        assert!(is_time(&event["at"]));
        assert!(
            event["data"].get("participants").is_none_or(Value::is_null),
            "a live figure: {event}"
        );
    }
    assert_eq!(room.get("", &room.presenter).await.json()["state"], "ended");
}

#[tokio::test]
async fn a_change_that_makes_no_sense_is_refused_whole() {
    let room = Room::open().await;
    for body in [
        json!({"title": ""}),
        json!({"title": "kept?", "state": "paused"}),
        json!({"title": "kept?", "state": "scheduled"}),
        json!({"title": "kept?", "starts_at": "x"}),
        json!({"title": "kept?", "expected_participants": -5}),
    ] {
        let answer = room.call("PATCH", "", &room.presenter, body.clone()).await;
        assert!([400, 422].contains(&answer.status), "{body}: {}", answer.text());
    }
    assert_eq!(room.get("", &room.presenter).await.json()["title"], "A test");
    assert_eq!(room.log(&room.presenter).await.len(), 0);
}

#[tokio::test]
async fn an_ended_session_stays_readable_and_takes_no_votes() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(poll, pick(1)).await;
    room.present("PATCH", "", json!({"state": "ended"})).await;
    guest.event("session.ended").await;
    let mut late = room.guest().await;
    assert_eq!(late.cast(poll, pick(0)).await["code"], "session_ended");
    let member = room.resume(&guest.token, 0).await;
    assert_eq!(member.welcome["my_votes"][poll.to_string()], pick(1));
    assert_eq!(member.welcome["session"]["state"], "ended");
    let answer = room.cast(&late.token, &fresh_id(), poll, pick(0)).await;
    problem(&answer, 409, "session_ended");
}

#[tokio::test]
async fn tokens_open_their_own_session_alone() {
    let room = Room::open().await;
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let member = room.join().await;
    let stranger = other.join().await;
    assert_eq!(room.get("", &member.token).await.status, 200);
    for token in [&other.presenter, &stranger.token, &room.presenter[..room.presenter.len() - 1]] {
        problem(&room.get("", token).await, 401, "invalid_token");
        problem(&room.call("PATCH", "", token, json!({"title": "x"})).await, 401, "invalid_token");
    }
    problem(&room.call("PATCH", "", &member.token, json!({"title": "x"})).await, 403, "forbidden");
    problem(&room.call("DELETE", "", &member.token, Value::Null).await, 403, "forbidden");
    problem(&room.api.get(&room.path(""), None).await.unwrap(), 401, "invalid_token");
}

#[tokio::test]
async fn codes_of_living_sessions_differ() {
    let room = Room::open().await;
    let mut codes = vec![room.code.clone()];
    for _ in 0..30 {
        codes.push(Session::create(&room.api, json!({"title": "x"})).await.code);
    }
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), 31);
}
