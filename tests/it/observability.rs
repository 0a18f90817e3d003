//! What operators see: the page of metrics, alerts and dashboards are held against what a running server exports; traces
//! go in and out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::*;

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Names of metrics in a text of PromQL, label names and functions aside: all of ours begin alike.
fn names_in(text: &str) -> BTreeSet<String> {
    text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_')
        .filter(|word| word.starts_with("plenum_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// What a server exports after every kind of thing has happened, without the suffixes of histograms.
async fn exported() -> BTreeSet<String> {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    let mut guest = room.guest().await;
    guest.cast(poll, pick(1)).await;
    guest.leave().await;
    let text = eventually(SOON, "the end of the connection is counted", async || {
        let text = room.server.ops_get("/metrics").await.text();
        text.contains("plenum_connections_closed_total{").then_some(text)
    })
    .await;
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect()
}

#[test]
fn the_page_of_metrics_is_what_the_program_says() {
    let output = run(plenum(&["metrics"]));
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.lines().count() > 40, "{table}");
    let page = file("docs/METRICS.md");
    let written = page.split_once("from here on -->\n").expect("the page has its marker").1;
    assert_eq!(written, table, "docs/METRICS.md is old: run make metrics-table");
}

/// A renamed metric would leave an alert that never fires and a panel that stays empty.
#[tokio::test]
async fn alerts_and_dashboards_use_metrics_that_exist() {
    let exported = exported().await;
    let mut files = vec![String::from("deploy/prometheus/alerts.yml")];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana");
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".json") {
            files.push(format!("deploy/grafana/{name}"));
        }
    }
    assert!(files.len() >= 6, "{files:?}");
    let mut used = BTreeSet::new();
    for path in &files {
        let names = names_in(&file(path));
        assert!(names.len() > 5, "{path} names no metrics");
        for name in names {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known =
                exported.contains(&name) || base.is_some_and(|base| exported.contains(base));
            assert!(known, "{path} uses {name}, which nobody exports");
            used.insert(base.unwrap_or(&name).to_owned());
        }
    }
    let unseen: Vec<_> = exported
        .iter()
        .filter(|name| name.starts_with("plenum_") && !used.contains(*name))
        .collect();
    assert!(unseen.is_empty(), "exported and nowhere shown: {unseen:?}");
}

/// A panel without a query or a data source shows nothing, and Grafana does not say why.
#[test]
fn dashboards_are_whole() {
    let mut uids = BTreeSet::new();
    for name in ["fleet", "instance", "votes", "events", "database"] {
        let board: Value =
            serde_json::from_str(&file(&format!("deploy/grafana/{name}.json"))).unwrap();
        assert_eq!(board["uid"], format!("plenum-{name}"));
        uids.insert(board["uid"].to_string());
        let panels = board["panels"].as_array().unwrap();
        let mut ids = BTreeSet::new();
        let mut places = BTreeSet::new();
        for panel in panels {
            let title = panel["title"].as_str().unwrap();
            assert!(
                ids.insert(panel["id"].as_i64().unwrap()),
                "{name}: {title} has the id of another"
            );
            let grid = &panel["gridPos"];
            let (x, y, w) = (
                grid["x"].as_i64().unwrap(),
                grid["y"].as_i64().unwrap(),
                grid["w"].as_i64().unwrap(),
            );
            assert!(x + w <= 24 && places.insert((x, y)), "{name}: {title} lies over another");
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{name}: {title} has no unit"
            );
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{name}: {title} asks nothing");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{name}: {title}");
                let expression = target["expr"].as_str().unwrap();
                let open = expression.matches(['(', '{', '[']).count();
                assert_eq!(
                    open,
                    expression.matches([')', '}', ']']).count(),
                    "{name}: {expression}"
                );
            }
        }
    }
    assert_eq!(uids.len(), 5);
}

/// Events of this instance are counted from their commit, those of others from their time in the database.
#[tokio::test]
async fn delivery_is_counted_apart_for_own_events_and_those_of_others() {
    let room = Room::open().await;
    let second = Server::start(&room.db).await;
    let mut near = room.guest().await;
    let mut far = room.guest_at(&second).await;
    let poll = room.choice(2).await;
    near.event("poll.opened").await;
    far.event("poll.opened").await;
    near.cast(poll, pick(1)).await;
    far.results(poll, 1).await;
    let count = async |server: &Server, source: &str| {
        server.metric("plenum_delivery_seconds_count", &[&format!("source=\"{source}\"")]).await
    };
    eventually(SOON, "each counts its own way", async || {
        let own = (count(&room.server, "own").await, count(&second, "own").await);
        let other = (count(&room.server, "other").await, count(&second, "other").await);
        (own.0 >= 2.0 && own.1 == 0.0 && other.0 == 0.0 && other.1 >= 2.0).then_some(())
    })
    .await;
    assert!(second.metric("plenum_events_tailed_total", &["source=\"read\""]).await >= 2.0);
    assert!(room.server.metric("plenum_events_appended_total", &["poll.opened"]).await >= 1.0);
    assert_eq!(second.metric("plenum_events_appended_total", &[]).await, 0.0);
}

