//! PgBouncer as a child process before a cluster of the tests, with the settings that docs/OPERATING.md names.
//! Must never give a setting that the page does not. Called by `pgbouncer`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use super::cluster::{command, free_port, shared};
use super::database::TestDb;
use super::pages::block;
use super::server::watch;
use super::waiting::{SOON, eventually};

/// A running PgBouncer.
#[derive(Debug)]
pub(crate) struct Pooler {
    child: Child,
    home: tempfile::TempDir,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
}

impl Pooler {
    /// The version that is installed (1.21 is 121), of `$PGBOUNCER` if that is set.
    pub(crate) fn version() -> u32 {
        let output = Command::new(program()).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let number = text.split_whitespace().nth(1).unwrap_or_else(|| panic!("{text:?}"));
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap());
        parts.next().unwrap() * 100 + parts.next().unwrap()
    }

    /// Starts one before the shared cluster; `further`: lines of its own section.
    pub(crate) async fn start(db: &TestDb, mode: &str, further: &str) -> Pooler {
        let home = tempfile::tempdir().unwrap();
        let owner = shared().owner;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = free_port();
        let ignored = block("pgbouncer", "docs/OPERATING.md");
        // What the pooler drops, for this database alone: others of the cluster are without one.
        let role = block("pgbouncer-role", "docs/OPERATING.md")
            .replace("ROLE plenum", &format!("ROLE plenum IN DATABASE {}", db.name()));
        db.sql().await.batch_execute(&role).await.unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = users\n\
             pool_mode = {mode}\n{ignored}\ndefault_pool_size = 40\n{further}\n",
            db.port()
        );
        fs::write(home.path().join("settings"), settings).unwrap();
        fs::write(home.path().join("users"), "\"plenum\" \"\"\n").unwrap();
        let mut command = command(&program(), home.path(), owner);
        let log = fs::File::create(home.path().join("log")).unwrap();
        let child = command.arg("settings").stdin(Stdio::null()).stderr(log).spawn().unwrap();
        watch('+', child.id());
        let mut pooler = Pooler { child, home, port };
        eventually(SOON, "PgBouncer listens", async || {
            assert!(pooler.child.try_wait().unwrap().is_none(), "it ended: {}", pooler.log());
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        pooler
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        watch('-', self.child.id());
        if std::thread::panicking() {
            eprintln!("--- log of PgBouncer ---\n{}", self.log());
        }
    }
}

/// Debian keeps it where only root's PATH looks.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("PGBOUNCER") {
        return PathBuf::from(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    let mut found = std::env::split_paths(&path).chain(usual).map(|at| at.join("pgbouncer"));
    found.find(|file| file.is_file()).expect("scripts/packages.sh install pgbouncer")
}
