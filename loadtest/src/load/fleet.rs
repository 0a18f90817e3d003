//! The servers under load: processes of our own, with a PostgreSQL of their own, or somebody's,
//! given by address. Also what they cost: processor time and memory from `/proc` where they are
//! ours, from `/metrics` where they are not.
//! Must never touch a process that it did not start. Called by `stage` and the kinds.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plenum_loadtest::client::Api;
use serde_json::Value;

use super::LoadArguments;
use super::metrics::Metrics;
use super::process;
use super::scenario::Scenario;
use super::yard::database;
use crate::failure::Failure;
use crate::participant::Roster;
use crate::server::{Server, ServerOptions};

/// Who to watch. Shared with the sampler; instances may come and go.
#[derive(Debug, Default)]
pub(super) struct Watch {
    instances: Mutex<Vec<Watched>>,
    postmaster: Option<i32>,
}

#[derive(Debug, Clone)]
struct Watched {
    url: String,
    ops: Option<String>,
    pid: Option<i32>,
}

/// Servers that this program started.
#[derive(Debug, Default)]
struct Processes {
    /// Runs the database where several instances share it, and serves nobody.
    holder: Option<Server>,
    servers: Vec<Server>,
}

/// All servers of one scenario.
#[derive(Debug)]
pub(super) struct Fleet {
    processes: Mutex<Processes>,
    pub(super) watch: Arc<Watch>,
    pub(super) roster: Roster,
    options: ServerOptions,
    /// How to connect to the database, where it is ours.
    pub(super) database: Option<String>,
    pub(super) api_key: Option<String>,
}

impl Watch {
    fn list(&self) -> Vec<Watched> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn urls(&self) -> Vec<String> {
        self.list().into_iter().map(|one| one.url).collect()
    }

    /// Processor seconds so far of all instances of ours.
    pub(super) fn server_cpu(&self) -> Option<f64> {
        self.list().iter().map(|one| process::cpu_of(one.pid?).ok()).sum()
    }

    pub(super) fn postgres_cpu(&self) -> Option<f64> {
        process::cpu_of_family(self.postmaster?).ok()
    }

    /// Bytes of all instances of ours.
    pub(super) fn memory(&self) -> Option<f64> {
        self.list().iter().map(|one| process::memory_of(one.pid?).ok()).sum()
    }

    /// The sum over all instances that can be asked; `None` where none can.
    pub(super) async fn metrics(&self) -> Option<Metrics> {
        let mut all: Option<Metrics> = None;
        for one in self.list() {
            let Some(ops) = one.ops else { continue };
            let Ok(answer) = Api::new(&ops).get("/metrics", None).await else { continue };
            all.get_or_insert_default().add(Metrics::parse(&answer.text()));
        }
        all
    }
}

impl Fleet {
    /// Starts what the scenario needs, or takes what was given.
    pub(super) async fn muster(
        arguments: &LoadArguments,
        scenario: &Scenario,
    ) -> Result<Fleet, Failure> {
        if !arguments.url.is_empty() {
            return Ok(Fleet::given(arguments));
        }
        let mut options = ServerOptions {
            binary: arguments.server_binary.clone(),
            data_dir: None,
            arguments: scenario.server.arguments.clone(),
        };
        options.arguments.extend(arguments.server_argument.iter().cloned());
        let first = Server::start(&options).await?;
        let database = text_of(&first.ready, "database");
        let watch = Watch {
            instances: Mutex::default(),
            postmaster: Some(database::postmaster_of(&database)?),
        };
        let fleet = Fleet {
            processes: Mutex::default(),
            watch: Arc::new(watch),
            roster: Roster::of(Vec::new()),
            options,
            api_key: None,
            database: Some(database),
        };
        if scenario.server.instances == 1 {
            fleet.lock().servers.push(first);
        } else {
            fleet.lock().holder = Some(first);
            for _ in 0..scenario.server.instances {
                if let Err(failure) = fleet.start_one().await {
                    fleet.dismiss().await?;
                    return Err(failure);
                }
            }
        }
        fleet.publish();
        Ok(fleet)
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn given(arguments: &LoadArguments) -> Fleet {
        let mut ops = arguments.ops_url.iter().cloned();
        let urls = arguments.url.iter();
        let instances =
            urls.map(|url| Watched { url: url.clone(), ops: ops.next(), pid: None }).collect();
        Fleet {
            processes: Mutex::default(),
            watch: Arc::new(Watch { instances: Mutex::new(instances), postmaster: None }),
            roster: Roster::of(arguments.url.clone()),
            options: ServerOptions::default(),
            database: None,
            api_key: arguments.api_key.clone(),
        }
    }

    /// Adds an instance on the fleet's database; clients do not know of it before `publish`.
    pub(super) async fn start_one(&self) -> Result<(), Failure> {
        let mut options = self.options.clone();
        let database = self.database.clone();
        let database = database.ok_or_else(|| Failure::told("these servers are not ours"))?;
        options.arguments.extend(["--database-url".to_owned(), database]);
        let server = Server::start(&options).await?;
        self.lock().servers.push(server);
        Ok(())
    }

    /// Takes the oldest instance out of the list that clients and the sampler have.
    pub(super) fn retire_oldest(&self) -> Result<Server, Failure> {
        let oldest = {
            let mut processes = self.lock();
            if processes.servers.len() < 2 {
                return Err(Failure::told("this needs two instances of its own (no --url)"));
            }
            processes.servers.remove(0)
        };
        self.publish();
        Ok(oldest)
    }

    /// Tells clients and the sampler who is there.
    pub(super) fn publish(&self) {
        let list: Vec<Watched> = self.lock().servers.iter().map(Watched::of).collect();
        self.roster.set(list.iter().map(|one| one.url.clone()).collect());
        *self.watch.instances.lock().unwrap_or_else(PoisonError::into_inner) = list;
    }

    /// REST calls to the first instance.
    pub(super) fn api(&self) -> Result<Api, Failure> {
        let urls = self.watch.urls();
        let url = urls.first().ok_or_else(|| Failure::told("no instance is there"))?;
        Ok(Api::new(url))
    }

    /// Whether the servers are on this machine's loopback, which has many addresses.
    pub(super) fn is_on_loopback(&self) -> bool {
        self.watch.urls().iter().all(|url| url.starts_with("http://127."))
    }

    /// The program, where it is ours.
    pub(super) fn binary(&self) -> Option<PathBuf> {
        let processes = self.lock();
        let first = processes.holder.iter().chain(&processes.servers).next();
        first.map(|server| server.binary.clone())
    }

    /// Stops what was started.
    pub(super) async fn dismiss(&self) -> Result<(), Failure> {
        let Processes { holder, servers } = std::mem::take(&mut *self.lock());
        let mut stopped = Ok(());
        for server in servers.into_iter().chain(holder) {
            let one = server.stop_after(Ok(())).await;
            stopped = stopped.and(one);
        }
        stopped
    }
}

impl Watched {
    fn of(server: &Server) -> Watched {
        let ops = text_of(&server.ready, "ops_listen");
        let ops = (!ops.is_empty()).then(|| format!("http://{ops}"));
        Watched { url: server.url.clone(), ops, pid: Some(server.pid) }
    }
}

fn text_of(ready: &Value, field: &str) -> String {
    ready.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
