//! The embedded PostgreSQL: made, started and stopped with the server, and recovered after a crash.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::kill_process;

use crate::support::*;

/// Starts a server that keeps its data in `data`.
async fn start(data: &Path) -> Server {
    Server::plain(&["--data-dir", data.to_str().unwrap(), "--allow-anonymous-create"]).await
}

/// The first process of the PostgreSQL in `data`, if its file names one. While the data is being
/// made, the file names a process that serves nobody, by a negative number.
fn postmaster(data: &Path) -> Option<Pid> {
    let file = find(data, "postmaster.pid")?;
    let text = fs::read_to_string(file).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    if number > 0 { Pid::from_raw(number) } else { None }
}

fn find(below: &Path, name: &str) -> Option<std::path::PathBuf> {
    let mut deeper = Vec::new();
    for entry in fs::read_dir(below).ok()?.flatten() {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        // Follows links: the data of root may lie elsewhere.
        if entry.path().is_dir() {
            deeper.push(entry.path());
        }
    }
    deeper.into_iter().find_map(|path| find(&path, name))
}

/// A directory for data; what still runs in it is killed with it.
struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Data {
        Data::with_mode(0o755)
    }

    /// In a directory with these permissions.
    fn with_mode(mode: u32) -> Data {
        let folder = tempfile::Builder::new().prefix("plenum-it-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        Data(folder)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    /// Kills PostgreSQL with signal 9, all of it.
    fn kill9(&self) {
        if let Some(first) = postmaster(&self.path()).filter(|pid| is_running(*pid)) {
            kill9_with_children(first);
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.kill9();
        let Ok(entries) = fs::read_dir(self.path()) else { return };
        for link in entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()) {
            // Only what bears the name of this very directory.
            let name = self.0.path().file_name().unwrap().to_str().unwrap();
            if link.to_string_lossy().contains(name) {
                let _ = fs::remove_dir_all(link);
            }
        }
    }
}

/// Run as root, too: then PostgreSQL itself runs as somebody else.
#[tokio::test]
async fn votes_survive_kill_9_of_server_and_postgresql() {
    let data = Data::new();
    let mut server = start(&data.path()).await;
    let session = Session::create(&server.api, json!({"title": "Kept"})).await;
    let polls = [session.choice(2).await, session.choice(2).await];
    let mut guest = session.guest_at(&server).await;
    let ack = guest.cast(polls[0], pick(1)).await;
    assert_eq!(ack["type"], "ack");
    server.kill9();
    data.kill9();
    let mut again = start(&data.path()).await;
    let session = session.by(&again);
    assert_eq!(numbers(&session.results(polls[0]).await["counts"]), [0, 1]);
    let mut back = Guest::hello(&again.base(), json!({"token": guest.token, "after": 0})).await;
    assert_eq!((&back.id, &back.welcome["resumed"]), (&guest.id, &json!(true)));
    let same = back.cast_as(ack["id"].as_str().unwrap(), polls[0], pick(1)).await;
    assert_eq!((&same["repeat"], &same["seq"]), (&json!(true), &ack["seq"]));
    assert_eq!(back.cast(polls[1], pick(0)).await["type"], "ack");
    assert_eq!(back.welcome["epoch"], guest.welcome["epoch"]);
    let first = postmaster(&data.path()).unwrap();
    assert_eq!(again.stop().await.code(), Some(0));
    assert!(!is_running(first), "it ends with the server");
}

/// The server alone dies: its PostgreSQL is found running, or was ended, but never used by two.
#[tokio::test]
async fn a_server_killed_alone_finds_its_data_again() {
    let data = Data::new();
    let mut server = start(&data.path()).await;
    let session = Session::create(&server.api, json!({"title": "Kept"})).await;
    let poll = session.choice(2).await;
    let mut guest = session.guest_at(&server).await;
    assert_eq!(guest.cast(poll, pick(0)).await["type"], "ack");
    server.kill9();
    let mut again = start(&data.path()).await;
    assert_eq!(session.by(&again).results(poll).await["votes"], 1);
    assert_eq!(again.stop().await.code(), Some(0));
    assert!(postmaster(&data.path()).is_none_or(|pid| !is_running(pid)));
    let mut third = start(&data.path()).await;
    assert_eq!(session.by(&third).results(poll).await["votes"], 1);
    assert_eq!(third.stop().await.code(), Some(0));
}

/// It notices the death of its database and gets it running again by itself, or ends; it must not lie.
#[tokio::test]
async fn a_server_whose_postgresql_dies_is_not_ready() {
    let data = Data::new();
    let mut server = start(&data.path()).await;
    assert_eq!(server.ops_get("/readyz").await.status, 200);
    let first = postmaster(&data.path()).unwrap();
    data.kill9();
    assert!(!is_running(first));
    let ops = Api::new(&format!("http://{}", server.ops));
    eventually(SOON, "not ready, ended, or started again", async || {
        let Ok(answer) = ops.get("/readyz", None).await else { return Some(()) };
        let other = postmaster(&data.path()).is_some_and(|pid| pid != first);
        (answer.status == 503 || other).then_some(())
    })
    .await;
    server.kill9();
}

#[tokio::test]
async fn the_embedded_postgresql_is_durable_and_not_reachable_by_network() {
    let data = Data::new();
    let mut server = start(&data.path()).await;
    let settings = find(&data.path(), "postmaster.opts").unwrap();
    let folder = settings.parent().unwrap();
    let mut text = fs::read_to_string(&settings).unwrap();
    for file in ["postgresql.conf", "postgresql.auto.conf"] {
        text.push_str(&fs::read_to_string(folder.join(file)).unwrap());
    }
    let set: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let set = set.join("\n").replace([' ', '\''], "");
    for wrong in
        ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "listen_addresses=*"]
    {
        assert!(!set.contains(wrong), "{wrong}: {set}");
    }
    let pid = fs::read_to_string(folder.join("postmaster.pid")).unwrap();
    assert!(pid.lines().nth(5).is_some_and(|address| address.trim().is_empty()), "no TCP: {pid}");
    assert_eq!(server.stop().await.code(), Some(0));
}

