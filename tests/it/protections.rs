//! Protections that only show at one moment: the test holds the database up at that moment, and looks. Each is turned off
//! by a mutation (`make mutations`), and its test must fail then. What needs no such moment is in `promises` and `faults`.

use tokio_postgres::Client;

use crate::support::*;

/// Whoever fires the trigger waits, as long as somebody holds the lock of this number.
const HOLD_UP: i64 = 4711;

/// Makes a trigger that holds its statement up, from now on until `let_go`.
async fn hold_up(sql: &Client, trigger: &str) {
    let made = format!(
        "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_advisory_xact_lock_shared({HOLD_UP}); RETURN NEW; END $$;
         CREATE {trigger} EXECUTE FUNCTION hold_up();
         SELECT pg_advisory_lock({HOLD_UP})"
    );
    sql.batch_execute(&made).await.unwrap();
}

async fn let_go(sql: &Client) {
    sql.batch_execute(&format!("SELECT pg_advisory_unlock({HOLD_UP})")).await.unwrap();
}

/// Waits until somebody's statement waits for `event`.
async fn waits(db: &TestDb, event: &str, statement: &str) {
    let sql = db.sql().await;
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event = $1 AND query LIKE '%' || $2 || '%' AND pid <> pg_backend_pid()";
    eventually(SOON, &format!("{statement} waits for {event}"), async || {
        let count: i64 = sql.query_one(query, &[&event, &statement]).await.unwrap().get(0);
        (count > 0).then_some(())
    })
    .await;
}

/// The pong leaves after whatever was said before the vote reached the database.
#[tokio::test]
async fn promise_1_no_ack_comes_while_the_vote_is_being_written() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let sql = room.db.sql().await;
    hold_up(&sql, "TRIGGER held_up BEFORE INSERT ON votes FOR EACH ROW").await;
    let id = guest.vote(poll, pick(0)).await;
    waits(&room.db, "advisory", "cast_votes").await;
    guest.send(json!({"type": "ping"})).await;
    guest.take("a pong", |message| message["type"] == "pong").await;
    let early = guest.received.iter().any(|message| message["id"] == id.as_str());
    assert!(!early, "answered although nothing can have been stored");
    let_go(&sql).await;
    assert_eq!(guest.verdict(&id).await["type"], "ack");
}

/// The vote is being written when the poll is closed: the close has to wait for it, and count it.
#[tokio::test]
async fn promise_4_a_close_waits_for_the_vote_that_is_being_written() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let sql = room.db.sql().await;
    hold_up(&sql, "TRIGGER held_up BEFORE INSERT ON votes FOR EACH ROW").await;
    let id = guest.vote(poll, pick(1)).await;
    waits(&room.db, "advisory", "cast_votes").await;
    let session = room.session.clone();
    let mut close = tokio::spawn(async move { session.close_poll(poll).await });
    tokio::select! {
        closed = &mut close => panic!("closed while a vote was being written: {closed:?}"),
        () = waits(&room.db, "advisory", "close_poll") => {}
    }
    let_go(&sql).await;
    assert_eq!(guest.verdict(&id).await["type"], "ack");
    close.await.unwrap();
    let log = room.log(&room.presenter).await;
    let last = log.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["data"]["results"]["votes"]),
        (&json!("poll.closed"), &json!(1))
    );
}

/// A session's event commits after one of another session that is newer: both must be delivered. A tail that keeps one
/// place in the log of all sessions would pass the older one over.
#[tokio::test]
async fn an_event_that_commits_late_is_delivered_all_the_same() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &["--no-listen-notify"]).await;
    let other = Session::create(&room.api, json!({"title": "Faster"})).await;
    let mut slow = room.guest_at(&second).await;
    let mut fast = other.guest_at(&second).await;
    let sql = room.db.sql().await;
    let late = format!("FOR EACH ROW WHEN (NEW.session_id = '{}')", room.id);
    let at_commit = "AFTER UPDATE ON session_head DEFERRABLE INITIALLY DEFERRED";
    hold_up(&sql, &format!("CONSTRAINT TRIGGER held_up {at_commit} {late}")).await;
    let session = room.session.clone();
    let late = tokio::spawn(async move { session.retitle("commits late").await });
    waits(&room.db, "advisory", "patch_session").await;
    other.retitle("commits at once").await;
    fast.event("session.updated").await;
    let_go(&sql).await;
    late.await.unwrap();
    assert_eq!(slow.event("session.updated").await["data"]["title"], "commits late");
}

