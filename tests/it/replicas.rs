//! Reads from a real streaming replica: what it provably has comes from it, everything else from the primary, and no client
//! ever notices.

use crate::support::*;

/// A primary, a replica of it behind a proxy, and a server that reads there.
async fn followed() -> (Cluster, Cluster, Proxy, Room) {
    let (primary, replica) = tokio::task::spawn_blocking(|| {
        let primary = Cluster::start();
        let replica = Cluster::standby_of(&primary, "r1");
        (primary, replica)
    })
    .await
    .unwrap();
    let db = TestDb::on(&primary).await;
    let proxy = Proxy::start(replica.port()).await;
    replica.has_database(&db).await;
    let url = db.url_by(proxy.port());
    let room = Room::on(Server::with(&db, &["--replica-url", &url]).await, db).await;
    (primary, replica, proxy, room)
}

async fn reads(room: &Room, source: &str) -> f64 {
    room.server.metric_or_0("plenum_reads_total", &[&format!("source=\"{source}\"")]).await
}

async fn misses(room: &Room, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    room.server.metric_or_0("plenum_replica_misses_total", &[&label]).await
}

async fn head(room: &Room) -> i64 {
    room.present("GET", "", Value::Null).await["last_seq"].as_i64().unwrap()
}

/// The export's votes, by id, compared with what is stored.
async fn check_export(room: &Room) {
    let stored = stored_votes(&room.db, &room.id).await;
    let answer = room.get("/export?format=json", &room.presenter).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let export = answer.json();
    let votes = export["votes"].as_array().unwrap();
    assert_eq!(votes.len(), stored.len());
    for vote in votes {
        let (poll, participant, _) = &stored[vote["id"].as_str().unwrap()];
        assert_eq!((&vote["poll"], &vote["participant"]), (&json!(poll), &json!(participant)));
    }
}

/// More votes than two pages of an export.
async fn many_votes(room: &Room) {
    let poll = room.choice(3).await;
    let sql = room.db.sql().await;
    // Straight into the table: the test is about reading, and 5,000 voters take a while.
    let votes = "INSERT INTO votes (session_id, poll, participant, id, answer, batch, at)
        SELECT $1::text::uuid, $2::bigint::int, gen_random_uuid(), gen_random_uuid(), '{1}',
               '00000000-0000-0000-0000-000000000001', date_trunc('milliseconds', now())
        FROM generate_series(1, 5000)";
    sql.execute(votes, &[&room.id, &poll]).await.unwrap();
    let batch = "INSERT INTO vote_batches (session_id, batch, poll, seq)
        VALUES ($1::text::uuid, '00000000-0000-0000-0000-000000000001', $2::bigint::int, 1)";
    sql.execute(batch, &[&room.id, &poll]).await.unwrap();
}

#[tokio::test]
async fn exports_old_events_and_results_of_ended_sessions_come_from_a_replica() {
    let (primary, replica, _proxy, room) = followed().await;
    let poll = room.choice(3).await;
    for option in 0..3 {
        room.guest().await.cast(poll, pick(option)).await;
    }
    room.close_poll(poll).await;
    let live = room.results(poll).await;
    assert_eq!(reads(&room, "replica").await, 0.0, "results of a session that goes on never do");
    room.present("PATCH", "", json!({"state": "ended"})).await;
    replica.caught_up(&room.db, &primary).await;
    let mut before = reads(&room, "replica").await;
    let mut came_from_the_replica = async |what: &str| {
        let now = reads(&room, "replica").await;
        assert!(now > before, "{what}");
        before = now;
    };
    assert_eq!(room.results(poll).await, live);
    came_from_the_replica("results of an ended session").await;
    check_export(&room).await;
    came_from_the_replica("an export").await;
    let log = room.log(&room.presenter).await;
    let seqs: Vec<i64> = log.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    came_from_the_replica("a page of events").await;
    let mut back = room.resume(&room.presenter, 0).await;
    back.event("session.ended").await;
    came_from_the_replica("a replay").await;
    assert_eq!(reads(&room, "primary").await, 0.0);
}

#[tokio::test]
async fn a_lagging_replica_is_passed_over_until_it_has_what_is_asked_for() {
    let (primary, replica, _proxy, room) = followed().await;
    let poll = room.choice(3).await;
    replica.caught_up(&room.db, &primary).await;
    let sql = room.db.at(&replica).sql().await;
    sql.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    eventually(SOON, "replay stands still", async || {
        let state = sql.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.unwrap();
        (state.get::<_, String>(0) == "paused").then_some(())
    })
    .await;
    for option in 0..3 {
        room.guest().await.cast(poll, pick(option)).await;
    }
    check_export(&room).await;
    assert_eq!(room.log(&room.presenter).await.len() as i64, head(&room).await);
    assert_eq!(reads(&room, "replica").await, 0.0);
    assert!(misses(&room, "behind").await >= 2.0);
    sql.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    replica.caught_up(&room.db, &primary).await;
    check_export(&room).await;
    assert!(reads(&room, "replica").await > 0.0);
}

/// The answer of a page is lost, then the replica is gone, then it hangs, then it is back: every export is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_dies_or_hangs_in_the_middle_of_an_export_costs_a_moment_and_no_error() {
    let (primary, replica, proxy, room) = followed().await;
    many_votes(&room).await;
    replica.caught_up(&room.db, &primary).await;
    check_export(&room).await;
    assert!(reads(&room, "replica").await >= 3.0);
    proxy.lose_answer_of("vote_batches");
    check_export(&room).await;
    proxy.lost(1).await;
    let from_primary = reads(&room, "primary").await;
    assert!(from_primary >= 1.0, "the page was read again");
    let used_again = async |what: &str| {
        eventually(SOON, what, async || {
            let before = reads(&room, "replica").await;
            check_export(&room).await;
            (reads(&room, "replica").await > before).then_some(())
        })
        .await;
    };
    used_again("it is used again after a lost answer").await;
    proxy.freeze();
    let begin = std::time::Instant::now();
    check_export(&room).await;
    assert!(begin.elapsed().as_secs_f64() < 3.0, "a frozen one cost {:?}", begin.elapsed());
    proxy.forward();
    used_again("it is used again when it goes on").await;
    replica.kill9();
    check_export(&room).await;
    check_export(&room).await;
    let _replica = tokio::task::spawn_blocking(move || {
        replica.start_again();
        replica
    })
    .await
    .unwrap();
    used_again("it is used again when it is back").await;
}

/// A replica of another history is never believed, however far its numbers go.
#[tokio::test]
async fn a_replica_that_was_left_behind_by_a_new_epoch_is_not_read() {
    let (primary, replica, _proxy, room) = followed().await;
    let poll = room.choice(3).await;
    room.guest().await.cast(poll, pick(0)).await;
    replica.caught_up(&room.db, &primary).await;
    check_export(&room).await;
    let before = reads(&room, "replica").await;
    assert!(before > 0.0);
    replica.cut_off(&room.db).await;
    let made = run(plenum(&["epoch", "--new", "--database-url", &room.db.url()]));
    assert!(made.status.success(), "{made:?}");
    eventually(SOON, "the instance knows", async || {
        (room.server.metric("plenum_epoch_changes_total", &[]).await == 1.0).then_some(())
    })
    .await;
    check_export(&room).await;
    assert_eq!(reads(&room, "replica").await, before);
    assert!(misses(&room, "behind").await > 0.0);
}
