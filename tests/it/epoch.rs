//! The epoch names the history of the database: it changes when something of it is lost, once for all instances, and clients
//! then start from the state. That it stays the same otherwise is in `failover` and `welcome`.

use crate::support::*;

/// Reads until the stream is closed because its history is over, and comes back with what it knows.
async fn sent_to_the_state(mut guest: Guest, base: &str) -> Guest {
    assert_eq!(guest.closed().await, Some(4413));
    come_back(&guest, base).await
}

async fn come_back(guest: &Guest, base: &str) -> Guest {
    let hello =
        json!({"token": guest.token, "after": guest.highest, "epoch": guest.welcome["epoch"]});
    let back = Guest::hello(base, hello).await;
    assert_eq!(back.welcome["resumed"], false, "{:?}", back.welcome);
    assert_ne!(back.welcome["epoch"], guest.welcome["epoch"]);
    back
}

fn votes_shown(guest: &Guest) -> Value {
    guest.welcome["results"][0]["votes"].clone()
}

/// What the standby had not heard of is gone with its primary: shown to nobody any more, and counted right by everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_of_an_asynchronous_standby_makes_one_new_epoch_and_clients_start_from_the_state()
{
    let (primary, standby) = tokio::task::spawn_blocking(|| {
        let primary = Cluster::start();
        let standby = Cluster::standby_of(&primary, "s1");
        (primary, standby)
    })
    .await
    .unwrap();
    let db = TestDb::on(&primary).await;
    let url = db.url_over(&[primary.port(), standby.port()]);
    let room = Room::on(Server::at(&url, &[]).await, db).await;
    let second = Server::at(&url, &[]).await;
    let poll = room.choice(2).await;
    let mut kept = room.guest().await;
    assert_eq!(kept.cast(poll, pick(0)).await["type"], "ack");
    standby.caught_up(&room.db, &primary).await;
    standby.cut_off(&room.db).await;
    let mut lost = room.guest_at(&second).await;
    let ids = [fresh_id(), fresh_id()];
    assert_eq!(lost.cast_as(&ids[0], poll, pick(1)).await["type"], "ack");
    kept.results(poll, 2).await;
    room.retitle("never heard of").await;
    kept.event("session.updated").await;
    lost.event("session.updated").await;
    primary.kill9();
    let standby = tokio::task::spawn_blocking(move || {
        standby.promote();
        standby
    })
    .await
    .unwrap();
    let back = [
        sent_to_the_state(kept, &room.server.base()).await,
        sent_to_the_state(lost, &second.base()).await,
    ];
    let [kept, mut lost] = back;
    assert_eq!(kept.welcome["epoch"], lost.welcome["epoch"], "one for all instances");
    for guest in [&kept, &lost] {
        assert_eq!(votes_shown(guest), 1, "{:?}", guest.welcome);
        assert_eq!(guest.welcome["session"]["title"], "A test");
    }
    assert_eq!(lost.welcome["my_votes"], json!({}), "it is asked for again");
    let again = lost.cast_as(&ids[0], poll, pick(1)).await;
    assert_eq!((&again["type"], &again["repeat"]), (&json!("ack"), &json!(false)), "{again}");
    room.check_counts(&room.db.at(&standby)).await;
    let made = "SELECT count(*) FROM settings WHERE name = 'epoch' AND value = $1";
    let epoch = kept.welcome["epoch"].as_str().unwrap();
    let row = room.db.at(&standby).sql().await.query_one(made, &[&epoch]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1, "and it is the one that is kept");
}

