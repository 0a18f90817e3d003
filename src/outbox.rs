//! The outgoing side of one WebSocket: the socket, what waits for it, and its cursor into a ring. Everybody who has bytes
//! for a client hands them in here and never waits: what the socket does not take at once stays, bounded, and the
//! connection's own task (`ws/connection.rs`) finishes it. Frames never mix: one lock covers every write.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use crate::limits::{OUTBOX_BYTES_MAX, OUTBOX_BYTES_PAUSE, WRITE_SLICES_MAX, WRITES_PER_TURN_MAX};
use crate::ring::{Cursor, End, Ring, Run};
use crate::socket::Socket;

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client is too far behind, or its session is gone.
    Ended(End),
    /// The socket is gone.
    Gone,
}

/// What a connection's task has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// Everything is written.
    Idle,
    /// Wait until the socket takes more; `pause`: read no messages until then.
    Blocked {
        /// So much waits that more answers would not fit.
        pause: bool,
    },
    /// Close.
    Broken(Broken),
}

/// One client's outgoing side.
#[derive(Debug)]
pub struct Outbox {
    /// The connection; reading is the connection task's business.
    pub socket: Socket,
    /// Told when the connection's task has something to do here.
    pub wake: Notify,
    /// The client was pinged and has said nothing since.
    silent: AtomicBool,
    /// Guards what waits; nothing waits under it.
    state: Mutex<State>,
}

/// Outboxes that are gone through one after the other. Whoever owns it puts a lock around it, under which nothing waits.
#[derive(Debug, Default)]
pub struct Outboxes(Slab<Arc<Outbox>>);

impl Outboxes {
    /// Adds one; the answer is what it is removed by.
    pub fn insert(&mut self, outbox: Arc<Outbox>) -> usize {
        self.0.insert(outbox)
    }

    /// Removes one, if it is there.
    pub fn remove(&mut self, key: usize) {
        self.0.try_remove(key);
        if self.0.is_empty() {
            self.0 = Slab::new(); // a storm that left keeps no memory
        }
    }

    /// Does it to those from place `at` on, so many at a time; says where the next turn begins, if there is one.
    pub fn turn(&self, at: usize, act: impl FnMut(&Outbox)) -> Option<usize> {
        let end = (at + WRITES_PER_TURN_MAX).min(self.0.capacity());
        (at..end).filter_map(|key| self.0.get(key)).map(AsRef::as_ref).for_each(act);
        (end < self.0.capacity()).then_some(end)
    }
}

#[derive(Debug, Default)]
struct State {
    /// Whole frames, but for the first, of which the beginning may be written already.
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    subscription: Option<(Arc<Ring>, Cursor)>,
    /// The socket took less than it was offered.
    blocked: bool,
    broken: Option<Broken>,
    /// A close frame is queued; nothing may follow it.
    closing: bool,
}

impl Outbox {
    /// Takes over the writing side of `socket`.
    #[must_use]
    pub fn new(socket: Socket) -> Arc<Self> {
        Arc::new(Self {
            socket,
            wake: Notify::new(),
            silent: AtomicBool::new(false),
            state: Mutex::default(),
        })
    }

    /// Writes a frame now, or as soon as the socket takes it.
    pub fn send(&self, frame: Bytes) {
        let mut state = self.state.lock();
        state.enqueue(frame);
        self.write(&mut state);
    }

    /// Puts a frame where the next [`Outbox::flush`] writes it, together with what else waits.
    pub fn queue(&self, frame: Bytes) {
        self.state.lock().enqueue(frame);
    }

    /// As [`Outbox::queue`], for a welcome and for what a client missed, which may be larger than what may wait otherwise.
    /// Whoever calls it waits for the socket in between, so that it stays bounded.
    pub fn preload(&self, frame: Bytes) {
        let mut state = self.state.lock();
        state.queued_bytes += frame.len();
        state.queue.push_back(frame);
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&self) {
        self.write(&mut self.state.lock());
    }

    /// Follows `ring` from `cursor` on. Written are its frames only after what is queued already.
    pub fn subscribe(&self, ring: Arc<Ring>, cursor: Cursor) {
        self.state.lock().subscription = Some((ring, cursor));
    }

