//! The end of data: sessions past their time, what operators list, export and erase, and a backup that is restored.

use std::process::Output;

use crate::support::*;

async fn admin(url: &str, arguments: &[&str]) -> Output {
    let all: Vec<String> = [&["admin", "--database-url", url], arguments]
        .concat()
        .iter()
        .map(|text| (*text).to_owned())
        .collect();
    tokio::task::spawn_blocking(move || {
        run(plenum(&all.iter().map(String::as_str).collect::<Vec<_>>()))
    })
    .await
    .unwrap()
}

/// How many rows of a session are left anywhere.
async fn rows_of(db: &TestDb, session: &str) -> i64 {
    let mut left = 0;
    for table in [
        "sessions",
        "session_codes",
        "session_head",
        "polls",
        "tallies",
        "votes",
        "vote_batches",
        "event_log",
        "presence",
        "erasures",
    ] {
        left +=
            db.count(&format!("SELECT count(*) FROM {table} WHERE session_id = '{session}'")).await;
    }
    left
}

async fn voted(room: &Room) -> (Session, i64) {
    let session = Session::create(&room.api, json!({"title": "Over"})).await;
    let poll = session.choice(2).await;
    for _ in 0..3 {
        session.guest_at(&room.server).await.cast(poll, pick(1)).await;
    }
    (session, poll)
}

/// Votes of the living stay, however long ago they were cast.
#[tokio::test]
async fn ended_sessions_are_erased_when_their_time_is_over() {
    let room = Room::open().await;
    let (over, _) = voted(&room).await;
    let (lately, _) = voted(&room).await;
    let (lives, poll) = voted(&room).await;
    over.present("PATCH", "", json!({"state": "ended"})).await;
    lately.present("PATCH", "", json!({"state": "ended"})).await;
    let sql = room.db.sql().await;
    let long_ago = format!(
        "UPDATE sessions SET ended_at = now() - interval '8 days' WHERE session_id = '{}';
         UPDATE sessions SET created_at = created_at - interval '1 year'",
        over.id
    );
    sql.batch_execute(&long_ago).await.unwrap();
    let _keeps = Server::start(&room.db).await;
    let days = Server::with(&room.db, &["--retain-sessions-days", "7"]).await;
    eventually(SOON, "the session is erased", async || {
        (rows_of(&room.db, &over.id).await == 0).then_some(())
    })
    .await;
    assert_eq!(
        over.by(&days).get("", &over.presenter).await.status,
        401,
        "its token opens nothing"
    );
    assert!(rows_of(&room.db, &lately.id).await > 8);
    let results = lives.get(&format!("/polls/{poll}/results"), &lives.presenter).await.json();
    assert_eq!(results["votes"], 3, "{results}");
    lives.check_counts(&room.db).await;
    lately.check_counts(&room.db).await;
}