/// The same cluster on the same timeline, a while ago: nothing tells but what instances have seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_put_back_under_running_instances_are_noticed_by_what_is_missing() {
    let primary = Cluster::start();
    let db = TestDb::on(&primary).await;
    let server = Server::start(&db).await;
    let room = Room::on(server, db).await;
    let poll = room.choice(2).await;
    room.guest().await.cast(poll, pick(0)).await;
    let (primary, backup) = tokio::task::spawn_blocking(move || {
        let backup = Cluster::backup_of(&primary);
        (primary, backup)
    })
    .await
    .unwrap();
    let url = room.db.url_over(&[primary.port(), backup.port()]);
    let flags = ["--instance-id", "the-same"];
    let servers = [Server::at(&url, &flags).await, Server::at(&url, &[]).await];
    let mut guests = Vec::new();
    for server in &servers {
        let mut guest = room.guest_at(server).await;
        assert_eq!(guest.cast(poll, pick(1)).await["type"], "ack");
        guests.push(guest);
    }
    guests[0].results(poll, 3).await;
    primary.kill9();
    let _backup = tokio::task::spawn_blocking(move || {
        backup.start_again();
        backup
    })
    .await
    .unwrap();
    let mut epochs = Vec::new();
    for (guest, server) in guests.into_iter().zip(&servers) {
        let back = sent_to_the_state(guest, &server.base()).await;
        assert_eq!(votes_shown(&back), 1, "{:?}", back.welcome);
        epochs.push(back.welcome["epoch"].clone());
    }
    assert_eq!(epochs[0], epochs[1], "one for all instances");
}

#[tokio::test]
async fn a_dump_restored_into_another_database_is_another_history() {
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let mut room = Room::on(Server::start(&db).await, db).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(poll, pick(0)).await;
    guest.results(poll, 1).await;
    let restored = TestDb::on(&cluster).await;
    let (cluster, restored, from) = {
        let (from, to) = (room.db.clone(), restored);
        tokio::task::spawn_blocking(move || {
            cluster.dump_and_restore(&from, &to);
            (cluster, to, from)
        })
        .await
        .unwrap()
    };
    // Lost, and then as many events again: no number tells the two histories apart.
    let mut other = room.guest().await;
    other.cast(poll, pick(1)).await;
    guest.results(poll, 2).await;
    room.server.stop().await;
    let servers = [Server::start(&restored).await, Server::start(&restored).await];
    let session = room.by(&servers[0]);
    let mut late = session.guest_at(&servers[0]).await;
    late.cast(poll, pick(1)).await;
    late.results(poll, 2).await;
    for server in &servers {
        let back = come_back(&guest, &server.base()).await;
        assert_eq!(back.welcome["epoch"], late.welcome["epoch"]);
        assert_eq!(votes_shown(&back), 2);
        assert_eq!(back.welcome["seq"], guest.highest, "the numbers are the same");
    }
    session.check_counts(&restored).await;
    // Where nothing was restored, nothing is new, whatever dies.
    let epoch = guest.welcome["epoch"].as_str().unwrap().to_owned();
    cluster.kill9();
    let _cluster = tokio::task::spawn_blocking(move || {
        cluster.start_again();
        cluster
    })
    .await
    .unwrap();
    let server = Server::start(&from).await;
    let hello = json!({"token": guest.token, "after": guest.highest, "epoch": epoch});
    let back = Guest::hello(&server.base(), hello).await;
    assert_eq!((&back.welcome["resumed"], &back.welcome["epoch"]), (&json!(true), &json!(epoch)));
}

/// For restores that nothing tells of.
#[tokio::test]
async fn an_operator_can_make_a_new_epoch_and_running_instances_follow() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let poll = room.choice(2).await;
    let guests = [room.guest().await, room.guest_at(&second).await];
    let epoch = |further: &[&str]| {
        let url = room.db.url();
        let output = run(plenum(&[&["epoch", "--database-url", &url], further].concat()));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(guests[0].welcome["epoch"], epoch(&[]), "it is only shown");
    let made = epoch(&["--new"]);
    assert_eq!(made, epoch(&[]));
    for (guest, server) in guests.into_iter().zip([&room.server, &second]) {
        let mut back = sent_to_the_state(guest, &server.base()).await;
        assert_eq!(back.welcome["epoch"], made);
        assert_eq!(back.cast(poll, pick(0)).await["type"], "ack");
    }
    room.check_counts(&room.db).await;
}
