//! The load test: scenarios from files, one after the other, each on servers of its own with a fresh
//! database or on servers given by address; what comes out is held against the goals in the files.
//! Must never report a pass that it did not check. Called by `main`.

mod check;
mod clock;
mod crowd;
mod fleet;
mod hall;
mod kinds;
mod metrics;
mod process;
mod progress;
mod report;
mod scenario;
mod sheet;
mod stage;
mod voter;
mod yard;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::failure::Failure;
use fleet::Fleet;
use progress::Progress;
use report::facts::{self, Facts};
use report::{Finding, Report};
use scenario::{Scenario, Set};
use stage::Stage;
pub(crate) use yard::bare::BareLoopArguments;
pub(crate) use yard::bare::run as bare_loop;

/// A scenario that takes longer than this hangs; the longest soak says its length itself.
const SCENARIO_WITHIN: Duration = Duration::from_secs(300);

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// Scenarios by name, or files that end in .toml; left out: a whole set.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// The set to run where no scenario is named.
    #[arg(long, value_enum, default_value = "standard")]
    set: Set,
    /// Replace a parameter of the scenario, as in --with participants=100.
    #[arg(long, value_name = "NAME=VALUE")]
    with: Vec<String>,
    /// Start so many instances instead of what the scenario says.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=20))]
    instances: Option<u8>,
    /// Servers of yours, one address per instance; left out, servers are started for each scenario.
    #[arg(long, value_delimiter = ',')]
    url: Vec<String>,
    /// Their addresses for operators, in the same order: without them their costs are not known.
    #[arg(long, value_delimiter = ',')]
    ops_url: Vec<String>,
    /// Their key for creating sessions.
    #[arg(long, env = "PLENUM_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The program to start [default: `plenum` beside this program].
    #[arg(long)]
    server_binary: Option<PathBuf>,
    /// A further argument of every server that is started.
    #[arg(long, allow_hyphen_values = true)]
    server_argument: Vec<String>,
    /// Where report.html, report.json and the histograms go.
    #[arg(long, default_value = "target/loadtest")]
    out: PathBuf,
    /// An earlier report.json to compare with.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
}

/// Runs scenarios until done or `stop` is; servers started here are stopped.
pub(crate) async fn run(
    arguments: LoadArguments,
    stop: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    let scenarios = chosen(&arguments)?;
    if arguments.list {
        for one in Scenario::all()? {
            println!("{:<20} {}", one.name, one.title);
        }
        return Ok(true);
    }
    let baseline = arguments.baseline.as_deref().map(Report::read).transpose()?;
    let judged = !arguments.scenario.is_empty() || arguments.set != Set::Smoke;
    let mut report = Report { facts: Facts::gather()?, judged, findings: Vec::new() };
    let steal = facts::steal();
    let progress = Progress::new();
    let mut stop = std::pin::pin!(stop);
    for scenario in &scenarios {
        let finding = one(&arguments, scenario, &progress, &mut report.facts, stop.as_mut()).await;
        let finding = finding.map(|finding| Finding {
            verdicts: if judged { finding.verdicts } else { Vec::new() },
            ..finding
        })?;
        let mark = if finding.passed() { "passed" } else { "NOT PASSED" };
        progress.done(&format!("{}: {mark}", finding.name));
        report.findings.push(finding);
    }
    progress.finish();
    report.facts.note_steal(steal);
    report.write(&arguments.out, baseline.as_ref())?;
    println!("{}", report.text(baseline.as_ref()));
    println!("Written to {}.", arguments.out.join("report.html").display());
    let passed = report.passed();
    println!("{}", if passed { "PASSED" } else { "FAILED" });
    Ok(passed)
}

fn chosen(arguments: &LoadArguments) -> Result<Vec<Scenario>, Failure> {
    let mut scenarios: Vec<Scenario> = if arguments.scenario.is_empty() {
        let all = Scenario::all()?.into_iter();
        all.filter(|one| one.sets.contains(&arguments.set)).collect()
    } else {
        let named = arguments.scenario.iter().map(|name| Scenario::find(name));
        named.collect::<Result<_, Failure>>()?
    };
    for scenario in &mut scenarios {
        if arguments.scenario.is_empty() && arguments.set == Set::Smoke {
            scenario.shrink();
        }
        for one in &arguments.with {
            scenario.set(one)?;
        }
        scenario.server.instances =
            arguments.instances.map_or(scenario.server.instances, usize::from);
    }
    Ok(scenarios)
}

/// One scenario on servers of its own, which are stopped whatever happens.
async fn one(
    arguments: &LoadArguments,
    scenario: &Scenario,
    progress: &Progress,
    facts: &mut Facts,
    stop: impl Future<Output = ()>,
) -> Result<Finding, Failure> {
    let began = Instant::now();
    progress.now(format!("{}: starting", scenario.name));
    let fleet = Arc::new(Fleet::muster(arguments, scenario).await?);
    let mut stage = match facts
        .ask_fleet(&fleet)
        .await
        .and_then(|()| Stage::new(scenario, progress, Arc::clone(&fleet)))
    {
        Ok(stage) => stage,
        Err(failure) => {
            fleet.dismiss().await?;
            return Err(failure);
        }
    };
    let within = SCENARIO_WITHIN + scenario.lasting();
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(within, kinds::run(&mut stage)) => {
            outcome.unwrap_or_else(|_| Err(Failure::told(format!("not done within {within:?}"))))
        }
        () = stop => Err(Failure::Stopped),
    };
    let mut sheet = stage.finish();
    let dismissed = fleet.dismiss().await;
    if matches!(outcome, Err(Failure::Stopped)) {
        return Err(Failure::Stopped);
    }
    let ended = dismissed.err().map(|failure| failure.to_string());
    if arguments.url.is_empty() {
        sheet.check("every server ended by itself with exit code 0", ended);
    }
    std::fs::create_dir_all(&arguments.out)?;
    for (key, (_, all)) in &sheet.histograms {
        let file = arguments.out.join(format!("{}-{key}.hgrm", scenario.name));
        report::write_histogram(&file, all)?;
    }
    let finding = Finding {
        seconds: began.elapsed().as_secs_f64(),
        ..Finding::new(scenario, sheet, outcome)
    };
    Ok(finding)
}
