//! Any number of instances, one truth: whatever keeps them apart (open transactions, clocks, releases, a cut line to the
//! database), all show the same history, and nobody hears an ack that the database did not give.
//! Heartbeats are in `cluster`, hints in `hints`, what dies in `faults`.

use std::collections::BTreeMap;

use crate::support::*;

/// Holds every results event back until the lock of its poll is free, with its `seq` already given.
const HOLD: &str = "
CREATE FUNCTION hold_results() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.kind = 'poll.results' THEN
        PERFORM pg_advisory_xact_lock_shared(7, (NEW.data->>'poll')::int);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER hold_results BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION hold_results()";

/// Of two instances' batches on one session, the one that began last may not overtake the other, and no tailer may pass
/// an event that is not there yet. With numbers from a sequence, the second would commit first and the first be skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_held_open_in_the_opposite_order_skip_no_event() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let polls = [room.choice(2).await, room.choice(2).await];
    let sql = room.db.sql().await;
    sql.batch_execute(HOLD).await.unwrap();
    let mut watchers = [room.host().await, room.guest_at(&second).await];
    for round in 0..6 {
        let mut voters = [room.guest().await, room.guest_at(&second).await];
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        sql.execute("SELECT pg_advisory_lock(7, $1)", &[&i32::try_from(polls[order[0]]).unwrap()])
            .await
            .unwrap();
        let mut ids = [String::new(), String::new()];
        for (waiting, &which) in (1..).zip(&order) {
            ids[which] = voters[which].vote(polls[which], pick(round % 2)).await;
            held_back(&room.db, waiting).await;
        }
        sql.execute("SELECT pg_advisory_unlock_all()", &[]).await.unwrap();
        let mut seqs = [0, 0];
        for which in order {
            let ack = voters[which].verdict(&ids[which]).await;
            seqs[which] = ack["seq"].as_i64().unwrap();
        }
        assert!(seqs[order[0]] < seqs[order[1]], "who had its number first is first");
        for watcher in &mut watchers {
            for poll in polls {
                watcher.results(poll, i64::try_from(round).unwrap() + 1).await;
            }
        }
    }
    let log = room.log(&room.presenter).await;
    let seqs: Vec<i64> = log.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=i64::try_from(log.len()).unwrap()).collect::<Vec<_>>());
    room.check_counts(&room.db).await;
}