/// Without hints everything of others is found by the poll, and counts as missed.
#[tokio::test]
async fn events_that_no_hint_announced_are_counted() {
    let room = Room::open().await;
    let second = Server::with(&room.db, &["--no-listen-notify"]).await;
    let mut far = room.guest_at(&second).await;
    room.choice(2).await;
    far.event("poll.opened").await;
    eventually(SOON, "the poll's find is counted", async || {
        (second.metric("plenum_hints_missed_total", &[]).await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replays_are_counted_by_where_they_come_from() {
    let room = Room::open().await;
    let guest = room.guest().await;
    room.retitle("one").await;
    room.retitle("two").await;
    let hello = json!({"token": guest.token, "after": 1});
    let _near = Guest::hello(&room.server.base(), hello.clone()).await;
    let second = Server::start(&room.db).await;
    let _far = Guest::hello(&second.base(), hello).await;
    // The welcome comes first.
    eventually(SOON, "both replays are counted", async || {
        let near = room.server.metric("plenum_replays_total", &["ring"]).await;
        let far = second.metric("plenum_replays_total", &["log"]).await;
        (near == 1.0 && far == 1.0).then_some(())
    })
    .await;
    assert_eq!(second.metric("plenum_replay_events_sum", &[]).await, 1.0);
}

#[tokio::test]
async fn a_trace_goes_in_and_out_and_into_the_log() {
    let room = Room::open().await;
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = |traceparent: &str| {
        format!("GET /v1/openapi.json HTTP/1.1\r\nHost: t\r\ntraceparent: {traceparent}\r\n\r\n")
    };
    let answer = exchange(room.server.listen, ask(&format!("00-{id}-00f067aa0ba902b7-01"))).await;
    let back = answer.header("traceparent").unwrap();
    assert!(back.starts_with(&format!("00-{id}-")) && back.ends_with("-01"), "{back}");
    assert!(!back.contains("00f067aa0ba902b7"), "{back}");
    let answer = exchange(room.server.listen, ask("<script>")).await;
    let made = answer.header("traceparent").unwrap();
    assert!(made.len() == 55 && !made.contains(id) && !made.contains("script"), "{made}");
}

/// What a request is called by whoever made it stands in every line that is logged because of it: of a call, of a WebSocket
/// until its welcome, and of an export that breaks off long after its first byte was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_name_the_trace_of_their_request() {
    let db = TestDb::fresh().await;
    let proxy = Proxy::start(db.port()).await;
    let room = Room::on(Server::at(&db.url_by(proxy.port()), &[]).await, db).await;
    let (poll, member) = (room.choice(2).await, room.join().await);
    let votes = format!(
        "INSERT INTO votes SELECT '{0}', {poll}, md5(who::text)::uuid, gen_random_uuid(), '{{1}}', '{0}', now()
         FROM generate_series(1, 60000) who; INSERT INTO vote_batches VALUES ('{0}', '{0}', {poll}, 1)",
        room.id
    );
    room.db.sql().await.batch_execute(&votes).await.unwrap();
    let trace = |nth: u32| format!("4bf92f3577b34da6a3ce929d0e0e473{nth}");
    let traceparent = |nth| format!("00-{}-00f067aa0ba902b7-01", trace(nth));
    let mut export = RawHttp::connect(room.server.listen).await;
    let path = room.path("/export?format=json");
    let ask = |path: &str, nth, token: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\ntraceparent: {}\r\n\r\n",
            traceparent(nth)
        )
    };
    export.bytes(ask(&path, 1, &room.presenter).as_bytes()).await;
    // It waits for its reader: the sockets do not take 60,000 votes.
    export.begins(200).await;
    let options = ConnectOptions {
        headers: vec![(String::from("traceparent"), traceparent(2))],
        ..ConnectOptions::default()
    };
    let mut socket = Socket::connect_with(&room.server.base(), &options).await.unwrap();
    proxy.refuse();
    socket.send(&json!({"type": "hello", "token": room.presenter})).await.unwrap();
    let asked = ask(&room.path("/polls"), 3, &member.token);
    assert_eq!(exchange(room.server.listen, asked).await.status, 503);
    export.rest().await;
    let lines = [(1, "export broke off"), (2, "hello not answered"), (3, "request not answered")];
    for (nth, message) in lines {
        eventually(SOON, message, async || {
            let log = room.server.log();
            let mut lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let line = lines.find(|line| line["message"] == message)?;
            assert_eq!(line["span"]["trace"], trace(nth), "{line}");
            Some(())
        })
        .await;
    }
}
