//! The command line: reads the arguments, starts the runtime, turns an outcome into an exit code.
//! Must never hold the logic of a command; each has a folder of its own.
//! Called by `make demo`, `make loadtest` and people.

#![allow(clippy::print_stdout, reason = "a command-line program answers on stdout")]

mod demo;
mod failure;
mod load;
mod message;
mod participant;
mod presenter;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::Failure;
use tokio::signal::unix::{SignalKind, signal};

/// Ten thousand sockets allocate and free small buffers all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients for a Plenum server: a demonstration, and a load test that judges.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A live poll with real participants: watch the bars move, then see that everything agrees.
    Demo(demo::DemoArguments),
    /// Put load on a server and hold what comes out against the requirements: exit code 0 or 1.
    Load(Box<load::LoadArguments>),
    /// The bare write loop that fan-out is compared with; started by `load`.
    #[command(hide = true)]
    BareLoop(load::BareLoopArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("plenum-loadtest: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// More connections than one process makes.
const FILES_MAX: u64 = 65_536;

/// Every connection is a file: take as many as the system lets us.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Too few show as connections that cannot be made.
    let _ = setrlimit(Resource::Nofile, limit);
    // The kernel's table of files never shrinks; that it grows while clients connect would stop them all for a moment.
    let highest = limit.current.unwrap_or(FILES_MAX).min(FILES_MAX) - 1;
    if let Ok(highest) = i32::try_from(highest) {
        let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest);
    }
}

/// Runs one command; `false` means that it ran and found something wrong.
async fn run(arguments: Arguments) -> Result<bool, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    match arguments.command {
        Command::Demo(arguments) => Box::pin(demo::run(arguments, stop)).await,
        Command::Load(arguments) => Box::pin(load::run(*arguments, stop)).await,
        Command::BareLoop(arguments) => load::bare_loop(&arguments),
    }
}
