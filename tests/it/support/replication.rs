//! Clusters that follow another: standbys made by pg_basebackup, their promotion, freezing and cutting off, and backups.
//! Must never make replication more durable, or less, than PostgreSQL makes it. Called by tests of fail-over and replicas.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Stdio;

use rustix::process::{Signal, kill_process};
use tokio_postgres::{Client, NoTls};

use super::cluster::{Cluster, children_of, command};
use super::database::TestDb;
use super::waiting::{SOON, eventually};

impl Cluster {
    /// A standby that follows `primary` under the name of `name`, asynchronously as long as nobody says otherwise. Returns when
    /// it answers.
    pub(crate) fn standby_of(primary: &Cluster, name: &str) -> Cluster {
        let mut standby = Cluster::prepare();
        standby.copy_to_follow(primary);
        standby.configure(&as_standby(name));
        standby.start_again();
        standby
    }

    /// A cluster that is down is made anew as a standby of `primary`, where it is: same directory, same port.
    pub(crate) fn follow_anew(&self, primary: &Cluster, name: &str) {
        let data = self.home.join("data");
        let settings = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        for entry in fs::read_dir(&data).unwrap().flatten() {
            // The directory itself may be a disk.
            match entry.file_type().unwrap().is_dir() {
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
        self.copy_to_follow(primary);
        let own = format!("{settings}\n{}\n", as_standby(name));
        fs::write(data.join("postgresql.conf"), own).unwrap();
        self.start_again();
    }

    /// The files of `primary` as they are now, with what makes a standby of them.
    fn copy_to_follow(&self, primary: &Cluster) {
        let port = primary.port().to_string();
        let from =
            ["-h", "127.0.0.1", "-p", &port, "-U", "plenum", "-X", "stream", "-c", "fast", "-R"];
        self.run("pg_basebackup", from);
    }

    /// The files of a running cluster as they are now; nothing runs on them yet.
    pub(crate) fn backup_of(other: &Cluster) -> Cluster {
        let mut copy = Cluster::prepare();
        let port = other.port().to_string();
        copy.run(
            "pg_basebackup",
            ["-h", "127.0.0.1", "-p", &port, "-U", "plenum", "-X", "stream", "-c", "fast"],
        );
        copy.configure("");
        copy
    }

    /// Makes a primary of a standby; returns when it takes writes.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", ["promote", "-s", "-w", "-t", "60"]);
    }

    /// Stops every process of it in its tracks, as a machine that hangs.
    pub(crate) fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let first = self.postmaster();
        for pid in [first].into_iter().chain(children_of(first)) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Changes a setting for good and makes it known to all processes.
    pub(crate) async fn set(&self, db: &TestDb, setting: &str) {
        let sql = db.at(self).sql().await;
        sql.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
        sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    /// Waits until the standby called `name` follows, and if `sync` is given, in that way.
    pub(crate) async fn followed_by(&self, db: &TestDb, name: &str, sync: Option<&str>) {
        let sql = db.at(self).sql().await;
        let query = "SELECT sync_state FROM pg_stat_replication
            WHERE application_name = $1 AND state = 'streaming'";
        eventually(SOON, "the standby follows", async || {
            let row = sql.query_opt(query, &[&name]).await.unwrap()?;
            let state: String = row.get(0);
            sync.is_none_or(|sync| state == sync).then_some(())
        })
        .await;
    }

    /// Has every commit wait for the standby called `name`; returns when it does.
    pub(crate) async fn wait_for_standby(&self, db: &TestDb, name: &str) {
        self.set(db, &format!("synchronous_standby_names = 'ANY 1 ({name})'")).await;
        self.followed_by(db, name, Some("quorum")).await;
    }

    /// A standby stops hearing of its primary.
    pub(crate) async fn cut_off(&self, db: &TestDb) {
        self.set(db, "primary_conninfo = ''").await;
        let sql = db.at(self).sql().await;
        eventually(SOON, "nothing is received any more", async || {
            let row =
                sql.query_one("SELECT count(*) FROM pg_stat_wal_receiver", &[]).await.unwrap();
            (row.get::<_, i64>(0) == 0).then_some(())
        })
        .await;
    }

    /// Waits until a standby shows everything that the primary has written by now.
    pub(crate) async fn caught_up(&self, db: &TestDb, primary: &Cluster) {
        let now = "SELECT pg_current_wal_insert_lsn()::text";
        let lsn: String = db.at(primary).sql().await.query_one(now, &[]).await.unwrap().get(0);
        let there = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        let sql = db.at(self).sql().await;
        eventually(SOON, "the standby has caught up", async || {
            yes(&sql, &there).await.then_some(())
        })
        .await;
    }

    /// Waits until a standby has heard of a database.
    pub(crate) async fn has_database(&self, db: &TestDb) {
        let sql = TestDb::maintenance(self).sql().await;
        let query = "SELECT count(*) FROM pg_database WHERE datname = $1";
        eventually(SOON, "the standby knows the database", async || {
            let row = sql.query_one(query, &[&db.name()]).await.unwrap();
            (row.get::<_, i64>(0) == 1).then_some(())
        })
        .await;
    }

    /// From here on connections have to be encrypted. Starts it again.
    pub(crate) fn speak_tls(&self, certificate: &str, key: &str) {
        let data = self.home.join("data");
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            fs::write(data.join(name), text).unwrap();
            fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = self.owner {
                chown(data.join(name), Some(uid), Some(gid)).unwrap();
            }
        }
        let settings = data.join("postgresql.conf");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, format!("{text}\nssl = on\n")).unwrap();
        fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all all trust\n")
            .unwrap();
        self.run("pg_ctl", ["stop", "-s", "-w", "-m", "fast"]);
        self.start_again();
    }

    /// The server's connections to a database, by name, and whether they are encrypted; asked by the unix socket.
    pub(crate) async fn connections(&self, db: &TestDb) -> Vec<(String, bool)> {
        let (home, port, name) = (self.home.display(), self.port(), db.name());
        let text = format!("host={home} port={port} user=plenum dbname={name}");
        let (sql, connection) = tokio_postgres::connect(&text, NoTls).await.unwrap();
        tokio::spawn(connection);
        let query = "SELECT a.application_name, s.ssl FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
            WHERE a.application_name LIKE 'plenum%' AND a.datname = current_database()";
        let rows = sql.query(query, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Copies a database into another one of this cluster, as a dump that is restored.
    pub(crate) fn dump_and_restore(&self, from: &TestDb, to: &TestDb) {
        let file = self.home.join("dump");
        let file = file.to_str().unwrap();
        self.tool("pg_dump", &["-Fc", "-f", file, "-d", &from.url()]);
        self.tool("pg_restore", &["-d", &to.url(), file]);
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let mut command = command(&self.bin.join(program), &self.home, self.owner);
        let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The settings of the standby called `name`.
fn as_standby(name: &str) -> String {
    format!("cluster_name = '{name}'\nwal_retrieve_retry_interval = 100ms")
}

async fn yes(sql: &Client, question: &str) -> bool {
    sql.query_one(question, &[]).await.unwrap().get::<_, Option<bool>>(0) == Some(true)
}