/// An erasure that was cut short has taken the session away from everybody; the next start removes the rest.
#[tokio::test]
async fn an_erasure_that_was_cut_short_is_finished_by_the_next_start() {
    let room = Room::open().await;
    let (over, _) = voted(&room).await;
    let sql = room.db.sql().await;
    sql.batch_execute(&format!("SELECT begin_erasure('{0}'); SELECT erase_step(2)", over.id))
        .await
        .unwrap();
    assert_eq!(
        room.db
            .count(&format!("SELECT count(*) FROM votes WHERE session_id = '{}'", over.id))
            .await,
        1
    );
    let _server = Server::start(&room.db).await;
    eventually(SOON, "the rest is removed", async || {
        (rows_of(&room.db, &over.id).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn operators_list_export_and_erase() {
    let room = Room::open().await;
    let (session, poll) = voted(&room).await;
    let mut guest = session.guest_at(&room.server).await;
    let url = room.db.url();
    let listed = admin(&url, &["list"]).await;
    let text = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&Value> = lines.iter().map(|line| &line["id"]).collect();
    assert_eq!(ids, [&json!(session.id), &json!(room.id)], "newest first");
    assert_eq!(
        (&lines[0]["votes"], &lines[0]["polls"], &lines[0]["state"]),
        (&json!(3), &json!(1), &json!("live"))
    );
    assert!(!text.contains("token") && !text.contains(&session.code), "{text}");
    assert!(admin(&url, &["list", "--state", "ended"]).await.stdout.is_empty());
    for format in ["json", "csv"] {
        let ours = admin(&url, &["export", &session.id, "--format", format]).await;
        assert!(ours.status.success(), "{ours:?}");
        let theirs = session.get(&format!("/export?format={format}"), &session.presenter).await;
        if format == "csv" {
            assert_eq!(String::from_utf8(ours.stdout).unwrap(), theirs.text());
        } else {
            let ours: Value = serde_json::from_slice(&ours.stdout).unwrap();
            assert_eq!(ours["votes"], theirs.json()["votes"]);
            assert_eq!(ours["polls"], theirs.json()["polls"]);
        }
    }
    let erased = admin(&url, &["erase", &session.id]).await;
    assert!(erased.status.success(), "{erased:?}");
    assert_eq!(rows_of(&room.db, &session.id).await, 0);
    assert_eq!(guest.closed().await, Some(4410), "its clients are told");
    let vote = json!({"id": fresh_id(), "poll": poll, "answer": pick(1)});
    let answer = session.call("POST", "/votes", &guest.token, vote).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    let again = admin(&url, &["erase", &session.id]).await;
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("no session"),
        "{again:?}"
    );
    room.check_counts(&room.db).await;
}

/// Who erases holds a lock, over all instances: meanwhile another one takes the session away, waits, and removes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_erases() {
    let room = Room::open().await;
    let (session, _) = voted(&room).await;
    let sql = room.db.sql().await;
    sql.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(5203117744)").await.unwrap();
    let proxy = Proxy::start(room.db.port()).await;
    let (url, id) = (room.db.url_by(proxy.port()), session.id.clone());
    let mut erasing = tokio::spawn(async move { admin(&url, &["erase", &id]).await });
    eventually(SOON, "the session is gone", async || {
        (room.db.count("SELECT count(*) FROM erasures").await == 1).then_some(())
    })
    .await;
    // It looks again and again, with some three statements each time.
    tokio::select! {
        () = proxy.ran(20) => {}
        ended = &mut erasing => panic!("it did not wait: {ended:?}"),
    }
    let votes = format!("SELECT count(*) FROM votes WHERE session_id = '{}'", session.id);
    assert_eq!(room.db.count(&votes).await, 3, "somebody else is at it");
    sql.batch_execute("COMMIT").await.unwrap();
    let erased = within(SOON, "its turn", erasing).await.unwrap();
    assert!(erased.status.success(), "{erased:?}");
    assert_eq!(rows_of(&room.db, &session.id).await, 0);
}

/// Its polls are gone at once, its votes step by step: who votes otherwise meanwhile finds no poll, and holds up nobody.
#[tokio::test]
async fn a_vote_in_a_session_that_is_being_erased_holds_up_no_other() {
    let room = Room::with(&["--writer-lanes", "1"]).await;
    let (over, lives) =
        (Session::create(&room.api, json!({"title": "Over"})).await, room.choice(2).await);
    let poll = over.choice(2).await;
    let (voter, mut guest) = (over.join().await, room.guest().await);
    let stored = fresh_id();
    over.cast(&voter.token, &stored, poll, pick(1)).await;
    // Somebody else is about to remove the votes.
    let sql = room.db.sql().await;
    sql.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(5203117744)").await.unwrap();
    room.db
        .sql()
        .await
        .batch_execute(&format!("SELECT begin_erasure('{}')", over.id))
        .await
        .unwrap();
    let id = fresh_id();
    let other = over.cast(&voter.token, &id, poll, pick(0));
    let (other, ack) =
        tokio::join!(other, within(3, "an ack beside it", guest.cast(lives, pick(0))));
    assert_eq!((other.status, ack["type"].as_str()), (404, Some("ack")), "{}", other.text());
    let again = over.cast(&voter.token, &stored, poll, pick(1)).await;
    assert_eq!(again.status, 404, "its row is there still: {}", again.text());
    sql.batch_execute("COMMIT").await.unwrap();
}
