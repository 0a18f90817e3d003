//! The figures: starts a server with a database of its own, measures one part after the other,
//! each several times, and writes medians with their spread to a folder.
//! Must never average a failure away: whatever does not add up ends the run. Called by `main`.

mod acks;
mod batches;
mod crowd;
mod facts;
mod fanout;
mod flat_out;
mod memory;
mod peers;
mod process;
mod progress;
mod sheet;

use std::future::Future;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use plenum_loadtest::client::Api;

use crate::failure::Failure;
use crate::server::{Server, ServerOptions};
use facts::Facts;
use progress::Progress;
use sheet::Sheet;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Latency of acks for 400 votes spread over 2 s.
    Acks,
    /// Durable votes per second, as many as go.
    FlatOut,
    /// What PostgreSQL does without this server: pgbench, and the server's own function.
    Peers,
    /// Memory per idle joined connection.
    Memory,
    /// Deliveries of events to 500 and 5,000 subscribers.
    Fanout,
}

/// Arguments of `figures`.
#[derive(Debug, Args)]
pub(crate) struct FiguresArguments {
    /// The parts to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["acks", "flat-out", "peers", "memory", "fanout"])]
    only: Vec<Part>,
    /// How often each part runs; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Where the results go [default: bench/results/<date>-first-figures].
    #[arg(long)]
    out: Option<PathBuf>,
    /// The server to measure [default: `plenum` beside this program].
    #[arg(long)]
    server_binary: Option<PathBuf>,
    /// Votes that each of the 200 connections has on the way at a time, flat out.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=500))]
    window: u32,
    /// Polls of the session that is voted in flat out; each connection votes once in each.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    polls: u32,
    /// Seconds of each pgbench run.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    pgbench_seconds: u32,
}

/// Everything that a part needs.
struct Bench<'a> {
    arguments: &'a FiguresArguments,
    progress: Progress,
    facts: Option<Facts>,
}

impl Bench<'_> {
    fn wants(&self, part: Part) -> bool {
        self.arguments.only.contains(&part)
    }

    /// Does one part's work on a server with a fresh database, which is stopped whatever happens.
    async fn on_server(
        &mut self,
        further: &[&str],
        stop: impl Future<Output = ()>,
        work: impl AsyncFnOnce(&Self, &Server) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let options = ServerOptions {
            binary: self.arguments.server_binary.clone(),
            data_dir: None,
            arguments: further.iter().map(|&argument| argument.to_owned()).collect(),
        };
        self.progress.now("starting a server".to_owned());
        let server = Server::start(&options).await?;
        // Boxed: the futures of the parts are large, and this runs a few times in all.
        let all = Box::pin(async {
            self.facts = Some(Facts::gather(&server).await?);
            work(self, &server).await
        });
        let outcome = tokio::select! {
            outcome = all => outcome,
            () = stop => Err(Failure::Stopped),
        };
        server.stop_after(outcome).await
    }
}

/// Measures until done or `stop` is; servers started here are stopped.
pub(crate) async fn run(
    arguments: FiguresArguments,
    stop: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    let mut bench = Bench { arguments: &arguments, progress: Progress::new(), facts: None };
    let mut sheet = Sheet::default();
    let mut stop = std::pin::pin!(stop);
    if bench.wants(Part::Acks) {
        let work = async |bench: &Bench<'_>, server: &Server| {
            acks::measure(bench, server, &mut sheet).await
        };
        bench.on_server(&[], stop.as_mut(), work).await?;
    }
    if bench.wants(Part::FlatOut) || bench.wants(Part::Peers) {
        let work = async |bench: &Bench<'_>, server: &Server| {
            votes_per_second(bench, server, &mut sheet).await
        };
        bench.on_server(&flat_out::SERVER_ARGUMENTS, stop.as_mut(), work).await?;
    }
    if bench.wants(Part::Memory) {
        for round in 0..arguments.rounds {
            let work = async |bench: &Bench<'_>, server: &Server| {
                memory::measure(bench, server, &mut sheet, round).await
            };
            bench.on_server(&[], stop.as_mut(), work).await?;
        }
    }
    if bench.wants(Part::Fanout) {
        let work = async |bench: &Bench<'_>, server: &Server| {
            fanout::measure(bench, server, &mut sheet).await
        };
        bench.on_server(&[], stop.as_mut(), work).await?;
    }
    bench.progress.finish();
    let facts = bench.facts.ok_or_else(|| Failure::told("no part was chosen"))?;
    let folder = sheet.write(arguments.out.as_deref(), &facts)?;
    println!("{}", sheet.table());
    println!("Written to {}.", folder.display());
    Ok(true)
}

/// The server's own rate and the yardsticks, alternating, so that both see the same machine.
async fn votes_per_second(
    bench: &Bench<'_>,
    server: &Server,
    sheet: &mut Sheet,
) -> Result<(), Failure> {
    let api = Api::new(&server.url);
    let wants_peers = bench.wants(Part::Peers);
    let peers = if wants_peers { Some(peers::Peers::prepare(server).await?) } else { None };
    for round in 0..bench.arguments.rounds {
        let own = if bench.wants(Part::FlatOut) {
            Some(flat_out::measure(bench, server, &api, sheet, round).await?)
        } else {
            None
        };
        let Some(peers) = &peers else { continue };
        let best = peers.measure(bench, sheet, round).await?;
        batches::measure(bench, peers, &api, sheet, round).await?;
        if let Some(own) = own {
            for (what, best) in best {
                let name = format!("flat out ÷ pgbench {what}, best of the same round");
                sheet.add("ratio", &name, "×", own / best);
            }
        }
    }
    Ok(())
}
