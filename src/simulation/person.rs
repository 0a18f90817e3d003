//! A client that does what docs/PROTOCOL.md tells clients to do: joins, folds events, votes, comes back with what it knows,
//! sends again what was not answered. It also does what clients do beside: reads slowly, vanishes, taps twice. It writes down
//! what it was told, and complains of what no client may see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use plenum_loadtest::history::{Answer, Cast, Line as Told, State, digest};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::dice::Dice;
use super::line::{Heard, Line};
use super::stage::Stage;

/// A vote on a connection that stays open is answered by then: it waits for a batch on its way, and is tried itself until
/// `VOTE_WAIT_MAX`; a last try of each may connect, prepare and commit for 5 s each.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(30);
/// A question to the log that was asked while something was wrong is given up by then (`QUERY_WAIT_MAX`), and asked again.
const NEWS_MAX: Duration = Duration::from_secs(9);
/// Between two looks at whether all is over, once it is calm.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Where devices of one participant find their token.
pub(super) type Shared = Arc<Mutex<Option<String>>>;

/// One vote, as its voter knows it.
struct Ballot {
    cast: Cast,
    due: Instant,
    /// When each try on this connection was sent, oldest first.
    asked: Vec<Instant>,
    /// Tries without an answer, on this connection or an earlier one.
    open: u32,
    tries: u32,
    settled: bool,
}

/// What one is like.
pub(super) struct Manner {
    /// Bytes that its network holds.
    pub(super) room: usize,
    /// Reads so late.
    pub(super) lag: Duration,
    /// Vanishes about so often.
    pub(super) stays: Duration,
}

pub(super) struct Person {
    stage: Arc<Stage>,
    pub(super) name: u64,
    session: Uuid,
    code: String,
    dice: Dice,
    manner: Manner,
    presenter: bool,
    token: Shared,
    participant: Option<Uuid>,
    epoch: String,
    view: u32,
    reached: u64,
    welcomed: bool,
    state: State,
    plan: Vec<(Instant, i32)>,
    ballots: Vec<Ballot>,
    acked: BTreeMap<u32, Value>,
    busy: bool,
    behind_since: Option<Instant>,
    /// The second device of a participant, who joins with the first.
    second: bool,
}

/// Why a visit ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Cut,
    Closed(u16),
    Done,
}

impl Person {
    pub(super) fn new(
        stage: &Arc<Stage>,
        name: u64,
        (session, code): (Uuid, String),
        (token, presenter): (Shared, bool),
        manner: Manner,
    ) -> Self {
        stage.busy.fetch_add(1, Ordering::Relaxed);
        Self {
            stage: stage.clone(),
            name,
            session,
            code,
            dice: Dice::of(stage.world.seed, "person", name),
            manner,
            presenter,
            token,
            participant: None,
            epoch: String::new(),
            view: 0,
            reached: 0,
            welcomed: false,
            state: State::default(),
            plan: Vec::new(),
            ballots: Vec::new(),
            acked: BTreeMap::new(),
            busy: true,
            behind_since: None,
            second: false,
        }
    }

    /// Will vote in these polls at these moments; `second`: from the second device of a participant.
    pub(super) fn means(&mut self, plan: Vec<(Instant, i32)>, second: bool) {
        (self.plan, self.second) = (plan, second);
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.stage.world.note(|| format!("p{} {}", self.name, what()));
    }

    fn fault(&self, what: &str) {
        self.stage.fault(format!("p{}: {what}", self.name));
    }

    /// Comes, and comes back, until all is over.
    pub(super) async fn live(mut self) {
        while self.second && self.token.lock().is_none() && !self.stage.is_calm() {
            sleep(LOOK_EVERY).await;
        }
        loop {
            let ended = match self.stage.pick(&mut self.dice) {
                Some(instance) => {
                    let socket = self.stage.connect(&instance, self.manner.room);
                    self.note(|| format!("comes to i{}", instance.number));
                    let mut line = Line::over(socket);
                    tokio::select! {
                        biased;
                        () = instance.gone.cancelled() => Ended::Cut,
                        ended = self.visit(&mut line) => ended,
                    }
                }
                None => Ended::Cut,
            };
            self.note(|| format!("left: {ended:?}"));
            match ended {
                Ended::Done => break,
                Ended::Closed(code @ (1002 | 1007 | 1009 | 4400 | 4401 | 4404 | 4410)) => {
                    self.fault(&format!("was closed with {code}, which is for ever"));
                    break;
                }
                _ => {}
            }
            self.ballots.iter_mut().for_each(|ballot| ballot.asked.clear());
            sleep(self.dice.ms(10..700)).await;
        }
        if self.busy {
            self.stage.busy.fetch_sub(1, Ordering::Relaxed);
        }
        let (client, presenter) = (self.view, self.presenter);
        self.stage.views.lock().insert(client, (presenter, true));
        let state = std::mem::take(&mut self.state);
        self.tell(Told::Final { client, presenter, state });
    }

