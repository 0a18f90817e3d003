//! The binary: arguments, logs, allocator, and exit codes. Everything else is in the library.

use std::fmt::Display;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use plenum::app::{self, App, Signals, Task};
use plenum::config::{Config, Flags, LogForm};
use plenum::limits::REST_CONNECTIONS_MAX;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A live event polling server
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run an instance
    Serve(Box<Flags>),
    /// Bring the database's schema up to date and end
    Migrate(Box<Flags>),
    /// Print the name of the database's history; clients that come back compare it
    Epoch {
        /// Make a new one: after a restore that the server cannot know of, so that clients start from the state
        #[arg(long)]
        new: bool,
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// List, export or erase sessions in the database, with or without instances that run
    Admin(plenum::admin::Arguments),
    /// Print the table of all metrics, as in docs/METRICS.md
    #[command(hide = true)]
    Metrics,
    /// Ask a running instance whether it is ready: exit code 0 or 1
    Health {
        /// Its address for operators
        #[arg(
            long,
            env = "PLENUM_OPS_LISTEN",
            default_value = "127.0.0.1:9464",
            value_name = "ADDRESS"
        )]
        ops_listen: String,
    },
}

/// How much is logged. It is no flag: the log of what reads the flags follows it.
const LOG_LEVEL: &str = "PLENUM_LOG_LEVEL";
/// Wrong configuration.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(flags) => with_config(*flags, serve),
        Command::Migrate(flags) => with_config(*flags, |config| operate(config, Task::Migrate)),
        Command::Epoch { new, flags } => {
            let task = if new { Task::NewEpoch } else { Task::ShowEpoch };
            with_config(*flags, move |config| operate(config, task))
        }
        Command::Admin(arguments) => match start_logging(LogForm::Text) {
            Ok(()) => on_runtime(async move {
                match arguments.run().await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => fail(&error),
                }
            }),
            Err(fault) => refuse(&[fault]),
        },
        Command::Metrics => metrics(),
        Command::Health { ops_listen } => health(&ops_listen),
    }
}

fn with_config(flags: Flags, run: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match flags.check() {
        Ok(config) => match start_logging(config.log) {
            Ok(()) => run(config),
            Err(fault) => refuse(&[fault]),
        },
        Err(faults) => refuse(&faults),
    }
}

fn refuse(faults: &[impl Display]) -> ExitCode {
    faults.iter().for_each(|fault| eprintln!("plenum: {fault}"));
    ExitCode::from(EXIT_CONFIGURATION)
}

fn start_logging(form: LogForm) -> Result<(), &'static str> {
    let level = std::env::var(LOG_LEVEL).unwrap_or_default();
    let level = if level.trim().is_empty() { "info" } else { &level };
    let filter = EnvFilter::try_new(level).map_err(|_| {
        "PLENUM_LOG_LEVEL: it must be error, warn, info, debug or trace, or such as info,plenum=debug"
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match form {
        LogForm::Text => {
            logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).compact().init()
        }
        LogForm::Json => logs.json().flatten_event(true).init(),
    }
    Ok(())
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error),
    }
}

/// One line: what went wrong and, behind it, why.
fn fail(error: &dyn std::error::Error) -> ExitCode {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    eprintln!("plenum: {line}");
    ExitCode::FAILURE
}

fn serve(config: Config) -> ExitCode {
    raise_file_limit();
    grow_file_table(config.max_connections + REST_CONNECTIONS_MAX);
    keep_pages_small();
    let guide = config.log == LogForm::Text;
    on_runtime(async move {
        let signals = match Signals::catch() {
            Ok(signals) => signals,
            Err(error) => return fail(&error),
        };
        let keyed = config.api_key.is_some();
        let app = match App::start(config).await {
            Ok(app) => app,
            Err(error) => return fail(&error),
        };
        let (listen, ops_listen) = (app.listen.to_string(), app.ops_listen.to_string());
        let database = app.embedded_url.as_deref().unwrap_or("external");
        let agent_listen = app.agent_listen.map(|at| at.to_string());
        tracing::info!(listen, ops_listen, agent_listen, database, "ready");
        if guide {
            print_guide(&listen, &ops_listen, keyed);
        }
        match app.run(signals).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    })
}

