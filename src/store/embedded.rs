//! PostgreSQL of one's own: a real server from installed binaries, in the data directory, on a unix socket, with fsync
//! on. Started as an unprivileged user when we are root, which PostgreSQL refuses to be; stopped with us; recovered after
//! a crash. Never downloads anything. Called by `app.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// The address of a unix socket has 108 bytes, the name of the socket in its directory about 20.
const SOCKET_DIR_BYTES_MAX: usize = 80;
/// How long a killed process may take to be gone.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);
const DATABASE: &str = "plenum";
const USER: &str = "plenum";

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Nothing to run.
    #[error(
        "PostgreSQL is not installed: apt install postgresql, dnf install postgresql-server, or brew install postgresql@17 \
         (or name one that runs with --database-url)"
    )]
    NotInstalled,
    /// The data was made by a version that is not there any more.
    #[error(
        "the data directory was made by PostgreSQL {0}, which is not installed: install it, or upgrade the data with pg_upgrade"
    )]
    OtherVersion(String),
    /// Two servers, one directory.
    #[error("another plenum runs with this data directory: {0}")]
    InUse(PathBuf),
    /// The file system said no.
    #[error("cannot use {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A directory that is to be given away is a link.
    #[error("{0} is a link, and must be a directory: remove it, or choose another --data-dir")]
    Link(PathBuf),
    /// Root may not run PostgreSQL, and there is nobody else.
    #[error(
        "PostgreSQL does not run as root, and there is no user postgres or nobody to run it as"
    )]
    NoUser,
    /// A program of PostgreSQL failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// The last it said.
        said: String,
    },
}

/// A PostgreSQL that runs for us.
#[derive(Debug)]
pub struct Embedded {
    bin: PathBuf,
    data: PathBuf,
    socket_dir: PathBuf,
    owner: Option<Owner>,
    /// Held while we live.
    _lock: fs::File,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> EmbeddedError {
    let path = path.to_owned();
    move |source| EmbeddedError::Io { path, source }
}

impl Embedded {
    /// Starts it, having made its data directory if there is none. Adopts one that survived a crash of ours.
    ///
    /// Not cancel safe: a server may be left running.
    ///
    /// # Errors
    /// See [`EmbeddedError`].
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        fs::create_dir_all(data_dir).map_err(io(data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(io(data_dir))?;
        let lock_path = data_dir.join("lock");
        let lock = fs::File::create(&lock_path).map_err(io(&lock_path))?;
        lock_soon(&lock).await.ok_or_else(|| EmbeddedError::InUse(data_dir.clone()))?;
        let owner = owner()?;
        let home = place(&data_dir, owner)?;
        let data = home.join("data");
        let bin = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(version) => {
                let major = version.trim().to_owned();
                find_binaries(Some(&major)).ok_or(EmbeddedError::OtherVersion(major))?
            }
            Err(_) => find_binaries(None).ok_or(EmbeddedError::NotInstalled)?,
        };
        let embedded = Self { bin, data, socket_dir: socket_dir(&home)?, owner, _lock: lock };
        embedded.own(&home)?;
        embedded.own(&embedded.socket_dir)?;
        if !embedded.data.join("PG_VERSION").exists() {
            embedded.init(&home).await?;
        }
        // A server of ours that outlived us, after kill -9, serves on as it is.
        if embedded.pg_ctl("status", &[]).await.is_err() {
            embedded.boot().await?;
        }
        embedded.make_database().await?;
        Ok(embedded)
    }

    /// The address to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("host={} user={USER} dbname={DATABASE}", quoted(&self.socket_dir))
    }

    /// Stops it: no new connections, those that are there are ended, everything is written.
    ///
    /// # Errors
    /// See [`EmbeddedError`].
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        self.pg_ctl("stop", &["-m", "fast", "-w", "-t", "30"]).await
    }

    async fn boot(&self) -> Result<(), EmbeddedError> {
        let log = self.data.with_file_name("postgres.log");
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c unix_socket_permissions=0700 \
             -c max_connections=100 -c shared_buffers=128MB -c max_wal_size=2GB -c wal_compression=on \
             -c logging_collector=on -c log_directory='{}' -c log_filename='postgres-%a.log' \
             -c log_truncate_on_rotation=on -c log_rotation_age=1d -c log_checkpoints=off",
            self.socket_dir.display(),
            self.data.with_file_name("log").display(),
        );
        self.pg_ctl("start", &["-w", "-t", "120", "-l", &log.display().to_string(), "-o", &options])
            .await
    }

    /// Into a directory beside, renamed when it is complete, so that a crash in between leaves nothing half made.
    async fn init(&self, home: &Path) -> Result<(), EmbeddedError> {
        let fresh = home.join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io(&fresh))?;
        }
        let mut command = self.command("initdb", home);
        command.args([
            "--data-checksums",
            "--encoding=UTF8",
            "--locale=C",
            "--auth=trust",
            "--username",
            USER,
            "-D",
        ]);
        run("initdb", command.arg(&fresh)).await?;
        fs::rename(&fresh, &self.data).map_err(io(&self.data))
    }

    async fn make_database(&self) -> Result<(), EmbeddedError> {
        let url = self.url().replace(&format!("dbname={DATABASE}"), "dbname=postgres");
        let failed = |error: tokio_postgres::Error| EmbeddedError::Failed {
            program: "postgres",
            said: error.to_string(),
        };
        let (client, connection) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.map_err(failed)?;
        let make = async move {
            let known = client
                .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE])
                .await?;
            if known.is_none() {
                client.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
            }
            Ok(())
        };
        // The connection ends when the client, which `make` owns, is dropped.
        let (made, _) = tokio::join!(make, connection);
        made.map_err(failed)
    }

    async fn pg_ctl(&self, action: &str, args: &[&str]) -> Result<(), EmbeddedError> {
        let mut command = self.command("pg_ctl", self.data.parent().unwrap_or(&self.data));
        run("pg_ctl", command.arg(action).arg("-D").arg(&self.data).args(args)).await
    }

    fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = std::process::Command::new(self.bin.join(program));
        command.current_dir(dir).stdin(Stdio::null()).env("LC_ALL", "C");
        // They may run as somebody else, and have no use for our secrets.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PLENUM_") {
                command.env_remove(name);
            }
        }
        // A group of its own: Ctrl-C in a terminal is for us, and we stop the database when the votes are in.
        command.process_group(0);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        Command::from(command)
    }

    fn own(&self, dir: &Path) -> Result<(), EmbeddedError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        // Who owns the directory above may be a lesser user than we are, and would be given whatever a link of theirs leads to.
        if fs::symlink_metadata(dir).map_err(io(dir))?.is_symlink() {
            return Err(EmbeddedError::Link(dir.to_owned()));
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io(dir))?;
        match self.owner {
            Some(owner) => chown(dir, Some(owner.uid), Some(owner.gid)).map_err(io(dir)),
            None => Ok(()),
        }
    }
}

