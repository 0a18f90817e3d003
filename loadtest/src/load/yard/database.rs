//! The fleet's own database, for what is measured beside the server: how to reach it, its first
//! process, its version.
//! Must never change what the server stored. Called by `fleet`, `pgbench` and `report`.

use std::path::Path;
use std::str::FromStr;

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::failure::Failure;

pub(super) fn config_of(address: &str) -> Result<Config, Failure> {
    Config::from_str(address)
        .map_err(|error| Failure::told(format!("the server's database {address:?}: {error}")))
}

/// What PostgreSQL calls itself.
pub(in crate::load) async fn version_of(address: &str) -> Result<String, Failure> {
    let client = connect(&config_of(address)?).await?;
    let row = client.query_one("SHOW server_version", &[]).await.map_err(|error| fault(&error))?;
    Ok(format!("PostgreSQL {}", row.get::<_, String>(0)))
}

/// The process that started all others of the database, from the lock file of its socket.
pub(in crate::load) fn postmaster_of(address: &str) -> Result<i32, Failure> {
    let config = config_of(address)?;
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
pub(super) async fn connect(config: &Config) -> Result<Client, Failure> {
    let (client, connection) = config.connect(NoTls).await.map_err(|error| fault(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// The folder of the socket, or the host.
pub(super) fn host_of(config: &Config) -> String {
    match config.get_hosts().first() {
        Some(Host::Unix(folder)) => folder.to_string_lossy().into_owned(),
        Some(Host::Tcp(host)) => host.clone(),
        None => "localhost".to_owned(),
    }
}
