//! The life of an instance: ready, draining, ended; and what it says about itself meanwhile.
//! Configuration is in `configuration`, the embedded PostgreSQL in `embedded`, sudden ends in `faults`.

use std::time::{Duration, Instant};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_in_mid_burst_answers_every_vote_and_sends_everyone_away() {
    let mut room = Room::with(&["--drain-seconds", "5"]).await;
    let second = Server::start(&room.db).await;
    let mut polls = Vec::new();
    for _ in 0..10 {
        polls.push(room.choice(2).await);
    }
    let mut watchers = room.guests_at(&room.server, 10).await;
    let burst = Burst::start(room.guests_at(&room.server, 30).await, &polls, 2);
    burst.acked(50).await;
    let begin = Instant::now();
    room.server.signal(Signal::TERM);
    for watcher in &mut watchers {
        let bye = watcher.take("a bye", |message| message["type"] == "bye").await;
        assert_eq!(bye["reason"], "draining");
        assert!(bye["reconnect_after_ms"].as_u64().is_some(), "{bye}");
        assert_eq!(watcher.closed().await, Some(1001));
    }
    let mut ballots = burst.ended().await;
    for ballot in &ballots {
        let fine =
            ballot.is_acked() || ballot.answer["code"] == "draining" || ballot.answer.is_null();
        assert!(fine, "{ballot:?}");
        let again = ballot.answer["retry_after_ms"].as_i64();
        assert!(ballot.answer["code"] != "draining" || again.unwrap() > 0, "{ballot:?}");
    }
    let status = room.server.exited(10).await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(8 + 3), "within --drain-seconds + 3 s");
    let session = room.by(&second);
    session.check_stored(&room.db, &ballots).await;
    session.finish(&mut ballots).await;
    session.check_stored(&room.db, &ballots).await;
    let back = Guest::hello(
        &second.base(),
        json!({"token": watchers[0].token, "after": watchers[0].highest}),
    )
    .await;
    assert_eq!((&back.welcome["resumed"], &back.id), (&json!(true), &watchers[0].id));
}

/// The moments of coming back, send time included, are spread over at least a second.
#[tokio::test]
async fn clients_are_told_to_come_back_at_different_moments() {
    let mut room = Room::with(&["--drain-seconds", "4"]).await;
    let mut readers = tokio::task::JoinSet::new();
    for mut guest in room.guests_at(&room.server, 40).await {
        readers.spawn(async move {
            let bye = guest.take("a bye", |message| message["type"] == "bye").await;
            let at =
                Instant::now() + Duration::from_millis(bye["reconnect_after_ms"].as_u64().unwrap());
            (at, guest.closed().await)
        });
    }
    let answer =
        Api::new(&format!("http://{}", room.server.ops)).post("/drain", None, None).await.unwrap();
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    let moments = readers.join_all().await;
    assert!(moments.iter().all(|(_, code)| *code == Some(1001)), "{moments:?}");
    let (first, last) = (moments.iter().min().unwrap().0, moments.iter().max().unwrap().0);
    assert!(last - first >= Duration::from_secs(1), "{:?}", last - first);
    assert_eq!(room.server.exited(10).await.code(), Some(0));
}