/// Takes the lock; a server that was killed a moment ago may still hold it for another one.
async fn lock_soon(lock: &fs::File) -> Option<()> {
    let until = Instant::now() + LOCK_WAIT_MAX;
    while lock.try_lock().is_err() {
        if Instant::now() > until {
            return None;
        }
        sleep(LOCK_WAIT_MAX / 50).await;
    }
    Some(())
}

/// Runs a program to its end; its output is only for the error. `pg_ctl start` leaves a server behind that inherits what
/// it may write to, so the output goes nowhere there and the log file has it.
async fn run(program: &'static str, command: &mut Command) -> Result<(), EmbeddedError> {
    let failed = |said: String| EmbeddedError::Failed { program, said };
    if program == "pg_ctl" {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        let status = status.map_err(|error| failed(error.to_string()))?;
        return if status.success() {
            Ok(())
        } else {
            Err(failed(format!("{status}; see postgres.log in the data directory")))
        };
    }
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    Err(failed(said))
}

/// The directory with `initdb` and `pg_ctl`: `PG_BIN`, then where distributions put them, newest first, then PATH. `major`:
/// the version that made the data, where there is data; another one could not read it.
#[must_use]
pub fn find_binaries(major: Option<&str>) -> Option<PathBuf> {
    let complete = |dir: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|name| dir.join(name).is_file())
    };
    let fits =
        |dir: &PathBuf| major.is_none_or(|major| major_version(dir).as_deref() == Some(major));
    let named = std::env::var_os("PG_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = |root: &str, tail: &str| {
        let mut found: Vec<(u32, PathBuf)> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let version =
                    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()?;
                Some((version, entry.path().join(tail)))
            })
            .collect();
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        found.into_iter().map(|(_, dir)| dir)
    };
    named
        .into_iter()
        .chain(versions("/usr/lib/postgresql", "bin"))
        .chain(versions("/usr", "bin"))
        .chain(versions("/opt/homebrew/opt", "bin"))
        .chain(versions("/usr/local/opt", "bin"))
        .chain(std::env::split_paths(&path))
        .find(|dir| complete(dir) && fits(dir))
}

/// `15` of `postgres (PostgreSQL) 15.18 (…)`.
fn major_version(bin: &Path) -> Option<String> {
    let output = std::process::Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let version =
        said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(version.chars().take_while(char::is_ascii_digit).collect())
}

/// Whom PostgreSQL runs as: nobody else where we are not root.
fn owner() -> Result<Option<Owner>, EmbeddedError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(io(Path::new("/etc/passwd")))?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let found = fields.next() == Some(name);
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            found.then_some(Owner { uid, gid })
        })
    };
    find("postgres").or_else(|| find("nobody")).map(Some).ok_or(EmbeddedError::NoUser)
}

/// Where PostgreSQL's files are: in the data directory, unless its owner cannot get there (a home directory of root's is
/// closed to others). Then they are under /var/lib, and a link in the data directory says so.
fn place(data_dir: &Path, owner: Option<Owner>) -> Result<PathBuf, EmbeddedError> {
    let home = data_dir.join("postgres");
    let open_to_others = |dir: &Path| fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    if owner.is_none() || (!home.is_symlink() && data_dir.ancestors().all(open_to_others)) {
        return Ok(home);
    }
    if let Ok(elsewhere) = fs::read_link(&home) {
        return Ok(elsewhere);
    }
    let name: String = data_dir
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let elsewhere = Path::new("/var/lib/plenum").join(name.trim_matches('-'));
    fs::create_dir_all(&elsewhere).map_err(io(&elsewhere))?;
    std::os::unix::fs::symlink(&elsewhere, &home).map_err(io(&home))?;
    Ok(elsewhere)
}

/// Where the socket is: beside the data, unless that is too long an address.
fn socket_dir(home: &Path) -> Result<PathBuf, EmbeddedError> {
    let beside = home.join("run");
    if beside.as_os_str().len() <= SOCKET_DIR_BYTES_MAX {
        return Ok(beside);
    }
    let meta = fs::metadata(home.parent().unwrap_or(home)).map_err(io(home))?;
    Ok(std::env::temp_dir().join(format!("plenum-{:x}-{:x}", meta.dev(), meta.ino())))
}

/// As a value in a connection string.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\\', "\\\\").replace('\'', "\\'"))
}
