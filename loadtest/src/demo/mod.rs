//! The demonstration: one session, one poll, real participants over WebSockets, bars that move,
//! and a check at the end that acks, counts and stored votes agree.
//! Must never report agreement that it did not check. Called by `main`.

mod audience;
mod bars;
mod verdict;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use plenum_loadtest::client::Api;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::participant::{Participant, Place};
use crate::presenter::Presenter;
use crate::server::{Server, ServerOptions};
use audience::{Audience, Outcome};
use bars::Bars;

const QUESTION: &str = "Which of these should the evening end with?";
const OPTIONS: [&str; 4] = ["A talk from the audience", "Music", "A quiz", "An early night"];
/// After the last scheduled vote, how long acks may take: a server that was stopped and started
/// again meanwhile still passes.
const ACKS_WITHIN: Duration = Duration::from_secs(30);
/// How long the close of the poll may take to reach everyone.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// The server to use.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How many take part.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    participants: u32,
    /// Over how many seconds they vote.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// The operator's key, where the server asks for one.
    #[arg(long, env = "PLENUM_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The same seed gives the same votes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Start a server if none answers at --url, and stop it at the end.
    #[arg(long)]
    start: bool,
    /// The program that --start runs [default: `plenum` beside this program].
    #[arg(long)]
    server_binary: Option<PathBuf>,
    /// Where a server started by --start keeps its data [default: a temporary folder].
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// Runs the demonstration until it is done or `stop` is; a server started here is stopped.
pub(crate) async fn run(
    arguments: DemoArguments,
    stop: impl Future<Output = ()>,
) -> Result<bool, Failure> {
    if answers(&arguments.url).await {
        return tokio::select! {
            outcome = present(&arguments, &arguments.url) => outcome,
            () = stop => Err(Failure::Stopped),
        };
    }
    if !arguments.start {
        return Err(Failure::told(format!(
            "no Plenum server answers at {}; start one, or pass --start",
            arguments.url
        )));
    }
    println!("No server answers at {}: starting one.", arguments.url);
    let mut options = ServerOptions {
        binary: arguments.server_binary.clone(),
        data_dir: arguments.data_dir.clone(),
        arguments: Vec::new(),
    };
    if let Some(key) = &arguments.api_key {
        options.arguments.extend(["--api-key".to_owned(), key.clone()]);
    }
    let server = Server::start(&options).await?;
    let outcome = tokio::select! {
        outcome = present(&arguments, &server.url) => outcome,
        () = stop => Err(Failure::Stopped),
    };
    server.stop_after(outcome).await
}

/// Whether a Plenum server, not just anything, answers there.
async fn answers(url: &str) -> bool {
    let answer = Api::new(url).get("/v1/openapi.json", None).await;
    answer.is_ok_and(|answer| answer.status == 200 && answer.json().get("openapi").is_some())
}

async fn present(arguments: &DemoArguments, url: &str) -> Result<bool, Failure> {
    let api = Api::new(url);
    let presenter = Presenter::create(&api, arguments.api_key.as_deref(), "Demonstration").await?;
    let poll = presenter.add_poll(QUESTION, &OPTIONS).await?;
    presenter.open(poll).await?;
    println!("Session {} at {url}, poll {poll} is open.", spaced(&presenter.code));

    let began = Instant::now();
    let (acks, mut acked) = mpsc::channel(16);
    let mut audience = Audience::join(arguments, url, &presenter.code, poll).await?;
    let joined = began.elapsed();
    println!("{} participants joined in {} ms.\n", arguments.participants, joined.as_millis());
    println!("{QUESTION}");

    let place = Place::at(url);
    let mut watcher = Participant::present(place, &presenter.token).await?;
    let mut bars = Bars::new(&OPTIONS, u64::from(arguments.participants));
    audience.vote(Duration::from_secs(u64::from(arguments.seconds)), arguments.seed, &acks);
    drop(acks);

    let within = Duration::from_secs(u64::from(arguments.seconds)) + ACKS_WITHIN;
    let all = until_all_acked(&mut acked, &mut watcher, &mut bars, arguments.participants);
    match timeout(within, all).await {
        Ok(acked) => acked?,
        Err(_) => bars.note("Not every vote was answered in time."),
    }
    presenter.close(poll).await?;
    let closed = timeout(CLOSED_WITHIN, until_closed(&mut watcher, &mut bars)).await;
    let closed = closed.map_err(|_| Failure::told("the presenter never saw the poll close"))??;
    let outcomes: Vec<Result<Outcome, Failure>> = audience.finish(CLOSED_WITHIN).await;
    bars.finish();
    watcher.leave().await;

    let evidence = verdict::Evidence::gather(&presenter, poll, closed, outcomes).await?;
    Ok(evidence.report(&OPTIONS))
}

/// Shows results until every participant has an ack, or until no more can come.
async fn until_all_acked(
    acked: &mut mpsc::Receiver<()>,
    watcher: &mut Participant,
    bars: &mut Bars,
    participants: u32,
) -> Result<(), Failure> {
    let mut count = 0;
    while count < participants {
        tokio::select! {
            one = acked.recv() => match one {
                Some(()) => count += 1,
                // Every voter has ended, some without an ack: the verdict will say so.
                None => return Ok(()),
            },
            message = watcher.next() => match message? {
                Some(text) => bars.show(&text, watcher)?,
                None => watcher.come_back().await?,
            },
        }
    }
    Ok(())
}

/// Shows results until the poll closes, and returns the final ones.
async fn until_closed(
    watcher: &mut Participant,
    bars: &mut Bars,
) -> Result<crate::message::Results, Failure> {
    loop {
        let Some(text) = watcher.next().await? else {
            watcher.come_back().await?;
            continue;
        };
        bars.show(&text, watcher)?;
        let message = crate::message::Message::parse(&text)?;
        if message.is_event("poll.closed") {
            let results = message.results();
            return results.ok_or_else(|| Failure::told("the closed poll came without results"));
        }
    }
}

/// A code as people read it: `1234 5678`.
fn spaced(code: &str) -> String {
    match code.split_at_checked(4) {
        Some((first, second)) => format!("{first} {second}"),
        None => code.to_owned(),
    }
}
