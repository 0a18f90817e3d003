//! HAProxy and NGINX as `deploy/` configures them, in front of two real instances: where clients land, what they notice, and
//! what the instances learn of them. Instances that go away are in `rolling`; single headers in `proxied`.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::*;

const KINDS: [Kind; 2] = [Kind::HaProxy, Kind::Nginx];

/// Two instances, a balancer before them, and a session.
struct Pair {
    balancer: Balancer,
    servers: [Server; 2],
    session: Session,
    db: TestDb,
}

impl Pair {
    async fn behind(kind: Kind) -> Pair {
        let (servers, db) = Pair::servers(kind, [&[], &[]]).await;
        let balancer = Balancer::start(kind, &[&servers[0], &servers[1]]).await;
        Pair::with(balancer, servers, db).await
    }

    /// Instances with further flags of their own.
    async fn servers(kind: Kind, own: [&[&str]; 2]) -> ([Server; 2], TestDb) {
        let db = TestDb::fresh().await;
        let flags = own.map(|own| [kind.flags(), own].concat());
        ([Server::with(&db, &flags[0]).await, Server::with(&db, &flags[1]).await], db)
    }

    async fn with(balancer: Balancer, servers: [Server; 2], db: TestDb) -> Pair {
        let session = Session::create(&balancer.api, json!({"title": "Balanced"})).await;
        Pair { balancer, servers, session, db }
    }

    async fn guest(&self) -> Guest {
        Guest::hello(&self.balancer.base(), json!({"code": self.session.code})).await
    }

    /// Streams that each instance has open.
    async fn open(&self) -> [i64; 2] {
        let mut open = [0; 2];
        for (open, server) in open.iter_mut().zip(&self.servers) {
            *open = server.metric("plenum_connections", &[]).await as i64;
        }
        open
    }

    /// Streams that each instance ever had.
    async fn opened(&self) -> [i64; 2] {
        let mut opened = [0; 2];
        for (opened, server) in opened.iter_mut().zip(&self.servers) {
            let text = server.ops_get("/metrics").await.text();
            let lines =
                text.lines().filter(|line| line.starts_with("plenum_connections_opened_total"));
            *opened =
                lines.map(|line| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()).sum();
        }
        opened
    }

    /// A WebSocket with a cookie, if given; the socket, which brings the cookie that was set.
    async fn socket(&self, cookie: Option<&str>) -> Socket {
        let headers = cookie.map(|cookie| (String::from("cookie"), cookie.to_owned()));
        let options =
            ConnectOptions { headers: headers.into_iter().collect(), ..ConnectOptions::default() };
        let mut socket = Socket::connect_with(&self.balancer.base(), &options).await.unwrap();
        socket.send(&json!({"type": "hello", "code": self.session.code})).await.unwrap();
        let first = within(SOON, "a welcome", socket.recv()).await.unwrap();
        assert!(matches!(&first, Incoming::Message(it) if it["type"] == "welcome"), "{first:?}");
        socket
    }
}

#[tokio::test]
async fn joining_voting_and_coming_back_work_through_each_balancer() {
    for kind in KINDS {
        let pair = Pair::behind(kind).await;
        let (mut host, mut guest) = (pair.guest().await, pair.guest().await);
        let poll = pair.session.choice(2).await;
        guest.event("poll.opened").await;
        assert_eq!(guest.cast(poll, pick(1)).await["repeat"], false);
        host.results(poll, 1).await;
        let (token, after) = (guest.token.clone(), guest.highest);
        guest.leave().await;
        pair.session.retitle("missed").await;
        let hello = json!({"token": token, "after": after, "epoch": host.welcome["epoch"]});
        let mut back = Guest::hello(&pair.balancer.base(), hello).await;
        assert_eq!((&back.welcome["resumed"], &back.welcome["seq"]), (&json!(true), &json!(after)));
        back.event("session.updated").await;
        pair.session.check_counts(&pair.db).await;
    }
}