    fn tell(&self, line: Told) {
        self.stage.line(self.session, &self.epoch, line);
    }

    async fn visit(&mut self, line: &mut Line) -> Ended {
        let token = self.token.lock().clone();
        let hello = match token {
            Some(token) if self.welcomed => {
                json!({ "type": "hello", "token": token, "after": self.reached, "epoch": self.epoch })
            }
            Some(token) => json!({ "type": "hello", "token": token }),
            None => json!({ "type": "hello", "code": self.code }),
        };
        line.say(&hello.to_string()).await;
        let leaves = Instant::now()
            + self.manner.stays.mul_f64(0.2 + self.dice.within(0..160) as f64 / 100.0);
        let mut greeted = false;
        loop {
            let calm = self.stage.is_calm();
            self.look_for_news(calm && greeted);
            if calm && greeted && self.is_done() {
                line.close().await;
                return Ended::Done;
            }
            let next = if calm { Instant::now() + LOOK_EVERY } else { leaves };
            let due = if greeted { self.next_due() } else { None };
            let late = self.oldest_asked().map(|asked| asked + ANSWER_MAX);
            let alarm = [Some(next), due, late].into_iter().flatten().min().unwrap();
            tokio::select! {
                biased;
                heard = line.hear() => match heard {
                    Heard::Ended => return Ended::Cut,
                    Heard::Close(code) => return Ended::Closed(code),
                    Heard::Message(message) => {
                        if !self.manner.lag.is_zero() && !calm {
                            sleep(self.manner.lag).await;
                        }
                        greeted |= message["type"] == "welcome";
                        self.take(&message);
                    }
                },
                () = sleep_until(alarm) => {
                    let now = Instant::now();
                    if late.is_some_and(|late| late <= now) {
                        self.fault("a vote was not answered in time, and the connection is open");
                        self.ballots.iter_mut().for_each(|ballot| ballot.asked.clear());
                    }
                    if due.is_some_and(|due| due <= now) {
                        self.vote(line).await;
                    } else if !calm && leaves <= now {
                        if self.dice.percent(30) {
                            line.close().await;
                        }
                        return Ended::Cut;
                    }
                }
            }
        }
    }

    /// Once nothing goes wrong, no news is long on its way.
    fn look_for_news(&mut self, calm: bool) {
        let behind = calm && self.reached < self.last_shown();
        let now = Instant::now();
        if *self.behind_since.get_or_insert(now) + NEWS_MAX < now && behind {
            self.fault("was not told the news");
            self.behind_since = None;
        }
        if !behind {
            self.behind_since = None;
        }
    }

    fn oldest_asked(&self) -> Option<Instant> {
        self.ballots.iter().filter_map(|ballot| ballot.asked.first()).min().copied()
    }

    /// All answers are here, also everybody else's, and the log has been shown to its end.
    fn is_done(&mut self) -> bool {
        let settled = self.plan.is_empty() && self.ballots.iter().all(|ballot| ballot.settled);
        if settled && self.busy {
            self.busy = false;
            self.stage.busy.fetch_sub(1, Ordering::Relaxed);
        }
        self.stage.busy.load(Ordering::Relaxed) == 0
            && self.stage.is_quiet()
            && self.reached >= self.last_shown()
    }

    fn last_shown(&self) -> u64 {
        let tables = self.stage.world.tables.lock();
        let log = &tables.sessions[&self.session].log;
        let shown = |kind: &str, hidden: bool| self.presenter || !hidden || kind != "poll.results";
        let last = log.iter().rev().find(|event| shown(event.kind, event.hidden));
        last.map_or(0, |event| u64::try_from(event.seq).unwrap())
    }

    fn next_due(&self) -> Option<Instant> {
        let planned = self.plan.iter().map(|(at, _)| *at);
        let again = self.ballots.iter().filter(|it| !it.settled && it.asked.is_empty());
        planned.chain(again.map(|ballot| ballot.due)).min()
    }

    /// Sends what is due: a new vote, or one again.
    async fn vote(&mut self, line: &mut Line) {
        let now = Instant::now();
        let Some(participant) = self.participant else { return };
        while let Some(at) = self.plan.iter().position(|(at, _)| *at <= now) {
            let (_, poll) = self.plan.remove(at);
            let id = Uuid::from_u64_pair(self.dice.bits(), self.dice.bits());
            let answer = if poll == 2 {
                Answer::Rating(1 + self.dice.below(5))
            } else {
                Answer::Choices(vec![self.dice.below(3)])
            };
            let poll = u32::try_from(poll).unwrap();
            let cast = Cast { id, poll, participant, answer };
            self.ballots.push(Ballot {
                cast,
                due: now,
                asked: vec![],
                open: 0,
                tries: 0,
                settled: false,
            });
        }
        let twice = self.dice.percent(4);
        for at in 0..self.ballots.len() {
            let ballot = &self.ballots[at];
            if ballot.settled || !ballot.asked.is_empty() || ballot.due > now {
                continue;
            }
            let message = json!({ "type": "vote", "id": ballot.cast.id, "poll": ballot.cast.poll,
                                  "answer": ballot.cast.answer })
            .to_string();
            for _ in 0..=u8::from(twice) {
                let cast = self.ballots[at].cast.clone();
                self.note(|| format!("votes in {}, ballot {at}", cast.poll));
                self.tell(Told::Invoke(cast));
                self.ballots[at].open += 1;
                self.ballots[at].tries += 1;
                self.ballots[at].asked.push(Instant::now());
                line.say(&message).await;
            }
        }
    }