#[tokio::test]
async fn sigint_is_as_good_as_sigterm_and_nobody_connected_means_no_waiting() {
    for signal in [Signal::INT, Signal::TERM] {
        let db = TestDb::fresh().await;
        let mut server = Server::start(&db).await;
        let begin = Instant::now();
        server.signal(signal);
        assert_eq!(server.exited(SOON).await.code(), Some(0));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut room = Room::with(&["--drain-seconds", "600"]).await;
    let mut stubborn = RawSocket::join(&room.server, &room.code).await;
    let _stream = room.guest().await;
    room.server.signal(Signal::TERM);
    stubborn.message("bye").await;
    let begin = Instant::now();
    room.server.signal(Signal::TERM);
    room.server.exited(5).await;
    assert!(begin.elapsed() < Duration::from_secs(3));
}

/// A client that does not answer the close frame cannot hold the drain up.
#[tokio::test]
async fn a_client_that_ignores_everything_does_not_hold_up_the_drain() {
    let mut room = Room::with(&["--drain-seconds", "2"]).await;
    let _silent = RawSocket::join(&room.server, &room.code).await;
    let _no_hello = RawSocket::connect(&room.server).await;
    let mut half = RawHttp::connect(room.server.listen).await;
    half.bytes(b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{").await;
    let path = room.path(&format!("/stream?token={}", room.presenter));
    let _stream = Sse::open(room.server.listen, &path, &[]).await.unwrap();
    let begin = Instant::now();
    assert_eq!(room.server.stop().await.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(2 + 3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_draining_instance_is_not_ready_and_takes_nobody_in() {
    let mut room = Room::with(&["--drain-seconds", "3"]).await;
    let poll = room.choice(2).await;
    let mut raw = RawSocket::join(&room.server, &room.code).await;
    assert_eq!(room.server.ops_get("/readyz").await.status, 200);
    room.server.signal(Signal::TERM);
    // Sent when the drain has begun; from then on a vote is served or told to come again.
    let bye = raw.message("bye").await;
    assert_eq!(bye["reason"], "draining");
    assert_eq!(room.server.ops_get("/readyz").await.status, 503);
    assert_eq!(room.server.ops_get("/livez").await.status, 200);
    let vote = json!({"type": "vote", "id": fresh_id(), "poll": poll, "answer": pick(0)});
    raw.text(&vote.to_string()).await;
    let mut answered = false;
    while let Some((first, payload)) = raw.frame().await {
        if first == CLOSE {
            assert_eq!(payload[..2], 1001_u16.to_be_bytes());
            raw.send(CLOSE, &payload[..2]).await;
        } else if first == TEXT {
            let message: Value = serde_json::from_slice(&payload).unwrap();
            if message["id"] == vote["id"] {
                let fine = message["type"] == "ack" || message["code"] == "draining";
                assert!(fine, "{message}");
                answered = true;
            }
        }
    }
    assert_eq!(room.server.exited(10).await.code(), Some(0));
    let stored = room.db.count("SELECT count(*) FROM votes").await;
    assert!(answered || stored <= 1);
}

/// Nobody has anything here before hello, but every connection is told, and none keeps the instance from ending.
#[tokio::test]
async fn who_has_not_said_hello_is_sent_away_at_once() {
    let mut room = Room::with(&["--drain-seconds", "0"]).await;
    let mut silent = RawSocket::connect(&room.server).await;
    let begin = Instant::now();
    room.server.signal(Signal::TERM);
    assert_eq!(silent.message("bye").await["reason"], "draining");
    assert_eq!(silent.close_code().await, Some(1001));
    drop(silent);
    assert_eq!(room.server.exited(10).await.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn readyz_tells_about_the_database_and_livez_does_not() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let ready = async || {
        let begin = Instant::now();
        let answer = server.ops_get("/readyz").await;
        assert!(begin.elapsed() < Duration::from_millis(1500), "{:?}", begin.elapsed());
        if answer.status == 503 {
            problem(&answer, 503, "database_unavailable");
            assert!(answer.headers.contains_key("retry-after"));
        }
        (answer.status, answer.body.len())
    };
    for outage in [Proxy::freeze, Proxy::refuse] {
        assert_eq!(ready().await.0, 200);
        outage(&proxy);
        let body = eventually(5, "the outage is noticed", async || {
            let (status, length) = ready().await;
            (status == 503).then_some(length)
        });
        assert!(body.await > 0, "503 says why");
        assert_eq!(server.ops_get("/livez").await.status, 200);
        assert_eq!(server.ops_get("/metrics").await.status, 200);
        proxy.forward();
        eventually(5, "ready again", async || (ready().await.0 == 200).then_some(())).await;
    }
}

/// Nobody is told 4401 or 4404 because of a database that does not answer.
#[tokio::test]
async fn hello_waits_or_is_sent_elsewhere_while_the_database_is_frozen() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let other = Session::create(&room.api, json!({"title": "Never seen by this instance"})).await;
    let member = room.join().await;
    proxy.freeze();
    let base = room.server.base();
    let (by_code, by_token, _) = tokio::join!(
        Guest::try_hello(&base, json!({"code": other.code})),
        Guest::try_hello(&base, json!({"token": member.token, "after": 0})),
        async {
            tokio::time::timeout(Duration::from_secs(3), std::future::pending::<()>()).await.ok();
            proxy.forward();
        },
    );
    for outcome in [by_code, by_token] {
        match outcome {
            Ok(guest) => assert_eq!(guest.welcome["type"], "welcome"),
            Err(code) => assert_eq!(code, Some(1013)),
        }
    }
    let answer = room.api.get(&room.path(""), Some(&room.presenter)).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn rest_says_database_unavailable_while_it_is() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let poll = room.choice(2).await;
    let member = room.join().await;
    proxy.refuse();
    let body = json!({"title": "x"});
    let answer = room.api.post("/v1/sessions", None, Some(&body)).await.unwrap();
    problem(&answer, 503, "database_unavailable");
    let vote = room.cast(&member.token, &fresh_id(), poll, pick(0)).await;
    problem(&vote, 503, "database_unavailable");
    proxy.forward();
    eventually(SOON, "sessions can be made again", async || {
        let answer = room.api.post("/v1/sessions", None, Some(&body)).await.unwrap();
        (answer.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_metrics_tell_what_goes_on() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let id = fresh_id();
    guest.cast_as(&id, poll, pick(0)).await;
    guest.cast_as(&id, poll, pick(0)).await;
    guest.cast(poll, pick(1)).await;
    guest.cast(99, pick(1)).await;
    guest.results(poll, 1).await;
    for outcome in ["accepted", "repeat", "already_voted", "not_found"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(room.server.metric("plenum_votes_total", &[&label]).await, 1.0, "{outcome}");
    }
    assert_eq!(room.server.metric("plenum_connections", &[]).await, 1.0);
    assert_eq!(room.server.metric("plenum_vote_queue_depth", &[]).await, 0.0);
    for histogram in [
        "plenum_vote_batch_size",
        "plenum_vote_commit_seconds",
        "plenum_delivery_seconds",
        "plenum_vote_seconds",
    ] {
        assert!(room.server.metric(&format!("{histogram}_count"), &[]).await >= 1.0, "{histogram}");
    }
    for name in [
        "process_resident_memory_bytes",
        "process_open_fds",
        "plenum_tasks",
        "plenum_events_delivered_total",
    ] {
        assert!(room.server.metric(name, &[]).await > 0.0, "{name}");
    }
}

/// After kill -9 the same instance starts at once: it waits for no lease of its own.
#[tokio::test]
async fn the_same_instance_starts_again_at_once_after_kill_9() {
    let mut room = Room::with(&["--instance-id", "mine"]).await;
    let guest = room.guest().await;
    room.server.kill9();
    let begin = Instant::now();
    let again = Server::with(&room.db, &["--instance-id", "mine"]).await;
    // One second for the optimised program; this one is not.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    let back = Guest::hello(&again.base(), json!({"token": guest.token, "after": 0})).await;
    assert_eq!(back.id, guest.id);
}

#[tokio::test]
async fn several_instances_may_start_together_on_an_empty_database() {
    let db = TestDb::fresh().await;
    let (first, second, third, fourth) = tokio::join!(
        Server::start(&db),
        Server::start(&db),
        Server::start(&db),
        Server::start(&db)
    );
    let session = Session::create(&first.api, json!({"title": "x"})).await;
    for server in [&second, &third, &fourth] {
        let member = session.by(server).join().await;
        assert_eq!(session.get("", &member.token).await.status, 200);
    }
}

/// Accepted in the last moment before the end, with the request still on its way: it is answered, not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_on_its_way_at_the_end_is_answered() {
    let mut room = Room::with(&["--drain-seconds", "0"]).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(RawHttp::connect(room.server.listen).await);
    }
    // Connections are accepted in their order: with the answer to the last one all are.
    let ask = b"GET /v1/openapi.json HTTP/1.1\r\nHost: t\r\n\r\n";
    assert_eq!(exchange(room.server.listen, ask).await.status, 200);
    room.server.signal(Signal::TERM);
    let listen = room.server.listen;
    // Nobody is let in any more: it stops. From here on the server waits half a second.
    let stops = tokio::task::spawn_blocking(move || {
        while std::net::TcpStream::connect(listen).is_ok() {
            std::thread::yield_now();
        }
    });
    within(SOON, "the end", stops).await.unwrap();
    for connection in &mut silent {
        connection.bytes(ask).await;
    }
    for mut connection in silent {
        let answer = connection.answer(SOON).await.expect("it was cut before it could ask");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(room.server.exited(10).await.code(), Some(0));
}
