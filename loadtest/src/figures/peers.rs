//! The yardstick: what the same PostgreSQL does when `pgbench` inserts one vote per transaction,
//! with and without a tally, at its best number of clients.
//! Must never touch the server's own tables. Called by `figures`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use tokio::process::Command;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use super::Bench;
use super::sheet::Sheet;
use crate::failure::Failure;
use crate::server::Server;

const PART: &str = "peers";
const CLIENTS: [u32; 4] = [1, 4, 8, 16];
/// Worker threads of pgbench: as many as the figures' machine has cores.
const THREADS: u32 = 2;

const PREPARE: &str = "
CREATE SCHEMA IF NOT EXISTS bench;
DROP TABLE IF EXISTS bench.votes, bench.tallies;
CREATE TABLE bench.votes (
    session_id uuid NOT NULL, poll int NOT NULL, participant uuid NOT NULL, id uuid NOT NULL,
    answer smallint[] NOT NULL, batch uuid NOT NULL, at timestamptz NOT NULL,
    PRIMARY KEY (session_id, poll, participant));
CREATE TABLE bench.tallies (
    session_id uuid, poll int, votes bigint NOT NULL, counts bigint[] NOT NULL,
    PRIMARY KEY (session_id, poll)) WITH (fillfactor = 50);
INSERT INTO bench.tallies VALUES ('00000000-0000-4000-8000-000000000001', 1, 0, '{0,0,0,0}');
";

const INSERT: &str = "INSERT INTO bench.votes VALUES
 ('00000000-0000-4000-8000-000000000001', 1, gen_random_uuid(), gen_random_uuid(), '{1}',
  '00000000-0000-4000-8000-000000000002', now());\n";

const TALLY: &str = "UPDATE bench.tallies SET votes = votes + 1, counts[2] = counts[2] + 1
 WHERE session_id = '00000000-0000-4000-8000-000000000001' AND poll = 1;\n";

/// How to reach the server's own database.
#[derive(Debug)]
pub(super) struct Peers {
    config: Config,
    pgbench: PathBuf,
    /// Keeps the connection under way; ends with it.
    pub(super) client: Client,
}

/// What PostgreSQL calls itself.
pub(super) async fn version_of(server: &Server) -> Result<String, Failure> {
    let client = connect(&config_of(server)?).await?;
    let row = client.query_one("SHOW server_version", &[]).await.map_err(|error| fault(&error))?;
    Ok(format!("PostgreSQL {}", row.get::<_, String>(0)))
}

fn config_of(server: &Server) -> Result<Config, Failure> {
    let given = server.ready.get("database").and_then(Value::as_str).unwrap_or_default();
    Config::from_str(given)
        .map_err(|error| Failure::told(format!("the server's database {given:?}: {error}")))
}

/// The process that started all others of the database, from the lock file of its socket.
pub(super) fn postmaster_of(server: &Server) -> Result<i32, Failure> {
    let config = config_of(server)?;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let lock = Path::new(&host_of(&config)).join(format!(".s.PGSQL.{port}.lock"));
    let text = std::fs::read_to_string(lock)?;
    let pid = text.lines().next().and_then(|pid| pid.trim().parse().ok());
    pid.ok_or_else(|| Failure::told("the database's lock file names no process"))
}

pub(super) fn fault(error: &tokio_postgres::Error) -> Failure {
    let detail = error.as_db_error().map(ToString::to_string).unwrap_or_default();
    Failure::told(format!("database: {error} {detail}"))
}

#[expect(clippy::disallowed_methods, reason = "ends with the client that it drives")]
async fn connect(config: &Config) -> Result<Client, Failure> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| fault(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

impl Peers {
    /// Makes the tables that pgbench writes to.
    pub(super) async fn prepare(server: &Server) -> Result<Peers, Failure> {
        let config = config_of(server)?;
        let client = connect(&config).await?;
        client.batch_execute(PREPARE).await.map_err(|error| fault(&error))?;
        Ok(Peers { config, pgbench: find_pgbench()?, client })
    }

    /// One round of all client counts, with and without a tally. Returns the best rate of each.
    pub(super) async fn measure(
        &self,
        bench: &Bench<'_>,
        sheet: &mut Sheet,
        round: u32,
    ) -> Result<[(&'static str, f64); 2], Failure> {
        let with_tally = format!("BEGIN;\n{INSERT}{TALLY}END;\n");
        let mut found = [("insert only", 0.0_f64), ("insert and tally", 0.0)];
        for ((what, best), script) in found.iter_mut().zip([INSERT, &with_tally]) {
            for clients in CLIENTS {
                let now = format!("pgbench, round {}: {what}, {clients} clients", round + 1);
                bench.progress.now(now);
                let rate = self.pgbench(script, clients, bench.arguments.pgbench_seconds).await?;
                let name = format!("pgbench {what}, {clients} clients");
                sheet.add(PART, &name, "transactions/s", rate);
                *best = best.max(rate);
            }
            sheet.add(PART, &format!("pgbench {what}, best"), "transactions/s", *best);
            bench.progress.done(&format!("pgbench {}: {what} {best:.0}/s", round + 1));
            let empty = "TRUNCATE bench.votes";
            self.client.batch_execute(empty).await.map_err(|error| fault(&error))?;
        }
        Ok(found)
    }

    async fn pgbench(&self, script: &str, clients: u32, seconds: u32) -> Result<f64, Failure> {
        let file = std::env::temp_dir().join(format!("{}.sql", uuid::Uuid::new_v4().simple()));
        std::fs::write(&file, script)?;
        let output = Command::new(&self.pgbench)
            .args(["--no-vacuum", "--protocol", "prepared"])
            .args(["--client", &clients.to_string()])
            .args(["--jobs", &clients.min(THREADS).to_string()])
            .args(["--time", &seconds.to_string()])
            .arg("--file")
            .arg(&file)
            .args(["--host", &host_of(&self.config)])
            .args(["--port", &self.config.get_ports().first().unwrap_or(&5432).to_string()])
            .args(["--username", self.config.get_user().unwrap_or("postgres")])
            .arg(self.config.get_dbname().unwrap_or("postgres"))
            .kill_on_drop(true)
            .output()
            .await;
        std::fs::remove_file(&file)?;
        let output = output?;
        let text = String::from_utf8_lossy(&output.stdout);
        rate_in(&text).ok_or_else(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            Failure::told(format!("pgbench gave no rate: {text}{error}"))
        })
    }
}

/// The folder of the socket, or the host.
fn host_of(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
        Some(Host::Tcp(host)) => host.clone(),
        None => "localhost".to_owned(),
    }
}

/// `tps = 1234.5 (without initial connection time)`.
fn rate_in(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// On the PATH, or where Debian puts it.
fn find_pgbench() -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    let found =
        folders.iter().map(|folder| folder.join("pgbench")).find(|file| Path::is_file(file));
    found.ok_or_else(|| Failure::told("pgbench is not installed (it comes with PostgreSQL)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_in_the_output() {
        let text = "latency average = 1 ms\ntps = 812.25 (without initial connection time)\n";
        assert_eq!(rate_in(text), Some(812.25));
    }
}
