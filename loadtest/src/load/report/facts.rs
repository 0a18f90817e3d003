//! What a reader needs to judge the figures: machine, versions, date, command.
//! Must never hold a path or a name of the machine. Called by `mod`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::load::fleet::Fleet;
use crate::load::yard::database;

/// Machine and versions, as names and values.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(in crate::load) struct Facts {
    pub(in crate::load) date: String,
    pub(in crate::load) list: Vec<(String, String)>,
    pub(in crate::load) caveats: Vec<String>,
}

impl Facts {
    /// Asks the machine.
    pub(in crate::load) fn gather() -> Result<Facts, Failure> {
        let now = time::OffsetDateTime::now_utc();
        let mut facts = Facts {
            date: format!("{} {:02}:{:02} UTC", now.date(), now.hour(), now.minute()),
            ..Facts::default()
        };
        let cores = std::thread::available_parallelism()?.get();
        facts.add("Command", command_line());
        facts.add(
            "Processor",
            format!("{}, {cores} cores", field_of("/proc/cpuinfo", "model name")),
        );
        facts.add("Memory", format!("{} GiB", memory_gib()));
        facts.add("Kernel", format!("Linux {}", line_of("/proc/sys/kernel/osrelease")));
        facts.add("Listen backlog (somaxconn)", line_of("/proc/sys/net/core/somaxconn"));
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        facts.add("Open files per process", limit.map_or("no limit".to_owned(), |n| n.to_string()));
        facts.add("Load average at the start", line_of("/proc/loadavg"));
        facts.add("Load generator", format!("plenum-loadtest {}", env!("CARGO_PKG_VERSION")));
        if let Some(commit) = commit() {
            facts.add("Commit", commit);
        }
        facts.caveats.push(
            "Server, database and load generator share the machine and its cores: each takes time from the \
             others. Figures of another machine differ; ratios to a yardstick of the same run travel better."
                .to_owned(),
        );
        facts.caveats.push(
            "A target of the form a × b / c was set on a machine where its yardstick came to c; here it came to b. \
             It grows where the machine alone is slower, and does not shrink where it is quicker."
                .to_owned(),
        );
        facts.caveats.push(
            "Latencies count from the moment at which something was due, not from when it was sent. \
             Histograms of all rounds are merged; figures are the median of the rounds."
                .to_owned(),
        );
        facts.caveats.push(
            "Events are stamped by the database in whole milliseconds, cut off, before their commit: \
             delivery includes the commit and is up to 1 ms too long."
                .to_owned(),
        );
        facts.caveats.push("No TLS, no proxy, loopback.".to_owned());
        Ok(facts)
    }

    /// What the first server that was started says of itself.
    pub(in crate::load) async fn ask_fleet(&mut self, fleet: &Fleet) -> Result<(), Failure> {
        if self.list.iter().any(|(name, _)| name == "Server") {
            return Ok(());
        }
        let Some(binary) = fleet.binary() else {
            self.add("Server", fleet.watch.urls().join(", "));
            self.caveats.push(
                "The server was given by address: what it runs on is not known here.".to_owned(),
            );
            return Ok(());
        };
        let version = tokio::process::Command::new(&binary).arg("--version").output().await?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let megabytes = std::fs::metadata(&binary)?.len() as f64 / 1e6;
        self.add("Server", format!("{version}, binary of {megabytes:.1} MB"));
        if binary.components().any(|part| part.as_os_str() == "debug") {
            self.caveats.insert(0, "A DEBUG BUILD: these figures mean nothing.".to_owned());
        }
        if let Some(database) = &fleet.database {
            let version = database::version_of(database).await?;
            self.add(
                "Database",
                format!("{version}, the server's own, fsync on, otherwise defaults"),
            );
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: impl Into<String>) {
        self.list.push((name.to_owned(), value.into()));
    }

    /// Time that the hypervisor gave to others, in percent of all since it was first asked.
    pub(in crate::load) fn note_steal(&mut self, before: (f64, f64)) {
        let now = steal();
        let share = (now.0 - before.0) / (now.1 - before.1).max(1.0) * 100.0;
        self.add("Stolen by the hypervisor during the run", format!("{share:.2} %"));
        if share > 2.0 {
            self.caveats.push(format!(
                "The machine was not ours alone: {share:.1} % of its time was stolen."
            ));
        }
    }
}

/// Ticks stolen, and all ticks, since the start of the machine.
pub(in crate::load) fn steal() -> (f64, f64) {
    let text = line_of("/proc/stat");
    let ticks: Vec<f64> =
        text.split_whitespace().skip(1).filter_map(|one| one.parse().ok()).collect();
    (ticks.get(7).copied().unwrap_or_default(), ticks.iter().take(8).sum())
}

/// The command without folders.
fn command_line() -> String {
    let words = std::env::args().map(|word| {
        let path = Path::new(&word);
        let name = path.file_name().filter(|_| path.is_absolute());
        name.map_or(word.clone(), |name| name.to_string_lossy().into_owned())
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The commit of the working copy, with a plus where it has changes.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|text| !text.is_empty());
    Some(if changed { format!("{commit} + changes") } else { commit })
}

fn line_of(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

fn field_of(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let value =
        found.and_then(|rest| rest.split_once(':')).map(|(_, value)| value.trim().to_owned());
    value.unwrap_or_else(|| "unknown".to_owned())
}

fn memory_gib() -> u64 {
    let total = field_of("/proc/meminfo", "MemTotal");
    total.trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() >> 20
}
