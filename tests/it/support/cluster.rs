//! A real PostgreSQL cluster: one shared by the test process, or one of a test's own to be killed.
//! It ends with the test process, however that ends: a shell holds the other end of a pipe.
//! Must never turn fsync off. Called by `database` and by the tests that kill PostgreSQL.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Waits for its standard input to end, then stops the cluster and removes its directory.
const WATCH: &str = r#"
read -r _
# One that a test froze does not stop, and would hold on to whatever it was given.
first=$(head -n 1 "$2/data/postmaster.pid" 2>/dev/null)
[ -z "$first" ] || kill -CONT "$first" $(pgrep -P "$first") 2>/dev/null
"$1/pg_ctl" stop -s -m immediate -D "$2/data"
cd / && rm -rf "$2"
"#;

/// What differs from PostgreSQL's defaults. Durability is left as it is.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 400
shared_buffers = 64MB
max_wal_size = 2GB
checkpoint_timeout = 30min
";

/// What the tests run; the clients' programs are of the same package or one that it brings along.
const PROGRAMS: [&str; 6] =
    ["initdb", "pg_ctl", "postgres", "pg_basebackup", "pg_dump", "pg_restore"];

/// A running cluster, reachable as user `plenum` without a password.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(super) bin: PathBuf,
    pub(super) home: PathBuf,
    port: u16,
    pub(super) owner: Option<(u32, u32)>,
    watch: Child,
}

