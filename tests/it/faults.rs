//! What is promised when something dies: the server, PostgreSQL, or just the answer of a commit.
//! The rest of the promises is in `promises`; orderly ends are in `lifecycle`.

use crate::support::*;

#[tokio::test]
async fn a_vote_retried_after_its_poll_closed_is_still_acked_as_repeat() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    let first = guest.cast(poll, pick(1)).await;
    let id = first["id"].as_str().unwrap();
    room.close_poll(poll).await;
    let again = guest.cast_as(id, poll, pick(1)).await;
    let expected =
        json!({"type": "ack", "id": id, "poll": poll, "seq": first["seq"], "repeat": true});
    assert_eq!(again, expected);
    room.present("PATCH", "", json!({"state": "ended"})).await;
    assert_eq!(
        guest.cast_as(id, poll, pick(1)).await,
        expected,
        "nor does the end of the session matter"
    );
    let answer = room.cast(&guest.token, id, poll, pick(1)).await;
    assert_eq!((answer.status, &answer.json()["repeat"]), (200, &json!(true)));
    assert_eq!(
        guest.cast(poll, pick(1)).await["code"],
        "already_voted",
        "another id is another vote"
    );
    room.check_counts(&room.db).await;
}

/// The statement is carried out, its answer is lost: the server has to ask again and count once.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_retried_and_counted_once() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    for round in 1..=3 {
        proxy.lose_answer_of("cast_votes");
        let mut voter = room.guest().await;
        let ack = voter.cast(poll, pick(1)).await;
        assert_eq!((&ack["type"], &ack["poll"]), (&json!("ack"), &json!(poll)), "{ack}");
        assert_eq!(ack["repeat"], false, "the participant sent it once");
        proxy.lost(round).await;
        let results = guest.results(poll, i64::from(round)).await;
        assert_eq!(numbers(&results["counts"]), [0, i64::from(round)]);
        let log = room.log(&room.presenter).await;
        let event = log.iter().find(|event| event["seq"] == ack["seq"]).unwrap();
        assert_eq!(event["data"]["votes"], round, "the ack names the event that counted it");
    }
    assert_eq!(room.db.count("SELECT count(*) FROM votes").await, 3);
    room.check_counts(&room.db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_whose_commits_lose_their_answers_is_counted_once() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let polls = [room.choice(3).await, room.choice(3).await, room.choice(3).await];
    let burst = Burst::start(room.guests_at(&room.server, 30).await, &polls, 3);
    for round in 1..=3 {
        proxy.lose_answer_of("cast_votes");
        proxy.lost(round).await;
    }
    let ballots = burst.ended().await;
    assert!(ballots.iter().all(Ballot::is_acked), "{ballots:?}");
    room.check_stored(&room.db, &ballots).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acked_vote_survives_kill_9_of_the_server_in_mid_burst() {
    let flags = ["--instance-id", "the-same"];
    let mut room = Room::with(&flags).await;
    let mut polls = Vec::new();
    for _ in 0..8 {
        polls.push(room.choice(3).await);
    }
    let burst = Burst::start(room.guests_at(&room.server, 40).await, &polls, 3);
    burst.acked(60).await;
    room.server.kill9();
    let mut ballots = burst.ended().await;
    assert!(
        ballots.iter().filter(|ballot| ballot.is_acked()).count() < 40 * polls.len(),
        "killed too late"
    );
    let server = Server::with(&room.db, &flags).await;
    let session = room.by(&server);
    session.check_stored(&room.db, &ballots).await;
    session.finish(&mut ballots).await;
    session.check_stored(&room.db, &ballots).await;
    let guest = Guest::hello(&server.base(), json!({"token": ballots[0].token})).await;
    assert_eq!(guest.id, ballots[0].participant, "the token still stands for the same participant");
    let mine = ballots.iter().filter(|ballot| ballot.token == ballots[0].token);
    for ballot in mine {
        assert_eq!(guest.welcome["my_votes"][ballot.poll.to_string()], pick(ballot.option));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acked_vote_survives_kill_9_of_postgresql_in_mid_burst() {
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let room = Room::on(Server::start(&db).await, db).await;
    let mut polls = Vec::new();
    for _ in 0..8 {
        polls.push(room.choice(3).await);
    }
    let mut watcher = room.host().await;
    let burst = Burst::start(room.guests_at(&room.server, 40).await, &polls, 3);
    burst.acked(60).await;
    cluster.kill9();
    let _cluster = tokio::task::spawn_blocking(move || {
        cluster.start_again();
        cluster
    })
    .await
    .unwrap();
    let mut ballots = burst.ended().await;
    for ballot in &ballots {
        let again = ballot.is_acked() || ballot.answer["code"] == "database_unavailable";
        assert!(again, "{ballot:?}");
    }
    ready_again(&room.server).await;
    room.check_stored(&room.db, &ballots).await;
    room.finish(&mut ballots).await;
    room.check_stored(&room.db, &ballots).await;
    let last = room.retitle("after the crash").await["last_seq"].clone();
    watcher
        .take("events go on", |message| message["seq"] == last && message["type"] == "event")
        .await;
    assert_eq!(
        room.log(&room.presenter).await.len(),
        usize::try_from(last.as_i64().unwrap()).unwrap()
    );
}

/// Waits until an instance says that it is ready.
async fn ready_again(server: &Server) {
    eventually(SOON, "the instance is ready again", async || {
        (server.ops_get("/readyz").await.status == 200).then_some(())
    })
    .await;
}

/// Votes wait for a database that is away for a moment, and are then served.
#[tokio::test]
async fn a_vote_cast_while_the_database_is_away_is_answered_when_it_is_back() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let server = Server::at(&db.url_by(proxy.port()), &[]).await;
    let room = Room::on(server, db).await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    proxy.refuse();
    let id = guest.vote(poll, pick(0)).await;
    guest.send(json!({"type": "ping"})).await;
    guest.take("a pong", |message| message["type"] == "pong").await;
    proxy.forward();
    let answer = guest.verdict(&id).await;
    if answer["type"] == "error" {
        assert_eq!(answer["code"], "database_unavailable", "{answer}");
        assert!(answer["retry_after_ms"].as_i64().unwrap() > 0);
        let answer = eventually(SOON, "the vote is taken", async || {
            let answer = guest.cast_as(&id, poll, pick(0)).await;
            (answer["type"] == "ack").then_some(answer)
        });
        answer.await;
    }
    room.check_counts(&room.db).await;
    assert_eq!(room.results(poll).await["votes"], 1);
}

/// A token of one instance is good on another, and stays good when the first one dies.
#[tokio::test]
async fn a_participant_goes_on_at_another_instance_when_the_first_one_dies() {
    let mut room = Room::open().await;
    let second = Server::start(&room.db).await;
    let polls = [room.choice(2).await, room.choice(2).await];
    let mut guest = room.guest().await;
    let ack = guest.cast(polls[0], pick(1)).await;
    room.server.kill9();
    let mut back = Guest::hello(
        &second.base(),
        json!({"token": guest.token, "after": guest.highest, "epoch": guest.welcome["epoch"]}),
    )
    .await;
    assert_eq!((&back.id, &back.welcome["resumed"]), (&guest.id, &json!(true)));
    let again = back.cast_as(ack["id"].as_str().unwrap(), polls[0], pick(1)).await;
    assert_eq!((&again["repeat"], &again["seq"]), (&json!(true), &ack["seq"]));
    assert_eq!(back.cast(polls[1], pick(0)).await["repeat"], false);
    room.by(&second).check_counts(&room.db).await;
}

/// A hall comes back to an instance that does not know the session, and the database stands still: each is told so in the
/// time of one question, not of one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hall_is_told_at_once_that_the_database_does_not_answer() {
    let room = Room::open().await;
    let token = room.join().await.token;
    let proxy = Proxy::start(room.db.port()).await;
    let other = Server::at(&room.db.url_by(proxy.port()), &[]).await;
    proxy.freeze();
    let mut coming = tokio::task::JoinSet::new();
    for hello in [json!({"token": token}), json!({"code": room.code})].iter().cycle().take(20) {
        let (base, hello) = (other.base(), hello.clone());
        coming.spawn(async move { Guest::try_hello(&base, hello).await.map(|_| ()) });
    }
    for closed in within(SOON, "all are told", coming.join_all()).await {
        assert_eq!(closed, Err(Some(1013)));
    }
}
