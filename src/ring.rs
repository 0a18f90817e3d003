//! The frames that a session's subscribers share: a bounded log in memory, one per audience. Each subscriber is a cursor
//! into it and owns no queue. Filled by `feed/watched.rs`; read by `outbox.rs` (sockets) and `http/stream.rs` (SSE).
//! Never waits for anybody: who falls off its end comes back with `after`.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::domain::Seq;
use crate::limits::{RING_BYTES_MAX, RING_FRAMES_MAX};

/// What a frame carries, as far as delivery is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// An event: for subscribers that have not passed it.
    Event {
        /// Its place in the log.
        seq: Seq,
        /// The event frame before it in this ring.
        prev: Seq,
    },
    /// How many are here.
    Presence {
        /// Whether the number moved; if not, it is only for those who have not had one yet.
        moved: bool,
    },
}

/// One encoded frame, header included, the same bytes for everybody.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it carries.
    pub content: Content,
    /// A whole WebSocket frame.
    pub bytes: Bytes,
    /// Where its payload begins in `bytes`.
    pub payload_at: usize,
}

/// A subscriber's place in a ring.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// Index of the next frame to look at.
    pub next: u64,
    /// Events up to this one are known to the subscriber already.
    pub floor: Seq,
    /// Of presence, only frames from here on: what is older is no news to somebody who came later.
    pub presence_from: u64,
    /// A presence frame has been delivered.
    pub seen_presence: bool,
}

impl Cursor {
    /// Goes on at `next` of a ring whose newest frame is before `head`, knowing all up to `floor`.
    #[must_use]
    pub const fn new(next: u64, floor: Seq, head: u64) -> Self {
        Self { next, floor, presence_from: head, seen_presence: false }
    }

    /// Whether the subscriber gets the frame at `index`; notes that it did.
    fn wants(&mut self, index: u64, content: Content) -> bool {
        match content {
            Content::Event { seq, .. } => seq > self.floor,
            Content::Presence { .. } if index < self.presence_from => false,
            Content::Presence { moved } => {
                let wanted = moved || !self.seen_presence;
                self.seen_presence = true;
                wanted
            }
        }
    }
}

/// Why a subscriber cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is further behind than the ring reaches, or the ring has a hole: come back with `after`.
    Lagging,
    /// The session was deleted.
    Deleted,
}

/// A bounded log of frames.
#[derive(Debug)]
pub struct Ring {
    /// Guards the frames; nothing waits under it.
    frames: RwLock<Frames>,
    /// Told after every push, for subscribers without a socket of their own (SSE).
    pub changed: Notify,
}

#[derive(Debug)]
struct Frames {
    kept: VecDeque<Frame>,
    /// Index of the first of `kept`.
    first: u64,
    bytes: usize,
    /// The newest event ever pushed; before the first, where the ring began.
    last: Seq,
    /// What the next event frame names as the one before it.
    prev: Seq,
    /// Nothing more will come.
    end: Option<End>,
}

impl Ring {
    /// An empty ring that begins after the event `at`.
    #[must_use]
    pub fn starting_at(at: Seq) -> Self {
        let kept = VecDeque::new();
        let frames = Frames { kept, first: 0, bytes: 0, last: at, prev: at, end: None };
        Self { frames: RwLock::new(frames), changed: Notify::new() }
    }

    /// The same, where its subscribers are not shown the event that it begins after: who comes back has passed an earlier
    /// one only, and would take the first frame for one after a hole.
    #[must_use]
    pub fn after_a_hidden_event(mut self) -> Self {
        self.frames.get_mut().prev = Seq(0);
        self
    }

