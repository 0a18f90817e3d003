//! One participant of a hall: follows orders, reads and checks every frame, keeps what the check at
//! the end needs. What is wrong is counted and the run goes on: one fault must not hide the others.
//! Must never send a vote twice under two ids. Called by `hall`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use uuid::Uuid;

use super::hall::{Meter, Order, nanoseconds};
use crate::failure::Failure;
use crate::message::{Message, Results, milliseconds_of_day};
use crate::participant::Participant;

/// A server that says "later" without a time is asked again after this long.
const RETRY_AFTER: u64 = 250;
/// Faults of one participant that are kept in words.
const FAULTS_KEPT: usize = 3;
/// Options of every poll.
pub(super) const OPTIONS: u8 = 4;

/// A vote that was acked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) id: Uuid,
    pub(super) poll: u32,
    pub(super) choice: u8,
    pub(super) seq: u64,
}

/// What one participant lived through.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) participant: String,
    pub(super) acked: Vec<Acked>,
    /// Votes that were refused for good, by code.
    pub(super) refused: BTreeMap<String, u64>,
    /// Votes put off, by code, and sent again.
    pub(super) put_off: BTreeMap<String, u64>,
    /// Connections lost, by close code.
    pub(super) lost: BTreeMap<u16, u64>,
    pub(super) not_resumed: u32,
    /// Attempts to come back that found nobody, in words.
    pub(super) turned_away: Vec<String>,
    pub(super) events: u64,
    /// The newest results of each poll.
    pub(super) results: BTreeMap<u32, Results>,
    pub(super) faults: Vec<String>,
    pub(super) fault_count: u64,
}

#[derive(Debug)]
struct Pending {
    due: Instant,
    poll: u32,
    choice: u8,
    again: Option<Instant>,
}

pub(super) struct Voter {
    member: Participant,
    orders: mpsc::Receiver<Order>,
    meter: Arc<Meter>,
    nth: usize,
    home: String,
    pending: HashMap<Uuid, Pending>,
    awaiting: Option<(u64, Instant)>,
    /// Votes that the counts seen here do not hold yet: the first `seq` that will, and when they were due.
    unseen: Vec<(u64, Instant)>,
    leave_at: Option<u64>,
    /// The connection is gone, and nobody tries to get it back.
    away: bool,
    story: Story,
}

impl Voter {
    pub(super) fn new(
        member: Participant,
        orders: mpsc::Receiver<Order>,
        meter: Arc<Meter>,
        nth: usize,
        home: &str,
    ) -> Voter {
        let story = Story { participant: member.id.clone(), ..Story::default() };
        Voter {
            member,
            orders,
            meter,
            nth,
            home: home.to_owned(),
            pending: HashMap::new(),
            awaiting: None,
            unseen: Vec::new(),
            leave_at: None,
            away: false,
            story,
        }
    }

