//! Joining through REST and by hello: codes, coming back, tokens, and the limit on guessing.

use std::net::IpAddr;

use crate::support::*;

async fn join(api: &Api, token: Option<&str>, code: &str) -> Answer {
    api.post("/v1/join", token, Some(&json!({"code": code}))).await.unwrap()
}

#[tokio::test]
async fn joining_gives_everything_that_a_participant_needs() {
    let room = Room::open().await;
    let open = room.choice(2).await;
    room.draft(choice(2)).await;
    let member = room.join().await;
    assert_eq!(member.body["session"]["id"], room.id);
    assert_eq!(member.body["seq"], 1);
    assert_eq!(member.body["my_votes"], json!({}));
    let polls = member.body["polls"].as_array().unwrap();
    assert_eq!((polls.len(), &polls[0]["n"]), (1, &json!(open)));
    let safe = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    assert!(member.token.chars().all(safe) && member.id.chars().all(safe), "{member:?}");
    assert_ne!(room.join().await.id, member.id, "joining anew makes another participant");
    assert!(!has_key(&member.body, "presenter_token"));
}

#[tokio::test]
async fn spaces_and_dashes_in_a_code_do_not_matter() {
    let room = Room::open().await;
    let (first, second) = room.code.split_at(4);
    for code in
        [format!("{first} {second}"), format!("{first}-{second}"), format!(" {first} - {second}  ")]
    {
        assert_eq!(join(&room.api, None, &code).await.status, 200, "{code:?}");
        let guest = Guest::hello(&room.server.base(), json!({"code": code})).await;
        assert_eq!(guest.welcome["session"]["id"], room.id);
    }
}

#[tokio::test]
async fn an_unknown_code_is_404_and_a_malformed_one_404_or_422() {
    let room = Room::open().await;
    let unknown = format!("{:08}", (room.code.parse::<u32>().unwrap() + 1) % 100_000_000);
    problem(&join(&room.api, None, &unknown).await, 404, "not_found");
    let hello = json!({"code": unknown});
    assert_eq!(Guest::try_hello(&room.server.base(), hello).await.unwrap_err(), Some(4404));
    for code in
        ["", "1", "123456789", "abcdefgh", "1234567\u{661}", "12345678; DROP", &"1".repeat(5000)]
    {
        let answer = join(&room.api, None, code).await;
        match answer.status {
            404 => problem(&answer, 404, "not_found"),
            _ => problem(&answer, 422, "unprocessable"),
        };
        let closed =
            Guest::try_hello(&room.server.base(), json!({"code": code})).await.unwrap_err();
        assert!([Some(4404), Some(4400)].contains(&closed), "{code:?}: {closed:?}");
    }
    for body in
        [json!({}), json!({"code": 12_345_678}), json!({"code": null}), json!({"code": ["1"]})]
    {
        let answer = room.api.post("/v1/join", None, Some(&body)).await.unwrap();
        assert!([400, 422].contains(&answer.status), "{body}: {}", answer.text());
    }
}

#[tokio::test]
async fn coming_back_with_a_token_keeps_the_participant() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let member = room.join().await;
    room.cast(&member.token, &fresh_id(), poll, pick(1)).await;
    let back = join(&room.api, Some(&member.token), &room.code).await;
    assert_eq!(back.status, 200, "{}", back.text());
    let back = back.json();
    assert_eq!(back["participant"]["id"], member.id);
    assert_eq!(back["my_votes"], json!({poll.to_string(): pick(1)}));
    let again = back["participant"]["token"].as_str().unwrap();
    let mut guest = room.resume(again, 0).await;
    assert_eq!(guest.id, member.id);
    assert_eq!(guest.cast(poll, pick(0)).await["code"], "already_voted");
}

#[tokio::test]
async fn a_forged_token_is_refused_everywhere() {
    let room = Room::open().await;
    let member = room.join().await;
    let last = if member.token.ends_with('A') { "zz" } else { "AA" };
    let forged = format!("{}{last}", &member.token[..member.token.len() - 2]);
    for token in
        [forged.as_str(), &member.token[..member.token.len() / 2], "x", "..", &"a".repeat(3000)]
    {
        problem(&join(&room.api, Some(token), &room.code).await, 401, "invalid_token");
        let closed = Guest::try_hello(&room.server.base(), json!({"token": token})).await;
        assert_eq!(closed.unwrap_err(), Some(4401), "{token}");
    }
    assert_eq!(join(&room.api, Some(&member.token), &room.code).await.status, 200);
}

/// Signed with a secret kept in the database: another database has another one.
#[tokio::test]
async fn a_token_of_another_installation_is_refused() {
    let (room, other) = tokio::join!(Room::open(), Room::open());
    let stranger = other.join().await;
    problem(&room.get("", &stranger.token).await, 401, "invalid_token");
    let closed = Guest::try_hello(&room.server.base(), json!({"token": stranger.token})).await;
    assert_eq!(closed.unwrap_err(), Some(4401));
}

