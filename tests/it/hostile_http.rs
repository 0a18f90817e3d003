//! REST: bodies and requests made to hurt. Each is refused, as a problem, and nothing else suffers.
//! Hostile WebSocket frames are in `socket_protocol` and `socket_frames`.

use bytes::Bytes;

use crate::support::*;

/// Sends `body` to every call that reads one; each must refuse it with 400 or 422.
async fn check_refused(room: &Room, member: &Member, what: &str, body: &[u8]) {
    let poll = room.path("/polls/1");
    let (polls, votes, own) = (room.path("/polls"), room.path("/votes"), room.path(""));
    for (method, path, token) in [
        ("POST", "/v1/sessions", None),
        ("POST", "/v1/join", None),
        ("PATCH", own.as_str(), Some(&room.presenter)),
        ("POST", polls.as_str(), Some(&room.presenter)),
        ("PATCH", poll.as_str(), Some(&room.presenter)),
        ("POST", votes.as_str(), Some(&member.token)),
    ] {
        let body = Bytes::copy_from_slice(body);
        let token = token.map(String::as_str);
        let answer = room.api.call_bytes(method, path, token, Some(body)).await.unwrap();
        let code = match answer.status {
            400 => "bad_request",
            422 => "unprocessable",
            other => panic!("{what}: {method} {path}: {other} {}", answer.text()),
        };
        problem(&answer, answer.status, code);
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused_everywhere() {
    let room = Room::open().await;
    let member = room.join().await;
    room.draft(choice(2)).await;
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let deep_title = [br#"{"title":"#.to_vec(), deep.clone(), b"}".to_vec()].concat();
    let deep_unknown = [br#"{"x":"#.to_vec(), b"{\"a\":".repeat(40_000)].concat();
    for (what, body) in [
        ("malformed", &b"{"[..]),
        ("empty", b" "),
        ("trailing data", br#"{"title":"x"} {}"#),
        ("trailing bracket", br#"{"title":"x"}}"#),
        ("array", br#"[{"title":"x"}]"#),
        ("string", br#""title""#),
        ("number", b"1"),
        ("null", b"null"),
        ("single quotes", b"{'title':'x'}"),
        ("comment", br#"{"title":"x"/*y*/}"#),
        ("bare NaN", br#"{"title":NaN}"#),
        ("invalid UTF-8", b"{\"title\":\"\xff\xfe\"}"),
        ("overlong UTF-8", b"{\"title\":\"\xc0\xaf\"}"),
        ("surrogate in UTF-8", b"{\"title\":\"\xed\xa0\x80\"}"),
        ("byte order mark", b"\xef\xbb\xbf{\"title\":1}"),
        ("control character", b"{\"title\":\"a\nb\"}"),
        ("deep", &deep),
        ("deep unknown", &deep_unknown),
    ] {
        check_refused(&room, &member, what, body).await;
    }
    // Where a field of that name is known; elsewhere it is one of those that are ignored.
    let body = Some(Bytes::from(deep_title));
    let answer = room.api.call_bytes("POST", "/v1/sessions", None, body).await.unwrap();
    assert!([400, 422].contains(&answer.status), "{}", answer.text());
    assert_eq!(room.db.count("SELECT count(*) FROM sessions").await, 1);
    assert_eq!(room.server.ops_get("/livez").await.status, 200);
}

#[tokio::test]
async fn no_body_at_all_is_refused() {
    let room = Room::open().await;
    let answer = room.api.post("/v1/sessions", None, None).await.unwrap();
    problem(&answer, 400, "bad_request");
}

#[tokio::test]
async fn text_that_cannot_be_stored_is_refused() {
    let room = Room::open().await;
    for title in [r"a\u0000b", r"\ud800", r"\udfff", r"\ud83dx", r"\ude00\ud83d"] {
        let body = Bytes::from(format!(r#"{{"title":"{title}"}}"#));
        let answer = room.api.call_bytes("POST", "/v1/sessions", None, Some(body)).await.unwrap();
        assert!([400, 422].contains(&answer.status), "{title}: {}", answer.text());
        let options = format!(r#"{{"kind":"choice","question":"q","options":["a","{title}"]}}"#);
        let options = Some(Bytes::from(options));
        let token = Some(room.presenter.as_str());
        let answer =
            room.api.call_bytes("POST", &room.path("/polls"), token, options).await.unwrap();
        assert!([400, 422].contains(&answer.status), "{title}: {}", answer.text());
    }
    let pair = Bytes::from_static(br#"{"title":"\ud83d\ude00"}"#);
    let answer = room.api.call_bytes("POST", "/v1/sessions", None, Some(pair)).await.unwrap();
    assert_eq!((answer.status, &answer.json()["title"]), (201, &json!("\u{1f600}")));
}

#[tokio::test]
async fn of_duplicate_keys_the_last_wins() {
    let room = Room::open().await;
    let member = room.join().await;
    let body = Bytes::from_static(br#"{"title":7,"title":"first","title":"last"}"#);
    let answer = room.api.call_bytes("POST", "/v1/sessions", None, Some(body)).await.unwrap();
    assert_eq!(
        (answer.status, &answer.json()["title"]),
        (201, &json!("last")),
        "{}",
        answer.text()
    );
    let body = Bytes::from_static(br#"{"title":"fine","title":7}"#);
    let answer = room.api.call_bytes("POST", "/v1/sessions", None, Some(body)).await.unwrap();
    assert!([400, 422].contains(&answer.status));
    let poll = room.choice(3).await;
    let vote = format!(
        r#"{{"id":"x","id":"{}","poll":99,"poll":{poll},"answer":{{"choices":[9]}},"answer":{{"choices":[0],"choices":[2]}}}}"#,
        fresh_id()
    );
    let (token, vote) = (Some(member.token.as_str()), Some(Bytes::from(vote)));
    let answer = room.api.call_bytes("POST", &room.path("/votes"), token, vote).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(numbers(&room.results(poll).await["counts"]), [0, 0, 1]);
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let room = Room::open().await;
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: \u{7f}garbage\r\n",
        "Content-Type: application/xml\r\n",
    ] {
        let request = format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: 13\r\n\r\n{{\"title\":\"x\"}}"
        );
        let answer = exchange(room.server.listen, request).await;
        // DEL is no legal byte of a header; refusing the whole request is right as well.
        assert!(answer.status == 201 || kind.contains("garbage") && answer.status == 400, "{kind}");
    }
}

#[tokio::test]
async fn tokens_in_odd_forms_are_refused() {
    let room = Room::open().await;
    let token = &room.presenter;
    let long = "x".repeat(5000);
    for line in [
        String::new(),
        "Authorization: ".to_owned(),
        "Authorization: Bearer".to_owned(),
        format!("Authorization: Basic {token}"),
        format!("Authorization: {token}"),
        format!("Authorization: Bearer {token}x"),
        format!("Authorization: Bearer {}", &token[1..]),
        format!("Authorization: Bearer {token} {token}"),
        format!("Authorization: Bearer {long}"),
        "Authorization: Bearer \u{e9}\u{e9}".to_owned(),
    ] {
        let line = if line.is_empty() { line } else { format!("{line}\r\n") };
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n{line}\r\n", room.path(""));
        let answer = exchange(room.server.listen, request).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (401, &json!("invalid_token")),
            "{line}"
        );
    }
}

/// Tokens of participants are signed: changing any one character makes them worthless.
#[tokio::test]
async fn a_token_with_one_character_changed_is_refused() {
    let room = Room::open().await;
    let member = room.join().await;
    for token in [&member.token, &room.presenter] {
        for at in (0..token.len()).step_by(3) {
            let mut forged = token.clone().into_bytes();
            // Not its neighbour: in base64 the last character may carry bits that do not count.
            forged[at] = if forged[at] == b'A' { b'z' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            let answer = room.get("", &forged).await;
            assert_eq!(answer.status, 401, "{at} of {}: {}", token.len(), answer.text());
        }
        for length in 0..token.len() {
            assert_eq!(room.get("", &token[..length]).await.status, 401, "{length}");
        }
    }
}

#[tokio::test]
async fn requests_that_are_not_http_do_no_harm() {
    let room = Room::open().await;
    for bytes in [
        b"\0\0\0\0\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        [b"GET /".to_vec(), b"a".repeat(1_000_000), b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(50_000), b"\r\n".to_vec()].concat(),
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n"
            .to_vec(),
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"
            .to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
    ] {
        let mut http = RawHttp::connect(room.server.listen).await;
        http.bytes(&bytes).await;
        if let Some(answer) = http.answer(SOON).await {
            assert!(
                (400..500).contains(&answer.status) || answer.status == 505,
                "{}",
                answer.status
            );
        }
    }
    assert_eq!(room.get("", &room.presenter).await.status, 200);
}

/// Three at once, because each is mostly waiting: no head, half a head, a body that never comes.
#[tokio::test]
async fn slow_requests_are_given_up_within_30_s() {
    let room = Room::open().await;
    let slow = async |bytes: String| {
        let mut http = RawHttp::connect(room.server.listen).await;
        http.bytes(bytes.as_bytes()).await;
        http.answer(35).await
    };
    let unfinished = format!(
        "PATCH {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        room.path(""),
        room.presenter
    );
    let (silent, half, body) = tokio::join!(
        slow(String::new()),
        slow("GET /v1/sessions HTTP/1.1\r\nHost:".to_owned()),
        slow(unfinished),
    );
    for answer in [silent, half, body].into_iter().flatten() {
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(room.get("", &room.presenter).await.status, 200);
}

/// Each body is bounded, and so are all together: beyond that only what is small is taken.
#[tokio::test]
async fn bodies_that_do_not_end_hold_a_bounded_memory() {
    let room = Room::open().await;
    let head = "POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 262144\r\n\r\n";
    let most = [head.as_bytes(), &[b' '; 262_000]].concat();
    let listen = room.server.listen;
    let mut holding = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let most = most.clone();
        holding.spawn(async move {
            let mut http = RawHttp::connect(listen).await;
            http.bytes(&most).await;
            http.answer(2 * SOON).await.expect("an answer")
        });
    }
    // 64 MiB are 258 of them, which wait for the rest of their bodies; those beyond have their answer.
    let refused = holding.join_next().await.unwrap().unwrap();
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")));
    assert_eq!(room.join().await.body["session"]["id"], room.id.as_str());
}

/// A picture is drawn for whoever asks, but not for everybody at once, nor of an address that nobody has.
#[tokio::test]
async fn pictures_cost_a_bounded_time() {
    let room = Room::open().await;
    let picture = |host: &str| format!("GET /qr/12345678.svg HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let long = exchange(room.server.listen, picture(&"a".repeat(2_000))).await;
    let short = exchange(room.server.listen, picture("a")).await;
    assert_eq!((long.status, short.status), (200, 200));
    assert!(long.body.len() < 2 * short.body.len(), "{} bytes", long.body.len());
    let mut http = RawHttp::connect(room.server.listen).await;
    let mut refused = None;
    for _ in 0..500 {
        http.bytes(picture("a").as_bytes()).await;
        let answer = http.answer(SOON).await.unwrap();
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("all were drawn");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limited")));
    assert!(refused.header("retry-after").is_some());
}
