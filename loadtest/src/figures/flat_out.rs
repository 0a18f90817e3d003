//! How many votes a second are acked, flat out: 200 connections that keep a window of votes on the
//! way. A participant votes once in a poll, so there are many polls, and all connections go
//! through them in the same order, as a hall does. Every ack is matched with the stored votes.
//! Must never count a vote whose ack was not read. Called by `figures`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plenum_loadtest::client::{Api, Socket, socket::Raw};
use serde::Deserialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::crowd::{self, Origin};
use super::peers::postmaster_of;
use super::sheet::Sheet;
use super::{Bench, process};
use crate::failure::Failure;
use crate::message::Message;
use crate::presenter::Presenter;
use crate::server::Server;

/// The limit of messages a connection is for people; this part is about the database.
pub(super) const SERVER_ARGUMENTS: [&str; 4] =
    ["--message-rate", "1000000", "--message-burst", "1000000"];

const PART: &str = "flat out";
const CONNECTIONS: u32 = 200;
/// Polls are made and opened this many at a time, to get to the point sooner.
const PREPARING_AT_ONCE: usize = 16;
const WITHIN: Duration = Duration::from_secs(300);

/// One round: a new session, all votes, the check. Returns votes per second.
pub(super) async fn measure(
    bench: &Bench<'_>,
    server: &Server,
    api: &Api,
    sheet: &mut Sheet,
    round: u32,
) -> Result<f64, Failure> {
    let (polls, window) = (bench.arguments.polls, bench.arguments.window);
    bench.progress.now(format!("flat out, round {}: {polls} polls are made", round + 1));
    let presenter = Presenter::create(api, None, "Flat out").await?;
    let polls = Arc::new(open_polls(&presenter, polls).await?);
    let origin = Origin { round, before: 0 };
    let members = crowd::join(&server.url, &presenter.code, CONNECTIONS, origin).await?;

    bench.progress.now(format!("flat out, round {}: voting", round + 1));
    let begin = Arc::new(Barrier::new(CONNECTIONS as usize + 1));
    let mut voting = JoinSet::new();
    for member in members {
        let voter = Voter {
            socket: member.into_socket(),
            polls: Arc::clone(&polls),
            window: window as usize,
        };
        voting.spawn(voter.run(Arc::clone(&begin)));
    }
    let before = Costs::so_far(server)?;
    begin.wait().await;
    let began = Instant::now();
    let all = async {
        let mut finished = Vec::new();
        while let Some(one) = voting.join_next().await {
            finished.push(crowd::ended(one)?);
        }
        Ok::<_, Failure>(finished)
    };
    let finished =
        timeout(WITHIN, all).await.map_err(|_| Failure::told("votes went unacked"))??;
    let seconds = began.elapsed().as_secs_f64();
    let after = Costs::so_far(server)?;

    let votes = check(&presenter, &finished).await?;
    sheet.add(PART, "votes acked", "votes/s", votes / seconds);
    for (name, cpu) in after.since(&before) {
        sheet.add(PART, &format!("{name} processor time"), "µs/vote", cpu / votes * 1e6);
    }
    let events: u64 = finished.iter().map(|one| one.events).sum();
    // Exact: far below 2⁵³.
    sheet.add(PART, "results delivered meanwhile", "events/s", events as f64 / seconds);
    bench.progress.done(&format!("flat out {}: {:.0} votes/s", round + 1, votes / seconds));
    presenter.delete().await?;
    Ok(votes / seconds)
}