#[tokio::test]
async fn newcomers_go_where_there_are_fewest() {
    for kind in KINDS {
        let pair = Pair::behind(kind).await;
        let mut sockets = Vec::new();
        for _ in 0..10 {
            sockets.push(pair.socket(None).await);
        }
        assert_eq!(pair.open().await, [5, 5], "{kind:?}");
        sockets.retain(|socket| socket.cookie.as_deref() != Some("plenum_at=i1"));
        eventually(SOON, "one half has left", async || (pair.open().await == [0, 5]).then_some(()))
            .await;
        for _ in 0..5 {
            sockets.push(pair.socket(None).await);
        }
        assert_eq!(pair.open().await, [5, 5], "{kind:?}: taking turns is not enough");
    }
}

#[tokio::test]
async fn the_cookie_brings_a_client_back_to_its_instance() {
    for kind in KINDS {
        let pair = Pair::behind(kind).await;
        let first = pair.socket(None).await;
        let cookie = first.cookie.clone().expect("a cookie");
        assert!(cookie.starts_with("plenum_at=i"), "{cookie}");
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(pair.socket(Some(&cookie)).await);
        }
        let mut opened = pair.opened().await;
        opened.sort_unstable();
        assert_eq!(opened, [0, 7], "{kind:?}");
    }
}

/// Correctness depends on stickiness nowhere: whoever comes back elsewhere sees the same.
#[tokio::test]
async fn without_stickiness_nothing_changes_but_which_instance_serves() {
    let (servers, db) = Pair::servers(Kind::HaProxy, [&[], &[]]).await;
    let off = [("PLENUM_STICKY", "off")];
    let balancer = Balancer::haproxy(&[&servers[0], &servers[1]], &off).await;
    let pair = Pair::with(balancer, servers, db).await;
    let poll = pair.session.choice(2).await;
    let mut guest = pair.guest().await;
    assert_eq!(pair.socket(None).await.cookie, None);
    let ack = guest.cast(poll, pick(0)).await;
    for round in 0..6 {
        // Somebody stays where the guest was, so that there is more room elsewhere.
        let _stays = pair.guest().await;
        let (token, after) = (guest.token.clone(), guest.highest);
        guest.leave().await;
        let seq = pair.session.retitle(&format!("{round}")).await["last_seq"].clone();
        let hello = json!({"token": token, "after": after});
        guest = Guest::hello(&pair.balancer.base(), hello).await;
        assert_eq!(guest.welcome["resumed"], true);
        assert_eq!(guest.event("session.updated").await["seq"], seq);
        let again = guest.cast_as(ack["id"].as_str().unwrap(), poll, pick(0)).await;
        assert_eq!((&again["repeat"], &again["seq"]), (&json!(true), &ack["seq"]));
    }
    let opened = pair.opened().await;
    assert!(opened.iter().all(|opened| *opened > 2), "{opened:?}");
}

#[tokio::test]
async fn events_of_a_stream_arrive_one_by_one() {
    for kind in KINDS {
        let pair = Pair::behind(kind).await;
        let path = pair.session.path(&format!("/stream?token={}", pair.session.presenter));
        let mut stream = Sse::open(pair.balancer.listen, &path, &[]).await.unwrap();
        assert_eq!(stream.next().await.unwrap().data["type"], "welcome");
        for round in 0..5 {
            let seq = pair.session.retitle(&format!("{round}")).await["last_seq"].clone();
            // Held back to fill a buffer, it would not come before the next one is made.
            let event = within(2, "the event, at once", stream.next_of("session.updated")).await;
            assert_eq!(event.data["seq"], seq, "{kind:?}");
        }
    }
}

/// Guesses at codes from one address until it is told to wait, at most as often as two instances allow. The last status.
async fn guess(pair: &Pair, from: IpAddr, forged: &str, times: usize) -> u16 {
    let mut connection = RawHttp::connect_from(pair.balancer.listen, from).await;
    let body = r#"{"code":"00000000"}"#;
    let length = body.len();
    let request = format!(
        "POST /v1/join HTTP/1.1\r\nHost: x\r\n{forged}Content-Length: {length}\r\n\r\n{body}"
    );
    let mut status = 0;
    for _ in 0..times {
        connection.bytes(request.as_bytes()).await;
        status = connection.answer(SOON).await.unwrap().status;
        if status == 429 {
            break;
        }
    }
    status
}

