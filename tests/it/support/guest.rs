//! One joined WebSocket: what was received and not yet asked for is kept, so that an answer and an
//! event may come in either order. Checks `seq` and `prev` of everything that arrives.
//! Must never reconnect by itself. Called by `room` and by tests.

use std::collections::VecDeque;

use plenum_loadtest::client::{Incoming, Socket};
use serde_json::{Value, json};
use uuid::Uuid;

use super::waiting::{SOON, within};

/// A connection after its welcome.
#[derive(Debug)]
pub(crate) struct Guest {
    socket: Socket,
    /// The first message.
    pub(crate) welcome: Value,
    /// The participant's token; empty for a presenter.
    pub(crate) token: String,
    /// The participant's id; empty for a presenter.
    pub(crate) id: String,
    /// The highest `seq` seen.
    pub(crate) highest: i64,
    /// Every message received, in order, the welcome first.
    pub(crate) received: Vec<Value>,
    unread: VecDeque<Value>,
}

impl Guest {
    /// Connects to `base` and says `hello`; the server must answer with a welcome.
    pub(crate) async fn hello(base: &str, hello: Value) -> Guest {
        match Guest::try_hello(base, hello).await {
            Ok(guest) => guest,
            Err(code) => panic!("closed with {code:?} instead of a welcome"),
        }
    }

    /// As `hello`; an error is the close code.
    pub(crate) async fn try_hello(base: &str, mut hello: Value) -> Result<Guest, Option<u16>> {
        let mut socket = within(SOON, "connecting", Socket::connect(base)).await.unwrap();
        hello["type"] = json!("hello");
        // A server that is full may close before it has read the hello.
        let _ = socket.send(&hello).await;
        let welcome = match within(SOON, "a welcome", socket.recv()).await.unwrap() {
            Incoming::Message(welcome) => welcome,
            Incoming::Closed { code, .. } => return Err(code),
        };
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Guest {
            socket,
            token: text(&welcome["participant"]["token"]),
            id: text(&welcome["participant"]["id"]),
            highest: welcome["seq"].as_i64().unwrap(),
            received: vec![welcome.clone()],
            unread: VecDeque::new(),
            welcome,
        })
    }

    /// Sends one message.
    pub(crate) async fn send(&mut self, message: Value) {
        self.socket.send(&message).await.unwrap();
    }

    /// Sends one message; false where the connection has died.
    pub(crate) async fn try_send(&mut self, message: &Value) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// Sends any text.
    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send_text(text).await.unwrap();
    }

    /// Sends a vote with a fresh id, which is returned.
    pub(crate) async fn vote(&mut self, poll: i64, answer: Value) -> String {
        let id = Uuid::new_v4().to_string();
        self.vote_as(&id, poll, answer).await;
        id
    }

    /// Sends a vote with a given id.
    pub(crate) async fn vote_as(&mut self, id: &str, poll: i64, answer: Value) {
        self.send(json!({"type": "vote", "id": id, "poll": poll, "answer": answer})).await;
    }

    /// Sends a vote and waits for its ack or error.
    pub(crate) async fn cast(&mut self, poll: i64, answer: Value) -> Value {
        let id = self.vote(poll, answer).await;
        self.verdict(&id).await
    }

    /// As `cast`, with a given id.
    pub(crate) async fn cast_as(&mut self, id: &str, poll: i64, answer: Value) -> Value {
        self.vote_as(id, poll, answer).await;
        self.verdict(id).await
    }

    /// The ack or error that answers a vote.
    pub(crate) async fn verdict(&mut self, id: &str) -> Value {
        self.take("an ack or error", |message| {
            ["ack", "error"].contains(&message["type"].as_str().unwrap()) && message["id"] == id
        })
        .await
    }

    /// The next error, whatever it answers.
    pub(crate) async fn error(&mut self) -> Value {
        self.take("an error", |message| message["type"] == "error").await
    }

    /// The next event of a kind.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        self.take(kind, |message| message["type"] == "event" && message["kind"] == kind).await
    }

    /// The results of a poll that count so many votes.
    pub(crate) async fn results(&mut self, poll: i64, votes: i64) -> Value {
        let event = self
            .take(&format!("{votes} votes in poll {poll}"), |message| {
                message["kind"] == "poll.results"
                    && message["data"]["poll"] == poll
                    && message["data"]["votes"] == votes
            })
            .await;
        event["data"].clone()
    }

    /// The first message not yet asked for that `fits`.
    pub(crate) async fn take(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&fits) {
            return self.unread.remove(at).unwrap();
        }
        within(SOON, what, async {
            loop {
                match self.receive().await {
                    Ok(message) if fits(&message) => return message,
                    Ok(message) => self.unread.push_back(message),
                    Err(code) => panic!("closed with {code:?}, waiting for {what}"),
                }
            }
        })
        .await
    }

    /// The next message, or the close code.
    pub(crate) async fn receive(&mut self) -> Result<Value, Option<u16>> {
        match self.socket.recv().await.unwrap() {
            Incoming::Closed { code, .. } => Err(code),
            Incoming::Message(message) => {
                self.check(&message);
                self.received.push(message.clone());
                Ok(message)
            }
        }
    }

    /// Reads up to the end and returns the close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        self.closed_within(SOON).await
    }

    /// As `closed`, with a deadline in seconds.
    pub(crate) async fn closed_within(&mut self, seconds: u64) -> Option<u16> {
        within(seconds, "the connection is closed", async {
            loop {
                if let Err(code) = self.receive().await {
                    return code;
                }
            }
        })
        .await
    }

    /// Leaves in the orderly way and waits for the server's half of it.
    pub(crate) async fn leave(mut self) {
        self.socket.close(1000, "").await.unwrap();
        self.closed().await;
    }

    /// The events received, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.received.iter().filter(|message| message["type"] == "event").cloned().collect()
    }

    /// Every event continues the stream: above all earlier ones, with no hole before it.
    fn check(&mut self, message: &Value) {
        assert_ne!(message["type"], "welcome", "a second welcome");
        if message["type"] != "event" {
            return;
        }
        let (seq, prev) = (message["seq"].as_i64().unwrap(), message["prev"].as_i64().unwrap());
        assert!(seq > self.highest, "seq {seq} after {}", self.highest);
        assert!(prev <= self.highest, "a hole: prev {prev} after {}", self.highest);
        self.highest = seq;
    }
}