/// Processor seconds so far of everyone who takes part.
struct Costs([(&'static str, f64); 3]);

impl Costs {
    fn so_far(server: &Server) -> Result<Costs, Failure> {
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        Ok(Costs([
            ("server", process::cpu_of(server.pid)?),
            ("PostgreSQL", process::cpu_of_family(postmaster_of(server)?)?),
            ("clients", process::cpu_of(own)?),
        ]))
    }

    fn since(&self, before: &Costs) -> Vec<(&'static str, f64)> {
        self.0.iter().zip(&before.0).map(|(now, then)| (now.0, now.1 - then.1)).collect()
    }
}

/// Makes and opens polls, some at a time; returns their numbers in order.
async fn open_polls(presenter: &Presenter, count: u32) -> Result<Vec<u32>, Failure> {
    let mut making = JoinSet::new();
    let mut polls = Vec::new();
    for _ in 0..count {
        let presenter = presenter.clone();
        making.spawn(async move {
            let poll = presenter.add_poll("Which?", &["a", "b", "c", "d"]).await?;
            presenter.open(poll).await?;
            Ok(poll)
        });
        if making.len() >= PREPARING_AT_ONCE
            && let Some(one) = making.join_next().await
        {
            polls.push(crowd::ended(one)?);
        }
    }
    while let Some(one) = making.join_next().await {
        polls.push(crowd::ended(one)?);
    }
    polls.sort_unstable();
    Ok(polls)
}

/// What one connection did.
struct Finished {
    acked: Vec<String>,
    events: u64,
}

struct Voter {
    socket: Socket,
    polls: Arc<Vec<u32>>,
    window: usize,
}

impl Voter {
    /// Votes once in every poll, `window` votes on the way at a time, refilled by halves so that
    /// votes leave and acks come several to a system call, as from any pipelined client.
    async fn run(mut self, begin: Arc<Barrier>) -> Result<Finished, Failure> {
        let ballots: Vec<(String, String)> =
            self.polls.iter().enumerate().map(|(nth, poll)| ballot(*poll, nth)).collect();
        let mut open: HashSet<&str> = HashSet::with_capacity(self.window);
        let mut acked = Vec::with_capacity(ballots.len());
        let mut waiting = ballots.as_slice();
        let mut events = 0;
        begin.wait().await;
        while acked.len() < ballots.len() {
            if open.len() <= self.window / 2 && !waiting.is_empty() {
                let room = (self.window - open.len()).min(waiting.len());
                let (now, later) = waiting.split_at(room);
                waiting = later;
                open.extend(now.iter().map(|(id, _)| id.as_str()));
                let texts: Vec<&str> = now.iter().map(|(_, text)| text.as_str()).collect();
                self.socket.send_texts(&texts).await?;
            }
            let Raw::Text(text) = self.socket.recv_raw().await? else {
                return Err(Failure::told("a connection was lost while votes were cast"));
            };
            let message = Message::parse(&text)?;
            match message.name {
                "ack" => {
                    let id = message.id.unwrap_or_default();
                    if !open.remove(id) {
                        return Err(Failure::told(format!("an ack that nobody waits for: {id}")));
                    }
                    acked.push(id.to_owned());
                }
                "event" => events += 1,
                "error" => {
                    let code = message.code.unwrap_or_default();
                    return Err(Failure::told(format!("a vote was refused: {code}")));
                }
                _ => {}
            }
        }
        Ok(Finished { acked, events })
    }
}

/// A vote's id and its message.
fn ballot(poll: u32, nth: usize) -> (String, String) {
    let id = uuid::Uuid::new_v4().to_string();
    let choice = nth % 4;
    let text =
        format!(r#"{{"type":"vote","id":"{id}","poll":{poll},"answer":{{"choices":[{choice}]}}}}"#);
    (id, text)
}

#[derive(Deserialize)]
struct Export {
    votes: Vec<StoredVote>,
}

#[derive(Deserialize)]
struct StoredVote {
    id: String,
}

/// Compares acks and stored votes id by id; returns how many there are.
async fn check(presenter: &Presenter, finished: &[Finished]) -> Result<f64, Failure> {
    let export = presenter.export().await?;
    let export: Export = serde_json::from_slice(&export.body)
        .map_err(|error| Failure::told(format!("an export that makes no sense: {error}")))?;
    let acked: HashSet<&str> =
        finished.iter().flat_map(|one| &one.acked).map(String::as_str).collect();
    let stored: HashSet<&str> = export.votes.iter().map(|vote| vote.id.as_str()).collect();
    if acked != stored || stored.len() != export.votes.len() {
        return Err(Failure::told(format!(
            "{} votes acked, {} stored under {} ids",
            acked.len(),
            export.votes.len(),
            stored.len()
        )));
    }
    Ok(f64::from(u32::try_from(acked.len()).unwrap_or(u32::MAX)))
}