#[tokio::test]
async fn instances_with_the_same_secret_or_database_agree_on_tokens() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let member = room.join().await;
    assert_eq!(room.by(&second).get("", &member.token).await.status, 200);
    let guest = Guest::hello(&second.base(), json!({"token": member.token})).await;
    assert_eq!(guest.id, member.id);
}

#[tokio::test]
async fn a_session_can_be_joined_on_every_instance_at_once() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    for _ in 0..10 {
        let made = Session::create(&room.api, json!({"title": "x"})).await;
        let (rest, socket) =
            tokio::join!(join(&second.api, None, &made.code), made.guest_at(&second));
        assert_eq!((rest.status, &socket.welcome["session"]["id"]), (200, &json!(made.id)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_joins_from_one_address_pass() {
    let room = Room::open().await;
    let mut joining = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let session = room.session.clone();
        joining.spawn(async move {
            for _ in 0..50 {
                session.join().await;
            }
        });
    }
    let guests = room.guests_at(&room.server, 150).await;
    joining.join_all().await;
    let mut ids: Vec<String> = guests.iter().map(|guest| guest.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 150);
}

/// Guessing stops at 100 a minute; the neighbours and those who have a token notice nothing.
#[tokio::test]
async fn guessing_codes_is_stopped_for_one_address_only() {
    let room = Room::open().await;
    let member = room.join().await;
    let known: u32 = room.code.parse().unwrap();
    let unknown = |n: u32| format!("{:08}", (known + n) % 100_000_000);
    let mut limited = None;
    for n in 1..=110 {
        let answer = join(&room.api, None, &unknown(n)).await;
        if answer.status == 429 {
            problem(&answer, 429, "rate_limited");
            limited = Some(n);
            break;
        }
        problem(&answer, 404, "not_found");
    }
    assert_eq!(limited, Some(101));
    let hello = json!({"code": unknown(500)});
    let closed = Guest::try_hello(&room.server.base(), hello).await;
    assert_eq!(closed.unwrap_err(), Some(4429));
    assert_eq!(room.get("", &member.token).await.status, 200);
    assert_eq!(join(&room.api, Some(&member.token), &room.code).await.status, 200);
    problem(&join(&room.api, Some(&member.token), &unknown(501)).await, 429, "rate_limited");
    assert_eq!(room.resume(&member.token, 0).await.id, member.id);
    // A hall has one address: who types the code of those who are there already is let in, whatever others guess.
    assert_eq!(join(&room.api, None, &room.code).await.status, 200);
    let other = Session::create(&room.api, json!({"title": "Not here yet"})).await;
    problem(&join(&room.api, None, &other.code).await, 429, "rate_limited");
    let neighbour: IpAddr = "127.0.0.2".parse().unwrap();
    let mut socket = Socket::connect_from(&room.server.base(), neighbour).await.unwrap();
    socket.send(&json!({"type": "hello", "code": room.code})).await.unwrap();
    let Incoming::Message(welcome) = within(SOON, "a welcome", socket.recv()).await.unwrap() else {
        panic!("the neighbour is shut out too");
    };
    assert_eq!(welcome["type"], "welcome");
}

/// Guesses a code that does not exist, as if passed on by a proxy for `address`.
async fn guess_as(server: &Server, address: &str, code: &str) -> u16 {
    let body = json!({"code": code}).to_string();
    let request = format!(
        "POST /v1/join HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(server.listen, request).await.status
}

/// Behind a proxy everybody comes from one address; only a proxy that is named is believed.
#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
    let (trusting, doubting) =
        tokio::join!(Room::with(&["--trusted-proxy", "10.0.0.0/8, 127.0.0.1"]), Room::open());
    for (room, believed) in [(&trusting, true), (&doubting, false)] {
        let unknown = format!("{:08}", (room.code.parse::<u32>().unwrap() + 1) % 100_000_000);
        for _ in 0..100 {
            assert_eq!(guess_as(&room.server, "203.0.113.1", &unknown).await, 404);
        }
        assert_eq!(guess_as(&room.server, "203.0.113.1", &unknown).await, 429);
        let other = guess_as(&room.server, "203.0.113.2", &unknown).await;
        assert_eq!(other, if believed { 404 } else { 429 });
        // What a client writes itself stands before what the proxy appends.
        let forged = guess_as(&room.server, "203.0.113.77, 203.0.113.1", &unknown).await;
        assert_eq!(forged, 429);
    }
    // Clients in the proxies' own network are told apart too.
    let unknown = format!("{:08}", (trusting.code.parse::<u32>().unwrap() + 1) % 100_000_000);
    for _ in 0..101 {
        guess_as(&trusting.server, "10.1.1.1", &unknown).await;
    }
    assert_eq!(guess_as(&trusting.server, "10.1.1.1, 10.9.9.9", &unknown).await, 429);
    assert_eq!(guess_as(&trusting.server, "10.1.1.2, 10.9.9.9", &unknown).await, 404);
}