#[tokio::test]
async fn instances_learn_the_true_address_of_clients() {
    for kind in KINDS {
        let pair = Pair::behind(kind).await;
        let [guesser, other] = ["127.0.0.5", "127.0.0.6"].map(|at| at.parse().unwrap());
        // Each instance counts for itself, and both are asked in turn.
        assert_eq!(guess(&pair, guesser, "", 202).await, 429, "{kind:?}");
        let forged = "X-Forwarded-For: 203.0.113.1\r\nForwarded: for=203.0.113.1\r\n";
        assert_eq!(guess(&pair, guesser, forged, 3).await, 429, "{kind:?}");
        assert_eq!(guess(&pair, other, "", 1).await, 404, "{kind:?}");
    }
}

/// As long as it takes the server to ping, which no time-out on the way may cut short.
#[tokio::test]
async fn an_idle_connection_lives_on_by_the_servers_pings() {
    let (one, two) = tokio::join!(Pair::behind(Kind::HaProxy), Pair::behind(Kind::Nginx));
    let idle = async |pair: &Pair| {
        let mut socket = RawSocket::join_at(pair.balancer.listen, &pair.session.code).await;
        let payload = loop {
            let (first, payload) = socket.frame_within(30).await.expect("it was cut");
            if first == PING {
                break payload;
            }
        };
        socket.send(PONG, &payload).await;
        socket.text(r#"{"type":"ping"}"#).await;
        socket.message("pong").await;
    };
    tokio::join!(idle(&one), idle(&two));
}

/// Every time-out that ends a silent stream, in seconds, with the line that says so.
fn silences(file: &str, names: &[&str]) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(format!("{CONFIGURATIONS}/{file}")).unwrap();
    let lines = text.lines().map(str::trim);
    let found = lines.filter_map(|line| {
        let name = names.iter().find(|name| line.starts_with(**name))?;
        let seconds = line[name.len()..].trim().trim_end_matches(';').strip_suffix('s').unwrap();
        Some((seconds.parse().unwrap(), line.to_owned()))
    });
    found.collect()
}

#[test]
fn time_outs_are_longer_than_the_servers_silence() {
    use plenum::limits::{PING_EVERY, PONG_WAIT_MAX, SSE_HEARTBEAT};
    let haproxy =
        silences("haproxy/haproxy.cfg", &["timeout client ", "timeout server ", "timeout tunnel "]);
    let nginx = silences("nginx/nginx.conf", &["proxy_read_timeout ", "proxy_send_timeout "]);
    assert_eq!((haproxy.len(), nginx.len()), (3, 2));
    for (seconds, line) in haproxy.into_iter().chain(nginx) {
        // Twice the longest silence, so that one lost ping cuts nobody.
        let longest = (PING_EVERY + PONG_WAIT_MAX).max(SSE_HEARTBEAT);
        assert!(Duration::from_secs(seconds) >= 2 * longest, "{line}");
    }
}

#[tokio::test]
async fn an_instance_that_is_not_ready_is_left_alone_until_it_is() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let flags = Kind::HaProxy.flags();
    let well = Server::with(&db, flags).await;
    let ails = Server::at(&db.url_by(proxy.port()), flags).await;
    let balancer = Balancer::start(Kind::HaProxy, &[&well, &ails]).await;
    let pair = Pair::with(balancer, [well, ails], db).await;
    let [streams, rest] = ["plenum_streams", "plenum_rest"];
    pair.balancer.sees_all(&[(streams, "i2", "UP"), (rest, "i2", "UP")]).await;
    proxy.freeze();
    pair.balancer.sees_all(&[(streams, "i2", "DOWN"), (rest, "i2", "DOWN")]).await;
    let _guests = [pair.guest().await, pair.guest().await, pair.guest().await];
    assert_eq!(pair.opened().await, [3, 0]);
    for _ in 0..4 {
        pair.session.join().await;
    }
    proxy.forward();
    pair.balancer.sees_all(&[(streams, "i2", "UP"), (rest, "i2", "UP")]).await;
    let _newcomer = pair.guest().await;
    assert_eq!(pair.opened().await, [3, 1]);
}

