//! A primary that dies or hangs while its standby takes over: no acked vote is lost, nothing is acked that only one of them
//! has, and an instance says what a commit is worth. What clients see when something *was* lost is in `epoch`.

use std::time::Instant;

use crate::support::*;

/// A primary, its standby called `s1`, and a server that knows both.
async fn pair(flags: &[&str]) -> (Cluster, Cluster, Room) {
    let (primary, standby) = tokio::task::spawn_blocking(|| {
        let primary = Cluster::start();
        let standby = Cluster::standby_of(&primary, "s1");
        (primary, standby)
    })
    .await
    .unwrap();
    let db = TestDb::on(&primary).await;
    primary.followed_by(&db, "s1", None).await;
    let url = db.url_over(&[primary.port(), standby.port()]);
    let room = Room::on(Server::at(&url, flags).await, db).await;
    (primary, standby, room)
}

/// Every commit waits for the standby, and the instance knows it.
async fn synchronous(primary: &Cluster, room: &Room) {
    primary.wait_for_standby(&room.db, "s1").await;
    eventually(SOON, "the instance has seen the standby", async || {
        let kind = "kind=\"synchronous standby\"";
        (room.server.metric("plenum_durability_info", &[kind]).await == 1.0).then_some(())
    })
    .await;
}

/// The promoted standby has no standby of its own yet: whoever promotes it decides whether to go on without.
async fn promote(standby: Cluster, db: &TestDb) -> Cluster {
    let standby = tokio::task::spawn_blocking(move || {
        standby.promote();
        standby
    })
    .await
    .unwrap();
    standby.set(db, "synchronous_standby_names = ''").await;
    standby
}

