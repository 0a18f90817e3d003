//! Clients that mean harm, many at a time: they are refused at little cost, and others are served as before. Single hostile
//! requests and frames are in `hostile_http`, `socket_frames`, `join` and `rest_order`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use plenum_loadtest::client::ConnectOptions;
use tokio::task::JoinSet;

use crate::support::*;

/// Votes by which calm and flood are compared.
const VOTES: usize = 40;
/// What the machine may add to twice the calm: it runs the flood's own clients and other tests besides. So this sees a server
/// that makes others wait, and not one that is a little slower; how much slower is measured by the load test's scenario
/// `flood`, alone on its machine and without slack (docs/BENCHMARKS.md).
const SLACK: Duration = Duration::from_secs(1);

/// How long the slowest but two of many votes takes from sending to its results.
async fn delivery(room: &Room) -> Duration {
    let poll = room.choice(2).await;
    let mut watcher = room.guest().await;
    let mut took = Vec::new();
    for nth in 1..=VOTES {
        let mut voter = room.guest().await;
        let begun = Instant::now();
        voter.cast(poll, pick(1)).await;
        watcher.results(poll, i64::try_from(nth).unwrap()).await;
        took.push(begun.elapsed());
    }
    took.sort();
    took[VOTES - 3]
}

/// Runs `flood` over and over in so many tasks, while votes are cast; they must arrive within twice the time of calm.
async fn others_are_served<F: Future<Output = ()> + Send>(
    room: &Room,
    tasks: usize,
    flood: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let calm = delivery(room).await;
    let mut flooding = JoinSet::new();
    for number in 0..tasks {
        let flood = flood.clone();
        flooding.spawn(async move {
            loop {
                flood(number).await;
            }
        });
    }
    let flooded = delivery(room).await;
    // A flood that has died would prove nothing.
    assert!(flooding.try_join_next().is_none());
    assert!(flooded <= calm * 2 + SLACK, "calm {calm:?}, under the flood {flooded:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_delay_nobody() {
    let room = Room::open().await;
    let listen = room.server.listen;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(tokio::net::TcpStream::connect(listen).await.unwrap());
    }
    others_are_served(&room, 4, move |_| async move {
        // Made and dropped, some with half a request.
        let mut http = RawHttp::connect(listen).await;
        http.bytes(b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_messages_delays_nobody_else() {
    let room = Room::open().await;
    let (base, code) = (room.server.base(), room.code.clone());
    others_are_served(&room, 2, move |_| {
        let (base, code) = (base.clone(), code.clone());
        async move {
            let mut guest = Guest::hello(&base, json!({"code": code})).await;
            while guest.try_send(&json!({"type": "ping"})).await {}
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_codes_from_many_addresses_delays_nobody() {
    let room = Room::open().await;
    let base = room.server.base();
    others_are_served(&room, 4, move |number| {
        let base = base.clone();
        async move {
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1 + u8::try_from(number).unwrap()));
            let options = ConnectOptions { source: Some(source), ..ConnectOptions::default() };
            let mut socket = Socket::connect_with(&base, &options).await.unwrap();
            let _ = socket.send(&json!({"type": "hello", "code": "00000000"})).await;
            let _ = socket.recv().await;
        }
    })
    .await;
}

/// Bytes that one end of a chain could take for two requests and the other for one: all are refused, and the connection with them.
#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_end_the_connection() {
    let room = Room::open().await;
    let shapes = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello!",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "Content-Length : 5\r\n\r\nhello",
        "X: 1\r\n folded: 2\r\nContent-Length: 0\r\n\r\n",
    ];
    for shape in shapes {
        let mut http = RawHttp::connect(room.server.listen).await;
        http.bytes(format!("POST /v1/join HTTP/1.1\r\nHost: x\r\n{shape}").as_bytes()).await;
        let first = http.answer(SOON).await;
        let status = first.map_or(400, |answer| answer.status);
        assert!((400..500).contains(&status), "{shape:?}: {status}");
        let second = http.answer(SOON).await;
        assert!(second.is_none(), "{shape:?}: a second answer {second:?}");
    }
    assert_eq!(room.join().await.body["session"]["id"], room.id.as_str());
}

/// A token stays good as long as its session is there, and for nothing but what the session still allows.
#[tokio::test]
async fn a_token_of_an_ended_session_reads_and_no_longer_votes() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(poll, pick(0)).await;
    let late = room.guest().await;
    room.present("PATCH", "", json!({"state": "ended"})).await;
    for token in [&guest.token, &late.token] {
        let mut back = Guest::hello(&room.server.base(), json!({"token": token})).await;
        let code = back.cast(poll, pick(1)).await["code"].clone();
        let expected = if *token == guest.token { "already_voted" } else { "session_ended" };
        assert_eq!(code, expected);
    }
    room.check_counts(&room.db).await;
}

/// Presenters and participants of one session are strangers in another, on every path.
#[tokio::test]
async fn a_token_of_another_session_opens_nothing() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let other = Session::create(&room.api, json!({"title": "Another"})).await;
    let stranger = other.join().await;
    for token in [&other.presenter, &stranger.token] {
        for (method, rest) in [
            ("GET", String::new()),
            ("PATCH", String::new()),
            ("DELETE", String::new()),
            ("POST", "/polls".to_owned()),
            ("POST", format!("/polls/{poll}/close")),
            ("GET", format!("/polls/{poll}/results")),
            ("GET", "/events".to_owned()),
            ("GET", "/stream".to_owned()),
            ("GET", "/export".to_owned()),
            ("POST", "/votes".to_owned()),
        ] {
            problem(&room.call(method, &rest, token, Value::Null).await, 401, "invalid_token");
        }
    }
    assert_eq!(room.results(poll).await["votes"], 0);
}

/// Markup, marks that turn the direction of text, and quotes of every kind come back as they were, and never as HTML.
#[tokio::test]
async fn text_that_would_do_harm_in_a_page_stays_text() {
    let room = Room::open().await;
    let texts = [
        "<script>alert(1)</script>",
        "\u{202e}gnp.exe\u{202c}",
        "\"}],\"state\":\"ended\"",
        "&lt;b&gt; ${7*7} {{7*7}}",
        "\u{2028}\u{2029}",
    ];
    for text in texts {
        let body = json!({"kind": "choice", "question": text, "options": [text, "other"]});
        let poll = room.poll(body).await;
        let answer = room.get(&format!("/polls/{poll}"), &room.presenter).await;
        assert_eq!(answer.json()["question"], text);
        let kind = answer.headers.get("content-type").unwrap().to_str().unwrap();
        assert!(kind.starts_with("application/json"), "{kind}");
    }
    let mut guest = room.guest().await;
    let polls = guest.welcome["polls"].as_array().unwrap().clone();
    assert_eq!(polls.iter().map(|poll| poll["question"].clone()).collect::<Vec<_>>(), texts);
    guest.cast(1, pick(0)).await;
}

/// More votes than a lane may hold while the database stands still: those beyond are told when to come again, and succeed
/// then; those that wait are answered. Votes for polls that are not there fill a lane as well as others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_lane_says_overloaded_and_keeps_its_word() {
    const TOO_MANY: i64 = 34_500; // a lane holds 32,000, a batch 1,000
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &ONE_LANE).await;
    let room = Room::on(server, db).await;
    let poll = room.choice(2).await;
    let mut voter = room.guest().await;
    let mut guest = bare(&room.server.base(), &room.code).await;
    proxy.freeze();
    // The second round fills the place of the first batch, should the lane have taken that one late.
    for polls in [2..TOO_MANY, TOO_MANY..TOO_MANY + 1_500] {
        let mut last = String::new();
        for first in polls.step_by(500) {
            let vote = |n| {
                last = fresh_id();
                json!({"type": "vote", "id": last, "poll": n, "answer": pick(0)}).to_string()
            };
            let texts: Vec<String> = (first..first + 500).map(vote).collect();
            guest.send_texts(&texts).await.unwrap();
        }
        let overloaded = within(SOON, "overloaded", async {
            loop {
                let Incoming::Message(message) = guest.recv().await.unwrap() else {
                    panic!("closed")
                };
                if message["type"] == "error" && message["id"] == last {
                    return message;
                }
            }
        })
        .await;
        assert_eq!(overloaded["code"], "overloaded", "{overloaded}");
    }
    let refused = voter.cast(poll, pick(1)).await;
    assert_eq!(refused["code"], "overloaded", "the lane is still full");
    let again = refused["retry_after_ms"].as_u64().unwrap();
    assert!((250..=10_000).contains(&again), "{again}");
    proxy.forward();
    tokio::time::sleep(Duration::from_millis(again)).await;
    let id = refused["id"].as_str().unwrap();
    assert_eq!(voter.cast_as(id, poll, pick(1)).await["type"], "ack");
    assert_eq!(room.results(poll).await["votes"], 1);
}