/// NGINX has no checks of its own: it finds out by trying, and its clients do not notice.
#[tokio::test]
async fn nginx_asks_another_instance_when_one_is_gone_or_draining() {
    let mut pair = Pair::behind(Kind::Nginx).await;
    let mut raw = RawSocket::connect_at(pair.servers[0].listen).await;
    raw.text(&json!({"type": "hello", "code": pair.session.code}).to_string()).await;
    raw.message("welcome").await;
    pair.servers[0].signal(Signal::TERM);
    raw.message("bye").await;
    // The one that leaves has fewest, so everybody is brought there first.
    let mut guests = vec![pair.guest().await, pair.guest().await, pair.guest().await];
    let path = pair.session.path(&format!("/stream?token={}", pair.session.presenter));
    let _stream = Sse::open(pair.balancer.listen, &path, &[]).await.unwrap();
    assert_eq!(pair.servers[0].exited(10).await.code(), Some(0));
    for _ in 0..4 {
        guests.push(pair.guest().await);
        pair.session.join().await;
    }
    assert_eq!(pair.servers[1].metric("plenum_connections", &[]).await, 8.0);
}

/// What one agent check is told.
async fn agent(server: &Server) -> String {
    use tokio::io::AsyncReadExt;
    let mut socket = tokio::net::TcpStream::connect(server.agent.unwrap()).await.unwrap();
    let mut line = String::new();
    within(SOON, "one line and the end", socket.read_to_string(&mut line)).await.unwrap();
    line
}

#[tokio::test]
async fn an_instance_tells_its_weight_and_that_it_leaves() {
    let (servers, db) =
        Pair::servers(Kind::HaProxy, [&["--capacity", "4"], &["--capacity", "400"]]).await;
    let balancer = Balancer::start(Kind::HaProxy, &[&servers[0], &servers[1]]).await;
    let mut pair = Pair::with(balancer, servers, db).await;
    assert_eq!(agent(&pair.servers[0]).await, "ready up 100%\n");
    let cookie = Some("plenum_at=i1");
    let mut sockets = Vec::new();
    for (line, weight) in [("75%", 75), ("50%", 50), ("25%", 25), ("1%", 1), ("1%", 1)] {
        sockets.push(pair.socket(cookie).await);
        assert_eq!(agent(&pair.servers[0]).await, format!("ready up {line}\n"));
        let what = format!("the weight is {weight}");
        eventually(SOON, &what, async || {
            (pair.balancer.sees("plenum_streams", "i1").1 == weight).then_some(())
        })
        .await;
    }
    // Past its capacity it is ready still: what is over is over everywhere, or it would not be brought here.
    let ready = pair.servers[0].ops_get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["free_percent"]), (200, &json!(1)));
    let _others = [pair.guest().await, pair.guest().await, pair.guest().await];
    assert_eq!(pair.open().await, [5, 3]);
    pair.servers[0].signal(Signal::TERM);
    eventually(SOON, "the agent says drain", async || {
        (agent(&pair.servers[0]).await == "drain\n").then_some(())
    })
    .await;
    assert_eq!(pair.servers[0].ops_get("/readyz").await.status, 503);
    // It is told to balancers first: whoever they bring meanwhile is served.
    assert_eq!(pair.session.join().await.body["session"]["id"], pair.session.id);
    pair.balancer.sees_all(&[("plenum_streams", "i1", "D"), ("plenum_rest", "i1", "D")]).await;
    assert_eq!(pair.servers[0].exited(14).await.code(), Some(0));
    sockets.push(pair.socket(cookie).await);
    assert_eq!(pair.servers[1].metric("plenum_connections", &[]).await, 4.0);
}