/// Waits until so many statements of instances wait for a lock.
async fn held_back(db: &TestDb, count: i64) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'plenum%' AND wait_event_type = 'Lock'";
    eventually(SOON, "votes are held back", async || {
        (db.count(query).await == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_instances_show_one_history() {
    let room = Room::open().await;
    let mut servers = Vec::new();
    for flags in [&["--no-listen-notify"][..], &[], &SELDOM] {
        servers.push(Server::with(&room.db, flags).await);
    }
    let all: Vec<&Server> = std::iter::once(&room.server).chain(&servers).collect();
    let mut polls = Vec::new();
    for (round, results) in ["live", "after_close", "presenter", "live"].into_iter().enumerate() {
        polls.push(room.by(all[round]).poll(choice_seen(results)).await);
    }
    let mut watchers = Vec::new();
    let mut voters = Vec::new();
    for server in &all {
        watchers.push(room.guest_at(server).await);
        watchers.push(Guest::hello(&server.base(), json!({"token": room.presenter})).await);
        voters.extend(room.guests_at(server, 10).await);
    }
    let burst = Burst::start(voters, &polls, 3);
    for (round, server) in all.iter().enumerate() {
        burst.acked(25 * (round + 1)).await;
        room.by(server).retitle(&format!("from instance {round}")).await;
    }
    let ballots = burst.ended().await;
    assert!(ballots.iter().all(Ballot::is_acked));
    for (poll, server) in polls.iter().zip(&all) {
        room.by(server).close_poll(*poll).await;
    }
    let last = room.by(all[1]).retitle("the end").await["last_seq"].as_i64().unwrap();
    for watcher in &mut watchers {
        watcher.take("the end", |m| m["seq"] == last && m["type"] == "event").await;
        let token = if watcher.id.is_empty() { &room.presenter } else { &watcher.token };
        let log: BTreeMap<_, _> = room.log(token).await.iter().map(shared_part).collect();
        let seen: BTreeMap<_, _> = watcher.events().iter().map(shared_part).collect();
        let began = watcher.welcome["seq"].as_i64().unwrap();
        check_history(&seen, &log.into_iter().filter(|(seq, _)| *seq > began).collect());
    }
    room.check_stored(&room.db, &ballots).await;
}

/// The other instance hears of nothing by itself; what it welcomes with, it has to look up.
#[tokio::test]
async fn coming_back_on_another_instance_goes_on_at_every_after() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &[&SELDOM[..], &["--no-listen-notify"]].concat()).await;
    let _keeps_it_watched = room.guest_at(&second).await;
    let mut guest = room.guest().await;
    for round in 0..3 {
        let poll = room.poll(choice_seen(["live", "after_close", "presenter"][round])).await;
        guest.cast(poll, pick(round)).await;
        room.close_poll(poll).await;
    }
    let ack = guest.cast(room.choice(2).await, pick(1)).await;
    for token in [room.presenter.clone(), guest.token.clone()] {
        let log: BTreeMap<_, _> = room.log(&token).await.iter().map(shared_part).collect();
        let head = *log.keys().max().unwrap();
        assert_eq!(ack["seq"], head);
        for after in 0..=head {
            let hello = json!({"token": token, "after": after});
            let mut back = Guest::hello(&second.base(), hello).await;
            assert_eq!((&back.welcome["resumed"], back.highest), (&json!(true), after));
            if after < head {
                back.take("the head", |m| m["seq"] == head && m["type"] == "event").await;
            }
            let seen: BTreeMap<_, _> = back.events().iter().map(shared_part).collect();
            check_history(
                &seen,
                &log.clone().into_iter().filter(|(seq, _)| *seq > after).collect(),
            );
        }
    }
}

/// Nothing is ordered, kept or delivered by an instance's clock.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_clocks_an_hour_apart_agree() {
    let room = Room::open().await;
    let library = std::fs::read_dir("/usr/lib")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .chain([std::path::PathBuf::from("/usr/lib64/faketime/libfaketimeMT.so.1")])
        .find(|path| path.exists())
        .expect("libfaketime (scripts/packages.sh install faketime)");
    let mut servers = Vec::new();
    for shift in ["+1h", "-1h"] {
        let environment = [
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME", shift),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        let server = Server::under(&environment, &room.db.url(), &[]).await;
        let logged: Value = serde_json::from_str(&server.log()[0]).unwrap();
        let off =
            plenum::domain::Timestamp::parse(logged["timestamp"].as_str().unwrap()).unwrap().0
                - plenum::domain::Timestamp::now().0;
        assert!((58..=62).contains(&off.whole_minutes().abs()), "its clock is off by {off}");
        servers.push(server);
    }
    let mut watchers = vec![room.host().await];
    let mut voters = room.guests_at(&room.server, 8).await;
    for server in &servers {
        watchers.push(room.guest_at(server).await);
        voters.extend(room.guests_at(server, 8).await);
    }
    let polls = [room.choice(2).await, room.by(&servers[0]).choice(2).await];
    let ballots = Burst::start(voters, &polls, 2).ended().await;
    assert!(ballots.iter().all(Ballot::is_acked));
    room.by(&servers[1]).close_poll(polls[0]).await;
    let last = room.by(&servers[0]).retitle("the end").await["last_seq"].as_i64().unwrap();
    let log: BTreeMap<_, _> = room.log(&room.presenter).await.iter().map(shared_part).collect();
    for watcher in &mut watchers {
        watcher.take("the end", |m| m["seq"] == last && m["type"] == "event").await;
        check_history(&watcher.events().iter().map(shared_part).collect(), &log);
    }
    let back = Guest::hello(&servers[1].base(), json!({"token": room.presenter, "after": 0})).await;
    assert_eq!(back.welcome["resumed"], true);
    room.check_stored(&room.db, &ballots).await;
}

/// One query per poll, however many sessions are watched, and a little for heartbeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watched_sessions_cost_one_query_per_poll() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let mut watching = Vec::new();
    for _ in 0..20 {
        let mut joining = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (api, base) = (room.api.clone(), room.server.base());
            joining.spawn(async move {
                let session = Session::create(&api, json!({"title": "one of many"})).await;
                Guest::hello(&base, json!({"code": session.code})).await
            });
        }
        watching.extend(joining.join_all().await);
    }
    eventually(SOON, "all are polled for", async || {
        let watched = room.server.metric("plenum_sessions_watched", &[]).await;
        (watched >= 1_000.0).then_some(())
    })
    .await;
    // Ten polls and two heartbeats a second: 60 statements take five seconds. Twice as many would be too many.
    let begin = std::time::Instant::now();
    proxy.ran(60).await;
    let took = begin.elapsed();
    assert!(took.as_millis() > 3_500, "60 statements within {took:?}");
    drop(watching);
}

