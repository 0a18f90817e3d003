//! WebSocket: hello, messages, rates, the upgrade, full and slow. Frames by hand are in
//! `socket_frames`, votes in `socket_votes`.

use bytes::Bytes;

use crate::support::*;

/// Connects, sends one text as the first message, and gives the close code.
async fn closed_after(server: &Server, first: &str) -> Option<u16> {
    let mut socket = RawSocket::connect(server).await;
    socket.text(first).await;
    socket.close_code().await
}

#[tokio::test]
async fn a_first_message_that_is_no_hello_is_4400() {
    let room = Room::open().await;
    for first in [
        "",
        "{",
        "x",
        "null",
        "7",
        "[]",
        "\"hello\"",
        "{}",
        r#"{"type":"hello"}"#,
        r#"{"type":null}"#,
        r#"{"type":7,"code":"12345678"}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"vote","id":"x"}"#,
        r#"{"type":"HELLO","code":"12345678"}"#,
        r#"{"type":"hello","code":12345678}"#,
        r#"{"type":"hello","token":null,"code":null}"#,
        r#"{"type":"hello","token":["x"]}"#,
        r#"{"type":"hello","token":"x","after":"1"}"#,
        r#"{"type":"hello","token":"x","after":1.5}"#,
        r#"{"type":"hello","token":"x","epoch":7}"#,
        r#"{"type":"hello","code":"12345678"} trailing"#,
    ] {
        assert_eq!(closed_after(&room.server, first).await, Some(4400), "{first}");
    }
    let deep = format!(r#"{{"type":"hello","x":{}"#, "[".repeat(16_000));
    assert_eq!(closed_after(&room.server, &deep).await, Some(4400));
    let mut binary = RawSocket::connect(&room.server).await;
    binary.send(BINARY, json!({"type": "hello", "code": room.code}).to_string().as_bytes()).await;
    assert_eq!(binary.close_code().await, Some(4400));
}

#[tokio::test]
async fn hello_is_read_whatever_else_it_holds() {
    let room = Room::open().await;
    for hello in [
        format!(
            r#"{{"x":{{"type":"vote"}},"code":"{}","type":"hello","y":[1,2,{{}}]}}"#,
            room.code
        ),
        format!(r#" {{ "type" : "hello" , "code" : "{}" }} "#, room.code),
        format!(r#"{{"type":"vote","type":"hello","code":"00000000","code":"{}"}}"#, room.code),
        format!(r#"{{"t\u0079pe":"hell\u006f","code":"{}"}}"#, room.code),
    ] {
        let mut socket = RawSocket::connect(&room.server).await;
        socket.text(&hello).await;
        assert_eq!(socket.message("welcome").await["session"]["id"], room.id, "{hello}");
    }
}

/// The clock starts with the upgrade; pings do not stop it.
#[tokio::test]
async fn without_hello_the_connection_is_closed_after_5_s() {
    let room = Room::open().await;
    let begin = std::time::Instant::now();
    let mut silent = RawSocket::connect(&room.server).await;
    let mut pinging = RawSocket::connect(&room.server).await;
    let pings = async {
        for nth in 0..3_u8 {
            pinging.send(PING, &[nth]).await;
            assert_eq!(pinging.frame_of(PONG).await, [nth]);
        }
        pinging.close_code().await
    };
    let codes = tokio::join!(silent.close_code(), pings);
    assert_eq!(codes, (Some(4408), Some(4408)));
    let took = begin.elapsed().as_secs_f64();
    assert!((4.9..12.0).contains(&took), "{took}");
}

#[tokio::test]
async fn messages_after_hello_are_never_met_with_silence() {
    let room = Room::open().await;
    let mut guest = room.guest().await;
    for text in [
        "",
        "{",
        "null",
        "[]",
        "7",
        "{}",
        r#"{"type":"unknown"}"#,
        r#"{"type":7}"#,
        r#"{"type":null}"#,
        r#"{"type":"vote"}"#,
        r#"{"type":"ack","id":"x"}"#,
        r#"{"type":"ping"} {}"#,
        r#"{"type":"\ud800"}"#,
        r#"{"type":"vote","id":"a\u0000"}"#,
    ] {
        guest.send_text(text).await;
        let error = guest.error().await;
        let code = error["code"].as_str().unwrap();
        assert!(["bad_request", "unprocessable"].contains(&code), "{text}: {error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
    }
    guest.send_text(&format!(r#"{{"type":"hello","code":"{}"}}"#, room.code)).await;
    assert_eq!(guest.error().await["code"], "bad_request", "a second hello");
    guest.send_text(&format!("[{}", "[".repeat(16_000))).await;
    assert_eq!(guest.error().await["code"], "bad_request");
    guest.send_text(r#"{"type":"ping"}"#).await;
    guest.take("a pong", |message| *message == json!({"type": "pong"})).await;
}

#[tokio::test]
async fn too_many_messages_are_rate_limited_and_then_closed() {
    let room = Room::with(&["--message-burst", "10", "--message-rate", "1"]).await;
    let mut guest = room.guest().await;
    let pings = r#"{"type":"ping"}"#;
    for _ in 0..9 {
        guest.send_text(pings).await;
        guest.take("a pong", |message| message["type"] == "pong").await;
    }
    let mut limited = None;
    while limited.is_none() {
        guest.send_text(pings).await;
        let answer = guest.take("an answer", |m| m["type"] == "pong" || m["type"] == "error").await;
        limited = (answer["type"] == "error").then_some(answer);
    }
    let limited = limited.unwrap();
    assert_eq!(limited["code"], "rate_limited", "{limited}");
    assert!(limited["retry_after_ms"].as_i64().unwrap() > 0, "{limited}");
    let flood = json!({"type": "ping"});
    let code = loop {
        // The connection may be closed while the flood goes on.
        if !guest.try_send(&flood).await {
            break guest.closed().await;
        }
        if let Err(code) = within(SOON, "an answer", guest.receive()).await {
            break code;
        }
    };
    assert_eq!(code, Some(4429));
    assert_eq!(room.guest().await.welcome["type"], "welcome", "the address is not shut out");
}

#[tokio::test]
async fn a_hundred_messages_at_once_pass() {
    let room = Room::open().await;
    let mut guest = room.guest().await;
    for _ in 0..98 {
        guest.send_text(r#"{"type":"ping"}"#).await;
    }
    for _ in 0..98 {
        let answer = guest.take("an answer", |m| m["type"] == "pong" || m["type"] == "error").await;
        assert_eq!(answer["type"], "pong", "{answer}");
    }
}

#[tokio::test]
async fn a_rate_limited_vote_can_be_sent_again() {
    let room = Room::with(&["--message-burst", "5", "--message-rate", "5"]).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let id = fresh_id();
    let mut refused = None;
    for _ in 0..8 {
        let answer = guest.cast_as(&id, poll, pick(0)).await;
        if answer["type"] == "error" {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("never limited");
    assert_eq!((&refused["code"], &refused["id"]), (&json!("rate_limited"), &json!(id)));
    assert_eq!(room.results(poll).await["votes"], 1);
}

/// Sends an upgrade request with `lines` and gives the answer.
async fn upgrade(server: &Server, lines: &str) -> (u16, Option<String>, Value) {
    let request = format!("GET /v1/ws HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let answer = exchange(server.listen, request).await;
    let protocol = answer.header("sec-websocket-protocol").map(str::to_owned);
    (answer.status, protocol, answer.json())
}

const KEY: &str = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const BOTH: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

#[tokio::test]
async fn the_subprotocol_is_answered_only_where_it_was_offered() {
    let room = Room::open().await;
    for (offered, answered) in [
        ("", None),
        ("Sec-WebSocket-Protocol: polling.v1\r\n", Some("polling.v1")),
        ("Sec-WebSocket-Protocol: other, polling.v1\r\n", Some("polling.v1")),
        (
            "Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: polling.v1\r\n",
            Some("polling.v1"),
        ),
        ("Sec-WebSocket-Protocol: other\r\n", None),
        ("Sec-WebSocket-Protocol: polling.v10\r\n", None),
    ] {
        let (status, protocol, _) =
            upgrade(&room.server, &format!("{BOTH}{KEY}{VERSION}{offered}")).await;
        assert_eq!((status, protocol.as_deref()), (101, answered), "{offered}");
    }
}

#[tokio::test]
async fn upgrades_in_other_forms_and_from_other_origins_are_served() {
    let room = Room::open().await;
    for lines in [
        format!("connection: keep-alive, UPGRADE\r\nupgrade: WebSocket\r\n{KEY}{VERSION}"),
        format!(
            "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}{VERSION}"
        ),
        format!("{BOTH}{KEY}{VERSION}Origin: https://elsewhere.example\r\n"),
        format!("{BOTH}{KEY}{VERSION}Origin: null\r\n"),
        format!("{BOTH}{KEY}{VERSION}Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ] {
        assert_eq!(upgrade(&room.server, &lines).await.0, 101, "{lines}");
    }
}

#[tokio::test]
async fn bad_upgrades_are_400_or_426() {
    let room = Room::open().await;
    for lines in [
        String::new(),
        format!("{BOTH}{VERSION}"),
        format!("{BOTH}{KEY}"),
        format!("{BOTH}{KEY}Sec-WebSocket-Version: 8\r\n"),
        format!("Connection: Upgrade\r\n{KEY}{VERSION}"),
        format!("Upgrade: websocket\r\n{KEY}{VERSION}"),
        format!("Connection: close\r\nUpgrade: websocket\r\n{KEY}{VERSION}"),
        format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{KEY}{VERSION}"),
    ] {
        let (status, _, body) = upgrade(&room.server, &lines).await;
        assert!([400, 426].contains(&status), "{status}: {lines}");
        assert_eq!(
            (&body["status"], &body["code"]),
            (&json!(status), &json!("bad_request")),
            "{lines}"
        );
    }
}

#[tokio::test]
async fn with_an_origin_list_others_are_refused() {
    let room = Room::with(&["--allowed-origin", "https://polls.example"]).await;
    for (origin, status) in [
        ("Origin: https://polls.example\r\n", 101),
        ("Origin: https://elsewhere.example\r\n", 403),
        ("Origin: http://x\r\n", 101), // its own page: that is the Host of these requests
        ("Origin: https://polls.example.elsewhere.example\r\n", 403),
        ("", 101),
    ] {
        assert_eq!(
            upgrade(&room.server, &format!("{BOTH}{KEY}{VERSION}{origin}")).await.0,
            status,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn past_max_connections_streams_are_refused_and_rest_is_served() {
    let room = Room::with(&["--max-connections", "3"]).await;
    let first = room.guest().await;
    let _second = room.guest().await;
    let path = room.path(&format!("/stream?token={}", first.token));
    let stream = Sse::open(room.server.listen, &path, &[]).await.unwrap();
    let full = Socket::connect(&room.server.base()).await;
    match full {
        Err(error) => assert_eq!(error.refused_status(), Some(503)),
        Ok(mut socket) => {
            let closed = within(SOON, "the end", socket.recv()).await.unwrap();
            assert!(matches!(closed, Incoming::Closed { code: Some(4503), .. }), "{closed:?}");
        }
    }
    let refused = Sse::open(room.server.listen, &path, &[]).await.unwrap_err();
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(room.join().await.body["session"]["id"], room.id);
    assert_eq!(room.server.ops_get("/readyz").await.status, 503);
    drop(stream);
    eventually(SOON, "the place is free again", async || {
        // Refused at the upgrade, or closed after it, as long as the instance is full.
        let mut socket = Socket::connect(&room.server.base()).await.ok()?;
        socket.send(&json!({"type": "hello", "code": room.code})).await.ok()?;
        matches!(socket.recv().await, Ok(Incoming::Message(_))).then_some(())
    })
    .await;
}

/// One who does not read: closed with 4413 or 1001-like, or kept, but nobody waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_does_not_delay_the_others() {
    let room = Room::open().await;
    let mut stopped = RawSocket::join(&room.server, &room.code).await;
    let mut reading = room.guest().await;
    let (sender, last_seq) = tokio::sync::oneshot::channel::<Value>();
    let title = "\u{1f600}".repeat(300);
    // More than the kernel's buffers and the server's ring hold together.
    let options: Vec<String> = (0..50).map(|n| format!("{n}{}", "\u{1f600}".repeat(190))).collect();
    let poll = room.draft(json!({"kind": "choice", "question": title, "options": options})).await;
    let reader = tokio::spawn(async move {
        let mut last_seq = last_seq;
        let last = loop {
            tokio::select! {
                last = &mut last_seq => break last.unwrap(),
                message = reading.receive() => drop(message.expect("the reader is kept")),
            }
        };
        if reading.highest < last.as_i64().unwrap() {
            reading.take("the end", |m| m["seq"] == last && m["type"] == "event").await;
        }
    });
    for _ in 0..200 {
        room.open_poll(poll).await;
        room.close_poll(poll).await;
    }
    let last = room.retitle("the end").await["last_seq"].clone();
    sender.send(last.clone()).unwrap();
    reader.await.unwrap();
    let mut events = 0;
    let mut highest = 0;
    let code = loop {
        match stopped.frame().await {
            Some((CLOSE, payload)) => {
                break payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
            None => break None,
            Some((_, payload)) => {
                let message: Value = serde_json::from_slice(&payload).unwrap();
                if message["type"] == "event" {
                    assert!(message["seq"].as_i64().unwrap() > highest);
                    highest = message["seq"].as_i64().unwrap();
                    events += 1;
                    if message["seq"] == last {
                        break Some(1000);
                    }
                }
            }
        }
    };
    match code {
        Some(1000) => assert_eq!(events, last.as_i64().unwrap(), "caught up without a hole"),
        code => assert_eq!(code, Some(4413)),
    }
}

#[tokio::test]
async fn upgrade_and_first_message_may_come_in_one_packet() {
    let room = Room::open().await;
    let mut bytes =
        format!("GET /v1/ws HTTP/1.1\r\nHost: x\r\n{BOTH}{KEY}{VERSION}\r\n").into_bytes();
    bytes.extend(frame(TEXT, json!({"type": "hello", "code": room.code}).to_string().as_bytes()));
    bytes.extend(frame(PING, b"at once"));
    let mut socket = RawSocket::dial(&room.server).await;
    socket.bytes(&Bytes::from(bytes)).await;
    socket.upgraded().await;
    assert_eq!(socket.message("welcome").await["session"]["id"], room.id);
    assert_eq!(socket.frame_of(PONG).await, b"at once");
}
