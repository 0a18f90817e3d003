//! Several instances on one database: each knows of all, and each wakes the others. That they serve
//! the same events is in `promises`, presence in `presence`, what a lost hint costs in `hints`.

use std::collections::BTreeSet;

use crate::support::*;

/// What an instance says about all of them.
async fn seen_by(server: &Server) -> Value {
    let answer = server.ops_get("/cluster").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn ids(cluster: &Value) -> BTreeSet<String> {
    let instances = cluster["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

fn instance<'a>(cluster: &'a Value, id: &str) -> Option<&'a Value> {
    cluster["instances"].as_array().unwrap().iter().find(|instance| instance["id"] == id)
}

/// Waits until an instance lists exactly these.
async fn lists(server: &Server, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|id| (*id).to_owned()).collect();
    eventually(SOON, "the instances listed are those that run", async || {
        (ids(&seen_by(server).await) == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_instance_lists_all_of_them_with_what_they_carry() {
    let room = Room::with(&["--capacity", "10", "--instance-id", "first"]).await;
    let second = Server::with(&room.db, &["--capacity", "4", "--instance-id", "second"]).await;
    let _guests = room.guests_at(&room.server, 3).await;
    let _guest = room.guest_at(&second).await;
    for server in [&room.server, &second] {
        let cluster = eventually(5, "both are listed with their connections", async || {
            let cluster = seen_by(server).await;
            let carries = |id, count| {
                instance(&cluster, id).is_some_and(|instance| instance["connections"] == count)
            };
            (carries("first", 3) && carries("second", 1)).then_some(cluster)
        })
        .await;
        let first = instance(&cluster, "first").unwrap();
        assert!(first["load"].is_number() && first["state"].is_string(), "{cluster}");
        assert_eq!(first["capacity"], 10);
        assert_eq!(instance(&cluster, "second").unwrap()["capacity"], 4);
        // The most of one instance over the mean of both.
        assert_eq!(cluster["imbalance"], 1.5, "{cluster}");
    }
}

#[tokio::test]
async fn an_instance_that_left_or_died_is_listed_no_more() {
    let room = Room::with(&["--instance-id", "stays"]).await;
    let mut leaves = Server::with(&room.db, &["--instance-id", "leaves"]).await;
    let mut dies = Server::with(&room.db, &["--instance-id", "dies"]).await;
    lists(&room.server, &["stays", "leaves", "dies"]).await;
    leaves.stop().await;
    lists(&room.server, &["stays", "dies"]).await;
    dies.kill9();
    lists(&room.server, &["stays"]).await;
    // Under the same name it takes its old place at once.
    let _again = Server::with(&room.db, &["--instance-id", "dies"]).await;
    lists(&room.server, &["stays", "dies"]).await;
}

#[tokio::test]
async fn a_draining_instance_says_so_to_all() {
    let room = Room::with(&["--instance-id", "first"]).await;
    let flags = ["--instance-id", "second", "--drain-seconds", "4"];
    let mut second = Server::with(&room.db, &flags).await;
    let mut stays = RawSocket::join(&second, &room.code).await;
    lists(&room.server, &["first", "second"]).await;
    let state = async || {
        let cluster = seen_by(&room.server).await;
        instance(&cluster, "second").map(|instance| instance["state"].clone())
    };
    let before = state().await;
    second.signal(Signal::TERM);
    stays.message("bye").await;
    eventually(4, "another state is told, or the instance has gone", async || {
        (state().await != before).then_some(())
    })
    .await;
    assert_eq!(second.exited(10).await.code(), Some(0));
}

/// With polling as good as switched off, what comes at once came by a hint.
#[tokio::test]
async fn instances_wake_each_other() {
    let room = Room::with(&[&SELDOM[..], &["--instance-id", "first"]].concat()).await;
    let second =
        Server::with(&room.db, &[&SELDOM[..], &["--instance-id", "second"]].concat()).await;
    let mut far = room.guest_at(&second).await;
    // Who knows of no other instance has nobody to wake, and for counts nobody who follows the session there.
    lists(&room.server, &["first", "second"]).await;
    let mut near = room.host().await;
    near.take("the other one", |m| m["type"] == "presence" && m["participants"] == 1).await;
    let begin = std::time::Instant::now();
    for round in 0..5 {
        let poll = room.choice(2).await;
        far.event("poll.opened").await;
        room.guest().await.cast(poll, pick(1)).await;
        far.results(poll, 1).await;
        room.retitle(&format!("{round}")).await;
        far.event("session.updated").await;
    }
    assert!(begin.elapsed().as_secs() < 8, "15 events took {:?}", begin.elapsed());
}

/// Hints save time only: an event that none announced is found by asking the log.
#[tokio::test]
async fn a_lost_hint_costs_no_more_than_one_poll() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut far = room.guest_at(&second).await;
    // Who begins to listen looks at everything once; from then on, only the poll is left.
    eventually(SOON, "it listens", async || {
        let answer = second.ops_get("/metrics").await;
        answer.text().contains("plenum_hints_received_total{news=\"true\"} 1").then_some(())
    })
    .await;
    room.by(&second).log(&room.presenter).await;
    // Past the server: an event that nobody announces.
    let insert = "WITH head AS (UPDATE session_head SET last_seq = last_seq + 1 RETURNING session_id, last_seq)
        INSERT INTO event_log (session_id, seq, at, kind, results_hidden, data)
        SELECT s.session_id, head.last_seq, date_trunc('milliseconds', now()), 'session.updated', false, session_json(s)
        FROM head JOIN sessions s USING (session_id)";
    let sql = room.db.sql().await;
    for seq in 1..=3 {
        sql.batch_execute(insert).await.unwrap();
        assert_eq!(far.event("session.updated").await["seq"], seq);
    }
}

/// Instances of a later release may log what this one has never heard of: it hands it on, and goes on.
#[tokio::test]
async fn an_event_of_an_unknown_kind_is_handed_on() {
    let room = Room::open().await;
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let (mut guest, mut host, mut elsewhere) =
        (room.guest().await, room.host().await, other.guest_at(&room.server).await);
    let later = format!(
        "WITH head AS (UPDATE session_head SET last_seq = last_seq + 1 WHERE session_id = '{0}' RETURNING last_seq)
         INSERT INTO event_log (session_id, seq, at, kind, results_hidden, data)
         SELECT '{0}', last_seq, clock_timestamp(), 'session.moved', false, '{{\"to\":1}}' FROM head",
        room.id
    );
    room.db.sql().await.batch_execute(&later).await.unwrap();
    other.retitle("still heard of").await;
    elsewhere.event("session.updated").await;
    for client in [&mut guest, &mut host] {
        assert_eq!(client.event("session.moved").await["data"], json!({"to": 1}));
    }
    let poll = room.choice(2).await;
    assert_eq!(guest.cast(poll, pick(0)).await["type"], "ack");
    host.results(poll, 1).await;
    let log = room.log(&room.presenter).await;
    assert_eq!(log[0]["kind"], "session.moved");
}