/// What a later release may do to the schema, while instances of this one run and start: add, never change.
const LATER_RELEASE: &str = "
ALTER TABLE sessions ADD COLUMN of_a_later_release int NOT NULL DEFAULT 0;
ALTER TABLE polls ADD COLUMN of_a_later_release int;
ALTER TABLE votes ADD COLUMN of_a_later_release text;
ALTER TABLE tallies ADD COLUMN of_a_later_release text;
ALTER TABLE event_log ADD COLUMN of_a_later_release text;
CREATE TABLE of_a_later_release (session_id uuid PRIMARY KEY);
INSERT INTO schema_migrations VALUES (9999, 'of a later release')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_instances_serve_on_while_the_schema_is_migrated() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut polls = Vec::new();
    for _ in 0..6 {
        polls.push(room.choice(3).await);
    }
    let mut watcher = room.guest_at(&second).await;
    let mut voters = room.guests_at(&room.server, 20).await;
    voters.extend(room.guests_at(&second, 20).await);
    let burst = Burst::start(voters, &polls, 3);
    let sql = room.db.sql().await;
    for round in 0..3 {
        burst.acked(20 + 40 * round).await;
        // The books say that these functions were never put there, as they do to a release with others.
        sql.execute("DELETE FROM schema_functions", &[]).await.unwrap();
        let url = room.db.url();
        tokio::task::spawn_blocking(move || {
            let output = run(plenum(&["migrate", "--database-url", &url]));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        })
        .await
        .unwrap();
    }
    // One statement, one transaction, as migrations are applied.
    sql.batch_execute(LATER_RELEASE).await.unwrap();
    let third = Server::start(&room.db).await;
    let ballots = burst.ended().await;
    assert!(ballots.iter().all(Ballot::is_acked), "{ballots:?}");
    let poll = room.by(&third).choice(2).await;
    room.by(&second).close_poll(polls[0]).await;
    watcher.take("the poll of the newest instance", |m| m["data"]["n"] == poll).await;
    watcher.event("poll.closed").await;
    let mut voter = room.guest_at(&third).await;
    assert_eq!(voter.cast(poll, pick(0)).await["type"], "ack");
    watcher.results(poll, 1).await;
    room.check_counts(&room.db).await;
}

/// A backup reads every table to its end, and a migration that waited for it would have all others wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_keeps_nobody_from_a_table_that_is_in_use() {
    let db = TestDb::fresh().await;
    let migrate = {
        let url = db.url();
        move || run(plenum(&["migrate", "--database-url", &url]))
    };
    assert!(migrate().status.success());
    let (backup, reader) = (db.sql().await, db.sql().await);
    let undone = "DROP TABLE erasures, instance_load CASCADE; DELETE FROM schema_functions; DROP INDEX sessions_scheduled;
        ALTER TABLE sessions DROP COLUMN ended_at; DELETE FROM schema_migrations WHERE version = 3";
    reader.batch_execute(undone).await.unwrap();
    backup.batch_execute("BEGIN; LOCK TABLE sessions IN ACCESS SHARE MODE").await.unwrap();
    let migrating = tokio::task::spawn_blocking(migrate);
    reader.batch_execute("SET lock_timeout = '800ms'").await.unwrap();
    for _ in 0..100 {
        reader.batch_execute("SELECT count(*) FROM sessions").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert!(!migrating.is_finished(), "the table is in use");
    backup.batch_execute("COMMIT").await.unwrap();
    let migrated = within(SOON, "the migration", migrating).await.unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
}

/// The line between one of two instances and the database is silent, then cut, then whole again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_cut_off_from_the_database_acks_nothing_and_recovers() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let cut_off = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(Server::start(&db).await, db).await;
    let poll = room.choice(2).await;
    let mut stranded = room.guest_at(&cut_off).await;
    let mut safe = room.guest().await;
    proxy.freeze();
    let id = stranded.vote(poll, pick(1)).await;
    eventually(5, "the instance is not ready", async || {
        (cut_off.ops_get("/readyz").await.status == 503).then_some(())
    })
    .await;
    assert_eq!(cut_off.ops_get("/livez").await.status, 200);
    // The others go on, and the stranded voter may come over with the same vote.
    assert_eq!(safe.cast(poll, pick(0)).await["type"], "ack");
    let mut moved = room.resume(&stranded.token, stranded.highest).await;
    assert_eq!(moved.cast_as(&id, poll, pick(1)).await["type"], "ack");
    let early = stranded.received.iter().any(|message| message["id"] == id.as_str());
    assert!(!early, "answered although the database did not");
    proxy.refuse();
    proxy.forward();
    eventually(5, "the instance is ready again", async || {
        (cut_off.ops_get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let late = stranded.verdict(&id).await;
    assert_eq!((&late["type"], &late["repeat"]), (&json!("ack"), &json!(true)), "{late}");
    stranded.results(poll, 2).await;
    assert_eq!(room.db.count("SELECT count(*) FROM votes").await, 2);
}