    /// Fan-out: writes the frames that came since. `run` saves the look into the ring for those who stand at its start.
    pub fn advance(&self, run: Option<&Run>) {
        let mut state = self.state.lock();
        if state.closing || state.broken.is_some() {
            return;
        }
        let Some(run) = run.filter(|run| state.takes(run)) else {
            if let Some(end) = state.subscription.as_ref().and_then(|(ring, _)| ring.ended()) {
                return self.break_off(&mut state, Broken::Ended(end));
            }
            return self.write(&mut state); // where it is blocked, its own task goes on from the cursor
        };
        match self.socket.try_write(&run.bytes) {
            Ok(0) => self.break_off(&mut state, Broken::Gone),
            Ok(written) => {
                if let Some((_, cursor)) = &mut state.subscription {
                    cursor.next = run.to;
                    cursor.seen_presence |= run.presence;
                }
                if written < run.bytes.len() {
                    state.enqueue(run.bytes.slice(written..));
                    self.block(&mut state);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(&mut state),
            Err(_) => self.break_off(&mut state, Broken::Gone),
        }
    }

    /// As [`Outbox::send`], of a ping: the client then has to say something.
    pub fn ping(&self, frame: Bytes) {
        self.silent.store(true, Ordering::Relaxed);
        self.send(frame);
    }

    /// Notes that the client has said something; says whether it is the first since a ping.
    pub fn heard(&self) -> bool {
        // Most of what is heard answers no ping, and then nothing is written here.
        self.silent.load(Ordering::Relaxed) && self.silent.swap(false, Ordering::Relaxed)
    }

    /// Ends it if the client has said nothing since the ping.
    pub fn give_up_if_silent(&self) {
        if self.silent.load(Ordering::Relaxed) {
            self.break_off(&mut self.state.lock(), Broken::Gone);
        }
    }

    /// Puts a close frame behind what is half written, and nothing after it.
    pub fn close(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if state.closing {
            return;
        }
        // Whole frames that wait are acks and replays: they are due before the close, unless the client is lagging.
        if state.broken.is_some() {
            state.queue.truncate(1);
        }
        state.broken = None;
        state.subscription = None;
        state.queue.push_back(frame);
        state.closing = true;
        self.write(&mut state);
    }

    /// What the connection's task has to do.
    #[must_use]
    pub fn outlook(&self) -> Outlook {
        let state = self.state.lock();
        match (state.broken, state.blocked) {
            (Some(broken), _) => Outlook::Broken(broken),
            (None, true) => Outlook::Blocked { pause: state.queued_bytes > OUTBOX_BYTES_PAUSE },
            (None, false) => Outlook::Idle,
        }
    }

    /// Called when the socket takes more.
    pub fn unblock(&self) {
        let mut state = self.state.lock();
        state.blocked = false;
        self.write(&mut state);
    }

    fn write(&self, state: &mut State) {
        while !state.blocked && state.broken.is_none() {
            if state.queue.is_empty() && !state.refill(|| self.wake.notify_one()) {
                return;
            }
            let written = match state.queue.front() {
                Some(only) if state.queue.len() == 1 => self.socket.try_write(only),
                _ => self.write_several(&state.queue),
            };
            match written {
                Ok(0) => self.break_off(state, Broken::Gone),
                Ok(written) => state.consume(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(state),
                Err(_) => self.break_off(state, Broken::Gone),
            }
        }
    }

    fn write_several(&self, queue: &VecDeque<Bytes>) -> Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let filled = queue.iter().zip(&mut slices);
        let count = filled.map(|(bytes, slice)| *slice = IoSlice::new(bytes)).count();
        self.socket.try_write_vectored(slices.get(..count).unwrap_or_default())
    }

    fn block(&self, state: &mut State) {
        state.blocked = true;
        self.wake.notify_one();
    }

    fn break_off(&self, state: &mut State, broken: Broken) {
        state.broken = Some(broken);
        self.wake.notify_one();
    }
}

impl State {
    fn enqueue(&mut self, frame: Bytes) {
        if self.closing || self.broken.is_some() {
            return;
        }
        self.queued_bytes += frame.len();
        self.queue.push_back(frame);
        if self.queued_bytes > OUTBOX_BYTES_MAX {
            self.broken = Some(Broken::Ended(End::Lagging));
        }
    }

    /// Whether a run can be written as it is.
    fn takes(&self, run: &Run) -> bool {
        !self.blocked
            && self.queue.is_empty()
            && self.subscription.as_ref().is_some_and(|(_, cursor)| {
                cursor.next == run.from
                    && run.first_event.is_none_or(|first| first > cursor.floor)
                    && (!run.presence || run.from >= cursor.presence_from)
            })
    }

    /// Queues frames from the ring. Says whether there is something to write.
    fn refill(&mut self, wake: impl FnOnce()) -> bool {
        let Some((ring, cursor)) = &mut self.subscription else { return false };
        if let Err(end) = ring.read(cursor, WRITE_SLICES_MAX, &mut self.queue) {
            self.broken = Some(Broken::Ended(end));
            wake();
            return false;
        }
        self.queued_bytes = self.queue.iter().map(Bytes::len).sum();
        !self.queue.is_empty()
    }

    fn consume(&mut self, mut written: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(written);
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                return;
            }
            written -= first.len();
            self.queue.pop_front();
        }
        if self.queue.capacity() > WRITE_SLICES_MAX {
            self.queue = VecDeque::new(); // an idle connection keeps nothing
        }
    }
}