/// What is published while a client's replay is read from the log must not fall between the two.
#[tokio::test]
async fn promise_5_an_event_published_during_a_replay_is_delivered() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    room.retitle("before").await;
    let guest = room.guest().await;
    proxy.hold_answer_of("UNION ALL");
    let (base, token) = (room.server.base(), guest.token.clone());
    let mut back = Guest::hello(&base, json!({"token": token, "after": 0})).await;
    proxy.held().await;
    let meanwhile = room.retitle("meanwhile").await["last_seq"].clone();
    proxy.release();
    for (title, seq) in [("before", &json!(1)), ("meanwhile", &meanwhile)] {
        let event = back.event("session.updated").await;
        assert_eq!((&event["data"]["title"], &event["seq"]), (&json!(title), seq));
    }
}

/// An instance that first hears of a session right after an event that participants are not shown must not name that event
/// as the one before the next: who comes back there never saw it, and would believe that something is missing.
#[tokio::test]
async fn promise_5_a_fresh_instance_names_no_hidden_event_as_the_one_before() {
    let room = Room::open().await;
    let poll = room.poll(choice_seen("presenter")).await;
    let mut guest = room.guest().await;
    let seen = guest.highest;
    guest.cast(poll, pick(0)).await;
    let second = Server::start(&room.db).await;
    let hello = json!({"token": guest.token, "after": seen});
    let mut back = Guest::hello(&second.base(), hello).await;
    assert_eq!((&back.welcome["resumed"], &back.welcome["seq"]), (&json!(true), &json!(seen)));
    room.by(&second).retitle("after what was hidden").await;
    let event = back.event("session.updated").await;
    assert!(event["prev"].as_i64().unwrap() <= seen, "{event}");
}

/// Nothing but the commit's own flush has brought the vote to the disk when PostgreSQL is killed.
#[tokio::test]
async fn promise_1_a_vote_acked_just_now_survives_kill_9_of_postgresql() {
    let cluster = Cluster::start_with("wal_writer_delay = 10s");
    let db = TestDb::on(&cluster).await;
    let room = Room::on(Server::start(&db).await, db).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let ack = guest.cast(poll, pick(1)).await;
    assert_eq!(ack["type"], "ack", "{ack}");
    cluster.kill9();
    cluster.start_again();
    let stored = stored_votes(&room.db, &room.id).await;
    assert!(stored.contains_key(ack["id"].as_str().unwrap()), "the acked vote is lost");
}

/// A room on a cluster of its own whose commits can be made to wait for a standby that is not there.
async fn room_with_standby() -> (Cluster, Room) {
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let room = Room::on(Server::start(&db).await, db).await;
    (cluster, room)
}

/// Returns when commits wait for a standby of this name; empty: for none.
async fn wait_for_standby(db: &TestDb, name: &str) {
    let sql = db.sql().await;
    sql.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"))
        .await
        .unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    if name.is_empty() {
        return;
    }
    let write = "SELECT pg_logical_emit_message(true, 'test', 'a write')";
    eventually(SOON, "commits wait", async || {
        let probe = db.sql().await;
        let soon = std::time::Duration::from_millis(100);
        tokio::time::timeout(soon, probe.batch_execute(write)).await.err()
    })
    .await;
}

