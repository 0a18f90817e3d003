//! The task of one connection, from its first byte to its last. Owns the reading side; whatever goes out is in the outbox.
//! The states, in order:
//!
//! ```text
//! waiting for hello (5 s) ─► admitted: read, write what blocked, go when draining ─► close frame, linger (1 s)
//! ```
//! Spawned by `handshake.rs`. Nothing that is not cancel safe stands in a `select!` here.

use std::future::pending;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::edge::Edge;
use super::hello::admit;
use super::pulse::Seat;
use super::reader::{Client, Reader};
use crate::drain::Phase;
use crate::limits::{
    CLOSE_LINGER_MAX, HELLO_WAIT_MAX, LEAVE_GRACE, READ_BYTES, READS_PER_WAKE_MAX,
};
use crate::mutation::mutation;
use crate::outbox::{Broken, Outbox, Outlook};
use crate::ring::End;
use crate::socket::Socket;
use crate::wire::frame::{Decoder, Incoming};
use crate::wire::inbound::{self, Hello, HelloFault};
use crate::wire::{Close, frame, outbound};

/// How a connection ends: with a close code, or with nobody there any more.
type Ended = Option<Close>;

/// Runs a connection to its end. `span`: of the request that opened it; what is logged until the welcome belongs to that.
pub(crate) async fn run(edge: Arc<Edge>, socket: Socket, early: Bytes, from: IpAddr, span: Span) {
    let outbox = Outbox::new(socket);
    let ended = match edge.open_stream("websocket") {
        // Each step in a box of its own, gone when the step is: an idle connection carries its last step and no more.
        Some(_stream) => {
            match Box::pin(enter(&edge, &outbox, early, from).instrument(span)).await {
                Ok((decoder, reader)) => {
                    let client = Client::new(outbox.clone());
                    let mut connection = Box::new(Connection::new(&edge, decoder, client, reader));
                    Box::pin(connection.run()).await
                }
                Err(ended) => ended,
            }
        }
        None => Some(Close::Full),
    };
    let code = ended.map_or(1006, Close::number);
    edge.metrics.closed.with_label_values(&[&code.to_string()]).inc();
    mutation!(
        "close_unanswered",
        if ended == Some(Close::Done) {
            return;
        }
    );
    if let Some(close) = ended {
        outbox.close(frame::close(close));
        mutation!("gone_at_once", return);
        // A client that closed first has nothing more to say, and waits for us to hang up.
        let client_closed = close == Close::Done;
        let _ = timeout(CLOSE_LINGER_MAX, Box::pin(linger(&outbox, client_closed))).await; // whichever comes first
    }
}

/// Hello and welcome.
async fn enter(
    edge: &Arc<Edge>,
    outbox: &Arc<Outbox>,
    early: Bytes,
    from: IpAddr,
) -> Result<(Decoder, Reader), Ended> {
    let mut decoder = Decoder::default();
    let heard = tokio::select! {
        heard = timeout(HELLO_WAIT_MAX, hello(outbox, &mut decoder, early)) => heard,
        // Who has nothing here yet loses nothing by going at once.
        () = edge.drain.reached(Phase::Draining) => {
            outbox.send(frame::text(&[outbound::bye(0).as_bytes()]));
            return Err(Some(Close::GoingAway));
        }
    };
    let hello = match heard {
        Ok(ControlFlow::Continue(hello)) => hello,
        Ok(ControlFlow::Break(ended)) => return Err(ended),
        Err(_) => return Err(Some(Close::NoHello)),
    };
    let joined = admit(edge, outbox, hello, from).await?;
    Ok((decoder, Reader::new(joined, &edge.rules)))
}

/// Waits for the first message. Cancel safe: nobody reads on after it was cancelled.
async fn hello(
    outbox: &Outbox,
    decoder: &mut Decoder,
    early: Bytes,
) -> ControlFlow<Ended, Result<Hello, HelloFault>> {
    let mut first = None;
    let mut fed =
        decoder.feed(&mut early.to_vec(), |incoming| first_message(outbox, incoming, &mut first));
    loop {
        if let Err(close) = fed {
            return ControlFlow::Break(Some(close));
        }
        if let Some(first) = first {
            return first;
        }
        if outbox.socket.readable().await.is_err() {
            return ControlFlow::Break(None);
        }
        let mut buffer = [0; READ_BYTES];
        fed = match outbox.socket.try_read(&mut buffer) {
            Ok(0) => return ControlFlow::Break(None),
            Ok(read) => decoder.feed(buffer.get_mut(..read).unwrap_or_default(), |incoming| {
                first_message(outbox, incoming, &mut first)
            }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => return ControlFlow::Break(None),
        };
    }
}

/// Breaks when there is a first message, or a reason that there will be none.
fn first_message(
    outbox: &Outbox,
    incoming: Incoming<'_>,
    first: &mut Option<ControlFlow<Ended, Result<Hello, HelloFault>>>,
) -> ControlFlow<()> {
    *first = Some(match incoming {
        Incoming::Text(bytes) => ControlFlow::Continue(inbound::hello(bytes)),
        Incoming::Binary => ControlFlow::Break(Some(Close::Malformed)),
        Incoming::Close => ControlFlow::Break(Some(Close::Done)),
        Incoming::Ping(payload) => {
            outbox.send(frame::pong(payload));
            return ControlFlow::Continue(());
        }
        Incoming::Pong => return ControlFlow::Continue(()),
    });
    ControlFlow::Break(())
}

/// A connection after its hello.
struct Connection<'a> {
    edge: &'a Edge,
    decoder: Decoder,
    client: Arc<Client>,
    reader: Reader,
    _seat: Seat<'a>,
    /// Rings when clients are sent away.
    bell: CancellationToken,
    leaving: Leaving,
}

