//! A TCP proxy between server and PostgreSQL that can freeze, cut, or lose exactly one answer:
//! the statement is carried out, its answer is read here and not passed on, the connection dies.
//! Must never change a byte that it passes on. Called by tests of unknown outcomes and outages.

use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::pgwire::{FromClient, Messages};

/// What the proxy does with every connection just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections stay open, bytes wait.
    Freeze,
    /// Open connections die, new ones are closed at once.
    Refuse,
}

/// The proxy; it ends with the runtime of its test.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    mode: watch::Sender<Mode>,
    /// The text by which the statement is known whose next answer is to be lost.
    armed: Mutex<Option<String>>,
    lost: watch::Sender<u32>,
    /// Statements run over all connections.
    ran: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy to a port on 127.0.0.1.
    pub(crate) async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            mode: watch::Sender::new(Mode::Forward),
            armed: Mutex::new(None),
            lost: watch::Sender::new(0),
            ran: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, Arc::clone(&shared)));
            }
        });
        Proxy { port, state }
    }

    /// The port to connect to instead of the target's.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on no byte passes, in either direction.
    pub(crate) fn freeze(&self) {
        self.state.mode.send_replace(Mode::Freeze);
    }

    /// Cuts every connection and refuses new ones.
    pub(crate) fn refuse(&self) {
        self.state.mode.send_replace(Mode::Refuse);
    }

    /// Passes everything on again.
    pub(crate) fn forward(&self) {
        self.state.mode.send_replace(Mode::Forward);
    }

    /// The next statement whose text contains `text` is carried out, but its answer is lost.
    pub(crate) fn lose_answer_of(&self, text: &str) {
        *self.state.armed.lock().unwrap() = Some(text.to_owned());
    }

    /// Waits until so many more statements were run.
    pub(crate) async fn ran(&self, more: u64) {
        let mut ran = self.state.ran.subscribe();
        let until = *ran.borrow() + more;
        let reached = ran.wait_for(|ran| *ran >= until);
        super::within(60, "statements are run", reached).await.unwrap();
    }

    /// Waits until so many answers were lost.
    pub(crate) async fn lost(&self, count: u32) {
        let mut lost = self.state.lost.subscribe();
        super::within(super::SOON, "an answer is lost", lost.wait_for(|lost| *lost >= count))
            .await
            .unwrap();
    }
}

/// One connection; both directions end together.
async fn relay(client: TcpStream, target: u16, state: Arc<State>) {
    let mut mode = state.mode.subscribe();
    if *mode.borrow() == Mode::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    // Without this, delayed acknowledgements of 40 ms would look like a slow database.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let swallow = Arc::new(watch::Sender::new(false));
    tokio::select! {
        () = up(client_read, server_write, &state, &swallow) => {}
        () = down(server_read, client_write, &state, &swallow) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

/// Client to PostgreSQL: looks for the armed statement before its bytes are passed on.
async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &watch::Sender<bool>,
) {
    let mut mode = state.mode.subscribe();
    let mut messages = FromClient::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let armed = state.armed.lock().unwrap().clone();
        let before = messages.ran;
        if messages.runs(&buffer[..count], armed.as_deref()) {
            *state.armed.lock().unwrap() = None;
            swallow.send_replace(true);
        }
        state.ran.send_modify(|ran| *ran += messages.ran - before);
        if mode.wait_for(|mode| *mode == Mode::Forward).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}

/// PostgreSQL to client: an answer to be lost is read up to ReadyForQuery, then the line is cut.
async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    swallow: &watch::Sender<bool>,
) {
    let mut mode = state.mode.subscribe();
    let mut messages = Messages::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let losing = *swallow.borrow();
        let ready = messages.read(&buffer[..count]).iter().any(|(kind, _)| *kind == b'Z');
        if losing {
            if ready {
                state.lost.send_modify(|lost| *lost += 1);
                return;
            }
            continue;
        }
        if mode.wait_for(|mode| *mode == Mode::Forward).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
