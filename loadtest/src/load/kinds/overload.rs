//! Three times the votes that the database takes, for a while. The database is made slow by a trigger that sleeps for each
//! vote. Some come again when told, the others give up; then, after a rest, what the database takes easily.
//! Must never try a vote again that was given up: it must not be stored. Called by `kinds`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use uuid::Uuid;

use crate::failure::Failure;
use crate::load::check::{self, Losses};
use crate::load::crowd;
use crate::load::hall::{Meter, nanoseconds};
use crate::load::sheet::{millis, new_histogram};
use crate::load::stage::Stage;
use crate::load::voter::{Acked, OPTIONS, Story, ballot};
use crate::load::yard::slow::SlowVotes;
use crate::message::Message;
use crate::participant::Participant;

/// From the last vote that is too many to the first that must find everything as usual.
const REST: Duration = Duration::from_secs(2);
/// After the last vote, for those who are still told to come again.
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    participants: u32,
    /// So many of them come again when told.
    obedient: u32,
    database_votes_per_second: u32,
    votes_per_second: u32,
    seconds: u32,
    after_votes_per_second: u32,
    after_seconds: u32,
}

impl Parameters {
    /// Votes of each participant, hence polls, in the overload and after it.
    fn polls(&self) -> (u32, u32) {
        let each = |votes: u32| votes.div_ceil(self.participants);
        (
            each(self.votes_per_second * self.seconds),
            each(self.after_votes_per_second * self.after_seconds),
        )
    }
}

/// What happened to the votes of one participant, or of all.
#[derive(Debug)]
struct Tally {
    /// From the try that was accepted to its ack.
    ack: Histogram<u64>,
    /// The same, after the rest.
    after: Histogram<u64>,
    /// From the first try to the ack, of those who came again.
    obeyed: Histogram<u64>,
    /// Votes acked at the first, second, … return.
    returns: Vec<u64>,
    refused: u64,
    refused_after: u64,
    given_up: u64,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let new = new_histogram;
        Ok(Self {
            ack: new()?,
            after: new()?,
            obeyed: new()?,
            returns: Vec::new(),
            refused: 0,
            refused_after: 0,
            given_up: 0,
        })
    }

    fn add(&mut self, other: &Self) {
        for (all, one) in [
            (&mut self.ack, &other.ack),
            (&mut self.after, &other.after),
            (&mut self.obeyed, &other.obeyed),
        ] {
            all.add(one).unwrap_or_default(); // all have the same bounds
        }
        self.returns.resize(self.returns.len().max(other.returns.len()), 0);
        self.returns.iter_mut().zip(&other.returns).for_each(|(all, one)| *all += one);
        self.refused += other.refused;
        self.refused_after += other.refused_after;
        self.given_up += other.given_up;
    }
}

pub(super) async fn run(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let asked: Parameters = stage.scenario.parameters()?;
    let Some(database) = stage.fleet.database.clone() else {
        return Err(Failure::told(
            "only the database of a server that is started here can be made slow",
        ));
    };
    let (during, after) = asked.polls();
    stage.now(&format!("{} polls are made", during + after));
    let (presenter, polls) = stage.hidden_session(during + after).await?;
    let members = crowd::join(&stage.doors, &presenter.code, asked.participants).await?;
    let slow = SlowVotes::make(&database, asked.database_votes_per_second).await?;
    let before = stage.fleet.watch.memory();
    stage.now("too many votes");
    let mut voting = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(200);
    for (nth, member) in (0_u32..).zip(members) {
        let schedule = schedule(&asked, &polls, begin, nth);
        let voter = Voter::new(member, schedule, nth < asked.obedient, Arc::clone(&stage.meter))?;
        voting.spawn(voter.run());
    }
    let fleet = Arc::clone(&stage.fleet);
    let work = async {
        let mut peak = before;
        let all = collect(voting);
        tokio::pin!(all);
        let mut looks = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                all = &mut all => return Ok((all?, peak)),
                _ = looks.tick() => peak = peak.zip(fleet.watch.memory()).map(|(peak, now)| peak.max(now)),
            }
        }
    };
    let lasting = Duration::from_secs((asked.seconds + asked.after_seconds).into()) + REST + WITHIN;
    let done = timeout(lasting, stage.measured(work)).await;
    let (((tally, stories), peak), _) = done.map_err(|_| Failure::told("votes went unacked"))??;
    slow.undo().await?;
    report(stage, &tally, peak.zip(before).map(|(peak, before)| peak - before));
    let stories: BTreeMap<String, Story> =
        stories.into_iter().map(|one| (one.participant.clone(), one)).collect();
    let acked = stories.values().map(|one| one.acked.len() as u64).sum();
    check::verify_votes(&mut stage.sheet, &presenter, &stories, acked, Losses::None).await?;
    presenter.delete().await
}

