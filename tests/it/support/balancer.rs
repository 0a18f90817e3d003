//! HAProxy and NGINX as child processes, with the configurations of `deploy/`, addresses aside: those are put where
//! operators put them. Must never relax what it tests. Called by the tests of balancers and of rolling restarts.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use plenum_loadtest::client::Api;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::cluster::free_port;
use super::server::{Server, watch};
use super::waiting::{SOON, eventually};

/// Flags of an instance behind a balancer: those of deploy/README.md.
const BEHIND_HAPROXY: [&str; 5] = [
    "--trusted-proxy=127.0.0.1",
    "--proxy-protocol",
    "--agent-listen=127.0.0.1:0",
    "--drain-notice-seconds=4",
    "--drain-seconds=10",
];
const BEHIND_NGINX: [&str; 2] = ["--trusted-proxy=127.0.0.1", "--drain-seconds=4"];

/// Where the configurations are.
pub(crate) const CONFIGURATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

/// Which balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    HaProxy,
    Nginx,
}

impl Kind {
    /// What instances behind it are started with.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Kind::HaProxy => &BEHIND_HAPROXY,
            Kind::Nginx => &BEHIND_NGINX,
        }
    }
}

/// A running balancer.
#[derive(Debug)]
pub(crate) struct Balancer {
    child: Child,
    home: TempDir,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// REST calls through it.
    pub(crate) api: Api,
}

impl Balancer {
    /// Starts one in front of `instances`; NGINX has two in its example.
    pub(crate) async fn start(kind: Kind, instances: &[&Server]) -> Balancer {
        match kind {
            Kind::HaProxy => Balancer::haproxy(instances, &[]).await,
            Kind::Nginx => Balancer::nginx(instances).await,
        }
    }

    /// Starts HAProxy in front of `instances`, with further settings of its environment.
    pub(crate) async fn haproxy(instances: &[&Server], settings: &[(&str, &str)]) -> Balancer {
        let home = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program("haproxy"));
        command.arg("-f").arg(Path::new(CONFIGURATIONS).join("haproxy/haproxy.cfg"));
        for (nth, instance) in (1..).zip(instances) {
            let agent = instance.agent.expect("--agent-listen");
            command.env(format!("PLENUM_{nth}"), instance.listen.to_string());
            command.env(format!("PLENUM_{nth}_OPS_PORT"), instance.ops.port().to_string());
            command.env(format!("PLENUM_{nth}_AGENT_PORT"), agent.port().to_string());
        }
        command.env("PLENUM_BIND", listen.to_string()).env("PLENUM_MAXCONN", "4000");
        command
            .env("PLENUM_HAPROXY_SOCKET", home.path().join("cli"))
            .env("PLENUM_SYSLOG", "stderr");
        command.env("PLENUM_HAPROXY_AS_CALLER", "yes").envs(settings.iter().copied());
        Balancer::spawn(command, home, listen).await
    }

    async fn nginx(instances: &[&Server]) -> Balancer {
        let home = tempfile::tempdir().unwrap();
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let from = Path::new(CONFIGURATIONS).join("nginx");
        fs::copy(from.join("nginx.conf"), home.path().join("nginx.conf")).unwrap();
        let mut text = fs::read_to_string(from.join("instances.conf")).unwrap();
        assert_eq!(instances.len(), 2);
        for (nth, instance) in (1..).zip(instances) {
            let (example, real) = (format!("10.0.0.{nth}:8080"), instance.listen.to_string());
            assert!(text.contains(&example));
            text = text.replace(&example.replace('.', r"\."), &real.replace('.', r"\."));
            text = text.replace(&example, &real);
        }
        fs::write(home.path().join("instances.conf"), text).unwrap();
        fs::write(home.path().join("listen.conf"), format!("listen {listen} backlog=4096;"))
            .unwrap();
        let mut command = Command::new(program("nginx"));
        // One process, so that it can be killed as one.
        let pid = home.path().join("pid");
        let globals = format!("daemon off; master_process off; pid {};", pid.display());
        command.args(["-e", "stderr", "-c", "nginx.conf", "-g", &globals, "-p"]).arg(home.path());
        Balancer::spawn(command, home, listen).await
    }

    async fn spawn(mut command: Command, home: TempDir, listen: SocketAddr) -> Balancer {
        let log = fs::File::create(home.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        watch('+', child.id());
        let api = Api::new(&format!("http://{listen}"));
        let mut balancer = Balancer { child, home, listen, api };
        eventually(SOON, "the balancer listens", async || {
            assert!(balancer.child.try_wait().unwrap().is_none(), "it ended");
            TcpStream::connect(listen).await.ok()
        })
        .await;
        balancer
    }

    /// `http://…` for clients.
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// How HAProxy sees one of its servers: its status and its weight.
    pub(crate) fn sees(&self, backend: &str, server: &str) -> (String, u32) {
        let mut socket = UnixStream::connect(self.home.path().join("cli")).unwrap();
        socket.write_all(b"show stat\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let mut lines = text.trim_start_matches("# ").lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        let rows = lines.map(|line| names.iter().copied().zip(line.split(',')).collect());
        let row: HashMap<&str, &str> = rows
            .into_iter()
            .find(|row: &HashMap<&str, &str>| row["pxname"] == backend && row["svname"] == server)
            .unwrap();
        (row["status"].to_owned(), row["weight"].parse().unwrap())
    }

    /// Waits until HAProxy sees servers as expected: each with whether its status begins so.
    pub(crate) async fn sees_all(&self, expected: &[(&str, &str, &str)]) {
        let what = format!("HAProxy sees {expected:?}");
        eventually(SOON, &what, async || {
            let fits = |(backend, server, status): &(&str, &str, &str)| {
                self.sees(backend, server).0.starts_with(status)
            };
            expected.iter().all(fits).then_some(())
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        watch('-', self.child.id());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            eprintln!("--- log of the balancer at {} ---\n{log}", self.listen);
        }
    }
}

/// Debian keeps such programs where only root's PATH looks.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let found = std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name));
    let mut found = found.filter(|file| file.is_file());
    found.next().unwrap_or_else(|| panic!("{name} is missing: scripts/packages.sh install {name}"))
}
