//! The clients of one session in a fault run. Each votes in every poll it hears of, several votes in flight, comes back to
//! any instance when its connection dies, and sends again what was not answered, as the protocol asks. Some also write down
//! every event. Must never drop a vote that has no final answer. Called by `mod.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use plenum_loadtest::history::{Answer, Cast, Line, State, digest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::pause;
use super::presenter::{OpenPoll, Presenter};
use super::record::Record;
use super::stage::Stage;
use crate::support::*;

/// Participants who write down every event; the others would say the same.
const WATCHING: u32 = 4;
/// Presenters' streams that do.
const PRESENTERS: u32 = 3;
/// Connecting and being welcomed; then another instance is tried.
const HELLO_WITHIN: Duration = Duration::from_secs(6);
/// Without any message for so long the connection counts as dead: more than a vote may wait (10 s).
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// How soon a client looks at the polls again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks at a poll before it votes, on average: so votes are always on their way.
const HESITATES: usize = 8;

#[derive(Debug)]
pub(super) struct Crowd {
    session: Session,
    record: Arc<Record>,
    stop: watch::Sender<bool>,
    last: watch::Sender<Option<u64>>,
    presenter: tokio::task::JoinHandle<u64>,
    clients: JoinSet<()>,
}

impl Crowd {
    pub(super) async fn gather(stage: &Arc<Stage>, voters: usize, seed: u64) -> Crowd {
        let session = stage.session().await;
        let record = Arc::new(Record::default());
        let (stop, stopped) = watch::channel(false);
        let (last, ended) = watch::channel(None);
        let (opened, polls) = watch::channel(Vec::new());
        let presenter = Presenter::new(stage, &session, seed, opened);
        let presenter = tokio::spawn(presenter.run(stopped));
        let mut clients = JoinSet::new();
        for number in 0..u32::try_from(voters).unwrap() + PRESENTERS {
            let presents = number < PRESENTERS;
            let client = Client {
                number,
                watches: number < PRESENTERS + WATCHING,
                presents,
                hello: if presents {
                    json!({"type": "hello", "token": session.presenter})
                } else {
                    json!({"type": "hello", "code": session.code})
                },
                dice: Rng::with_seed(seed ^ u64::from(number + 1)),
                stage: Arc::clone(stage),
                record: Arc::clone(&record),
                polls: polls.clone(),
                ended: ended.clone(),
                id: Uuid::nil(),
                reached: 0,
                trail: Vec::new(),
                state: State::default(),
                waiting: HashMap::new(),
                known: HashSet::new(),
            };
            clients.spawn(client.run());
        }
        Crowd { session, record, stop, last, presenter, clients }
    }

    /// Waits until votes are acked again after a fault.
    pub(super) async fn goes_on(&self, after: &str) {
        within(60, &format!("votes are acked after {after}"), self.record.more_acks(5)).await;
    }

    /// Has everything come to its end.
    pub(super) async fn dismiss(self) -> (Session, Arc<Record>) {
        self.stop.send_replace(true);
        let last = within(120, "the presenter closes all", self.presenter).await.unwrap();
        self.last.send_replace(Some(last));
        within(120, "every client knows everything", self.clients.join_all()).await;
        (self.session, self.record)
    }
}

/// One client.
#[derive(Debug)]
struct Client {
    number: u32,
    watches: bool,
    presents: bool,
    hello: Value,
    dice: Rng,
    stage: Arc<Stage>,
    record: Arc<Record>,
    polls: watch::Receiver<Vec<OpenPoll>>,
    /// The session's last event, once that is known.
    ended: watch::Receiver<Option<u64>>,
    id: Uuid,
    reached: u64,
    /// Every event of this connection, with its `prev`; the first is the welcome.
    trail: Vec<(u64, u64)>,
    state: State,
    /// Votes without a final answer.
    waiting: HashMap<Uuid, Cast>,
    /// Polls that it voted in.
    known: HashSet<u32>,
}

impl Client {
    async fn run(mut self) {
        while !self.is_done() {
            match timeout(HELLO_WITHIN, self.connect()).await {
                Ok(Some(socket)) => self.talk(socket).await,
                _ => pause(&mut self.dice, 20..300).await,
            }
        }
        if self.watches {
            let (client, presenter) = (self.number, self.presents);
            self.record.note(Line::Final { client, presenter, state: self.state });
        }
    }

    fn is_done(&self) -> bool {
        let ended = *self.ended.borrow();
        self.waiting.is_empty() && ended.is_some_and(|last| self.reached >= last || !self.watches)
    }

