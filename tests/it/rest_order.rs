//! REST: the order of checks, and the shape of every problem, inside `/v1` and outside.
//! Path 404, method 405, size 413, token 401, right 403, body 400 or 422, existence 404, state 409.

use bytes::Bytes;

use crate::support::*;

const BODY_MAX: usize = 256 * 1024;

/// A body that is too large and, besides, no JSON.
fn too_large() -> Bytes {
    Bytes::from(vec![b'x'; BODY_MAX + 1])
}

async fn send(room: &Room, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
    let body = (!body.is_empty()).then(|| Bytes::copy_from_slice(body));
    room.api.call_bytes(method, path, token, body).await.unwrap()
}

#[tokio::test]
async fn an_unknown_path_comes_before_everything_else() {
    let room = Room::open().await;
    for path in [
        "/",
        "/nothing",
        "/v1",
        "/v1/",
        "/v2/sessions",
        "/v1/sessions/a/b/c",
        "/v1/joins",
        "/favicon.ico",
    ] {
        for method in ["GET", "POST", "DELETE", "PATCH", "PUT", "OPTIONS"] {
            let answer = send(&room, method, path, None, b"{").await;
            // A page may live at the root; every other path is none of ours.
            if path == "/" && answer.status < 400 {
                continue;
            }
            assert!(
                problem(&answer, answer.status, answer.json()["code"].as_str().unwrap())["status"]
                    == 404
                    || path == "/",
                "{method} {path}: {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_method_comes_before_size_token_and_body_and_names_the_right_ones() {
    let room = Room::open().await;
    let poll = room.draft(choice(2)).await;
    for (method, path, allowed) in [
        ("DELETE", "/v1/sessions".to_owned(), vec!["GET", "POST"]),
        ("POST", room.path(""), vec!["GET", "PATCH", "DELETE"]),
        ("PUT", room.path("/polls"), vec!["GET", "POST"]),
        ("POST", room.path(&format!("/polls/{poll}")), vec!["GET", "PATCH", "DELETE"]),
        ("GET", room.path(&format!("/polls/{poll}/open")), vec!["POST"]),
        ("GET", room.path(&format!("/polls/{poll}/close")), vec!["POST"]),
        ("POST", room.path(&format!("/polls/{poll}/results")), vec!["GET"]),
        ("GET", "/v1/join".to_owned(), vec!["POST"]),
        ("GET", room.path("/votes"), vec!["POST"]),
        ("POST", room.path("/events"), vec!["GET"]),
        ("POST", room.path("/stream"), vec!["GET"]),
        ("POST", room.path("/export"), vec!["GET"]),
        ("POST", "/v1/openapi.json".to_owned(), vec!["GET"]),
        ("POST", "/v1/asyncapi.json".to_owned(), vec!["GET"]),
        ("POST", "/v1/ws".to_owned(), vec!["GET"]),
    ] {
        let answer = send(&room, method, &path, None, &too_large()).await;
        problem(&answer, 405, "method_not_allowed");
        let allow = answer.headers["allow"].to_str().unwrap();
        let listed: Vec<&str> = allow.split(',').map(str::trim).collect();
        for method in allowed {
            assert!(listed.contains(&method), "{path}: {allow}");
        }
        assert!(!listed.contains(&method), "{path}: {allow}");
    }
}

#[tokio::test]
async fn a_body_too_large_comes_before_the_token() {
    let room = Room::open().await;
    for token in [None, Some("forged"), Some(room.presenter.as_str())] {
        for (method, path) in
            [("POST", room.path("/polls")), ("PATCH", room.path("")), ("POST", room.path("/votes"))]
        {
            let answer = send(&room, method, &path, token, &too_large()).await;
            problem(&answer, 413, "payload_too_large");
        }
    }
    for path in ["/v1/sessions", "/v1/join"] {
        problem(&send(&room, "POST", path, None, &too_large()).await, 413, "payload_too_large");
    }
}

#[tokio::test]
async fn a_body_of_exactly_256_kib_is_read() {
    let room = Room::open().await;
    let mut body = br#"{"title":"x"}"#.to_vec();
    body.resize(BODY_MAX, b' ');
    let answer = send(&room, "POST", "/v1/sessions", None, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// Without a length told in advance the body is counted while it comes.
#[tokio::test]
async fn a_chunked_body_too_large_is_refused_too() {
    let room = Room::open().await;
    let mut http = RawHttp::connect(room.server.listen).await;
    let head = "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    http.bytes(head.as_bytes()).await;
    for _ in 0..=BODY_MAX / 0x4000 {
        http.bytes(b"4000\r\n").await;
        http.bytes(&[b' '; 0x4000]).await;
        http.bytes(b"\r\n").await;
    }
    let answer = http.answer(SOON).await.expect("a reset instead of an answer");
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("payload_too_large")));
}

#[tokio::test]
async fn the_token_comes_before_body_existence_and_state() {
    let room = Room::open().await;
    for (method, path) in [
        ("POST", room.path("/polls")),
        ("PATCH", room.path("")),
        ("PATCH", room.path("/polls/99")),
        ("POST", room.path("/polls/99/open")),
        ("POST", room.path("/votes")),
    ] {
        for token in [None, Some("forged"), Some("")] {
            problem(&send(&room, method, &path, token, b"{").await, 401, "invalid_token");
        }
    }
    let unknown = format!("/v1/sessions/{}", fresh_id());
    problem(&send(&room, "GET", &unknown, Some(&room.presenter), b"").await, 401, "invalid_token");
}

#[tokio::test]
async fn the_right_comes_before_body_and_existence() {
    let room = Room::open().await;
    let member = room.join().await;
    for (method, rest) in [
        ("PATCH", ""),
        ("POST", "/polls"),
        ("PATCH", "/polls/99"),
        ("DELETE", "/polls/99"),
        ("POST", "/polls/99/open"),
        ("POST", "/polls/99/close"),
        ("GET", "/export"),
    ] {
        let answer = send(&room, method, &room.path(rest), Some(&member.token), b"{").await;
        problem(&answer, 403, "forbidden");
    }
    let answer = send(&room, "POST", &room.path("/votes"), Some(&room.presenter), b"{").await;
    problem(&answer, 403, "forbidden");
}

#[tokio::test]
async fn the_body_comes_before_existence_and_state() {
    let room = Room::open().await;
    let member = room.join().await;
    let open = room.choice(2).await;
    let by = Some(room.presenter.as_str());
    for path in [room.path("/polls/99"), room.path(&format!("/polls/{open}"))] {
        problem(&send(&room, "PATCH", &path, by, b"{").await, 400, "bad_request");
        let answer = send(&room, "PATCH", &path, by, br#"{"question":""}"#).await;
        problem(&answer, 422, "unprocessable");
    }
    let answer = send(&room, "PATCH", &room.path("/polls/99"), by, br#"{"question":"q"}"#).await;
    problem(&answer, 404, "not_found");
    let answer =
        send(&room, "PATCH", &room.path(&format!("/polls/{open}")), by, br#"{"question":"q"}"#)
            .await;
    problem(&answer, 409, "poll_not_draft");
    room.close_poll(open).await;
    for answer in [json!({"choices": []}), json!({"choices": [9]}), json!({"rating": 1})] {
        let cast = room.cast(&member.token, &fresh_id(), open, answer).await;
        problem(&cast, 422, "unprocessable");
    }
    let vote = json!({"id": "x", "poll": open, "answer": pick(0)}).to_string();
    let answer =
        send(&room, "POST", &room.path("/votes"), Some(&member.token), vote.as_bytes()).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.text());
}

#[tokio::test]
async fn existence_comes_before_state() {
    let room = Room::open().await;
    room.present("PATCH", "", json!({"state": "ended"})).await;
    for rest in ["/polls/99/open", "/polls/99/close"] {
        problem(&room.call("POST", rest, &room.presenter, Value::Null).await, 404, "not_found");
    }
    let member = room.join().await;
    problem(&room.cast(&member.token, &fresh_id(), 99, pick(0)).await, 404, "not_found");
}

#[tokio::test]
async fn an_id_that_is_none_is_refused_like_an_unknown_one() {
    let room = Room::open().await;
    for id in [
        "x",
        "00000000-0000-0000-0000-000000000000",
        "..",
        "%2e%2e",
        "%00",
        "%ff%fe",
        &"a".repeat(3000),
    ] {
        let path = format!("/v1/sessions/{id}");
        let answer = send(&room, "GET", &path, Some(&room.presenter), b"").await;
        assert!([401, 404].contains(&answer.status), "{id}: {}", answer.text());
        problem(
            &answer,
            answer.status,
            if answer.status == 401 { "invalid_token" } else { "not_found" },
        );
    }
}

#[tokio::test]
async fn no_problem_tells_about_the_inside_or_repeats_what_was_sent() {
    let room = Room::open().await;
    let secret = "Robert'); DROP";
    let mut texts = Vec::new();
    for (method, path, body) in [
        (
            "POST",
            room.path("/polls"),
            json!({"kind": secret, "question": secret, "options": [secret]}),
        ),
        ("PATCH", room.path(""), json!({"state": secret, "starts_at": secret})),
        ("POST", "/v1/join".to_owned(), json!({"code": secret})),
        ("POST", "/v1/sessions".to_owned(), json!({"title": "x", "starts_at": secret})),
        ("GET", room.path("/events?after=DROP"), Value::Null),
        ("GET", format!("/DROP/{}", "x"), Value::Null),
    ] {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = send(&room, method, &path, Some(&room.presenter), body.as_bytes()).await;
        assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.text());
        texts.push(answer.text());
    }
    for text in texts {
        for word in [
            "DROP", "Robert", "postgres", "sqlx", "SELECT", "serde", "hyper", "tokio", ".rs",
            "panick", "line 1",
        ] {
            assert!(!text.to_lowercase().contains(&word.to_lowercase()), "{word}: {text}");
        }
    }
}

#[tokio::test]
async fn the_operations_listener_answers_with_problems_too() {
    let room = Room::open().await;
    let ops = Api::new(&format!("http://{}", room.server.ops));
    problem(&ops.get("/nothing", None).await.unwrap(), 404, "not_found");
    problem(&ops.get("/v1/sessions", None).await.unwrap(), 404, "not_found");
    problem(&ops.post("/livez", None, None).await.unwrap(), 405, "method_not_allowed");
    problem(&ops.get("/drain", None).await.unwrap(), 405, "method_not_allowed");
    for path in ["/livez", "/readyz", "/metrics", "/cluster", "/drain"] {
        problem(&room.api.get(path, None).await.unwrap(), 404, "not_found");
    }
}