/// The votes of one participant, each with its moment; those after the rest are marked.
fn schedule(asked: &Parameters, polls: &[u32], begin: Instant, nth: u32) -> Vec<Due> {
    let (during, _) = asked.polls();
    let again = begin + Duration::from_secs(asked.seconds.into()) + REST;
    let moment = |from: Instant, round: u32, rate: u32| {
        from + Duration::from_secs_f64(
            f64::from(round * asked.participants + nth) / f64::from(rate),
        )
    };
    (0_u32..)
        .zip(polls)
        .map(|(round, poll)| match round.checked_sub(during) {
            None => {
                Due { at: moment(begin, round, asked.votes_per_second), poll: *poll, after: false }
            }
            Some(round) => Due {
                at: moment(again, round, asked.after_votes_per_second),
                poll: *poll,
                after: true,
            },
        })
        .collect()
}

async fn collect(
    mut voting: JoinSet<Result<(Story, Tally), Failure>>,
) -> Result<(Tally, Vec<Story>), Failure> {
    let (mut tally, mut stories) = (Tally::new()?, Vec::new());
    while let Some(one) = voting.join_next().await {
        let (story, own) = crowd::ended(one)?;
        tally.add(&own);
        stories.push(story);
    }
    Ok((tally, stories))
}

fn report(stage: &mut Stage<'_>, tally: &Tally, grown: Option<f64>) {
    let sheet = &mut stage.sheet;
    sheet.latencies("ack", "Vote to ack, of those accepted", &tally.ack);
    sheet.latencies("after", "Vote to ack, two seconds later", &tally.after);
    sheet.latencies("obeyed", "First try to ack, of those who came again when told", &tally.obeyed);
    sheet.figure("accepted", "Votes accepted", "votes", tally.ack.len() as f64);
    sheet.figure("refused", "Tries refused with overloaded", "tries", tally.refused as f64);
    sheet.figure("given_up", "Votes given up", "votes", tally.given_up as f64);
    let returned: u64 = tally.returns.iter().sum();
    let first = tally.returns.first().copied().unwrap_or_default();
    sheet.figure(
        "first_return_percent",
        "Taken at the first return",
        "%",
        first as f64 / returned.max(1) as f64 * 100.0,
    );
    sheet.figure("returns_max", "Returns, at most", "", tally.returns.len() as f64);
    sheet.figure_if(
        "grown_mib",
        "Memory gained by the server (PSS)",
        "MiB",
        grown.map(|bytes| bytes / f64::from(1 << 20)),
    );
    let late = (tally.refused_after > 0).then(|| format!("{} refused", tally.refused_after));
    sheet.check("nobody is refused from two seconds after it on", late);
    stage.done(&format!(
        "{} accepted, p95 {:.0} ms; {first} of {returned} who came again taken at once",
        tally.ack.len(),
        millis(tally.ack.value_at_quantile(0.95))
    ));
}

/// A vote that is to be cast.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    poll: u32,
    after: bool,
}

/// A vote that is on its way, or waits to come again.
#[derive(Debug)]
struct Pending {
    due: Due,
    choice: u8,
    first: Instant,
    sent: Instant,
    returns: usize,
    again: Option<Instant>,
}

struct Voter {
    member: Participant,
    schedule: std::vec::IntoIter<Due>,
    obedient: bool,
    meter: Arc<Meter>,
    pending: HashMap<Uuid, Pending>,
    story: Story,
    tally: Tally,
}