    async fn connect(&mut self) -> Option<Socket> {
        let mut socket = Socket::connect(&self.stage.base(self.dice.usize(..))).await.ok()?;
        socket.send(&self.hello).await.ok()?;
        let Ok(Incoming::Message(welcome)) = socket.recv().await else { return None };
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let resumed = welcome["resumed"] == true;
        if let Some(id) = welcome["participant"]["id"].as_str() {
            let id = id.parse().unwrap();
            assert!(self.id.is_nil() || self.id == id, "came back as somebody else");
            self.id = id;
        }
        let seq = welcome["seq"].as_u64().unwrap();
        if self.watches {
            self.record.note(Line::Welcome { client: self.number, seq, resumed });
        }
        if !resumed {
            self.state = State::welcomed(&welcome);
        }
        self.trail = vec![(seq, seq)];
        self.reached = seq;
        let token =
            if self.presents { &self.hello["token"] } else { &welcome["participant"]["token"] };
        self.hello =
            json!({"type": "hello", "token": token, "after": seq, "epoch": welcome["epoch"]});
        Some(socket)
    }

    /// Votes and listens until the connection dies or all is done.
    async fn talk(&mut self, mut socket: Socket) {
        let mut unsent: Vec<Uuid> = self.waiting.keys().copied().collect();
        let mut sent: HashSet<Uuid> = HashSet::new();
        let mut silent = Duration::ZERO;
        while !self.is_done() && silent < SILENCE_MAX {
            unsent.extend(self.new_votes());
            let texts: Vec<String> =
                unsent.drain(..).map(|id| self.invoke(id, &mut sent)).collect();
            if !texts.is_empty() && socket.send_texts(&texts).await.is_err() {
                break;
            }
            match timeout(LOOK_EVERY, socket.recv()).await {
                Err(_) => silent += LOOK_EVERY,
                Ok(Ok(Incoming::Message(message))) => {
                    silent = Duration::ZERO;
                    unsent.extend(self.take(&message, &mut sent).await);
                }
                Ok(Ok(Incoming::Closed { .. }) | Err(_)) => break,
            }
        }
        for id in sent {
            self.record.note(Line::Unknown { id });
        }
        self.hello["after"] = json!(self.reached);
    }

    /// Votes in open polls that it has not voted in, each at a moment of its own.
    fn new_votes(&mut self) -> Vec<Uuid> {
        let open = if self.presents { Vec::new() } else { self.polls.borrow().clone() };
        let mut new = Vec::new();
        for poll in open {
            if self.dice.usize(..HESITATES) > 0 || !self.known.insert(poll.n) {
                continue;
            }
            let chosen = self.dice.usize(..poll.options);
            let answer = match poll.rating {
                true => Answer::Rating(chosen + 1),
                false => Answer::Choices(vec![chosen]),
            };
            let cast = Cast { id: Uuid::new_v4(), poll: poll.n, participant: self.id, answer };
            new.push(cast.id);
            self.waiting.insert(cast.id, cast);
        }
        new
    }

    fn invoke(&self, id: Uuid, sent: &mut HashSet<Uuid>) -> String {
        let cast = &self.waiting[&id];
        self.record.note(Line::Invoke(cast.clone()));
        sent.insert(id);
        json!({"type": "vote", "id": id, "poll": cast.poll, "answer": cast.answer}).to_string()
    }

    /// Takes in one message; a vote that is to be sent again is given back.
    async fn take(&mut self, message: &Value, sent: &mut HashSet<Uuid>) -> Option<Uuid> {
        let id = || message["id"].as_str().unwrap().parse::<Uuid>().unwrap();
        match message["type"].as_str().unwrap() {
            "ack" => {
                let (id, seq) = (id(), message["seq"].as_u64().unwrap());
                sent.remove(&id);
                self.waiting.remove(&id);
                self.record.note(Line::Ok { id, seq });
            }
            "error" => {
                let (id, code) = (id(), message["code"].as_str().unwrap().to_owned());
                sent.remove(&id);
                self.record.note(Line::Refused { id, code });
                if message["retry_after_ms"].is_null() {
                    self.waiting.remove(&id);
                    self.record.answered(id);
                } else {
                    pause(&mut self.dice, 20..200).await;
                    return Some(id);
                }
            }
            "event" => self.event(message),
            _ => {}
        }
        None
    }

    fn event(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_u64().unwrap();
        let (seq, prev, kind) = (number("seq"), number("prev"), message["kind"].as_str().unwrap());
        if self.watches {
            let digest = digest(kind, &message["data"]);
            self.record.note(Line::Seen { client: self.number, seq, prev, digest });
            self.state.apply(kind, &message["data"]);
        }
        self.trail.push((seq, prev));
        let recent = &self.trail[self.trail.len().saturating_sub(8)..];
        let in_order = prev <= self.reached && seq > self.reached;
        assert!(in_order, "client {}, at {}: {recent:?}", self.number, self.reached);
        self.reached = seq;
    }
}
