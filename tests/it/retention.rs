//! The log keeps 24 hours: older partitions are dropped whole, and what was begun is finished.

use tokio_postgres::Client;

use crate::support::*;

const HOURS: i64 = 4;

/// The start, in seconds since 1970, of a partition that ended more than a day ago.
fn long_ago() -> i64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
    (now - 40 * 3600) / (HOURS * 3600) * (HOURS * 3600)
}

/// Makes that partition and moves the first events of the log into it.
async fn backdate(room: &Room, events: i64) -> String {
    let start = long_ago();
    let name = format!("event_log_{start}");
    let sql = room.db.sql().await;
    let make = format!(
        "CREATE TABLE {name} PARTITION OF event_log
         FOR VALUES FROM (to_timestamp({start})) TO (to_timestamp({}));
         UPDATE event_log SET at = to_timestamp({start} + 60) WHERE seq <= {events}",
        start + HOURS * 3600
    );
    sql.batch_execute(&make).await.unwrap();
    let moved = room.db.count(&format!("SELECT count(*) FROM {name}")).await;
    assert_eq!(moved, events, "the events lie in the old partition");
    name
}

/// Waits until no table of that name is left.
async fn dropped(room: &Room, name: &str) {
    let query = format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'");
    eventually(SOON, "the old partition is dropped", async || {
        (room.db.count(&query).await == 0).then_some(())
    })
    .await;
}

/// What a janitor leaves whose detaching was cut short by a reader.
async fn half_detach(reader: &Client, janitor: &Client, partition: &str) {
    reader.batch_execute("BEGIN; SELECT count(*) FROM event_log").await.unwrap();
    janitor.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    let detach = format!("ALTER TABLE event_log DETACH PARTITION {partition} CONCURRENTLY");
    assert!(janitor.batch_execute(&detach).await.is_err(), "the reader is in the way");
    reader.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn events_of_the_day_before_go_and_votes_stay() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(poll, pick(1)).await;
    room.retitle("kept").await;
    let name = backdate(&room, 2).await;
    let server = Server::start(&room.db).await;
    dropped(&room, &name).await;
    let session = room.by(&server);
    let page = session.get("/events?after=0", &room.presenter).await.json();
    assert_eq!((&page["oldest_seq"], &page["last_seq"]), (&json!(3), &json!(3)));
    for (after, resumed) in [(1, false), (2, true), (3, true)] {
        let hello = json!({"token": guest.token, "after": after});
        let back = Guest::hello(&server.base(), hello).await;
        assert_eq!(back.welcome["resumed"], resumed, "after {after}");
        assert_eq!(back.welcome["my_votes"][poll.to_string()], pick(1));
        assert_eq!(back.welcome["results"][0]["votes"], 1);
    }
    session.check_counts(&room.db).await;
    assert_eq!(session.guest_at(&server).await.cast(poll, pick(0)).await["type"], "ack");
}

/// A reader that stood in the way left the partition half detached; nothing else could go since.
#[tokio::test]
async fn a_detach_that_was_cut_short_is_finished_by_the_next_start() {
    let room = Room::open().await;
    room.retitle("old").await;
    room.retitle("kept").await;
    let name = backdate(&room, 1).await;
    let (reader, janitor) = (room.db.sql().await, room.db.sql().await);
    half_detach(&reader, &janitor, &name).await;
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(room.db.count(pending).await, 1, "half detached");
    let server = Server::start(&room.db).await;
    dropped(&room, &name).await;
    let page = room.by(&server).get("/events?after=0", &room.presenter).await.json();
    assert_eq!(page["oldest_seq"], 2);
}

/// What holds the old ones up keeps no new one from being made.
#[tokio::test]
async fn new_partitions_are_made_while_an_old_one_cannot_go() {
    let room = Room::open().await;
    room.retitle("old").await;
    let name = backdate(&room, 1).await;
    let (reader, janitor) = (room.db.sql().await, room.db.sql().await);
    half_detach(&reader, &janitor, &name).await;
    // Finishing it waits for every snapshot that is older.
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let newest = "SELECT max(relname::text) FROM pg_class WHERE relname ~ '^event_log_[0-9]+$' AND relkind = 'r'";
    let newest: String = janitor.query_one(newest, &[]).await.unwrap().get(0);
    janitor.batch_execute(&format!("DROP TABLE {newest}")).await.unwrap();
    let _server = Server::start(&room.db).await;
    let made =
        format!("SELECT count(*) FROM pg_class WHERE relname = '{newest}' AND relispartition");
    eventually(SOON, "the partition is made", async || {
        (room.db.count(&made).await == 1).then_some(())
    })
    .await;
    reader.batch_execute("COMMIT").await.unwrap();
}

/// The partition of every hour from now to tomorrow is there before it is needed.
#[tokio::test]
async fn partitions_are_made_a_day_ahead() {
    let room = Room::open().await;
    let sql = room.db.sql().await;
    let insert = "INSERT INTO event_log (session_id, seq, at, kind, results_hidden, data)
        SELECT gen_random_uuid(), 1, now() + n * interval '1 hour', 'session.updated', false, '{}'
        FROM generate_series(0, 23) n";
    assert_eq!(sql.execute(insert, &[]).await.unwrap(), 24);
}
