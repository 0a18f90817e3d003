//! What a reader needs to judge the figures: machine, versions, date, command.
//! Must never hold a path or a name of the machine. Called by `figures`.

use std::path::Path;

use serde::Serialize;

use super::peers;
use crate::failure::Failure;
use crate::server::Server;

/// Machine and versions.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    pub(super) date: String,
    pub(super) command: String,
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    server: String,
    server_bytes: u64,
    postgres: String,
}

impl Facts {
    /// Asks the machine, the server and the database.
    pub(super) async fn gather(server: &Server) -> Result<Facts, Failure> {
        let version =
            tokio::process::Command::new(&server.binary).arg("--version").output().await?;
        let mut name = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        if server.binary.components().any(|part| part.as_os_str() == "debug") {
            name.push_str(" (DEBUG BUILD: these figures mean nothing)");
        }
        Ok(Facts {
            date: today(),
            command: command_line(),
            processor: field_of("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_gib()?,
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            server: name,
            server_bytes: std::fs::metadata(&server.binary)?.len(),
            postgres: peers::version_of(server).await?,
        })
    }

    /// The facts as a list.
    pub(super) fn markdown(&self) -> String {
        format!(
            "on {} ({} cores, {} GiB), Linux {}, with {} (binary {:.1} MB) and {}.\n",
            self.processor,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.server,
            // Exact: no binary has 2⁵³ bytes.
            self.server_bytes as f64 / 1e6,
            self.postgres,
        )
    }
}

/// Year, month and day in UTC.
fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}

/// The command without the folder of the program.
fn command_line() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

fn field_of(file: &str, name: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let value =
        found.and_then(|rest| rest.split_once(':')).map(|(_, value)| value.trim().to_owned());
    Ok(value.unwrap_or_else(|| "unknown".to_owned()))
}

fn memory_gib() -> Result<u64, Failure> {
    let total = field_of("/proc/meminfo", "MemTotal")?;
    let kib = total.trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default();
    Ok(kib >> 20)
}