/// A full instance refuses streams, serves REST, and is left alone by the balancer.
#[tokio::test]
async fn clients_of_a_full_instance_find_another_one() {
    let (servers, db) = Pair::servers(Kind::HaProxy, [&["--max-connections", "2"], &[]]).await;
    let balancer = Balancer::start(Kind::HaProxy, &[&servers[0], &servers[1]]).await;
    let pair = Pair::with(balancer, servers, db).await;
    let mut sockets = vec![pair.socket(Some("plenum_at=i1")).await];
    sockets.push(pair.socket(Some("plenum_at=i1")).await);
    // From here on a stream that is sent there is refused with 503, which HAProxy takes elsewhere.
    let path = pair.session.path(&format!("/stream?token={}", pair.session.presenter));
    let mut streams = Vec::new();
    for _ in 0..3 {
        let opened = Sse::open(pair.balancer.listen, &path, &["Cookie: plenum_at=i1"]).await;
        streams.push(opened.unwrap());
    }
    assert_eq!(agent(&pair.servers[0]).await, "ready down#full\n");
    pair.balancer.sees_all(&[("plenum_streams", "i1", "D"), ("plenum_rest", "i1", "UP")]).await;
    for _ in 0..3 {
        sockets.push(pair.socket(Some("plenum_at=i1")).await);
    }
    assert_eq!(pair.open().await, [2, 6]);
    let before = pair.servers[0].metric("plenum_http_request_seconds_count", &[]).await;
    for _ in 0..4 {
        pair.session.join().await;
    }
    let after = pair.servers[0].metric("plenum_http_request_seconds_count", &[]).await;
    assert!(after > before, "REST is served by it no more");
    // Whoever came in the moment before the balancer heard of it: 4503, and the next try is welcome.
    let direct = Socket::connect_from(&pair.servers[0].base(), "127.0.0.2".parse().unwrap()).await;
    let closed = within(SOON, "the end", direct.unwrap().recv()).await.unwrap();
    assert!(matches!(closed, Incoming::Closed { code: Some(4503), .. }), "{closed:?}");
    // One leaves: it takes streams again.
    sockets.remove(0).close(1000, "").await.unwrap();
    pair.balancer.sees_all(&[("plenum_streams", "i1", "UP")]).await;
    sockets.push(pair.socket(Some("plenum_at=i1")).await);
    assert_eq!(pair.open().await, [2, 6]);
}

/// Strangers who connect and go, one who guesses codes, and participants who send far beyond the rate come by the same balancer
/// as everybody: they are refused, fifty others vote meanwhile, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_through_the_balancer_costs_no_vote() {
    let pair = Pair::behind(Kind::HaProxy).await;
    let poll = pair.session.choice(2).await;
    let mut watcher = pair.guest().await;
    let mut voters = Vec::new();
    for _ in 0..40 {
        voters.push(pair.guest().await);
    }
    let (base, code) = (pair.balancer.base(), pair.session.code.clone());
    let mut flood = JoinSet::new();
    for nth in 0..6 {
        let (base, code) = (base.clone(), code.clone());
        flood.spawn(async move {
            for address in (1..=250).cycle() {
                match nth % 3 {
                    0 => drop(Socket::connect(&base).await.unwrap()),
                    1 => guesses(&base, address).await,
                    _ => chatters(&base, &code).await,
                }
            }
        });
    }
    let mut votes = 0;
    while votes < 50 {
        // Some join in the middle of it.
        let mut voter = match voters.pop() {
            Some(voter) => voter,
            None => pair.guest().await,
        };
        assert_eq!(voter.cast(poll, pick(0)).await["type"], "ack");
        votes += 1;
        watcher.results(poll, votes).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(flood.try_join_next().is_none(), "a flood that has died would prove nothing");
    // Gone without a word, a code that is nobody's, too many messages.
    for code in ["code=\"1006\"", "code=\"4404\"", "code=\"4429\""] {
        let mut closed = 0.0;
        for server in &pair.servers {
            closed += server.metric_or_0("plenum_connections_closed_total", &[code]).await;
        }
        assert!(closed >= 10.0, "{code}: {closed}");
    }
    flood.shutdown().await;
    assert_eq!(pair.session.results(poll).await["votes"], 50);
    pair.session.check_counts(&pair.db).await;
}

/// A code that is nobody's, each time from another address, so that each is looked at; and the end that it earns.
async fn guesses(base: &str, address: u8) {
    let source = Some(IpAddr::from([127, 0, 77, address]));
    let options = ConnectOptions { source, ..ConnectOptions::default() };
    let mut socket = Socket::connect_with(base, &options).await.unwrap();
    let _ = socket.send(&json!({"type": "hello", "code": "00000000"})).await;
    let _ = socket.recv().await;
}

/// Sends until the server has had enough.
async fn chatters(base: &str, code: &str) {
    let mut guest = Guest::hello(base, json!({"code": code})).await;
    while guest.try_send(&json!({"type": "ping"})).await {}
}
