//! A TCP proxy between server and PostgreSQL that can freeze, cut, lose exactly one answer (the
//! statement is carried out, its answer is read here and not passed on, the connection dies), or
//! hold one up. Plain, it stands between clients and server as well.
//! Must never change a byte that it passes on. Called by tests of unknown outcomes and outages.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

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
    /// As frozen, but only what comes from the target.
    Mute,
    /// Open connections die, new ones are closed at once.
    Refuse,
}

/// What happens to the answer of an armed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    Lose,
    Hold,
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
    /// The text by which a statement is known, and what is to happen to its next answer.
    armed: Mutex<Option<(String, Trick)>>,
    lost: watch::Sender<u32>,
    /// Statements run over all connections.
    ran: watch::Sender<u64>,
    /// Answers that are held up, and those that were let go again.
    held: watch::Sender<u32>,
    released: watch::Sender<u32>,
    /// What passes is PostgreSQL's protocol, and is read.
    reads: bool,
    target: AtomicU16,
    /// Connections of an earlier number die.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy to a port on 127.0.0.1.
    pub(crate) async fn start(target: u16) -> Proxy {
        Proxy::begin(target, true).await
    }

    /// As `start`, for any protocol: nothing is read, so no answer can be lost or held up.
    pub(crate) async fn plain(target: u16) -> Proxy {
        Proxy::begin(target, false).await
    }

    async fn begin(target: u16, reads: bool) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            mode: watch::Sender::new(Mode::Forward),
            armed: Mutex::new(None),
            lost: watch::Sender::new(0),
            ran: watch::Sender::new(0),
            held: watch::Sender::new(0),
            released: watch::Sender::new(0),
            reads,
            target: AtomicU16::new(target),
            cuts: watch::Sender::new(0),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&shared)));
            }
        });
        Proxy { port, state }
    }

    /// The port to connect to instead of the target's.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to another port.
    pub(crate) fn aim(&self, target: u16) {
        self.state.target.store(target, Ordering::Relaxed);
    }

    /// From now on no byte passes, in either direction.
    pub(crate) fn freeze(&self) {
        self.state.mode.send_replace(Mode::Freeze);
    }

    /// From now on nothing comes from the target; what goes to it passes.
    pub(crate) fn mute(&self) {
        self.state.mode.send_replace(Mode::Mute);
    }

    /// Cuts every connection, and goes on with those that come.
    pub(crate) fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
        self.forward();
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
        *self.state.armed.lock().unwrap() = Some((text.to_owned(), Trick::Lose));
    }

    /// No further answer is lost.
    pub(crate) fn lose_nothing(&self) {
        *self.state.armed.lock().unwrap() = None;
    }

    /// The answer of the next statement whose text contains `text` waits until `release`.
    pub(crate) fn hold_answer_of(&self, text: &str) {
        *self.state.armed.lock().unwrap() = Some((text.to_owned(), Trick::Hold));
    }

    /// Waits until an answer is held up that was not released yet.
    pub(crate) async fn held(&self) {
        let released = *self.state.released.borrow();
        let mut held = self.state.held.subscribe();
        let wait = held.wait_for(|held| *held > released);
        super::within(super::SOON, "an answer is held up", wait).await.unwrap();
    }

    /// Lets go what is held up.
    pub(crate) fn release(&self) {
        self.state.released.send_replace(*self.state.held.borrow());
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
async fn relay(client: TcpStream, state: Arc<State>) {
    let (mut mode, mut cuts) = (state.mode.subscribe(), state.cuts.subscribe());
    if *mode.borrow() == Mode::Refuse {
        return;
    }
    let target = state.target.load(Ordering::Relaxed);
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    // Without this, delayed acknowledgements of 40 ms would look like a slow database.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let trick = Arc::new(watch::Sender::new(None));
    tokio::select! {
        () = up(client_read, server_write, &state, &trick) => {}
        () = down(server_read, client_write, &state, &trick) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
        _ = cuts.changed() => {}
    }
}

/// Client to PostgreSQL: looks for the armed statement before its bytes are passed on.
async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    trick: &watch::Sender<Option<Trick>>,
) {
    let mut mode = state.mode.subscribe();
    let mut messages = FromClient::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let armed = state.armed.lock().unwrap().clone();
        let text = armed.as_ref().map(|(text, _)| text.as_str());
        let before = messages.ran;
        if state.reads && messages.runs(&buffer[..count], text) {
            *state.armed.lock().unwrap() = None;
            trick.send_replace(armed.map(|(_, trick)| trick));
        }
        state.ran.send_modify(|ran| *ran += messages.ran - before);
        if mode.wait_for(|mode| [Mode::Forward, Mode::Mute].contains(mode)).await.is_err()
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
    trick: &watch::Sender<Option<Trick>>,
) {
    let mut mode = state.mode.subscribe();
    let mut messages = Messages::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let ready =
            state.reads && messages.read(&buffer[..count]).iter().any(|(kind, _)| *kind == b'Z');
        let due = *trick.borrow();
        match due {
            None => {}
            Some(Trick::Lose) if ready => return state.lost.send_modify(|lost| *lost += 1),
            Some(Trick::Lose) => continue,
            Some(Trick::Hold) => {
                trick.send_replace(None);
                let mut released = state.released.subscribe();
                state.held.send_modify(|held| *held += 1);
                let own = *state.held.borrow();
                if released.wait_for(|released| *released >= own).await.is_err() {
                    return;
                }
            }
        }
        if mode.wait_for(|mode| *mode == Mode::Forward).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
