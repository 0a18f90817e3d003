//! The command line: reads the arguments, starts the runtime, turns an outcome into an exit code.
//! Must never hold the logic of a command; each has a folder of its own.
//! Called by `make demo`, `make loadtest` and people.

#![allow(clippy::print_stdout, reason = "a command-line program answers on stdout")]

mod demo;
mod failure;
mod figures;
mod message;
mod participant;
mod presenter;
mod random;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failure::Failure;
use tokio::signal::unix::{SignalKind, signal};

/// Ten thousand sockets allocate and free small buffers all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients for a Plenum server: a demonstration, and figures that can be repeated.
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
    /// Measure a server of its own on a fresh database, and write the figures down.
    Figures(figures::FiguresArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
        Command::Figures(arguments) => Box::pin(figures::run(arguments, stop)).await,
    }
}
