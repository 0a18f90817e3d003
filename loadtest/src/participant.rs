//! One joined connection: says hello, checks that no event is missing, comes back after a loss
//! with the token and the place that it had, as the protocol asks of every client.
//! Must never vote by itself. Called by the demonstration and the figures.

use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use plenum_loadtest::client::socket::Raw;
use plenum_loadtest::client::{ConnectOptions, Socket};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::message::Message;

/// Before another attempt to come back; the attempts are few and the server is the same machine.
const BEFORE_RETURN: Duration = Duration::from_millis(250);
/// Attempts to come back before giving up: with the pause above, five seconds.
const RETURN_ATTEMPTS: u32 = 20;

/// Where to connect, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) source: Option<IpAddr>,
}

impl Place {
    /// The server at `url`, from whatever address the system takes.
    pub(crate) fn at(url: &str) -> Place {
        Place { url: url.to_owned(), source: None }
    }

    async fn connect(&self) -> Result<Socket, Failure> {
        let options = ConnectOptions { source: self.source, ..ConnectOptions::default() };
        Ok(Socket::connect_with(&self.url, &options).await?)
    }
}

/// One joined connection.
#[derive(Debug)]
pub(crate) struct Participant {
    place: Place,
    socket: Socket,
    /// The id from join; empty for a presenter.
    pub(crate) id: String,
    token: String,
    epoch: String,
    /// The highest `seq` seen.
    pub(crate) seq: u64,
    /// How often the connection was lost and made again.
    pub(crate) returns: u32,
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
        let socket = place.connect().await?;
        let mut participant = Participant {
            place,
            socket,
            id: String::new(),
            token,
            epoch: String::new(),
            seq: 0,
            returns: 0,
        };
        participant.greet(hello).await?;
        Ok(participant)
    }

    /// Sends hello and takes in the welcome, which must be the first message.
    async fn greet(&mut self, hello: &Value) -> Result<(), Failure> {
        self.socket.send(hello).await?;
        let text = match self.socket.recv_raw().await? {
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
        welcome.epoch.unwrap_or_default().clone_into(&mut self.epoch);
        if let Some(identity) = welcome.participant {
            let identity: Identity = serde_json::from_str(identity.get())
                .map_err(|_| Failure::told("a welcome whose participant makes no sense"))?;
            self.id = identity.id;
            self.token = identity.token;
        }
        Ok(())
    }

    /// Sends one message; a lost connection shows in the next `next`.
    pub(crate) async fn send(&mut self, text: &str) {
        let _ = self.socket.send_text(text).await;
    }

    /// The next message, `None` where the connection was lost. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<BytesMut>, Failure> {
        match self.socket.recv_raw().await? {
            Raw::Text(text) => Ok(Some(text)),
            Raw::Closed { .. } => Ok(None),
        }
    }

    /// Takes in an event's place in the log; fails if one before it is missing.
    pub(crate) fn note(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let (Some(seq), Some(prev)) = (message.seq, message.prev) else {
            return Err(Failure::told("an event without seq or prev"));
        };
        if prev > self.seq || seq <= self.seq {
            let seen = self.seq;
            return Err(Failure::told(format!("event {seq} after {prev}, but {seen} was seen")));
        }
        self.seq = seq;
        Ok(())
    }

    /// Comes back with the token and place that this participant had. Not cancel safe: a
    /// cancelled return leaves the lost connection in place.
    pub(crate) async fn come_back(&mut self) -> Result<(), Failure> {
        let hello = json!({
            "type": "hello", "token": self.token, "after": self.seq, "epoch": self.epoch
        });
        let mut last = Failure::told("never tried");
        for _ in 0..RETURN_ATTEMPTS {
            tokio::time::sleep(BEFORE_RETURN).await;
            let back = async {
                self.socket = self.place.connect().await?;
                self.greet(&hello).await
            };
            match back.await {
                Ok(()) => {
                    self.returns += 1;
                    return Ok(());
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// The bare socket, for a part that reads and writes it in its own way.
    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Ends the connection in the regular way; nothing of it is needed any more.
    pub(crate) async fn leave(mut self) {
        let _ = self.socket.close(1000, "").await;
    }
}
