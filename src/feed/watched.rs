//! One session that is watched here: its live state, the results that wait for their turn, its two rings and who follows
//! them. Everything that changes order happens under its one lock, and nothing waits there. Owned by `feed/mod.rs`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attendance::Attendance;
use super::hub::Members;
use super::live::{LiveState, Unfit};
use super::since::Since;
use super::together::Together;
use super::turn::Turn;
use crate::domain::{
    Audience, Code, EventKind, LoggedEvent, ParticipantId, Poll, PollNumber, PollState, Seq,
    SessionId, SessionState, Timestamp,
};
use crate::limits::UNWATCHED_KEEP;
use crate::mutation::mutation;
use crate::ring::{Content, Cursor, End, Frame, Ring};
use crate::store::log::Head;
use crate::wire::{frame, outbound};

/// An event and since when it is on its way.
pub(super) type Timed = (LoggedEvent, Since);

/// Events that came before the ones they follow; more than a few lanes and presenters never make.
const EARLY_MAX: usize = 64;

/// A session that is watched here.
#[derive(Debug)]
pub struct Watched {
    /// Which.
    pub id: SessionId,
    /// The history that its state is of.
    pub epoch: Arc<str>,
    /// Guards order; nothing waits under it.
    state: Mutex<State>,
    channels: [Channel; 2],
    /// Told when the live state has moved on.
    moved: Notify,
    /// What the database has of it; asked by those who come back.
    pub(super) head: Together<Option<Arc<Head>>>,
}

/// One audience of it.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) ring: Arc<Ring>,
    pub(super) members: Members,
}

#[derive(Debug)]
struct State {
    live: LiveState,
    early: BTreeMap<Seq, Timed>,
    /// The newest results of each poll that are not sent yet.
    pending: BTreeMap<PollNumber, Timed>,
    turn: Turn,
    /// The turn that results wait for is on the list of `tailer.rs`.
    scheduled: Option<Instant>,
    /// Encoded for participants, as of a seq, a number of them, and a state, which time alone may change.
    welcome: Option<((Seq, usize, SessionState), Arc<str>)>,
    attendance: Attendance,
    subscribers: usize,
    idle_since: Instant,
    /// Taken out of the feed: nobody may begin to follow it.
    retired: bool,
}

/// What taking an event led to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Frames were pushed, the oldest of them from this moment.
    pub(super) published: Option<Since>,
    /// Results wait until then.
    pub(super) flush_at: Option<Instant>,
    /// The log has to be read: something is missing.
    pub(super) missing: bool,
    /// It cannot be followed any further here; its rings have ended.
    pub(super) unreadable: bool,
    /// Results that nobody was sent.
    pub(super) superseded: u64,
    /// The kinds of the events that went into the live state: more than one where others had waited for this one.
    pub(super) applied: Vec<EventKind>,
}

/// Where a new subscriber begins.
#[derive(Debug)]
pub struct Beginning {
    /// The state is as of this event.
    pub seq: Seq,
    /// See [`outbound::welcome_state`].
    pub state: Arc<str>,
    /// Everything after `seq`.
    pub cursor: Cursor,
}

impl Watched {
    pub(super) fn new(id: SessionId, epoch: Arc<str>, live: LiveState, shards: usize) -> Self {
        let seq = live.seq;
        let (_, low) = id.0.as_u64_pair();
        let first = usize::try_from(low % shards.max(1) as u64).unwrap_or(0);
        let channel = |audience| {
            let ring = match live.newest_is_shown_to(audience) {
                true => Ring::starting_at(seq),
                false => Ring::starting_at(seq).after_a_hidden_event(),
            };
            Channel { ring: Arc::new(ring), members: Members::new(shards, first) }
        };
        let channels = [channel(Audience::Participants), channel(Audience::Presenters)];
        let state = State {
            live,
            early: BTreeMap::new(),
            pending: BTreeMap::new(),
            turn: Turn::default(),
            scheduled: None,
            welcome: None,
            attendance: Attendance::default(),
            subscribers: 0,
            idle_since: Instant::now(),
            retired: false,
        };
        let head = Together::default();
        Self { id, epoch, state: Mutex::new(state), channels, moved: Notify::new(), head }
    }

    pub(super) fn channel(&self, audience: Audience) -> &Channel {
        let [participants, presenters] = &self.channels;
        match audience {
            Audience::Participants => participants,
            Audience::Presenters => presenters,
        }
    }