async fn ready_again(server: &Server) {
    eventually(SOON, "the instance is ready again", async || {
        (server.ops_get("/readyz").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_of_a_synchronous_standby_in_mid_burst_loses_no_acked_vote() {
    let (primary, standby, room) = pair(&[]).await;
    synchronous(&primary, &room).await;
    let mut polls = Vec::new();
    for _ in 0..8 {
        polls.push(room.choice(3).await);
    }
    let mut watcher = room.host().await;
    let burst = Burst::start(room.guests_at(&room.server, 40).await, &polls, 3);
    burst.acked(60).await;
    let killed = Instant::now();
    primary.kill9();
    let before = burst.count();
    let standby = promote(standby, &room.db).await;
    burst.acked(before + 40).await;
    println!("from kill -9 of the primary to the next acks: {:?}", killed.elapsed());
    let mut ballots = burst.ended().await;
    for ballot in &ballots {
        let again = ballot.is_acked() || ballot.answer["code"] == "database_unavailable";
        assert!(again, "{ballot:?}");
    }
    ready_again(&room.server).await;
    let now = room.db.at(&standby);
    room.check_stored(&now, &ballots).await;
    room.finish(&mut ballots).await;
    room.check_stored(&now, &ballots).await;
    // The same history: nobody was sent away, and whoever comes back goes on where they were.
    let last = room.retitle("afterwards").await["last_seq"].clone();
    watcher
        .take("events go on", |message| message["seq"] == last && message["type"] == "event")
        .await;
    let hello = json!({"token": ballots[0].token, "after": 1, "epoch": watcher.welcome["epoch"]});
    let back = Guest::hello(&room.server.base(), hello).await;
    assert_eq!(back.welcome["resumed"], true, "{:?}", back.welcome);
    assert_eq!(back.welcome["epoch"], watcher.welcome["epoch"]);
    assert_eq!(room.server.metric("plenum_epoch_changes_total", &[]).await, 0.0);
}

/// A cancelled wait ends as a commit on one machine; only the warning beside it says so.
#[tokio::test]
async fn a_cancelled_wait_for_the_standby_never_leads_to_an_ack() {
    let (primary, standby, room) = pair(&[]).await;
    synchronous(&primary, &room).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    standby.freeze();
    let id = guest.vote(poll, pick(1)).await;
    let sql = room.db.sql().await;
    let mut seen = Vec::new();
    for call in ["pg_cancel_backend", "pg_cancel_backend", "pg_terminate_backend"] {
        let waiting = "SELECT pid FROM pg_stat_activity
            WHERE wait_event = 'SyncRep' AND query LIKE '%cast_votes%' AND NOT pid = ANY($1)";
        let pid: i32 = eventually(SOON, "the batch waits for the standby", async || {
            Some(sql.query_opt(waiting, &[&seen]).await.unwrap()?.get(0))
        })
        .await;
        seen.push(pid);
        sql.query_one(&format!("SELECT {call}($1)"), &[&pid]).await.unwrap();
    }
    // It is stored, and everybody can see it here; still nobody may be told.
    let stored = "SELECT count(*) FROM votes";
    assert_eq!(room.db.count(stored).await, 1);
    guest.send(json!({"type": "ping"})).await;
    guest.take("a pong", |message| message["type"] == "pong").await;
    let told = |message: &Value| message["type"] == "ack";
    assert!(!guest.received.iter().any(told), "acked before the standby had it");
    standby.thaw();
    eventually(SOON, "the vote is acked", async || {
        (guest.cast_as(&id, poll, pick(1)).await["type"] == "ack").then_some(())
    })
    .await;
    primary.kill9();
    let standby = promote(standby, &room.db).await;
    assert_eq!(room.db.at(&standby).count(stored).await, 1, "the standby had it");
}

#[tokio::test]
async fn a_frozen_primary_is_left_for_the_promoted_standby_and_not_gone_back_to() {
    let (primary, standby, room) = pair(&[]).await;
    synchronous(&primary, &room).await;
    let polls = [room.choice(2).await, room.choice(2).await];
    let mut guest = room.guest().await;
    guest.cast(polls[0], pick(0)).await;
    let frozen = Instant::now();
    primary.freeze();
    let standby = promote(standby, &room.db).await;
    let id = fresh_id();
    eventually(SOON, "votes are taken again", async || {
        (guest.cast_as(&id, polls[1], pick(1)).await["type"] == "ack").then_some(())
    })
    .await;
    println!("from the freeze of the primary to the next ack: {:?}", frozen.elapsed());
    ready_again(&room.server).await;
    println!("from the freeze of the primary to ready: {:?}", frozen.elapsed());
    primary.thaw();
    // The old primary is first in the list, takes writes and knows of nothing.
    let later = room.choice(2).await;
    assert_eq!(guest.cast(later, pick(1)).await["type"], "ack");
    assert_eq!(room.db.at(&standby).count("SELECT count(*) FROM votes").await, 3);
    assert_eq!(room.db.count("SELECT count(*) FROM polls").await, 2, "none is written there");
    // What was sent while it was frozen waits there for a standby that does not come.
    let after = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'plenum%'
        AND datname = current_database() AND wait_event IS DISTINCT FROM 'SyncRep'";
    eventually(SOON, "nothing leads to the old primary", async || {
        (room.db.count(after).await == 0).then_some(())
    })
    .await;
    room.check_counts(&room.db.at(&standby)).await;
}

#[tokio::test]
async fn an_instance_says_what_a_commit_is_worth_as_standbys_come_and_go() {
    let primary = Cluster::start();
    let db = TestDb::on(&primary).await;
    let server = Server::start(&db).await;
    let says = async |kind: &str| {
        eventually(SOON, kind, async || {
            let kind = format!("kind=\"{kind}\"");
            let (this, all) = (
                server.metric("plenum_durability_info", &[&kind]).await,
                server.metric("plenum_durability_info", &[]).await,
            );
            (this == 1.0 && all == 1.0).then_some(())
        })
        .await;
        assert!(server.log().iter().any(|line| line.contains(kind)), "{kind} is logged");
    };
    says("one node").await;
    let (primary, _standby) = tokio::task::spawn_blocking(move || {
        let standby = Cluster::standby_of(&primary, "s1");
        (primary, standby)
    })
    .await
    .unwrap();
    says("asynchronous replication").await;
    primary.wait_for_standby(&db, "s1").await;
    says("synchronous standby").await;
    primary.set(&db, "synchronous_standby_names = ''").await;
    eventually(SOON, "the weaker one is said again", async || {
        let kind = "kind=\"asynchronous replication\"";
        (server.metric("plenum_durability_info", &[kind]).await == 1.0).then_some(())
    })
    .await;
}