/// Waits until a batch of votes waits for the standby; `guest` must not have been answered by then.
async fn votes_wait_for_standby(db: &TestDb, guest: &mut Guest, id: &str) {
    tokio::select! {
        verdict = guest.verdict(id) => panic!("answered without the standby: {verdict}"),
        () = waits(db, "SyncRep", "cast_votes") => {}
    }
}

/// The repeat is told from rows that may be nowhere but here: its own commit has to wait as the first one did.
#[tokio::test]
async fn a_repeat_waits_for_the_standby_as_the_first_vote_did() {
    let (_cluster, room) = room_with_standby().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let id = guest.cast(poll, pick(1)).await["id"].as_str().unwrap().to_owned();
    wait_for_standby(&room.db, "absent").await;
    guest.vote_as(&id, poll, pick(1)).await;
    votes_wait_for_standby(&room.db, &mut guest, &id).await;
    wait_for_standby(&room.db, "").await;
    assert_eq!(guest.verdict(&id).await["repeat"], true);
}

/// PostgreSQL then reports success, with a warning: the vote is here, and perhaps nowhere else.
#[tokio::test]
async fn a_vote_whose_wait_for_the_standby_was_cut_short_is_not_acked() {
    let (_cluster, room) = room_with_standby().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    wait_for_standby(&room.db, "absent").await;
    let id = guest.vote(poll, pick(1)).await;
    votes_wait_for_standby(&room.db, &mut guest, &id).await;
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                  WHERE wait_event = 'SyncRep' AND query LIKE '%cast_votes%'";
    assert_eq!(room.db.count(cancel).await, 1);
    // It is tried again, under the same name and on another connection, and waits again.
    let retried = async {
        let labels = ["reason=\"not_replicated\""];
        eventually(SOON, "the batch is tried again", async || {
            let retries = room.server.metric("plenum_vote_batch_retries_total", &labels).await;
            (retries >= 1.0).then_some(())
        })
        .await;
        waits(&room.db, "SyncRep", "cast_votes").await;
    };
    tokio::select! {
        verdict = guest.verdict(&id) => panic!("acked without the standby: {verdict}"),
        () = retried => {}
    }
    wait_for_standby(&room.db, "").await;
    let ack = guest.verdict(&id).await;
    assert_eq!((&ack["type"], &ack["repeat"]), (&json!("ack"), &json!(false)));
    assert_eq!(room.results(poll).await["votes"], 1);
}

/// Switches for the proof that each protection is tested have no place in what is shipped.
#[test]
fn no_mutation_is_in_a_normal_build() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_plenum")).unwrap();
    let name = b"PLENUM_MUTATION";
    let found = binary.windows(name.len()).any(|window| window == name);
    assert_eq!(found, cfg!(plenum_mutation));
}

/// Batches share the lock on a poll, and those of several instances never leave it free: who closes must not wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_a_close_gets_its_turn_however_many_instances_take_votes() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let poll = room.choice(2).await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON votes FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    room.db.sql().await.batch_execute(slow).await.unwrap();
    let mut crowd = tokio::task::JoinSet::new();
    for session in [room.session.clone(), room.by(&second)] {
        for nth in 0..12 {
            let session = session.clone();
            crowd.spawn(async move {
                // While the votes of some are written, those of the others come in: one batch follows another.
                tokio::time::sleep(std::time::Duration::from_millis(nth % 2 * 120)).await;
                let mut answers = Vec::new();
                for _ in 0..15 {
                    let member = session.join().await;
                    answers
                        .push(session.cast(&member.token, &fresh_id(), poll, pick(0)).await.status);
                }
                answers
            });
        }
    }
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    within(1, "the close, behind the batches that run", room.close_poll(poll)).await;
    let answers = crowd.join_all().await.concat();
    let refused = answers.iter().filter(|status| **status == 409).count();
    assert!(
        refused > 0 && answers.iter().all(|status| [200, 201, 409].contains(status)),
        "{answers:?}"
    );
    room.check_counts(&room.db).await;
}