/// Whether this client is sent away.
enum Leaving {
    No,
    /// It has been told, and may go by itself until then.
    Told(Pin<Box<Sleep>>),
    /// As soon as its last vote is answered; should that fail to come, the end of the drain decides.
    Due,
}

#[derive(Clone, Copy)]
enum Event {
    Readable(bool),
    Writable(bool),
    /// The outbox has news, or the last vote is answered.
    Wake,
    /// Clients are sent away, perhaps this one.
    Bell,
    /// Its time to go is up.
    Due,
}

impl<'a> Connection<'a> {
    fn new(edge: &'a Edge, decoder: Decoder, client: Arc<Client>, reader: Reader) -> Self {
        let (seat, bell) = (edge.pulse.join(client.outbox.clone()), edge.drain.bell());
        Self { edge, decoder, client, reader, _seat: seat, bell, leaving: Leaving::No }
    }

    async fn run(&mut self) -> Ended {
        // What came in one packet with the hello.
        let mut flow = self.feed(&mut []);
        loop {
            if let ControlFlow::Break(ended) = flow {
                return ended;
            }
            let (blocked, pause) = match self.client.outbox.outlook() {
                Outlook::Broken(broken) => return close_code(broken),
                Outlook::Blocked { pause } => (true, pause),
                Outlook::Idle => (false, false),
            };
            if matches!(self.leaving, Leaving::Due) && self.client.is_answered() {
                return Some(Close::GoingAway);
            }
            let outbox = &self.client.outbox;
            let rings = matches!(self.leaving, Leaving::No);
            let event = tokio::select! {
                // What waits goes out before more is read. Nothing below starves: reading is rationed per connection.
                biased;
                ready = outbox.socket.writable(), if blocked => Event::Writable(ready.is_ok()),
                ready = outbox.socket.readable(), if !pause => Event::Readable(ready.is_ok()),
                () = outbox.wake.notified() => Event::Wake,
                () = self.bell.cancelled(), if rings => Event::Bell,
                () = self.leaving.wait() => Event::Due,
            };
            flow = self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) -> ControlFlow<Ended> {
        match event {
            Event::Readable(true) => return self.read(),
            Event::Writable(true) => self.client.outbox.unblock(),
            Event::Readable(false) | Event::Writable(false) => return ControlFlow::Break(None),
            Event::Wake => {}
            Event::Bell => {
                let Some(after) = self.edge.sent_away(&mut self.bell) else {
                    return ControlFlow::Continue(());
                };
                let bye = outbound::bye(u64::try_from(after.as_millis()).unwrap_or(0));
                self.client.outbox.send(frame::text(&[bye.as_bytes()]));
                self.leaving = Leaving::Told(Box::pin(sleep(after + LEAVE_GRACE)));
            }
            Event::Due => self.leaving = Leaving::Due,
        }
        ControlFlow::Continue(())
    }

    /// Reads what is there, up to a limit, and answers it with one write.
    fn read(&mut self) -> ControlFlow<Ended> {
        let mut buffer = [0; READ_BYTES];
        let mut flow = ControlFlow::Continue(());
        for _ in 0..READS_PER_WAKE_MAX {
            flow = match self.client.outbox.socket.try_read(&mut buffer) {
                Ok(0) => ControlFlow::Break(None),
                Ok(read) => self.feed(buffer.get_mut(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => ControlFlow::Break(None),
            };
            if flow.is_break() {
                break;
            }
        }
        self.client.outbox.flush();
        flow
    }

    fn feed(&mut self, bytes: &mut [u8]) -> ControlFlow<Ended> {
        if self.client.outbox.heard() {
            self.decoder.forgive();
        }
        let Self { decoder, reader, client, edge, .. } = self;
        let mut ended = ControlFlow::Continue(());
        let fed = decoder.feed(bytes, |incoming| {
            ended = reader.handle(edge, client, incoming);
            if ended.is_break() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match fed {
            Ok(()) => ended,
            Err(close) => ControlFlow::Break(Some(close)),
        }
    }
}

impl Leaving {
    /// Waits until the time is up. Cancel safe.
    async fn wait(&mut self) {
        match self {
            Self::Told(sleep) => sleep.await,
            Self::No | Self::Due => pending().await,
        }
    }
}

fn close_code(broken: Broken) -> Ended {
    match broken {
        Broken::Ended(End::Lagging) => Some(Close::Lagging),
        Broken::Ended(End::Deleted) => Some(Close::Deleted),
        Broken::Gone => None,
    }
}

/// After the close frame: lets the socket take what waits, and reads and discards for a moment, since unread input would
/// turn the end into a reset that swallows the close code.
pub(super) async fn linger(outbox: &Outbox, client_closed: bool) {
    let mut buffer = [0; READ_BYTES];
    let mut decoder = Some(Decoder::default());
    loop {
        let blocked = matches!(outbox.outlook(), Outlook::Blocked { .. });
        if client_closed && !blocked {
            return;
        }
        tokio::select! {
            biased;
            ready = outbox.socket.writable(), if blocked => match ready {
                Ok(()) => outbox.unblock(),
                Err(_) => return,
            },
            ready = outbox.socket.readable() => if ready.is_err() { return },
        }
        match outbox.socket.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) if closes(&mut decoder, buffer.get_mut(..read).unwrap_or_default()) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Whether the client's own close frame is in there. What does not decode is just discarded.
fn closes(decoder: &mut Option<Decoder>, bytes: &mut [u8]) -> bool {
    let mut closed = false;
    if let Some(live) = decoder {
        let fed = live.feed(bytes, |incoming| {
            closed |= incoming == Incoming::Close;
            ControlFlow::Continue(())
        });
        if fed.is_err() {
            *decoder = None;
        }
    }
    closed
}