    fn take(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "welcome" => self.welcome(message),
            "event" => self.event(message),
            "ack" | "error" => self.answer(message),
            "presence" | "bye" | "pong" => self.note(|| message["type"].to_string()),
            other => self.fault(&format!("does not know {other}")),
        }
    }

    fn welcome(&mut self, message: &Value) {
        let seq = message["seq"].as_u64().unwrap();
        let (epoch, resumed) = (message["epoch"].as_str().unwrap(), message["resumed"] == true);
        if self.epoch != epoch {
            // Another history: what is known of the one before says nothing of this one.
            epoch.clone_into(&mut self.epoch);
            (self.view, self.reached) = (self.stage.view(self.presenter), 0);
            self.acked.clear();
            if resumed {
                self.fault("was resumed in another history");
            }
        }
        if let Some(id) = message["participant"]["id"].as_str() {
            self.participant = id.parse().ok();
            let token = message["participant"]["token"].as_str().unwrap().to_owned();
            self.token.lock().get_or_insert(token);
            for (poll, answer) in &self.acked {
                if message["my_votes"][poll.to_string()] != *answer {
                    self.fault(&format!("its vote in {poll} is not among its votes"));
                }
            }
        }
        self.welcomed = true;
        if !resumed {
            self.state = State::welcomed(message);
        }
        self.reached = seq;
        self.note(|| format!("welcomed at {seq}, resumed {resumed}"));
        self.stage.count(if resumed { "resumed" } else { "welcomed" });
        self.tell(Told::Welcome { client: self.view, seq, resumed });
    }

    fn event(&mut self, message: &Value) {
        let (seq, prev) = (message["seq"].as_u64().unwrap(), message["prev"].as_u64().unwrap());
        let (kind, data) = (message["kind"].as_str().unwrap(), &message["data"]);
        self.note(|| format!("sees {seq} after {prev}: {kind}"));
        self.stage.count("events");
        let digest = digest(kind, data);
        self.tell(Told::Seen { client: self.view, seq, prev, digest });
        self.state.apply(kind, data);
        self.reached = self.reached.max(seq);
    }

    fn answer(&mut self, message: &Value) {
        let id: Option<Uuid> = message["id"].as_str().and_then(|id| id.parse().ok());
        let Some(at) = self.ballots.iter().position(|ballot| Some(ballot.cast.id) == id) else {
            return self.fault(&format!("was answered what it never asked: {message}"));
        };
        let (now, cast) = (Instant::now(), self.ballots[at].cast.clone());
        if self.ballots[at].asked.is_empty() {
            return self.fault(&format!("ballot {at} was answered twice: {message}"));
        }
        let waited = now - self.ballots[at].asked.remove(0);
        let ms = u64::try_from(waited.as_millis()).unwrap();
        self.stage.longest_ms.fetch_max(ms, Ordering::Relaxed);
        if message["type"] == "ack" {
            let seq = message["seq"].as_u64().unwrap();
            self.note(|| format!("ballot {at} acked by {seq}, repeat {}", message["repeat"]));
            self.stage.count("acked");
            if message["repeat"] == true && self.ballots[at].tries == 1 {
                self.fault("was told of a repeat, and had voted once");
            }
            self.ballots[at].settled = true;
            self.acked.insert(cast.poll, json!(cast.answer));
            return self.tell(Told::Ok { id: cast.id, seq });
        }
        let code = message["code"].as_str().unwrap().to_owned();
        self.note(|| format!("ballot {at} refused: {code}"));
        self.stage.count("refused");
        let again = ["overloaded", "draining", "database_unavailable", "rate_limited"];
        let put_off = again.contains(&code.as_str());
        self.ballots[at].open -= u32::from(code != "database_unavailable");
        // Some give up; what was put off must not be stored then.
        let gives_up = code != "database_unavailable" && self.dice.percent(25);
        if put_off && !gives_up {
            let wait = message["retry_after_ms"].as_u64().unwrap_or(0);
            self.ballots[at].due = now + Duration::from_millis(wait) + self.dice.ms(100..1_500);
        } else {
            self.ballots[at].settled = true;
            if self.ballots[at].open > 0 {
                self.stage.loose_end();
            }
        }
        self.tell(Told::Refused { id: cast.id, code });
    }
}
