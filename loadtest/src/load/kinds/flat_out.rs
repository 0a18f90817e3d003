//! How many votes a second are acked, flat out: connections that keep a window of votes on the way.
//! A participant votes once in a poll, so there are many polls, and all connections go through them
//! in the same order, as a hall does. After each round, `pgbench` on the same database.
//! Must never count a vote whose ack was not read. Called by `kinds`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::failure::Failure;
use crate::load::check::{self, Losses};
use crate::load::crowd;
use crate::load::hall::Meter;
use crate::load::stage::{Spent, Stage};
use crate::load::voter::{Acked, OPTIONS, Story, ballot};
use crate::load::yard::pgbench::{Pgbench, Script};
use crate::message::Message;
use crate::participant::Participant;

const WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    connections: u32,
    /// Each connection votes once in each.
    polls: u32,
    /// Votes that each connection has on the way at a time.
    window: u32,
    rounds: u32,
    /// Of each run of pgbench; 0 leaves the yardstick out.
    pgbench_seconds: u32,
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let pgbench = match &stage.fleet.database {
        Some(database) if asked.pgbench_seconds > 0 => Some(Pgbench::prepare(database).await?),
        _ => None,
    };
    for nth in 1..=asked.rounds {
        let rate = round(stage, &asked, &format!("round {nth} of {}", asked.rounds)).await?;
        let Some(pgbench) = &pgbench else { continue };
        for (script, key, label) in [
            (Script::InsertOnly, "pgbench_insert", "pgbench, one insert per transaction, best"),
            (Script::InsertAndTally, "pgbench_tally", "pgbench, insert and tally, best"),
        ] {
            stage.now(label);
            let (best, clients) = pgbench.best(script, asked.pgbench_seconds).await?;
            stage.sheet.figure(key, label, "1/s", best);
            stage.sheet.figure(
                &format!("{key}_times"),
                &format!("Votes acked ÷ {label}"),
                "×",
                rate / best,
            );
            stage.done(&format!("{label}: {best:.0}/s with {clients} clients"));
        }
    }
    Ok(())
}

async fn round(stage: &mut Stage<'_>, asked: &Parameters, name: &str) -> Result<f64, Failure> {
    stage.now(&format!("{name}: {} polls are made", asked.polls));
    let (presenter, polls) = stage.session(asked.polls).await?;
    let members = crowd::join(&stage.doors, &presenter.code, asked.connections).await?;
    stage.now(&format!("{name}: voting"));
    let polls = Arc::new(polls);
    let begin = Arc::new(Barrier::new(members.len() + 1));
    let mut voting = JoinSet::new();
    for member in members {
        let voter = Voter {
            member,
            polls: Arc::clone(&polls),
            window: asked.window as usize,
            meter: Arc::clone(&stage.meter),
        };
        voting.spawn(voter.run(Arc::clone(&begin)));
    }
    let work = async {
        begin.wait().await;
        let mut stories = BTreeMap::new();
        let all = async {
            while let Some(one) = voting.join_next().await {
                let (member, story) = crowd::ended(one)?;
                stories.insert(story.participant.clone(), (member, story));
            }
            Ok::<_, Failure>(())
        };
        timeout(WITHIN, all).await.map_err(|_| Failure::told("votes went unacked"))??;
        Ok(stories)
    };
    let (stories, spent) = stage.measured(work).await?;
    let votes = u64::from(asked.connections) * u64::from(asked.polls);
    let rate = votes as f64 / spent.seconds;
    report(stage, &spent, votes as f64);
    stage.done(&format!("{name}: {rate:.0} votes/s"));
    stage.now("checking");
    // They have stopped reading; they leave when all is checked.
    let (members, stories): (Vec<_>, BTreeMap<_, _>) =
        stories.into_iter().map(|(name, (member, story))| (member, (name, story))).unzip();
    check::verify_votes(&mut stage.sheet, &presenter, &stories, votes, Losses::None).await?;
    drop(members);
    presenter.delete().await?;
    Ok(rate)
}

fn report(stage: &mut Stage<'_>, spent: &Spent, votes: f64) {
    let sheet = &mut stage.sheet;
    sheet.figure("votes_per_second", "Votes acked", "1/s", votes / spent.seconds);
    let each = |cpu: Option<f64>| cpu.map(|cpu| cpu / votes * 1e6);
    sheet.figure_if("server_cpu_us", "Server processor time", "µs/vote", each(spent.server_cpu));
    sheet.figure_if(
        "postgres_cpu_us",
        "PostgreSQL processor time",
        "µs/vote",
        each(spent.postgres_cpu),
    );
    sheet.figure_if(
        "client_cpu_us",
        "Load generator processor time",
        "µs/vote",
        each(Some(spent.own_cpu)),
    );
    stage.note_batches(spent);
}

struct Voter {
    member: Participant,
    polls: Arc<Vec<u32>>,
    window: usize,
    meter: Arc<Meter>,
}

impl Voter {
    /// Votes once in every poll, `window` votes on the way at a time, refilled by halves so that
    /// votes leave and acks come several to a system call, as from any pipelined client.
    async fn run(mut self, begin: Arc<Barrier>) -> Result<(Participant, Story), Failure> {
        let mut story = Story { participant: self.member.id.clone(), ..Story::default() };
        let mut pending: HashMap<Uuid, (u32, u8)> = HashMap::with_capacity(self.window);
        let polls = Arc::clone(&self.polls);
        let mut waiting = polls.as_slice();
        begin.wait().await;
        while story.acked.len() < polls.len() {
            if pending.len() <= self.window / 2 && !waiting.is_empty() {
                let (now, later) =
                    waiting.split_at((self.window - pending.len()).min(waiting.len()));
                waiting = later;
                let mut texts = Vec::with_capacity(now.len());
                for poll in now {
                    let id = Uuid::new_v4();
                    let [first, ..] = *id.as_bytes();
                    pending.insert(id, (*poll, first % OPTIONS));
                    texts.push(ballot(id, *poll, first % OPTIONS));
                }
                self.member.send_all(&texts).await;
            }
            let Some(text) = self.member.next().await? else {
                return Err(Failure::told("a connection was lost while votes were cast"));
            };
            let message = Message::parse(&text)?;
            match message.name {
                "ack" => {
                    let id = message.id.and_then(|id| Uuid::parse_str(id).ok());
                    let known = id.and_then(|id| Some((id, pending.remove(&id)?)));
                    let (id, (poll, choice)) =
                        known.ok_or_else(|| Failure::told("an ack that nobody waits for"))?;
                    let seq = message.seq.unwrap_or_default();
                    story.acked.push(Acked { id, poll, choice, seq });
                    self.meter.acks.fetch_add(1, Ordering::Relaxed);
                }
                "event" => {
                    self.member.note(&message)?;
                    self.meter.events.fetch_add(1, Ordering::Relaxed);
                }
                "error" => {
                    let code = message.code.unwrap_or_default();
                    return Err(Failure::told(format!("a vote was refused: {code}")));
                }
                _ => {}
            }
        }
        Ok((self.member, story))
    }
}