    /// The newest event ever pushed; before the first, where the ring began.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.frames.read().last
    }

    /// The `prev` that the next event frame tells.
    #[must_use]
    pub fn prev(&self) -> Seq {
        self.frames.read().prev
    }

    /// Index after the newest frame.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.frames.read().head()
    }

    /// Adds a frame and forgets the oldest ones that no longer fit.
    pub fn push(&self, frame: Frame) {
        let mut frames = self.frames.write();
        if let Content::Event { seq, .. } = frame.content {
            (frames.last, frames.prev) = (seq, seq);
        }
        frames.bytes += frame.bytes.len();
        frames.kept.push_back(frame);
        while frames.kept.len() > RING_FRAMES_MAX || frames.bytes > RING_BYTES_MAX {
            let Some(oldest) = frames.kept.pop_front() else { break };
            frames.bytes -= oldest.bytes.len();
            frames.first += 1;
        }
        drop(frames);
        self.changed.notify_waiters();
    }

    /// Ends it for all subscribers; each learns of it when it reads next.
    pub fn end(&self, end: End) {
        self.frames.write().end = Some(end);
        self.changed.notify_waiters();
    }

    /// Whether, and why, nothing more will come.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        self.frames.read().end
    }

    /// A cursor for a subscriber that knows everything up to `seq`; `None` where the ring does not reach back so far.
    #[must_use]
    pub fn cursor_after(&self, seq: Seq) -> Option<Cursor> {
        let frames = self.frames.read();
        let cursor = |next| Some(Cursor::new(next, seq, frames.head()));
        if seq >= frames.last {
            return cursor(frames.head());
        }
        let mut events =
            frames.kept.iter().enumerate().filter_map(|(at, frame)| match frame.content {
                Content::Event { seq, prev } => Some((at, seq, prev)),
                Content::Presence { .. } => None,
            });
        let (_, _, oldest_prev) = events.clone().next()?;
        if oldest_prev > seq {
            return None;
        }
        let (at, ..) = events.find(|(_, event, _)| *event > seq)?;
        cursor(frames.first + at as u64)
    }

    /// Moves up to `max` frames that this subscriber gets into `out`.
    ///
    /// # Errors
    /// Where it cannot go on.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        max: usize,
        out: &mut VecDeque<Bytes>,
    ) -> Result<(), End> {
        let frames = self.frames.read();
        frames.reach(cursor)?;
        while out.len() < max {
            let Some(frame) = frames.get(cursor.next) else { break };
            cursor.next += 1;
            if cursor.wants(cursor.next - 1, frame.content) {
                out.push_back(frame.bytes.clone());
            }
        }
        Ok(())
    }

    /// The next frame that this subscriber gets, if there is one.
    ///
    /// # Errors
    /// As [`Ring::read`].
    pub fn next(&self, cursor: &mut Cursor) -> Result<Option<Frame>, End> {
        let frames = self.frames.read();
        frames.reach(cursor)?;
        while let Some(frame) = frames.get(cursor.next) {
            cursor.next += 1;
            if cursor.wants(cursor.next - 1, frame.content) {
                return Ok(Some(frame.clone()));
            }
        }
        Ok(None)
    }

    /// The frames from `from` on as one run of bytes, for all subscribers that stand at `from`; `None` where they have to
    /// be looked at one by one.
    #[must_use]
    pub fn run(&self, from: u64) -> Option<Run> {
        let frames = self.frames.read();
        let head = frames.head();
        if from >= head || from < frames.first || frames.end.is_some() {
            return None;
        }
        let kept = frames.kept.range(usize::try_from(from - frames.first).ok()?..);
        let mut run =
            Run { from, to: head, first_event: None, presence: false, bytes: Bytes::new() };
        for frame in kept.clone() {
            match frame.content {
                Content::Event { seq, .. } => run.first_event = run.first_event.or(Some(seq)),
                Content::Presence { moved: true } => run.presence = true,
                Content::Presence { moved: false } => return None,
            }
        }
        let mut parts = kept.map(|frame| &frame.bytes);
        run.bytes = match (parts.next(), parts.next()) {
            (Some(only), None) => only.clone(),
            (Some(one), Some(two)) => {
                let rest: usize = parts.clone().map(Bytes::len).sum();
                let mut joined = Vec::with_capacity(one.len() + two.len() + rest);
                [one, two].into_iter().chain(parts).for_each(|part| joined.extend_from_slice(part));
                Bytes::from(joined)
            }
            _ => return None,
        };
        Some(run)
    }
}

/// Frames that wait together, to leave in one write.
#[derive(Clone, Debug)]
pub struct Run {
    /// For subscribers whose cursor stands here.
    pub from: u64,
    /// Where it stands afterwards.
    pub to: u64,
    /// The first event in it: whoever knows it already is looked at one by one.
    pub first_event: Option<Seq>,
    /// There is a presence frame in it.
    pub presence: bool,
    /// The frames, one after another.
    pub bytes: Bytes,
}

impl Frames {
    fn reach(&self, cursor: &Cursor) -> Result<(), End> {
        match self.end {
            Some(end) => Err(end),
            None if cursor.next < self.first => Err(End::Lagging),
            None => Ok(()),
        }
    }

    fn head(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn get(&self, index: u64) -> Option<&Frame> {
        self.kept.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &Ring, seq: i64) {
        let content = Content::Event { seq: Seq(seq), prev: ring.last() };
        ring.push(Frame { content, bytes: Bytes::from(vec![0; 8]), payload_at: 2 });
    }

    fn count_after(ring: &Ring, seq: i64) -> Option<usize> {
        let mut cursor = ring.cursor_after(Seq(seq))?;
        let mut out = VecDeque::new();
        ring.read(&mut cursor, usize::MAX, &mut out).unwrap();
        Some(out.len())
    }

    #[test]
    fn a_subscriber_gets_what_it_has_not_seen_or_is_told_that_it_is_gone() {
        let ring = Ring::starting_at(Seq(10));
        assert_eq!(count_after(&ring, 10), Some(0));
        assert_eq!(count_after(&ring, 9), None);
        for seq in [11, 15, 20] {
            push(&ring, seq); // 12–14 and 16–19 were superseded
        }
        let after = |seq| count_after(&ring, seq);
        assert_eq!(
            [after(9), after(10), after(12), after(15), after(20)],
            [None, Some(3), Some(2), Some(1), Some(0)]
        );
        for seq in 21..=300 {
            push(&ring, seq);
        }
        assert_eq!(after(10), None);
    }

    #[test]
    fn unmoved_presence_goes_only_to_those_who_have_had_none() {
        let ring = Ring::starting_at(Seq(0));
        let mut old = ring.cursor_after(Seq(0)).unwrap();
        let presence = |moved| Frame {
            content: Content::Presence { moved },
            bytes: Bytes::new(),
            payload_at: 2,
        };
        ring.push(presence(true));
        assert!(ring.next(&mut old).unwrap().is_some());
        let mut new = ring.cursor_after(Seq(0)).unwrap();
        ring.push(presence(false));
        assert!(ring.run(old.next).is_none());
        assert!(ring.next(&mut old).unwrap().is_none());
        assert!(ring.next(&mut new).unwrap().is_some());
    }
}