    /// Until told to leave and done.
    pub(super) async fn run(mut self) -> Result<Story, Failure> {
        loop {
            let there = self.leave_at.is_some_and(|seq| self.member.seq >= seq);
            if there && self.pending.is_empty() {
                break;
            }
            let again = self.pending.values().filter_map(|one| one.again).min();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.follow(order).await?,
                    // The scenario has failed; nobody waits for this story.
                    None => break,
                },
                message = self.member.next_or_code(), if !self.away => match message? {
                    Ok(text) => self.take(&text)?,
                    Err(code) => self.lost(code).await?,
                },
                () = sleep_until(again.unwrap_or_else(Instant::now).into()), if again.is_some() => {
                    self.send_again(|one| one.again.is_some_and(|at| at <= Instant::now())).await;
                }
            }
        }
        self.story.not_resumed = self.member.not_resumed;
        self.story.turned_away = std::mem::take(&mut self.member.turned_away);
        self.member.leave().await;
        Ok(self.story)
    }

    async fn follow(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Vote { poll, due } => {
                let id = Uuid::new_v4();
                let [first, ..] = *id.as_bytes();
                let choice = first % OPTIONS;
                self.pending.insert(id, Pending { due, poll, choice, again: None });
                self.member.send(&ballot(id, poll, choice)).await;
            }
            Order::Drop => {
                self.member.drop_connection();
                self.away = true;
            }
            Order::Return { seq, due } => {
                self.awaiting = Some((seq, due));
                self.away = false;
                self.member.come_back().await?;
                self.send_again(|_| true).await;
                self.caught_up();
            }
            Order::Sleep(time) => tokio::time::sleep(time).await,
            Order::Leave { seq } => self.leave_at = Some(seq),
        }
        Ok(())
    }

    /// Sends votes without an answer once more, under the same ids.
    async fn send_again(&mut self, which: impl Fn(&Pending) -> bool) {
        let mut texts = Vec::new();
        for (id, one) in self.pending.iter_mut().filter(|(_, one)| which(one)) {
            one.again = None;
            texts.push(ballot(*id, one.poll, one.choice));
        }
        self.member.send_all(&texts).await;
    }

    async fn lost(&mut self, code: u16) -> Result<(), Failure> {
        let at = Instant::now();
        *self.story.lost.entry(code).or_default() += 1;
        self.member.come_back().await?;
        let took = nanoseconds(at.elapsed());
        self.meter.mark(self.nth, |times| times.back.saturating_record(took));
        self.send_again(|_| true).await;
        Ok(())
    }

    fn fault(&mut self, text: String) {
        self.story.fault_count += 1;
        if self.story.faults.len() < FAULTS_KEPT {
            self.story.faults.push(text);
        }
    }

    fn take(&mut self, text: &BytesMut) -> Result<(), Failure> {
        let message = Message::parse(text)?;
        match message.name {
            "event" => self.take_event(&message),
            "ack" => self.take_ack(&message),
            "error" => self.take_error(&message),
            "bye" => self.member.said_goodbye(),
            "presence" => {}
            other => self.fault(format!("an unexpected {other}")),
        }
        Ok(())
    }

    fn take_event(&mut self, message: &Message<'_>) {
        self.story.events += 1;
        self.meter.events.fetch_add(1, Ordering::Relaxed);
        if let Some(latency) = message.at.and_then(age_of) {
            let here = self.member.instance == self.home;
            self.meter.mark(self.nth, |times| {
                let taken = if here { &mut times.delivery } else { &mut times.delivery_elsewhere };
                taken.saturating_record(latency);
            });
        }
        if let Err(failure) = self.member.note(message) {
            self.fault(failure.to_string());
            // From here on it is judged anew, so that one hole is one fault.
            self.member.seq = message.seq.unwrap_or(self.member.seq);
        }
        if let Some(results) = message.results() {
            let sum: u64 = results.counts.iter().sum();
            let before = self.story.results.get(&results.poll).map_or(0, |one| one.votes);
            if sum != results.votes || results.votes < before {
                self.fault(format!("{results:?} after {before} votes"));
            }
            self.story.results.insert(results.poll, results);
        }
        self.caught_up();
        self.seen();
    }

    /// Marks own votes that the counts now hold.
    fn seen(&mut self) {
        let reached = self.member.seq;
        for (_, due) in self.unseen.extract_if(.., |(seq, _)| *seq <= reached) {
            let took = nanoseconds(due.elapsed());
            self.meter.mark(self.nth, |times| times.seen.saturating_record(took));
        }
    }

    fn caught_up(&mut self) {
        if let Some((seq, due)) = self.awaiting
            && self.member.seq >= seq
        {
            self.awaiting = None;
            let took = nanoseconds(due.elapsed());
            self.meter.mark(self.nth, |times| times.caught_up.saturating_record(took));
        }
    }

    fn take_ack(&mut self, message: &Message<'_>) {
        let id = message.id.and_then(|id| Uuid::parse_str(id).ok());
        let Some((id, one)) = id.and_then(|id| Some((id, self.pending.remove(&id)?))) else {
            return self.fault(format!("an ack that nobody waits for: {:?}", message.id));
        };
        self.meter.acked(self.nth, one.due.elapsed());
        let seq = message.seq.unwrap_or_default();
        self.story.acked.push(Acked { id, poll: one.poll, choice: one.choice, seq });
        self.unseen.push((seq, one.due));
        self.seen();
    }

    fn take_error(&mut self, message: &Message<'_>) {
        let code = message.code.unwrap_or_default().to_owned();
        let id = message.id.and_then(|id| Uuid::parse_str(id).ok());
        let pending = id.and_then(|id| self.pending.get_mut(&id));
        let put_off = ["overloaded", "draining", "database_unavailable", "rate_limited"];
        match pending {
            Some(pending) if put_off.contains(&code.as_str()) => {
                let wait = message.retry_after_ms.unwrap_or(RETRY_AFTER);
                pending.again = Some(Instant::now() + Duration::from_millis(wait));
                *self.story.put_off.entry(code).or_default() += 1;
            }
            _ => {
                id.and_then(|id| self.pending.remove(&id));
                *self.story.refused.entry(code).or_default() += 1;
            }
        }
    }
}

pub(super) fn ballot(id: Uuid, poll: u32, choice: u8) -> String {
    format!(r#"{{"type":"vote","id":"{id}","poll":{poll},"answer":{{"choices":[{choice}]}}}}"#)
}

/// Nanoseconds since a time of the log, which is cut to milliseconds: up to one more than it was.
fn age_of(at: &str) -> Option<u64> {
    const DAY: u64 = 86_400_000_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = nanoseconds(now) % DAY;
    let age = (now + DAY - milliseconds_of_day(at)? * 1_000_000) % DAY;
    // Half a day "ago" is a clock that is a little ahead.
    Some(if age > DAY / 2 { 0 } else { age })
}