impl Voter {
    fn new(
        member: Participant,
        schedule: Vec<Due>,
        obedient: bool,
        meter: Arc<Meter>,
    ) -> Result<Self, Failure> {
        let story = Story { participant: member.id.clone(), ..Story::default() };
        let schedule = schedule.into_iter();
        Ok(Self {
            member,
            schedule,
            obedient,
            meter,
            pending: HashMap::new(),
            story,
            tally: Tally::new()?,
        })
    }

    async fn run(mut self) -> Result<(Story, Tally), Failure> {
        loop {
            let next = self.schedule.as_slice().first().map(|due| due.at);
            let again = self.pending.values().filter_map(|one| one.again).min();
            let wake = [next, again].into_iter().flatten().min();
            if wake.is_none() && self.pending.is_empty() {
                break;
            }
            tokio::select! {
                text = self.member.next_or_code() => {
                    let text = text?.map_err(closed)?;
                    self.take(&text)?;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => {
                    self.send_what_is_due().await;
                }
            }
        }
        self.member.leave().await;
        Ok((self.story, self.tally))
    }

    async fn send_what_is_due(&mut self) {
        let now = Instant::now();
        let mut texts = Vec::new();
        while let Some(due) = self.schedule.as_slice().first().copied().filter(|due| due.at <= now)
        {
            self.schedule.next();
            let id = Uuid::new_v4();
            let [first, ..] = *id.as_bytes();
            let choice = first % OPTIONS;
            // Counted from when it was due: a stall of this program is charged, too.
            self.pending.insert(
                id,
                Pending { due, choice, first: due.at, sent: due.at, returns: 0, again: None },
            );
            texts.push(ballot(id, due.poll, choice));
        }
        for (id, one) in &mut self.pending {
            if let Some(at) = one.again.take_if(|at| *at <= now) {
                one.sent = at;
                one.returns += 1;
                texts.push(ballot(*id, one.due.poll, one.choice));
            }
        }
        self.member.send_all(&texts).await;
    }

    fn take(&mut self, text: &[u8]) -> Result<(), Failure> {
        let message = Message::parse(text)?;
        let id = message.id.and_then(|id| Uuid::parse_str(id).ok());
        match (message.name, id) {
            ("ack", Some(id)) => self.acked(id, message.seq.unwrap_or_default())?,
            ("error", Some(id)) if message.code == Some("overloaded") => {
                self.refused(id, message.retry_after_ms.unwrap_or_default());
            }
            ("event", _) => self.member.note(&message)?,
            ("ack" | "error", _) => {
                return Err(Failure::told(format!("a vote was answered {:?}", message.code)));
            }
            _ => {}
        }
        Ok(())
    }

    fn acked(&mut self, id: Uuid, seq: u64) -> Result<(), Failure> {
        let one = self
            .pending
            .remove(&id)
            .ok_or_else(|| Failure::told("an ack that nobody waits for"))?;
        let took = nanoseconds(one.sent.elapsed());
        let taken = if one.due.after { &mut self.tally.after } else { &mut self.tally.ack };
        taken.saturating_record(took);
        if let Some(nth) = one.returns.checked_sub(1) {
            self.tally.obeyed.saturating_record(nanoseconds(one.first.elapsed()));
            self.tally.returns.resize(self.tally.returns.len().max(one.returns), 0);
            self.tally.returns.get_mut(nth).into_iter().for_each(|count| *count += 1);
        }
        self.meter.acks.fetch_add(1, Ordering::Relaxed);
        self.story.acked.push(Acked { id, poll: one.due.poll, choice: one.choice, seq });
        Ok(())
    }

    fn refused(&mut self, id: Uuid, retry_after_ms: u64) {
        let Some(one) = self.pending.get_mut(&id) else { return };
        self.tally.refused += 1;
        self.tally.refused_after += u64::from(one.due.after);
        if self.obedient || one.due.after {
            one.again = Some(Instant::now() + Duration::from_millis(retry_after_ms));
        } else {
            self.tally.given_up += 1;
            self.pending.remove(&id);
        }
    }
}

fn closed(code: u16) -> Failure {
    Failure::told(format!("a connection was closed with {code}"))
}