    /// How far the live state is.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.state.lock().live.seq
    }

    /// Waits until the live state is at least at `seq`. Cancel safe.
    pub async fn reach(&self, seq: Seq) {
        loop {
            let moved = self.moved.notified(); // told of everything from here on
            if self.seq() >= seq {
                return;
            }
            moved.await;
        }
    }

    /// Takes an event if it is the next one; keeps it for a moment if it is early.
    pub(super) fn take(&self, event: LoggedEvent, since: Since) -> Taken {
        let mut taken = Taken::default();
        let state = &mut *self.state.lock();
        let mut next = Some((event, since));
        while let Some((event, since)) = next {
            match state.live.apply(&event) {
                Ok(counted) => {
                    taken.applied.push(event.kind.clone());
                    self.route(state, counted, (event, since), &mut taken);
                }
                Err(Unfit::Known) => {}
                Err(Unfit::Gap) => {
                    taken.missing = true;
                    if state.early.len() < EARLY_MAX {
                        state.early.insert(event.seq, (event, since));
                    }
                    break;
                }
                Err(Unfit::Unreadable) => {
                    tracing::error!(session = %self.id, seq = event.seq.0, "event cannot be read");
                    self.end(End::Lagging);
                    taken.unreadable = true;
                    break;
                }
            }
            state.early.retain(|seq, _| *seq > state.live.seq);
            next = state.early.remove(&state.live.seq.next());
        }
        let due = if taken.applied.is_empty() { state.turn.latest() } else { state.turn.due() };
        self.flush_if_due(state, due, &mut taken);
        if !taken.applied.is_empty() {
            self.moved.notify_waiters();
        }
        taken
    }

    /// Sends the results that wait, if it is time.
    pub(super) fn flush(&self) -> Taken {
        let mut taken = Taken::default();
        let state = &mut *self.state.lock();
        self.flush_if_due(state, state.turn.latest(), &mut taken);
        taken
    }

    /// Sends the results that wait, whatever the time.
    #[cfg(test)]
    pub(super) fn flush_now(&self) {
        self.send_pending(&mut self.state.lock(), &mut Taken::default());
    }

    /// Results wait for their turn; everything else goes at once, after the results that wait.
    fn route(
        &self,
        state: &mut State,
        counted: Option<PollNumber>,
        timed: Timed,
        taken: &mut Taken,
    ) {
        match counted {
            Some(poll) => {
                mutation!("oldest_results_win", {
                    state.pending.entry(poll).or_insert(timed);
                    return;
                });
                state.turn.note();
                if state.pending.insert(poll, timed).is_some() {
                    taken.superseded += 1;
                }
            }
            None => {
                self.send_pending(state, taken);
                self.publish(&timed, taken);
            }
        }
    }

    fn flush_if_due(&self, state: &mut State, due: Option<Instant>, taken: &mut Taken) {
        if state.pending.is_empty() {
            return;
        }
        match due.filter(|due| *due > Instant::now()) {
            Some(due) => taken.flush_at = Some(due),
            None => self.send_pending(state, taken),
        }
    }

    fn send_pending(&self, state: &mut State, taken: &mut Taken) {
        if state.pending.is_empty() {
            return;
        }
        state.turn.sent(Instant::now());
        let mut pending: Vec<Timed> = std::mem::take(&mut state.pending).into_values().collect();
        pending.sort_unstable_by_key(|(event, _)| event.seq);
        pending.iter().for_each(|timed| self.publish(timed, taken));
    }

    fn publish(&self, (event, since): &Timed, taken: &mut Taken) {
        for audience in Audience::ALL {
            let ring = &self.channel(audience).ring;
            if let Some(text) = outbound::event(event, ring.prev(), audience) {
                let prev = ring.last();
                ring.push(framed(Content::Event { seq: event.seq, prev }, &text));
            }
        }
        taken.published = Some(taken.published.map_or(*since, |first| first.earlier(*since)));
    }

    /// A new subscriber begins here; `None` where the session has been retired, and has to be watched anew.
    /// `drafts`: for presenters, who see them though the log does not know them.
    pub(super) fn begin(
        &self,
        audience: Audience,
        drafts: &[Poll],
        join_url: &str,
    ) -> Option<Beginning> {
        let state = &mut *self.state.lock();
        if state.retired {
            return None;
        }
        let seq = state.live.seq;
        let head = self.channel(audience).ring.head();
        let cursor = Cursor::new(head, seq, head);
        state.attendance.expect_news();
        let shown = state.attendance.shown();
        let key = (seq, shown, state.live.session.state_at(Timestamp::now()));
        if audience == Audience::Participants
            && let Some((of, text)) = &state.welcome
            && *of == key
        {
            return Some(Beginning { seq, state: text.clone(), cursor });
        }
        let session = outbound::session(&state.live.session, shown, seq, join_url);
        let drafts = drafts
            .iter()
            .filter(|poll| poll.state == PollState::Draft && !state.live.has_poll(poll.n));
        let mut polls: Vec<&Poll> = state.live.polls().chain(drafts).collect();
        polls.sort_unstable_by_key(|poll| poll.n);
        let text: Arc<str> = outbound::welcome_state(
            &session,
            &self.epoch,
            polls.into_iter(),
            state.live.results_for(audience),
        )
        .into();
        if audience == Audience::Participants {
            state.welcome = Some((key, text.clone()));
        }
        Some(Beginning { seq, state: text, cursor })
    }

    /// Where a subscriber that knows everything up to `seq` goes on; otherwise what has to be read from the log first:
    /// up to which event, and the newest results of each poll.
    pub(super) fn splice(&self, audience: Audience, seq: Seq) -> Result<Cursor, (Seq, Vec<i64>)> {
        let mut state = self.state.lock(); // nothing is published meanwhile
        let cursor = self.channel(audience).ring.cursor_after(seq);
        state.attendance.expect_news();
        cursor.ok_or_else(|| (state.live.seq, state.live.results_seqs()))
    }

    /// Notes that results are sent at `at`; `false` where that is known already.
    pub(super) fn schedule(&self, at: Instant) -> bool {
        self.state.lock().scheduled.replace(at) != Some(at)
    }

    /// Its join code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.state.lock().live.session.code.clone()
    }

    /// Ends it for everybody who follows.
    pub(super) fn end(&self, end: End) {
        self.channels.iter().for_each(|channel| channel.ring.end(end));
    }

    /// Counts a subscriber; `false` where the session has been retired.
    pub(super) fn enter(&self, participant: Option<ParticipantId>) -> bool {
        let mut state = self.state.lock();
        if state.retired {
            return false;
        }
        state.subscribers += 1;
        state.attendance.enter(participant);
        true
    }

    pub(super) fn leave(&self, participant: Option<ParticipantId>) {
        let mut state = self.state.lock();
        state.subscribers -= 1;
        state.idle_since = Instant::now();
        state.attendance.leave(participant);
    }

    /// Distinct participants with a stream on any instance.
    #[must_use]
    pub fn participants(&self) -> usize {
        self.state.lock().attendance.everywhere()
    }

    /// Distinct participants with a stream here.
    pub(super) fn participants_here(&self) -> usize {
        self.state.lock().attendance.here()
    }

    /// Whether somebody may follow it on another instance.
    pub(super) fn is_followed_elsewhere(&self) -> bool {
        self.state.lock().attendance.is_followed_elsewhere()
    }

    /// See [`Attendance::take_untold`].
    pub(super) fn take_untold(&self, again: bool) -> Option<Option<Vec<i64>>> {
        self.state.lock().attendance.take_untold(again)
    }

    /// The others were not told after all.
    pub(super) fn untell(&self) {
        self.state.lock().attendance.untell();
    }

    /// See [`Attendance::set_elsewhere`].
    pub(super) fn set_elsewhere(&self, marks: Option<HashSet<i64>>) {
        self.state.lock().attendance.set_elsewhere(marks);
    }

    /// Pushes the number of participants where it moved, or somebody has not had it yet.
    pub(super) fn publish_presence(&self) -> bool {
        let mut state = self.state.lock();
        let Some((participants, moved)) = state.attendance.take_news() else { return false };
        let frame = framed(Content::Presence { moved }, &outbound::presence(participants));
        self.channels.iter().for_each(|channel| channel.ring.push(frame.clone()));
        true
    }

    /// Retires a session that nobody has followed for a while. Says whether it is retired.
    pub(super) fn retire_if_idle(&self) -> bool {
        let mut state = self.state.lock();
        state.retired |= state.subscribers == 0 && state.idle_since.elapsed() > UNWATCHED_KEEP;
        state.retired
    }

    /// Retires it at once: its live state is of no use any more.
    pub(super) fn retire(&self) {
        self.state.lock().retired = true;
    }
}

fn framed(content: Content, text: &str) -> Frame {
    Frame {
        content,
        bytes: frame::text(&[text.as_bytes()]),
        payload_at: frame::header_bytes(text.len()),
    }
}