/// Every connection is a file: take as many as the system lets us.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        tracing::warn!("the limit of open files could not be raised");
    }
}

/// The kernel's table of a process's files doubles when it is full, and a process of several threads waits for that: each
/// time 7 to 16 ms, in the middle of a storm of joins. It never shrinks: one file with a high number, opened and closed
/// while there is one thread, makes it as large as it can be needed, at 8 bytes a file, of the kernel's.
fn grow_file_table(files: usize) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let highest = limit.unwrap_or(u64::MAX).min(files as u64).saturating_sub(1);
    if let Ok(highest) = i32::try_from(highest) {
        // Without it the server works all the same.
        let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest);
    }
}

/// Some systems give pages of 2 MiB to everybody, and a process that holds many small things touches a little of each: it
/// doubled the memory of an empty process and gained no speed that could be measured. (Where they have to be asked for,
/// the allocator does not ask: feature `no_thp`. It would do so before `main` begins.)
fn keep_pages_small() {
    #[cfg(target_os = "linux")]
    if rustix::thread::disable_transparent_huge_pages(true).is_err() {
        tracing::debug!("the system does not turn huge pages off"); // it costs memory and nothing else
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what to do next is for the person at the terminal, not for the log"
)]
fn print_guide(listen: &str, ops_listen: &str, keyed: bool) {
    let key = if keyed { " -H 'Authorization: Bearer YOUR_API_KEY'" } else { "" };
    println!(
        "\nPlenum is ready. Open the presenter's console:  http://{listen}/present\n\n\
         People join at http://{listen}, operations are at http://{ops_listen}. Ctrl-C stops it.\n\n\
         Or, in another terminal, create a session and open a poll in it:\n\n\
         \x20 S=$(curl -s http://{listen}/v1/sessions{key} -d '{{\"title\":\"Town hall\"}}')\n\
         \x20 get() {{ printf '%s' \"$S\" | sed \"s/.*\\\"$1\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/\"; }}\n\
         \x20 ID=$(get id); CODE=$(get code); TOKEN=$(get presenter_token); echo \"join code: $CODE\"\n\
         \x20 curl -s http://{listen}/v1/sessions/$ID/polls -H \"Authorization: Bearer $TOKEN\" \\\n\
         \x20   -d '{{\"kind\":\"choice\",\"question\":\"Lunch?\",\"options\":[\"Soup\",\"Salad\"]}}'\n\
         \x20 curl -s -X POST http://{listen}/v1/sessions/$ID/polls/1/open -H \"Authorization: Bearer $TOKEN\"\n\n\
         Watch it live:  curl -N http://{listen}/v1/sessions/$ID/stream -H \"Authorization: Bearer $TOKEN\"\n\
         See 200 people vote:  make demo\n"
    );
}

#[expect(clippy::print_stdout, reason = "the answer to the operator's question")]
fn operate(config: Config, task: Task) -> ExitCode {
    on_runtime(async move {
        match app::operate(&config, task).await {
            Ok(answer) => {
                if !answer.is_empty() {
                    println!("{answer}");
                }
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        }
    })
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn metrics() -> ExitCode {
    match plenum::metrics::Metrics::new() {
        Ok(metrics) => {
            print!("{}", metrics.table());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// Without a client library: one request, one line of the answer.
fn health(ops_listen: &str) -> ExitCode {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<String> {
        let mut socket = std::net::TcpStream::connect(ops_listen)?;
        let wait = Some(std::time::Duration::from_secs(3));
        socket.set_read_timeout(wait)?;
        socket.set_write_timeout(wait)?;
        write!(socket, "GET /readyz HTTP/1.1\r\nHost: plenum\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(answer) => {
            eprintln!("plenum: not ready: {}", answer.lines().last().unwrap_or_default());
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}
