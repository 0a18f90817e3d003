//! One joined connection: says hello, checks that no event is missing, comes back after a loss
//! with the token and the place that it had, as the protocol asks of every client.
//! Must never vote by itself. Called by the demonstration and the load test.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use plenum_loadtest::client::socket::Raw;
use plenum_loadtest::client::{ConnectOptions, LeanSocket};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::message::Message;

/// The first back-off lies between nothing and this (protocol 4: full jitter from 250 ms to 10 s).
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
/// The highest back-off.
const BACK_OFF_LAST: Duration = Duration::from_secs(10);
/// Attempts to come back before giving up: with the back-offs above, about half a minute.
const RETURN_ATTEMPTS: u32 = 10;

/// The addresses of the instances, which may change while clients are connected. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Roster(Arc<Mutex<Vec<String>>>);

impl Roster {
    /// Instances at these addresses.
    pub(crate) fn of(urls: Vec<String>) -> Roster {
        Roster(Arc::new(Mutex::new(urls)))
    }

    /// Instances come and go.
    pub(crate) fn set(&self, urls: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// The address for the `nth` attempt: one after the other, as a balancer does.
    fn pick(&self, nth: usize) -> Option<String> {
        let urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        urls.get(nth.checked_rem(urls.len())?).cloned()
    }
}

/// Where to connect, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) roster: Roster,
    pub(crate) source: Option<IpAddr>,
    /// Which of the addresses is tried first.
    pub(crate) first: usize,
}

impl Place {
    /// The server at `url`, from whatever address the system takes.
    pub(crate) fn at(url: &str) -> Place {
        Place { roster: Roster::of(vec![url.to_owned()]), source: None, first: 0 }
    }

    async fn connect(&self, attempt: usize) -> Result<(LeanSocket, String), Failure> {
        let url = self.roster.pick(self.first + attempt);
        let url = url.ok_or_else(|| Failure::told("no instance is there"))?;
        let options = ConnectOptions { source: self.source, ..ConnectOptions::default() };
        Ok((LeanSocket::connect_with(&url, &options).await?, url))
    }
}

/// One joined connection.
#[derive(Debug)]
pub(crate) struct Participant {
    place: Place,
    socket: LeanSocket,
    /// The address of the instance that it is connected to.
    pub(crate) instance: String,
    /// The id from join; empty for a presenter.
    pub(crate) id: String,
    token: String,
    epoch: String,
    /// The highest `seq` seen.
    pub(crate) seq: u64,
    /// How often the connection was lost and made again.
    pub(crate) returns: u32,
    /// How often coming back gave the state instead of the missed events.
    pub(crate) not_resumed: u32,
    /// Attempts to come back that failed, in words.
    pub(crate) turned_away: Vec<String>,
    /// The server said goodbye, and when to come back.
    bye: bool,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    token: String,
}

impl Participant {
    /// Joins anew by code.
    pub(crate) async fn join(place: Place, code: &str) -> Result<Participant, Failure> {
        let hello = json!({ "type": "hello", "code": code });
        Participant::begin(place, String::new(), &hello).await
    }

    /// Connects with a presenter's token.
    pub(crate) async fn present(place: Place, token: &str) -> Result<Participant, Failure> {
        let hello = json!({ "type": "hello", "token": token });
        Participant::begin(place, token.to_owned(), &hello).await
    }

    async fn begin(place: Place, token: String, hello: &Value) -> Result<Participant, Failure> {
        let (socket, instance) = place.connect(0).await?;
        let mut participant = Participant {
            place,
            socket,
            instance,
            id: String::new(),
            token,
            epoch: String::new(),
            seq: 0,
            returns: 0,
            not_resumed: 0,
            turned_away: Vec::new(),
            bye: false,
        };
        participant.greet(hello).await?;
        Ok(participant)
    }

