//! Hints between instances: what they are good for, and that nothing depends on them. That they arrive, and what is shown
//! without one, is in `cluster`.

use plenum::limits::{HINTS_EVERY, PRESENCE_EVERY};

use crate::support::*;

/// Waits until `server` knows of another instance: who knows of none has nobody to tell.
async fn has_company(server: &Server) {
    eventually(SOON, "two instances", async || {
        let seen = server.ops_get("/cluster").await.json();
        (seen["instances"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_session_deleted_on_one_instance_closes_its_connections_on_all() {
    let room = Room::with(&SELDOM).await;
    let second = Server::with(&room.db, &SELDOM).await;
    has_company(&room.server).await;
    let mut there = room.guest_at(&second).await;
    room.present("DELETE", "", Value::Null).await;
    assert_eq!(there.closed_within(3).await, Some(4410));
}

/// The hint is lost, doubled, late and forged; the log alone decides what is delivered.
#[tokio::test]
async fn a_hint_is_never_trusted() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &["--no-listen-notify"]).await;
    let mut there = room.guest_at(&second).await;
    let mut here = room.guest().await;
    let sql = room.db.sql().await;
    let simple = room.id.replace('-', "");
    for forged in
        ["*", "", "nonsense", ":::", &format!("{simple}:999999,{simple}:-1"), &"x".repeat(7_000)]
    {
        sql.execute("SELECT pg_notify('plenum', $1)", &[&forged]).await.unwrap();
    }
    let poll = room.choice(2).await;
    here.cast(poll, pick(0)).await;
    for guest in [&mut here, &mut there] {
        guest.results(poll, 1).await;
        let seqs: Vec<i64> =
            guest.events().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert_eq!(seqs, [1, 2]);
    }
}

/// A listener that lost its connection comes back, and what was said meanwhile is made up for.
#[tokio::test]
async fn a_lost_listener_comes_back() {
    let room = Room::with(&SELDOM).await;
    let second = Server::with(&room.db, &SELDOM).await;
    has_company(&room.server).await;
    let mut there = room.guest_at(&second).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'plenum listener'";
    let cut = room.db.count(cut).await;
    assert_eq!(cut, 2, "the listeners of both instances");
    let poll = room.choice(2).await;
    within(
        9,
        "the event, with the listener's return",
        there.take("poll.opened", |m| m["data"]["n"] == poll),
    )
    .await;
}

/// What nobody follows elsewhere, nobody elsewhere is woken for.
#[tokio::test]
async fn results_are_hinted_only_where_somebody_follows_the_session() {
    let room = Room::with(&SELDOM).await;
    let second = Server::with(&room.db, &SELDOM).await;
    has_company(&room.server).await;
    let mut here = room.guest().await;
    let poll = room.choice(2).await;
    // After some exchanges of presence it is known that nobody is there.
    tokio::time::sleep(6 * PRESENCE_EVERY).await;
    let heard = async || second.metric_or_0("plenum_hints_received_total", &[]).await;
    let before = heard().await;
    here.cast(poll, pick(0)).await;
    here.results(poll, 1).await;
    tokio::time::sleep(10 * HINTS_EVERY).await;
    assert_eq!(heard().await, before, "a hint for nobody");
    // A screen is enough: presenters are not counted, but they look.
    let mut screen = Guest::hello(&second.base(), json!({"token": room.presenter})).await;
    tokio::time::sleep(3 * PRESENCE_EVERY).await;
    room.guest().await.cast(poll, pick(1)).await;
    screen.results(poll, 2).await;
    assert!(
        heard().await > before,
        "the poll of the log was first, ten seconds after the last one"
    );
}