/// The home of root is closed to the user that PostgreSQL runs as; `make run` has to work there.
#[tokio::test]
async fn a_data_directory_that_is_closed_to_others_works_too() {
    let data = Data::with_mode(0o700);
    let mut server = start(&data.path()).await;
    let session = Session::create(&server.api, json!({"title": "Kept"})).await;
    assert_eq!(server.stop().await.code(), Some(0));
    let mut again = start(&data.path()).await;
    assert_eq!(session.by(&again).get("", &session.presenter).await.status, 200);
    assert_eq!(again.stop().await.code(), Some(0));
}

/// Two servers on one directory would be two masters of one database.
#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let data = Data::new();
    let server = start(&data.path()).await;
    let folder = data.path();
    let output = tokio::task::spawn_blocking(move || {
        let data = ["--data-dir", folder.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        run(plenum(&[&["serve", "--ops-listen", "127.0.0.1:0"][..], &data].concat()))
    })
    .await
    .unwrap();
    assert!(!output.status.success() && !output.stderr.is_empty(), "{output:?}");
    assert_eq!(server.ops_get("/readyz").await.status, 200, "the first one is unharmed");
}

/// Ctrl-C before the server is ready: it ends, and its PostgreSQL with it.
#[tokio::test]
async fn a_signal_during_start_leaves_nothing_running() {
    let data = Data::new();
    let folder = data.path();
    let listen = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let flags = ["serve", "--data-dir", folder.to_str().unwrap()];
    let mut command = plenum(&[&flags[..], &listen].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let first =
        eventually(SOON, "PostgreSQL has begun to start", async || postmaster(&folder)).await;
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    eventually(40, "the server has ended", async || child.try_wait().unwrap()).await;
    eventually(40, "PostgreSQL has ended", async || (!is_running(first)).then_some(())).await;
}
