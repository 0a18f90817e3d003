//! Flags and environment: one line for each fault, exit 2; help, version, migrate, health.

use crate::support::*;

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8(bytes.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_fault_of_the_configuration_has_one_line_and_exit_is_2() {
    let faults = [
        ["--listen", "nowhere"],
        ["--capacity", "0"],
        ["--drain-seconds", "-1"],
        ["--drain-notice-seconds", "601"],
        ["--agent-listen", "nowhere"],
        ["--trusted-proxy", "300.0.0.0/8"],
        ["--database-url", "mysql://x"],
    ];
    for fault in faults {
        let output = run(plenum(&["serve", &format!("{}={}", fault[0], fault[1])]));
        assert_eq!(output.status.code(), Some(2), "{fault:?}: {output:?}");
        let said = lines(&output.stderr);
        assert_eq!(said.len(), 1, "{fault:?}: {said:?}");
        assert!(said[0].contains(&fault[0][2..]), "{fault:?}: {said:?}");
        assert!(output.stdout.is_empty());
    }
    let all: Vec<String> =
        faults.iter().map(|fault| format!("{}={}", fault[0], fault[1])).collect();
    let mut arguments = vec!["serve"];
    arguments.extend(all.iter().map(String::as_str));
    let output = run(plenum(&arguments));
    assert_eq!(
        (output.status.code(), lines(&output.stderr).len()),
        (Some(2), faults.len()),
        "{output:?}"
    );
}

#[test]
fn the_environment_is_read_and_its_faults_are_named() {
    let mut command = plenum(&["serve"]);
    command.env("PLENUM_LISTEN", "nowhere").env("PLENUM_MAX_CONNECTIONS", "many");
    let output = run(command);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(lines(&output.stderr).len(), 2, "{output:?}");
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let mut command = plenum(&["serve", "--database-url", "postgres://x@127.0.0.1:1/x"]);
    command.env("PLENUM_LOG_LEVEL", "plenum=loud");
    let output = run(command);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(lines(&output.stderr)[0].contains("PLENUM_LOG_LEVEL"), "{output:?}");
}

#[test]
fn beyond_loopback_creating_needs_a_key_or_the_word() {
    let output = run(plenum(&[
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--database-url",
        "postgres://x@127.0.0.1:1/x",
    ]));
    assert_eq!((output.status.code(), lines(&output.stderr).len()), (Some(2), 1), "{output:?}");
}

#[test]
fn flags_that_ask_for_another_one_say_so() {
    let alone: [&[&str]; 4] = [
        &["--proxy-protocol"],
        &["--proxy-protocol", "--trusted-proxy="],
        &["--proxy-protocol", "--trusted-proxy=,"],
        &["--drain-notice-seconds=5", "--drain-seconds=5"],
    ];
    for flags in alone {
        let database = ["serve", "--database-url=postgres://x@127.0.0.1:1/x"];
        let output = run(plenum(&[&database[..], flags].concat()));
        let said = lines(&output.stderr);
        assert_eq!((output.status.code(), said.len()), (Some(2), 1), "{flags:?}: {said:?}");
        assert!(said[0].contains(flags[0].split('=').next().unwrap()), "{said:?}");
    }
}

#[test]
fn unknown_flags_and_commands_are_refused() {
    for arguments in [&["serve", "--nothing"][..], &["nothing"], &["serve", "extra"]] {
        let output = run(plenum(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_told() {
    let version = run(plenum(&["--version"]));
    assert!(version.status.success());
    assert_eq!(lines(&version.stdout), [concat!("plenum ", env!("CARGO_PKG_VERSION"))]);
    let help = run(plenum(&["serve", "--help"]));
    let text = lines(&help.stdout).join("\n");
    for flag in ["--listen", "--database-url", "--api-key", "PLENUM_API_KEY", "--drain-seconds"] {
        assert!(text.contains(flag), "{flag}: {text}");
    }
}

/// Secrets of the configuration never reach the log.
#[tokio::test]
async fn the_log_holds_no_secret() {
    let db = TestDb::fresh().await;
    let flags = [
        "--database-url",
        &db.url(),
        "--api-key",
        "hush-key",
        "--secret",
        "hush-secret-of-some-length-0123456789",
    ];
    let mut server = Server::plain(&flags).await;
    let body = json!({"title": "hush-title"});
    let made = server.api.post("/v1/sessions", Some("hush-key"), Some(&body)).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    server.stop().await;
    let log = server.log().join("\n");
    assert!(log.contains("ready") && !log.contains("hush"), "{log}");
}

#[tokio::test]
async fn migrate_prepares_a_database_and_may_be_run_again() {
    let db = TestDb::fresh().await;
    for _ in 0..2 {
        let output = run(plenum(&["migrate", "--database-url", &db.url()]));
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(db.count("SELECT count(*) FROM sessions").await, 0);
    Room::on(Server::start(&db).await, db).await;
}

#[tokio::test]
async fn health_asks_a_running_server() {
    let db = TestDb::fresh().await;
    let mut server = Server::start(&db).await;
    let ops = server.ops.to_string();
    let health = async || {
        let ops = ops.clone();
        let asked =
            tokio::task::spawn_blocking(move || run(plenum(&["health", "--ops-listen", &ops])));
        asked.await.unwrap()
    };
    let output = health().await;
    assert!(output.status.success(), "{output:?}");
    server.stop().await;
    assert!(!health().await.status.success());
}

/// A server that would lose votes on a power cut does not start.
#[tokio::test]
async fn a_database_without_fsync_is_refused() {
    let cluster = Cluster::start();
    let db = TestDb::on(&cluster).await;
    let sql = db.sql().await;
    sql.batch_execute("ALTER SYSTEM SET fsync = off").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    eventually(SOON, "fsync is off", async || {
        let value: String = sql.query_one("SHOW fsync", &[]).await.unwrap().get(0);
        (value == "off").then_some(())
    })
    .await;
    let url = db.url();
    let output = tokio::task::spawn_blocking(move || {
        let listen = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        run(plenum(&[&["serve", "--database-url", &url][..], &listen].concat()))
    })
    .await
    .unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(lines(&output.stderr).join("\n").contains("fsync"), "{output:?}");
}
