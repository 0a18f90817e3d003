//! Presence: how many distinct participants have an open stream, on any instance.

use std::time::{Duration, Instant};

use crate::support::*;

/// Waits for the next presence that says so many; those before it are done with.
async fn present(guest: &mut Guest, count: i64) {
    let what = format!("presence of {count}");
    let told = async {
        while guest.take(&what, |m| m["type"] == "presence").await["participants"] != count {}
    };
    within(SOON, &what, told).await;
}

#[tokio::test]
async fn everyone_is_told_how_many_are_there() {
    let room = Room::open().await;
    let mut host = room.host().await;
    present(&mut host, 0).await;
    let mut first = room.guest().await;
    present(&mut first, 1).await;
    let second = room.guest().await;
    present(&mut host, 2).await;
    present(&mut first, 2).await;
    let session = room.get("", &room.presenter).await.json();
    assert_eq!(session["participants"], 2);
    let left = Instant::now();
    drop(second);
    present(&mut host, 1).await;
    assert!(left.elapsed() < Duration::from_secs(6), "departures show within 5 s");
    assert_eq!(room.log(&room.presenter).await.len(), 0, "presence is not stored");
}

#[tokio::test]
async fn a_participant_with_many_connections_counts_once_and_presenters_never() {
    let room = Room::open().await;
    let mut host = room.host().await;
    let _other_host = room.host().await;
    let guest = room.guest().await;
    let again = room.resume(&guest.token, 0).await;
    room.join().await;
    let path = room.path(&format!("/stream?token={}", guest.token));
    let _stream = Sse::open(room.server.listen, &path, &[]).await.unwrap();
    let other = room.join().await;
    let path = room.path(&format!("/stream?token={}", other.token));
    let _other = Sse::open(room.server.listen, &path, &[]).await.unwrap();
    present(&mut host, 2).await;
    drop(guest);
    drop(again);
    drop(_stream);
    present(&mut host, 1).await;
    let seen = host.received.iter().filter(|message| message["type"] == "presence");
    assert!(seen.clone().all(|message| message["participants"].as_i64().unwrap() <= 2), "{seen:?}");
}

#[tokio::test]
async fn presence_counts_across_instances() {
    let room = Room::open().await;
    let mut second = Server::start(&room.db).await;
    let mut host = room.host().await;
    let mut here = room.guest().await;
    let mut there = room.guest_at(&second).await;
    let _same = Guest::hello(&second.base(), json!({"token": here.token})).await;
    present(&mut host, 2).await;
    present(&mut here, 2).await;
    present(&mut there, 2).await;
    let session = room.by(&second).get("", &room.presenter).await.json();
    assert_eq!(session["participants"], 2);
    second.stop().await;
    present(&mut host, 1).await;
}

/// Nobody says goodbye for those on an instance that was killed; they are not counted for ever.
#[tokio::test]
async fn participants_of_a_killed_instance_are_not_counted_for_long() {
    let room = Room::open().await;
    let mut second = Server::start(&room.db).await;
    let mut host = room.host().await;
    let _here = room.guest().await;
    let _there = room.guest_at(&second).await;
    present(&mut host, 2).await;
    second.kill9();
    present(&mut host, 1).await;
}

/// Also by an instance that nobody follows the session on.
#[tokio::test]
async fn every_instance_knows_how_many_are_there() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut host = room.host().await;
    let _guests = room.guests_at(&room.server, 2).await;
    present(&mut host, 2).await;
    let there = room.by(&second);
    eventually(5, "both are counted", async || {
        let session = there.get("", &room.presenter).await.json();
        let list = there.api.get("/v1/sessions", None).await.unwrap().json();
        (session["participants"] == 2 && list["sessions"][0]["participants"] == 2).then_some(())
    })
    .await;
    let first = room.guest_at(&second).await;
    assert_eq!(
        first.welcome["session"]["participants"], 3,
        "the others are known from the first on"
    );
}

/// Whoever comes back gets the newest number once, and none that was sent meanwhile.
#[tokio::test]
async fn a_resumed_stream_gets_one_number_and_the_newest() {
    let room = Room::open().await;
    let mut host = room.host().await;
    let gone = room.guest().await;
    present(&mut host, 1).await;
    let mut others = Vec::new();
    for count in 2..=4 {
        room.retitle(&format!("{count}")).await;
        others.push(room.guest().await);
        present(&mut host, count).await;
    }
    let mut back = room.resume(&gone.token, 0).await;
    let since = Instant::now();
    let first = back.take("presence", |m| m["type"] == "presence").await;
    assert_eq!(first["participants"], 4);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert!(
        tokio::time::timeout(
            Duration::from_millis(900),
            back.take("another", |m| m["type"] == "presence")
        )
        .await
        .is_err()
    );
}

/// Nor those of its predecessor by an instance that is there again under the same name.
#[tokio::test]
async fn participants_of_a_process_that_died_are_not_counted_for_its_successor() {
    const SAME: [&str; 2] = ["--instance-id", "same"];
    let room = Room::open().await;
    let mut second = Server::with(&room.db, &SAME).await;
    let mut host = room.host().await;
    let _there = room.guest_at(&second).await;
    present(&mut host, 1).await;
    second.kill9();
    let _successor = Server::with(&room.db, &SAME).await;
    present(&mut host, 0).await;
}

/// A new epoch ends what an instance shows, and whoever was there may come back to another one.
#[tokio::test]
async fn participants_who_left_with_a_history_are_not_counted_for_long() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut host = room.host().await;
    let mut there = room.guest_at(&second).await;
    present(&mut host, 1).await;
    let made = run(plenum(&["epoch", "--new", "--database-url", &room.db.url()]));
    assert!(made.status.success(), "{made:?}");
    for guest in [&mut host, &mut there] {
        guest.closed().await;
    }
    let mut host = Guest::hello(&room.server.base(), json!({"token": room.presenter})).await;
    present(&mut host, 0).await;
}

/// The first within 2 s of the welcome, then only on change, at least 1 s apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_comes_first_within_2_s_and_then_at_most_once_a_second() {
    let room = Room::open().await;
    let begin = Instant::now();
    let mut watcher = room.guest().await;
    // A task of its own, so that the moments it notes are not late because of what else goes on.
    let reader = tokio::spawn(async move {
        let mut told: Vec<(Duration, i64)> = Vec::new();
        while told.last().is_none_or(|(_, count)| *count < 30) {
            let message = watcher.take("presence", |m| m["type"] == "presence").await;
            told.push((begin.elapsed(), message["participants"].as_i64().unwrap()));
        }
        told
    });
    let mut others = Vec::new();
    for count in 2..=30 {
        others.push(room.guest().await);
        // Spread over the time between two messages, so that several of them are needed.
        if count % 10 == 0 {
            let mut host = room.host().await;
            present(&mut host, count).await;
        }
    }
    let told = within(SOON, "the newest value is delivered", reader).await.unwrap();
    assert!(told[0].0 < Duration::from_millis(2500), "{told:?}");
    assert!(told.len() >= 3, "{told:?}");
    for pair in told.windows(2) {
        // Less what the way to this process may differ.
        assert!(pair[1].0 - pair[0].0 > Duration::from_millis(850), "{told:?}");
        assert_ne!(pair[0].1, pair[1].1, "on change only: {told:?}");
    }
}
