//! The yardstick of votes: what the same PostgreSQL does when `pgbench` inserts one vote per
//! transaction, with and without a tally, at its best number of clients.
//! Must never touch the server's own tables. Called by `kinds/flat_out.rs`.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use tokio_postgres::{Client, Config};

use super::database;
use crate::failure::Failure;

/// What each transaction does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) enum Script {
    InsertOnly,
    InsertAndTally,
}

const CLIENTS: [u32; 4] = [4, 8, 16, 32];
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

/// pgbench, and how to reach the fleet's database.
#[derive(Debug)]
pub(in crate::load) struct Pgbench {
    config: Config,
    program: PathBuf,
    client: Client,
}

impl Pgbench {
    /// Makes the table that it writes to.
    pub(in crate::load) async fn prepare(address: &str) -> Result<Pgbench, Failure> {
        let config = database::config_of(address)?;
        let client = database::connect(&config).await?;
        client.batch_execute(PREPARE).await.map_err(|error| database::fault(&error))?;
        Ok(Pgbench { config, program: find_pgbench()?, client })
    }

    /// Transactions per second with the best number of clients, and that number.
    pub(in crate::load) async fn best(
        &self,
        script: Script,
        seconds: u32,
    ) -> Result<(f64, u32), Failure> {
        let text = match script {
            Script::InsertOnly => INSERT.to_owned(),
            Script::InsertAndTally => format!("BEGIN;\n{INSERT}{TALLY}END;\n"),
        };
        let mut best = (0.0, 0);
        for clients in CLIENTS {
            let rate = self.pgbench(&text, clients, seconds).await?;
            if rate > best.0 {
                best = (rate, clients);
            }
        }
        let empty = "TRUNCATE bench.votes";
        self.client.batch_execute(empty).await.map_err(|error| database::fault(&error))?;
        Ok(best)
    }

    async fn pgbench(&self, script: &str, clients: u32, seconds: u32) -> Result<f64, Failure> {
        let file = std::env::temp_dir().join(format!("{}.sql", uuid::Uuid::new_v4().simple()));
        std::fs::write(&file, script)?;
        let output = Command::new(&self.program)
            .args(["--no-vacuum", "--protocol", "prepared"])
            .args(["--client", &clients.to_string()])
            .args(["--jobs", &clients.min(THREADS).to_string()])
            .args(["--time", &seconds.to_string()])
            .arg("--file")
            .arg(&file)
            .args(["--host", &database::host_of(&self.config)])
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