/// The cluster that all tests of this process share, started by the first that asks.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Cluster {
    /// Makes and starts a cluster in a fresh directory.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with("")
    }

    /// As `start`, with further lines of postgresql.conf.
    pub(crate) fn start_with(settings: &str) -> Cluster {
        Cluster::start_on(settings, |_, _| {})
    }

    /// As `start_with`; `prepare` gets the directory of the cluster, and whose it is, before anything is in it.
    pub(crate) fn start_on(
        settings: &str,
        prepare: impl FnOnce(&Path, Option<(u32, u32)>),
    ) -> Cluster {
        let mut cluster = Cluster::prepare_on(prepare);
        // --no-sync speeds up the making only: the server itself runs with fsync on.
        cluster.run("initdb", ["--no-sync", "-U", "plenum", "-A", "trust", "-E", "UTF8"]);
        cluster.configure(&format!("{SETTINGS}\n{settings}"));
        cluster.start_again();
        cluster
    }

    /// A fresh directory, and the shell that watches over it.
    pub(super) fn prepare() -> Cluster {
        Cluster::prepare_on(|_, _| {})
    }

    fn prepare_on(prepare: impl FnOnce(&Path, Option<(u32, u32)>)) -> Cluster {
        let bin = find_binaries();
        let owner = unprivileged_owner();
        let home = tempfile::Builder::new().prefix("plenum-it-").tempdir().unwrap().keep();
        if let Some((uid, gid)) = owner {
            chown(&home, Some(uid), Some(gid)).unwrap();
        }
        prepare(&home, owner);
        let mut watch = command(Path::new("sh"), &home, owner);
        watch.args(["-c", WATCH, "sh"]).arg(&bin).arg(&home);
        let watch = watch.stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        Cluster { bin, home, port: 0, owner, watch }
    }

    /// Adds settings, with a port and a socket directory of its own.
    pub(super) fn configure(&mut self, further: &str) {
        let settings = self.home.join("data/postgresql.conf");
        let text = fs::read_to_string(&settings).unwrap();
        self.port = free_port();
        let own = format!(
            "{text}\n{further}\nport = {}\nunix_socket_directories = '{}'\n",
            self.port,
            self.home.display()
        );
        fs::write(&settings, own).unwrap();
    }

    /// Starts it after it was killed; returns when it answers.
    pub(crate) fn start_again(&self) {
        let log = self.home.join("log");
        self.run("pg_ctl", ["start", "-s", "-w", "-t", "60", "-l", log.to_str().unwrap()]);
    }

    /// The TCP port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Kills every process of the cluster with signal 9, the first process first.
    pub(crate) fn kill9(&self) {
        kill9_with_children(self.postmaster());
    }

    /// Stops it in a mode of `pg_ctl`.
    pub(crate) fn stop(&self, mode: &str) {
        self.run("pg_ctl", ["stop", "-s", "-w", "-m", mode]);
    }

    /// Sends a signal to every process of the cluster.
    pub(crate) fn signal(&self, signal: Signal) {
        let first = self.postmaster();
        for pid in children_of(first).into_iter().chain([first]) {
            // A child may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether its first process runs.
    pub(crate) fn is_up(&self) -> bool {
        self.home.join("data/postmaster.pid").exists() && is_running(self.postmaster())
    }

    /// Its first process.
    pub(crate) fn postmaster(&self) -> Pid {
        let text = fs::read_to_string(self.home.join("data/postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().trim().parse().unwrap()).unwrap()
    }

    pub(super) fn run<const N: usize>(&self, program: &str, arguments: [&str; N]) {
        let mut command = command(&self.bin.join(program), &self.home, self.owner);
        let errors = self.home.join(format!("{program}.err"));
        let file = fs::File::create(&errors).unwrap();
        command.arg("-D").arg(self.home.join("data")).args(arguments).stderr(file);
        let status = command.stdin(Stdio::null()).status().unwrap();
        let said = fs::read_to_string(&errors).unwrap_or_default();
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        assert!(status.success(), "{program}: {status}\n{said}\n{log}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

/// Kills a process and its children with signal 9; returns when the process table forgot them all,
/// because PostgreSQL takes even a dead process that nobody has reaped yet for a running one.
pub(crate) fn kill9_with_children(first: Pid) {
    let mut all = vec![first];
    all.extend(children_of(first));
    for pid in &all {
        // One that is gone already is as dead as wanted.
        let _ = kill_process(*pid, Signal::KILL);
    }
    let begin = Instant::now();
    while all.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        if begin.elapsed() > Duration::from_secs(20) {
            // Also called when a test has failed already; a second panic would end all tests.
            assert!(std::thread::panicking(), "killed, but not gone: {all:?}");
            return;
        }
        std::thread::yield_now();
    }
}

/// Processes started by `parent`, as the process table has them now.
pub(super) fn children_of(parent: Pid) -> Vec<Pid> {
    let listed = Command::new("pgrep").arg("-P").arg(parent.to_string()).output();
    let Ok(listed) = listed else { return children_in_proc(parent) };
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}

/// For systems without pgrep.
fn children_in_proc(parent: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let after_name = text.rsplit(')').next().unwrap_or_default().to_owned();
        if after_name.split_whitespace().nth(1) == Some(&parent.to_string()) {
            let pid = entry.file_name().to_string_lossy().parse().ok();
            found.extend(pid.and_then(Pid::from_raw));
        }
    }
    found
}

/// Whether a process still runs; one that is dead but not yet reaped does not.
pub(crate) fn is_running(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => !text.rsplit(") ").next().unwrap_or_default().starts_with('Z'),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => test_kill_process(pid).is_ok(),
    }
}

/// A port nobody listens on just now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(super) fn command(program: &Path, home: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(home).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGPORT");
    if let Some((uid, gid)) = owner {
        command.gid(gid).uid(uid);
    }
    command
}

/// PostgreSQL refuses to run as root; then the user that its package made, or nobody, runs it.
fn unprivileged_owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").map_or_else(|_| id(&["-u"]), |own| Some(own.uid())) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The directory of [`PROGRAMS`].
fn find_binaries() -> PathBuf {
    let mut places: Vec<PathBuf> =
        std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    for (parent, rest) in
        [("/usr/lib/postgresql", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")]
    {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| parent.ends_with("sql") || is_homebrew_postgresql(path));
        found.sort();
        places.extend(found.into_iter().rev().map(|path| path.join(rest)));
    }
    let complete = |place: &PathBuf| PROGRAMS.iter().all(|name| place.join(name).is_file());
    places.into_iter().find(complete).expect("PostgreSQL is not installed (or set PG_BIN)")
}

fn is_homebrew_postgresql(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("postgresql"))
}
