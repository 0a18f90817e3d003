//! PgBouncer between the instances and PostgreSQL, in session mode and in transaction mode: votes, events, closing, restarts,
//! and that a setting which the pooler drops is missed. Which versions were tried: docs/OPERATING.md.

use crate::support::*;

/// The oldest that knows prepared statements in transaction mode.
const PREPARES: u32 = 121;

/// Two instances by way of the pooler share one session: everybody votes in every poll, on both; then everything is counted.
async fn two_instances_serve_one_session(db: &TestDb, port: u16, flags: &[&str]) {
    let url = db.url_by(port);
    let first = Server::at(&url, flags).await;
    let second = Server::at(&url, flags).await;
    let room = Room::on(first, db.clone()).await;
    let mut polls = Vec::new();
    for _ in 0..5 {
        polls.push(room.choice(3).await);
    }
    let mut watcher = room.guest_at(&second).await;
    let burst =
        async |server| Burst::start(room.guests_at(server, 20).await, &polls, 3).ended().await;
    let (ours, theirs) = tokio::join!(burst(&room.server), burst(&second));
    let ballots = [ours, theirs].concat();
    assert_eq!(ballots.len(), 200);
    assert!(ballots.iter().all(Ballot::is_acked), "{ballots:?}");
    for poll in &polls {
        room.close_poll(*poll).await;
        watcher.take("poll.closed", |it| it["kind"] == "poll.closed").await;
    }
    let again = &ballots[0];
    let repeat = room.cast(&again.token, &again.id, again.poll, pick(again.option)).await;
    assert_eq!((repeat.status, &repeat.json()["repeat"]), (200, &json!(true)));
    room.check_stored(db, &ballots).await;
    let seqs: Vec<i64> = watcher.events().iter().map(|it| it["seq"].as_i64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    // A third one migrates, looks after partitions, and gives its locks back, as the others did.
    let third = Server::at(&url, flags).await;
    let exported = room.by(&third).get("/export?format=json", &room.presenter).await.json();
    assert_eq!(exported["votes"].as_array().unwrap().len(), 200);
    let locks = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND d.datname = current_database()";
    eventually(SOON, "no lock is left behind", async || (db.count(locks).await == 0).then_some(()))
        .await;
}

/// LISTEN works there: the event comes long before the poll of the log would bring it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_session_mode_everything_works_hints_too() {
    let db = TestDb::fresh().await;
    let pooler = Pooler::start(&db, "session", "").await;
    two_instances_serve_one_session(&db, pooler.port, &[]).await;
    let url = db.url_by(pooler.port);
    let room = Room::on(Server::at(&url, &SELDOM).await, db.clone()).await;
    let second = Server::at(&url, &SELDOM).await;
    let mut there = room.guest_at(&second).await;
    eventually(SOON, "the instances know of each other", async || {
        let seen = room.server.ops_get("/cluster").await.json();
        (seen["instances"].as_array().unwrap().len() >= 2).then_some(())
    })
    .await;
    room.choice(2).await;
    within(3, "the event, by a hint", there.event("poll.opened")).await;
}

/// Once with the pooler's connections to the server kept, where what is left behind in one shows, and once with a second for
/// each, so that statements are prepared again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_transaction_mode_everything_works_without_hints() {
    let version = Pooler::version();
    if version < PREPARES {
        eprintln!(
            "PgBouncer {version} knows no prepared statements in transaction mode: not tried"
        );
        return;
    }
    for seconds in [3_600, 1] {
        let db = TestDb::fresh().await;
        let settings = format!("max_prepared_statements = 200\nserver_lifetime = {seconds}");
        let pooler = Pooler::start(&db, "transaction", &settings).await;
        two_instances_serve_one_session(&db, pooler.port, &["--no-listen-notify"]).await;
    }
}

/// The instance asks for synchronous commits when it connects, and a pooler that ignores this must not cost a vote.
#[tokio::test]
async fn a_pooler_that_drops_synchronous_commit_is_noticed_at_the_start() {
    let db = TestDb::fresh().await;
    let off = format!("ALTER DATABASE {} SET synchronous_commit = off", db.name());
    db.sql().await.batch_execute(&off).await.unwrap();
    let pooler = Pooler::start(&db, "session", "").await;
    let mut serve = vec!["serve", "--allow-anonymous-create", "--listen", "127.0.0.1:0"];
    let url = db.url_by(pooler.port);
    serve.extend(["--ops-listen", "127.0.0.1:0", "--database-url", &url]);
    let serve: Vec<String> = serve.into_iter().map(str::to_owned).collect();
    let ended = tokio::task::spawn_blocking(move || {
        run(plenum(&serve.iter().map(String::as_str).collect::<Vec<_>>()))
    });
    let ended = within(SOON, "it refuses to start", ended).await.unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("synchronous_commit is off"), "{said}");
    // Without the pooler the instance's own word holds.
    Server::start(&db).await;
}
