//! The real server binary as a child process: its addresses, its log, its end.
//! Must never outlive the test, nor let a panic of the server go unseen. Called by `room` and tests.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use plenum_loadtest::client::{Answer, Api};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::oneshot;

use super::database::TestDb;
use super::mutation;
use super::waiting::{SOON, eventually, within};

/// Kills what is still listed when its standard input ends, so that nothing outlives the tests.
const WATCH: &str = r#"
list=" "
while read -r line; do
  case $line in
    +*) list="$list${line#+} " ;;
    -*) list="${list%% ${line#-} *} ${list#* ${line#-} }" ;;
  esac
done
for process in $list; do kill -9 "$process"; done
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Where REST and WebSocket are served.
    pub(crate) listen: SocketAddr,
    /// Where operations are served.
    pub(crate) ops: SocketAddr,
    /// Where agent checks are answered, if they are.
    pub(crate) agent: Option<SocketAddr>,
    /// REST calls to `listen`.
    pub(crate) api: Api,
    log: Log,
    reaped: bool,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Server {
    /// Starts a server on `db` and waits until it is ready.
    pub(crate) async fn start(db: &TestDb) -> Server {
        Server::with(db, &[]).await
    }

    /// Starts a server on `db` with further flags; those given replace the usual ones.
    pub(crate) async fn with(db: &TestDb, flags: &[&str]) -> Server {
        Server::at(&db.url(), flags).await
    }

    /// Starts a server on the database at `url`, and waits until it is ready.
    pub(crate) async fn at(url: &str, flags: &[&str]) -> Server {
        Server::under(&[], url, flags).await
    }

    /// As `at`, with further variables in its environment.
    pub(crate) async fn under(environment: &[(&str, &str)], url: &str, flags: &[&str]) -> Server {
        let mut all = vec!["--database-url", url, "--allow-anonymous-create"];
        all.extend_from_slice(flags);
        let server = Server::spawn(environment, &all, None).await;
        mutation::of_functions(url).await;
        server
    }

    /// Starts a server on `db` that takes over a listening socket as systemd hands it.
    pub(crate) async fn handed(db: &TestDb, socket: OwnedFd, flags: &[&str]) -> Server {
        let url = db.url();
        let mut all = vec!["--database-url", &url, "--allow-anonymous-create"];
        all.extend_from_slice(flags);
        Server::spawn(&[], &all, Some(socket)).await
    }

    /// Starts a server with just these flags, addresses and log form aside.
    pub(crate) async fn plain(flags: &[&str]) -> Server {
        Server::spawn(&[], flags, None).await
    }

    async fn spawn(
        environment: &[(&str, &str)],
        flags: &[&str],
        socket: Option<OwnedFd>,
    ) -> Server {
        let mut arguments = vec!["serve"];
        for usual in
            [["--log", "json"], ["--listen", "127.0.0.1:0"], ["--ops-listen", "127.0.0.1:0"]]
        {
            if !flags.contains(&usual[0]) {
                arguments.extend(usual);
            }
        }
        arguments.extend_from_slice(flags);
        let mut command = plenum(&arguments);
        if let Some(socket) = socket {
            command = handing(&command, socket);
        }
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        watch('+', child.id());
        let (ready, log) = follow(child.stderr.take().unwrap());
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server {
            child,
            listen: none,
            ops: none,
            agent: None,
            api: Api::new(""),
            log,
            reaped: false,
        };
        let Ok(line) = within(60, "the server is ready", ready).await else {
            panic!("the server ended before it was ready");
        };
        let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
        server.listen = address("listen");
        server.ops = address("ops_listen");
        server.agent = line["agent_listen"].as_str().map(|at| at.parse().unwrap());
        server.api = Api::new(&server.base());
        server
    }

    /// `http://…` of the main listener.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// A GET on the operations listener.
    pub(crate) async fn ops_get(&self, path: &str) -> Answer {
        Api::new(&format!("http://{}", self.ops)).get(path, None).await.unwrap()
    }

    /// A metric's value: the sum over all its series that carry every given `name="value"`.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = self.ops_get("/metrics").await;
        assert_eq!(answer.status, 200);
        let text = answer.text();
        let is_ours = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        let mut lines = text.lines().filter(is_ours).peekable();
        assert!(lines.peek().is_some(), "no metric {name} with {labels:?}");
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// As `metric`, 0 where nothing was counted yet.
    pub(crate) async fn metric_or_0(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.ops_get("/metrics").await.text();
        let counted =
            |line: &str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        if text.lines().any(counted) { self.metric(name, labels).await } else { 0.0 }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub(crate) async fn exited(&mut self, seconds: u64) -> ExitStatus {
        let child = &mut self.child;
        let status =
            eventually(seconds, "the server exits", async || child.try_wait().unwrap()).await;
        self.gone();
        status
    }

    /// SIGTERM, and the exit status.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exited(SOON + 30).await
    }

    /// SIGKILL; returns when the process is gone.
    pub(crate) fn kill9(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.gone();
        }
    }

    /// Everything logged up to now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn gone(&mut self) {
        self.reaped = true;
        watch('-', self.child.id());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        let log = self.log();
        let panicked = log.iter().any(|line| line.contains("panicked at"));
        if panicked || std::thread::panicking() {
            let from = log.len().saturating_sub(80);
            eprintln!("--- log of the server at {} ---\n{}", self.listen, log[from..].join("\n"));
        }
        assert!(!panicked || std::thread::panicking(), "the server panicked");
    }
}

/// The binary under test with `arguments`, free of the caller's settings.
pub(crate) fn plenum(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plenum"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLENUM_") && name != mutation::NAME {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same with a socket that is open already: the shell moves it to where systemd would have put it, and becomes the server.
pub(crate) fn handing(server: &Command, socket: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 3<&0 </dev/null"]);
    command.arg(server.get_program()).args(server.get_args());
    command.env("LISTEN_FDS", "1").stdin(Stdio::from(socket));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command that must end by itself.
pub(crate) fn run(mut command: Command) -> Output {
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    ended.recv_timeout(Duration::from_secs(SOON)).map(Result::unwrap).unwrap_or_else(|_| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("it did not end: {command:?}")
    })
}

/// Reads a log to its end in a thread of its own, so that the server never waits for the test.
fn follow(stderr: ChildStderr) -> (oneshot::Receiver<Value>, Log) {
    let (sender, ready) = oneshot::channel();
    let log = Log::default();
    let kept = Arc::clone(&log);
    std::thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let json: Value = serde_json::from_str(&line).unwrap_or_default();
            if std::env::var_os("PLENUM_IT_LOG").is_some() {
                eprintln!("{line}");
            }
            kept.lock().unwrap().push(line);
            if json["message"] == "ready"
                && let Some(sender) = sender.take()
            {
                let _ = sender.send(json);
            }
        }
    });
    (ready, log)
}

/// Adds or removes a process that has to die with the tests.
pub(super) fn watch(sign: char, pid: u32) {
    static WATCHER: OnceLock<Mutex<(ChildStdin, Child)>> = OnceLock::new();
    let watcher = WATCHER.get_or_init(|| {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH]).stdin(Stdio::piped()).process_group(0);
        let mut child = shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Mutex::new((child.stdin.take().unwrap(), child))
    });
    writeln!(watcher.lock().unwrap().0, "{sign}{pid}").unwrap();
}