    /// Sends hello and takes in the welcome, which must be the first message.
    async fn greet(&mut self, hello: &Value) -> Result<(), Failure> {
        self.socket.send_text(&hello.to_string()).await?;
        let text = match self.socket.next().await? {
            Raw::Text(text) => text,
            Raw::Closed { code, reason } => {
                return Err(Failure::told(format!("closed before welcome: {code:?} {reason}")));
            }
        };
        let welcome = Message::parse(&text)?;
        if welcome.name != "welcome" {
            return Err(Failure::told(format!("{} came before welcome", welcome.name)));
        }
        self.seq = welcome.seq.ok_or_else(|| Failure::told("a welcome without seq"))?;
        if hello.get("after").is_some() && welcome.resumed != Some(true) {
            self.not_resumed += 1;
        }
        welcome.epoch.unwrap_or_default().clone_into(&mut self.epoch);
        if let Some(identity) = welcome.participant {
            let identity: Identity = serde_json::from_str(identity.get())
                .map_err(|_| Failure::told("a welcome whose participant makes no sense"))?;
            if !self.id.is_empty() && self.id != identity.id {
                return Err(Failure::told("came back as somebody else"));
            }
            self.id = identity.id;
            self.token = identity.token;
        }
        Ok(())
    }

    /// Sends one message; a lost connection shows in the next `next`.
    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.socket.send_text(text).await;
    }

    /// Sends several messages in one write, as `send`.
    pub(crate) async fn send_all<T: AsRef<str>>(&mut self, texts: &[T]) {
        let _ = self.socket.send_texts(texts).await;
    }

    /// The next message, `None` where the connection was lost. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, Failure> {
        match self.next_or_code().await? {
            Ok(text) => Ok(Some(text)),
            Err(_) => Ok(None),
        }
    }

    /// As `next`, with the close code (1006 where none came). Cancel safe.
    pub(crate) async fn next_or_code(&mut self) -> Result<Result<BytesMut, u16>, Failure> {
        match self.socket.next().await? {
            Raw::Text(text) => Ok(Ok(text)),
            Raw::Closed { code, .. } => Ok(Err(code.unwrap_or(1006))),
        }
    }

    /// The server sends everybody away, each at a moment of its own; then there is nothing to wait for.
    pub(crate) fn said_goodbye(&mut self) {
        self.bye = true;
    }

    /// Takes in an event's place in the log; fails if one before it is missing.
    pub(crate) fn note(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let (Some(seq), Some(prev)) = (message.seq, message.prev) else {
            return Err(Failure::told("an event without seq or prev"));
        };
        self.note_place(seq, prev)
    }

    /// As `note`, of an event whose place is known.
    pub(crate) fn note_place(&mut self, seq: u64, prev: u64) -> Result<(), Failure> {
        if prev > self.seq || seq <= self.seq {
            let seen = self.seq;
            return Err(Failure::told(format!("event {seq} after {prev}, but {seen} was seen")));
        }
        self.seq = seq;
        Ok(())
    }

    /// Comes back with the token and place that this participant had, after a back-off unless the
    /// server had said when. Not cancel safe: a cancelled return leaves the lost connection.
    pub(crate) async fn come_back(&mut self) -> Result<(), Failure> {
        let hello = json!({
            "type": "hello", "token": self.token, "after": self.seq, "epoch": self.epoch
        });
        let mut wait = BACK_OFF_FIRST;
        let mut last = Failure::told("never tried");
        for attempt in 0..RETURN_ATTEMPTS {
            if !std::mem::take(&mut self.bye) {
                tokio::time::sleep(wait.mul_f64(fastrand::f64())).await;
            }
            wait = (wait * 2).min(BACK_OFF_LAST);
            let back = async {
                // The next address first: the one that was lost may be gone.
                (self.socket, self.instance) =
                    self.place.connect(1 + self.returns as usize + attempt as usize).await?;
                self.greet(&hello).await
            };
            match back.await {
                Ok(()) => {
                    self.returns += 1;
                    return Ok(());
                }
                Err(failure) => {
                    self.turned_away.push(failure.to_string());
                    last = failure;
                }
            }
        }
        Err(last)
    }

    /// Drops the connection; whoever calls `come_back` next does not have to wait.
    pub(crate) fn drop_connection(&mut self) {
        self.bye = true;
        self.socket.abandon();
    }

    /// Ends the connection in the regular way; nothing of it is needed any more.
    pub(crate) async fn leave(self) {
        self.socket.close(1000);
    }
}
