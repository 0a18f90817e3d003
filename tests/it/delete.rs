//! Deleting a session: everyone is told, and nothing of it is left in any table.

use crate::support::*;

#[tokio::test]
async fn a_deleted_session_is_gone_from_every_table() {
    let room = Room::open().await;
    let kept = Session::create(&room.api, json!({"title": "Kept"})).await;
    let token = room.join().await.token;
    for session in [&room.session, &kept] {
        let poll = session.choice(2).await;
        let mut guest = session.guest_at(&room.server).await;
        assert_eq!(guest.cast(poll, pick(0)).await["type"], "ack");
        session.close_poll(poll).await;
    }
    let sql = room.db.sql().await;
    let tables = "SELECT c.table_name::text FROM information_schema.columns c JOIN information_schema.tables t
        USING (table_schema, table_name) WHERE c.table_schema = 'public' AND c.column_name = 'session_id'
        AND t.table_type = 'BASE TABLE'";
    let tables: Vec<String> =
        sql.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(tables.len() >= 7, "{tables:?}");
    let left = async |id: &String| -> Vec<(String, i64)> {
        let mut left = Vec::new();
        for table in &tables {
            let query = format!("SELECT count(*) FROM {table} WHERE session_id::text = $1");
            left.push((table.clone(), sql.query_one(&query, &[id]).await.unwrap().get(0)));
        }
        left
    };
    assert!(left(&room.id).await.iter().filter(|(_, count)| *count > 0).count() >= 7);
    let gone = room.call("DELETE", "", &room.presenter, Value::Null).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    eventually(SOON, "nothing is left, presence included", async || {
        left(&room.id).await.iter().all(|(_, count)| *count == 0).then_some(())
    })
    .await;
    assert!(left(&kept.id).await.iter().any(|(table, count)| table == "votes" && *count == 1));
    kept.check_counts(&room.db).await;
    for token in [&room.presenter, &token] {
        let answer = room.call("PATCH", "", token, json!({"title": "x"})).await;
        assert!([401, 404].contains(&answer.status), "{}", answer.text());
    }
}

#[tokio::test]
async fn every_connection_is_closed_with_4410_on_every_instance() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut all = vec![
        room.guest().await,
        room.host().await,
        room.guest_at(&second).await,
        Guest::hello(&second.base(), json!({"token": room.presenter})).await,
    ];
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let mut unharmed = other.guest_at(&room.server).await;
    room.call("DELETE", "", &room.presenter, Value::Null).await;
    for guest in &mut all {
        assert_eq!(guest.closed().await, Some(4410));
    }
    other.retitle("still here").await;
    unharmed.event("session.updated").await;
}

#[tokio::test]
async fn code_and_tokens_of_a_deleted_session_are_worthless() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let member = room.join().await;
    room.by(&second).get("", &member.token).await;
    room.call("DELETE", "", &room.presenter, Value::Null).await;
    for server in [&room.server, &second] {
        let session = room.by(server);
        for token in [&room.presenter, &member.token] {
            for rest in ["", "/polls", "/events", "/polls/1"] {
                let status = session.get(rest, token).await.status;
                assert!([401, 404].contains(&status), "{rest}: {status}");
            }
            let closed =
                Guest::try_hello(&server.base(), json!({"token": token})).await.unwrap_err();
            assert!([Some(4401), Some(4404), Some(4410)].contains(&closed), "{closed:?}");
        }
        let body = json!({"code": room.code});
        assert_eq!(server.api.post("/v1/join", None, Some(&body)).await.unwrap().status, 404);
        let closed = Guest::try_hello(&server.base(), body).await.unwrap_err();
        assert_eq!(closed, Some(4404));
        let vote = session.cast(&member.token, &fresh_id(), 1, pick(0)).await;
        assert!([401, 404].contains(&vote.status), "{}", vote.text());
    }
}

/// Votes in flight either made it before the deletion or are answered; nothing of them stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_in_mid_burst_leaves_nothing() {
    let room = Room::open().await;
    let polls = [room.choice(2).await, room.choice(2).await, room.choice(2).await];
    let burst = Burst::start(room.guests_at(&room.server, 30).await, &polls, 2);
    burst.acked(10).await;
    assert_eq!(room.call("DELETE", "", &room.presenter, Value::Null).await.status, 204);
    for ballot in burst.ended().await {
        let fine =
            ballot.answer.is_null() || ballot.is_acked() || ballot.answer["code"] == "not_found";
        assert!(fine, "{ballot:?}");
    }
    for table in ["votes", "vote_batches", "tallies", "event_log", "polls"] {
        assert_eq!(room.db.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

/// Half a million votes in one session: more than one statement removes in its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_any_size_is_gone_at_once_and_its_rows_soon() {
    const PARTICIPANTS: i64 = 50_000;
    let room = Room::open().await;
    let other = Session::create(&room.api, json!({"title": "Goes on"})).await;
    let (poll, guest) = (other.choice(2).await, other.guest_at(&room.server).await);
    let mut guest = guest;
    for _ in 0..10 {
        room.choice(2).await;
    }
    // As cast_votes stores them; by hand, because the tests' machine would take minutes to cast them.
    let fill = format!(
        "INSERT INTO votes SELECT '{id}', poll, md5(who::text)::uuid, gen_random_uuid(), '{{1}}',
             md5('b' || (who / 500))::uuid, now()
         FROM generate_series(1, {PARTICIPANTS}) who, generate_series(1, 10) poll;
         INSERT INTO vote_batches SELECT DISTINCT '{id}'::uuid, batch, poll, 21 FROM votes",
        id = room.id
    );
    let sql = room.db.sql().await;
    sql.batch_execute(&fill).await.unwrap();
    let votes = format!("SELECT count(*) FROM votes WHERE session_id = '{}'", room.id);
    assert_eq!(room.db.count(&votes).await, 10 * PARTICIPANTS);
    let begun = std::time::Instant::now();
    let gone = room.call("DELETE", "", &room.presenter, Value::Null).await;
    let took = begun.elapsed();
    assert_eq!(gone.status, 204, "{}", gone.text());
    let left = room.db.count(&votes).await;
    // Nobody reaches anything of it any more, and it cannot be deleted twice.
    assert_eq!(room.call("DELETE", "", &room.presenter, Value::Null).await.status, 401);
    let body = json!({"code": room.code});
    assert_eq!(room.api.post("/v1/join", None, Some(&body)).await.unwrap().status, 404);
    assert_eq!(guest.cast(poll, pick(0)).await["type"], "ack", "others vote meanwhile");
    eprintln!("answered after {took:?}, {left} votes left");
    eventually(60, "the rows are removed", async || {
        let mut rows = 0;
        for table in ["votes", "vote_batches", "event_log", "erasures"] {
            let of = format!("SELECT count(*) FROM {table} WHERE session_id = '{}'", room.id);
            rows += room.db.count(&of).await;
        }
        (rows == 0).then_some(())
    })
    .await;
    eprintln!("all gone after {:?}", begun.elapsed());
    other.check_counts(&room.db).await;
}
