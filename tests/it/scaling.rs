//! How many instances should run: the signal, what explains it, and that instances weigh the same facts.

use crate::support::*;

async fn forecast(server: &Server) -> Value {
    let answer = server.ops_get("/cluster/forecast").await;
    if answer.status == 503 { Value::Null } else { answer.json() }
}

/// Waits until an instance tells this number, and answers with why.
async fn tells(server: &Server, desired: u64) -> Value {
    eventually(15, "the number of desired instances", async || {
        let report = forecast(server).await;
        (report["desired_instances"] == desired).then_some(report)
    })
    .await
}

fn in_seconds(seconds: i64) -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[tokio::test]
async fn connections_ask_for_instances_and_the_report_says_why() {
    let room = Room::with(&["--capacity", "5"]).await;
    let report = tells(&room.server, 1).await;
    assert_eq!(report["now"]["floor"], 0, "{report}");
    let _guests = room.guests_at(&room.server, 9).await;
    let report = tells(&room.server, 3).await;
    let now = &report["now"];
    assert_eq!(
        (&now["connections"], &now["capacity_each"], &now["by_connections"], &now["floor"]),
        (&json!(9), &json!(5), &json!(3), &json!(2)),
        "{report}"
    );
    assert_eq!(report["instances"][0]["connections"], 9, "{report}");
    assert_eq!(room.server.metric("plenum_desired_instances", &[]).await, 3.0);
}

/// With the quiet period at its length the number stays; without one it falls.
#[tokio::test]
async fn the_number_falls_after_the_quiet_period_only() {
    let flags = ["--capacity", "5", "--scale-quiet-seconds"];
    let room = Room::with(&[&flags[..], &["600"]].concat()).await;
    let hasty = Server::with(&room.db, &[&flags[..], &["0"]].concat()).await;
    let guests = room.guests_at(&room.server, 9).await;
    tells(&room.server, 3).await;
    tells(&hasty, 3).await;
    drop(guests);
    tells(&hasty, 1).await;
    let report = eventually(15, "the peak is held", async || {
        let report = forecast(&room.server).await;
        (report["now"]["wanted"] == 1).then_some(report)
    })
    .await;
    assert_eq!(
        (&report["desired_instances"], &report["held"]),
        (&json!(3), &json!(true)),
        "{report}"
    );
}

#[tokio::test]
async fn announced_sessions_are_seen_ahead_by_every_instance() {
    let room = Room::with(&["--scale-start-seconds", "60"]).await;
    let second = Server::with(&room.db, &["--scale-start-seconds", "4000"]).await;
    // In 10 minutes: beyond 60 s and the five minutes that people come early, within 4,000 s.
    let body =
        json!({"title": "Soon", "starts_at": in_seconds(600), "expected_participants": 1_900});
    let soon = Session::create(&room.api, body).await;
    let report = tells(&second, 5).await;
    assert_eq!(report["now"]["arriving"], 1_900, "{report}");
    assert_eq!(report["sessions"][0]["session"], soon.id, "{report}");
    tells(&room.server, 1).await;
    let body = json!({"title": "Now", "starts_at": in_seconds(100), "expected_participants": 700});
    let now = Session::create(&room.api, body).await;
    let _present = now.guest_at(&room.server).await;
    let report = eventually(15, "who is here is not waited for", async || {
        let report = forecast(&room.server).await;
        (report["sessions"][0]["present"] == 1).then_some(report)
    })
    .await;
    assert_eq!(
        (&report["now"]["arriving"], &report["desired_instances"]),
        (&json!(699), &json!(2)),
        "{report}"
    );
    // An ended one expects nobody.
    now.present("PATCH", "", json!({"state": "ended"})).await;
    eventually(15, "the ended session is not weighed", async || {
        forecast(&room.server).await["sessions"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}

/// Each says how busy it is; all weigh it.
#[tokio::test]
async fn instances_tell_each_other_their_load() {
    let room = Room::with(&["--instance-id", "first"]).await;
    let second = Server::with(&room.db, &["--instance-id", "second"]).await;
    for server in [&room.server, &second] {
        eventually(15, "both are weighed", async || {
            let report = forecast(server).await;
            let told = report["instances"]
                .as_array()?
                .iter()
                .filter(|one| one["cpu"].as_f64() > Some(0.0));
            (told.count() == 2).then_some(())
        })
        .await;
    }
}
