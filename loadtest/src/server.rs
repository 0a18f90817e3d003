//! A server process of our own: started on free ports, watched until it is ready, stopped by
//! SIGTERM, its temporary data removed. Also the readings of it that `/proc` gives.
//! Must never touch a process that it did not start. Called by the demonstration and the load test.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::Failure;

/// How long a start may take: the first one makes a database cluster.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a stop may take before the process is killed; above what the protocol allows it.
const STOPPED_WITHIN: Duration = Duration::from_secs(45);
/// Lines of the log kept for the message when something goes wrong.
const LINES_KEPT: usize = 20;

/// What to start.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    /// The program; left out: `plenum` beside this program.
    pub(crate) binary: Option<PathBuf>,
    /// Its data; left out: a temporary folder, removed at the end.
    pub(crate) data_dir: Option<PathBuf>,
    /// Further arguments of `plenum serve`.
    pub(crate) arguments: Vec<String>,
}

/// A running server that this program started.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: i32,
    /// `http://…` of the public listener.
    pub(crate) url: String,
    /// All fields of the log line that said `ready`.
    pub(crate) ready: Value,
    /// The program that runs.
    pub(crate) binary: PathBuf,
    temporary: Option<PathBuf>,
    kept: Arc<Mutex<VecDeque<String>>>,
    /// Reads the log until the process ends, so that a full pipe never blocks it.
    _drain: JoinSet<()>,
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub(crate) async fn start(options: &ServerOptions) -> Result<Server, Failure> {
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("plenum"),
        };
        let temporary = options.data_dir.is_none().then(temporary_dir);
        let data_dir = options.data_dir.as_ref().or(temporary.as_ref());
        let mut child = Command::new(&binary)
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--log", "json"])
            .arg("--data-dir")
            .arg(data_dir.map_or(Path::new("."), PathBuf::as_path))
            .args(&options.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C reaches this program alone, which then stops the server.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::told(format!("{}: {error}", binary.display())))?;
        let stderr = child.stderr.take().ok_or_else(|| Failure::told("no stderr"))?;
        let mut log = BufReader::new(stderr).lines();
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let ready = match timeout(READY_WITHIN, until_ready(&mut log, &kept)).await {
            Ok(Ok(ready)) => ready,
            other => {
                stop_child(&mut child).await?;
                remove(temporary.as_deref());
                let why = if other.is_err() { "is not ready in time" } else { "did not start" };
                return Err(Failure::told(format!("the server {why}:\n{}", lines_of(&kept))));
            }
        };
        let mut drain = JoinSet::new();
        drain.spawn(drain_log(log, Arc::clone(&kept)));
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let listen = ready.get("listen").and_then(Value::as_str).unwrap_or_default();
        let url = format!("http://{listen}");
        Ok(Server { child, pid, url, ready, binary, temporary, kept, _drain: drain })
    }

    /// Stops the server whatever came of the work with it; the work's failure goes first.
    pub(crate) async fn stop_after<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let stopped = self.stop().await;
        let value = outcome?;
        stopped.map(|()| value)
    }

    /// Kills the process without a word, as a power cut does.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        remove(self.temporary.as_deref());
        Ok(())
    }

    /// Stops the server and says if it did not end as it should.
    async fn stop(mut self) -> Result<(), Failure> {
        let outcome = stop_child(&mut self.child).await;
        remove(self.temporary.as_deref());
        match outcome {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let log = lines_of(&self.kept);
                Err(Failure::told(format!("the server ended with {status}:\n{log}")))
            }
            Err(failure) => Err(failure),
        }
    }
}

async fn until_ready(
    log: &mut Lines<BufReader<ChildStderr>>,
    kept: &Mutex<VecDeque<String>>,
) -> Result<Value, Failure> {
    while let Some(line) = log.next_line().await? {
        let fields: Value = serde_json::from_str(&line).unwrap_or_default();
        keep(kept, line);
        if fields.get("message").and_then(Value::as_str) == Some("ready") {
            return Ok(fields);
        }
    }
    Err(Failure::told("the log ended"))
}

async fn drain_log(mut log: Lines<BufReader<ChildStderr>>, kept: Arc<Mutex<VecDeque<String>>>) {
    while let Ok(Some(line)) = log.next_line().await {
        keep(&kept, line);
    }
}

fn keep(kept: &Mutex<VecDeque<String>>, line: String) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() == LINES_KEPT {
        kept.pop_front();
    }
    kept.push_back(line);
}

fn lines_of(kept: &Mutex<VecDeque<String>>) -> String {
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().map(|line| format!("  {line}\n")).collect()
}

/// Asks the process to end and waits for it; kills it if it does not.
async fn stop_child(child: &mut Child) -> Result<std::process::ExitStatus, Failure> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        // It may have ended by itself: waiting says how.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    match timeout(STOPPED_WITHIN, child.wait()).await {
        Ok(status) => Ok(status?),
        Err(_) => {
            child.kill().await?;
            Err(Failure::told("the server did not stop on SIGTERM and was killed"))
        }
    }
}

/// A name that no other run of this program has. The server makes the folder itself, with the
/// owner that its database needs.
fn temporary_dir() -> PathBuf {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    std::env::temp_dir().join(format!("plenum-loadtest-{unique}"))
}

fn remove(temporary: Option<&Path>) {
    if let Some(folder) = temporary {
        // It is not there if the server failed before it made it.
        let _ = std::fs::remove_dir_all(folder);
    }
}
