//! The read path: follows the log, folds it into live state, encodes each event once, fans it out. Never delivers what is
//! not in the log (presence aside), never orders by anything but `seq`, never waits for a socket.
//!
//! ```text
//! log ─► tailer (poll, or a commit's offer) ─► watched (fold, conflate, encode) ─► rings ─► hub ─► sockets
//!                                                                                    └► SSE streams
//! a client that comes back: replay (log up to what the ring has) ─► the ring
//! ```
//! Called by `ws` and `http` to follow a session; fed by whoever commits, through [`Feed::offer`].

mod attendance;
mod hub;
mod live;
mod mark;
mod presence;
mod replay;
mod since;
mod tailer;
mod together;
mod turn;
mod watched;

use std::collections::HashMap;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{Instant, timeout};

pub use live::{LiveState, Unfit};
pub use replay::{After, FollowError, Subscription, Target, TargetGone, Who};
pub use watched::{Beginning, Watched};

use crate::domain::{Audience, Code, EventKind, LoggedEvent, Seq, SessionId};
use crate::drain::Drain;
use crate::limits::{CATCH_UP_WAIT_MAX, HISTORY_TRIES_MAX, QUERY_WAIT_MAX};
use crate::metrics::Metrics;
use crate::mutation::mutation;
use crate::store::cluster::Instance;
use crate::store::history::Evidence;
use crate::store::wake::Hint;
use crate::store::{Store, StoreError};
use hub::Hub;
use since::{Since, Source};
use tailer::Flushes;
use together::Together;
use watched::Taken;

type Slot = Arc<OnceCell<Arc<Watched>>>;

/// What the read path is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where join links lead: `{public_url}/j/{code}`.
    pub public_url: String,
    /// How often the log is asked for what no offer brought.
    pub poll_interval: std::time::Duration,
    /// The name of this instance.
    pub instance_id: String,
    /// All instances that live.
    pub instances: watch::Receiver<Vec<Instance>>,
}

/// The read path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// Watched sessions; bounded by the connections that watch them, and by those that left within half a minute.
    sessions: DashMap<SessionId, Slot>,
    /// Their codes. No code that is unknown is ever remembered.
    codes: DashMap<Code, SessionId>,
    /// Codes that somebody asks the database for just now, or did since the last look at the log.
    asking: DashMap<Code, Arc<Together<Option<SessionId>>>>,
    /// Where join links lead: `{public_url}/j/{code}`.
    public_url: String,
    instance_id: String,
    instances: watch::Receiver<Vec<Instance>>,
    flushes: Flushes,
    /// Told where the log is ahead of us.
    hurry: Notify,
}

impl Feed {
    /// Starts the tailer and the fan-out.
    #[must_use]
    pub fn start(settings: Settings, store: &Store, drain: &Drain, metrics: &Arc<Metrics>) -> Self {
        let Settings { public_url, poll_interval, instance_id, instances } = settings;
        let shards = tokio::runtime::Handle::current().metrics().num_workers();
        let feed = Self(Arc::new(Inner {
            store: store.clone(),
            hub: Hub::start(shards, drain, metrics),
            metrics: metrics.clone(),
            sessions: DashMap::new(),
            codes: DashMap::new(),
            asking: DashMap::new(),
            public_url,
            instance_id,
            instances,
            flushes: Flushes::default(),
            hurry: Notify::new(),
        }));
        drain.spawn_vital("tailer", tailer::run(feed.clone(), poll_interval, drain.clone()));
        drain.spawn_vital("conflation", tailer::run_flushes(feed.clone(), drain.clone()));
        drain.spawn_vital("presence", presence::run(feed.clone(), drain.clone()));
        feed
    }

    /// Offers an event that was just committed. Taken if it is the next one of a session that is watched here; otherwise the
    /// log is read. When this returns, an event that was next is in the live state.
    pub fn offer(&self, event: LoggedEvent, committed: Instant) {
        if let Some(watched) = self.watched(event.session).filter(|watched| !self.is_over(watched))
        {
            self.0.metrics.tailed.of("offered").inc();
            self.take(&watched, event, Since { at: committed, source: Source::Own });
        }
    }

    /// Whether other instances should hear of it at once. Results come by the hundred: only where somebody follows the session
    /// there, as far as is known here; otherwise their poll is early enough. Anything else is seldom, and always told.
    #[must_use]
    pub fn others_want(&self, event: &LoggedEvent) -> bool {
        event.kind != EventKind::PollResults
            || self.watched(event.session).is_none_or(|watched| watched.is_followed_elsewhere())
    }

    /// Hears that the log may be ahead; looks if it can be true. Never trusted, never needed.
    pub fn hint(&self, hint: Hint) {
        let news = match hint {
            Hint::Session(session, seq) => {
                self.watched(session).is_some_and(|watched| seq > watched.seq())
            }
            Hint::Everything => true,
        };
        self.0.metrics.hints.of(if news { "true" } else { "false" }).inc();
        if news {
            self.0.hurry.notify_one();
        }
    }

    fn take(&self, watched: &Arc<Watched>, event: LoggedEvent, since: Since) {
        let taken = watched.take(event, since);
        taken.applied.iter().for_each(|kind| self.0.metrics.events.of(kind.label()).inc());
        self.follow_up(watched, &taken);
    }

    fn follow_up(&self, watched: &Arc<Watched>, taken: &Taken) {
        self.0.metrics.superseded.inc_by(taken.superseded);
        if let Some(since) = taken.published {
            self.0.hub.mark(watched, Some(since));
        }
        if let Some(at) = taken.flush_at {
            self.0.flushes.add(at, watched);
        }
        if taken.missing {
            self.0.hurry.notify_one();
        }
        if taken.unreadable {
            self.forget(watched);
            self.0.hub.mark(watched, None);
        }
    }

    /// Every session that is watched here, by id, so that the order of a map decides nothing.
    fn all(&self) -> Vec<Arc<Watched>> {
        let mut all: Vec<_> =
            self.0.sessions.iter().filter_map(|slot| slot.get().cloned()).collect();
        all.sort_unstable_by_key(|watched| watched.id);
        all
    }

    fn watched(&self, session: SessionId) -> Option<Arc<Watched>> {
        self.0.sessions.get(&session)?.get().cloned()
    }

    /// The session, watched from now on; `None` where there is none. Loads it once however many ask at a time.
    /// Cancel safe.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn watch(&self, session: SessionId) -> Result<Option<Arc<Watched>>, StoreError> {
        let mut tries = 0;
        loop {
            let slot: Slot = self.0.sessions.entry(session).or_default().clone();
            // One failed load after the other, each with its own time-out, would be longer than anybody waits.
            let loaded = timeout(QUERY_WAIT_MAX, slot.get_or_try_init(|| self.load(session)));
            let watched = match loaded.await.unwrap_or(Err(Some(StoreError::TimedOut))) {
                Ok(watched) => watched.clone(),
                Err(error) => {
                    self.0.sessions.remove_if(&session, |_, slot| slot.get().is_none());
                    return error.map_or(Ok(None), Err);
                }
            };
            // Somebody whose load failed may have taken the slot away: what is not in the map is not tailed.
            let kept = self.0.sessions.entry(session).or_insert_with(|| slot.clone()).clone();
            if Arc::ptr_eq(&kept, &slot) && !self.is_over(&watched) {
                return Ok(Some(watched));
            }
            if self.is_over(&watched) {
                // Read of another history than is known: the one or the other is late.
                tries += 1;
                if tries > HISTORY_TRIES_MAX {
                    return Err(StoreError::NoPrimary);
                }
                self.0.store.settle(Evidence::None).await?;
                self.forget_other_histories();
            }
        }
    }

    /// Fails with `None` where there is no such session.
    async fn load(&self, session: SessionId) -> Result<Arc<Watched>, Option<StoreError>> {
        let snapshot = self.0.store.snapshot(session).await.map_err(Some)?.ok_or(None)?;
        let epoch: Arc<str> = snapshot.epoch.as_str().into();
        let live = LiveState::from(snapshot);
        self.0.codes.insert(live.session.code.clone(), session);
        let watched = Arc::new(Watched::new(session, epoch, live, self.0.hub.shards()));
        self.hear_of(&watched).await;
        Ok(watched)
    }

    /// Whose code this is; asks the database unless the session is watched here. A hall that joins at once asks together.
    /// Cancel safe.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn session_of_code(&self, code: &Code) -> Result<Option<SessionId>, StoreError> {
        if let Some(session) = self.0.codes.get(code) {
            return Ok(Some(*session));
        }
        let asked = self.0.asking.entry(code.clone()).or_default().clone();
        let read = async || self.0.store.session_of_code(code).await;
        timeout(QUERY_WAIT_MAX, asked.get(read)).await.unwrap_or(Err(StoreError::TimedOut))
    }

    /// The state of a session for REST, as far as this instance knows it, which is at least what it committed itself.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn state(&self, session: SessionId) -> Result<Option<Beginning>, StoreError> {
        loop {
            let Some(watched) = self.watch(session).await? else { return Ok(None) };
            let begun = watched.begin(Audience::Participants, &[], &self.join_url(&watched.code()));
            if begun.is_some() {
                return Ok(begun);
            }
            self.forget(&watched);
        }
    }

    /// Waits until this instance shows `seq`, if it watches the session: who is told of a change finds it here at once.
    pub async fn settle(&self, session: SessionId, seq: Seq) {
        if let Some(watched) = self.watched(session) {
            // The time-out is no error: the tailer will be there.
            let _ = timeout(CATCH_UP_WAIT_MAX, watched.reach(seq)).await;
        }
    }

    /// The session was deleted: tells everybody who follows it here.
    pub fn deleted(&self, session: SessionId) {
        if let Some(watched) = self.watched(session) {
            watched.end(crate::ring::End::Deleted);
            self.forget(&watched);
            self.0.hub.mark(&watched, None);
        }
    }

    fn forget(&self, watched: &Arc<Watched>) {
        watched.retire();
        self.0.codes.remove_if(&watched.code(), |_, session| *session == watched.id);
        self.0.sessions.remove_if(&watched.id, |_, slot| {
            slot.get().is_some_and(|it| Arc::ptr_eq(it, watched))
        });
    }

    /// Distinct participants with a stream on any instance, of each of these sessions that has any. Asks the database about
    /// those that nobody follows here, where there are other instances.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn participants(
        &self,
        sessions: &[SessionId],
    ) -> Result<HashMap<SessionId, usize>, StoreError> {
        let (mut known, mut unknown) = (HashMap::new(), Vec::new());
        for session in sessions {
            match self.watched(*session) {
                Some(watched) => drop(known.insert(*session, watched.participants())),
                None => unknown.push(*session),
            }
        }
        let others = self.others();
        if !(unknown.is_empty() || others.is_empty()) {
            known.extend(self.0.store.present(&unknown, &others).await?);
        }
        Ok(known)
    }

    /// As [`Feed::participants`], of one session and as far as it is known here.
    #[must_use]
    pub fn participants_known(&self, session: SessionId) -> usize {
        self.watched(session).map_or(0, |watched| watched.participants())
    }

    /// Where people join.
    #[must_use]
    pub fn join_url(&self, code: &Code) -> String {
        format!("{}/j/{}", self.0.public_url, code.as_str())
    }

    /// Ends every session whose state is of a history that is over: what it showed may not be there any more. Clients come
    /// back with `after` and the epoch they know, and get the state instead of the events.
    fn forget_other_histories(&self) {
        for watched in self.all().into_iter().filter(|watched| self.is_over(watched)) {
            watched.end(crate::ring::End::Lagging);
            self.forget(&watched);
            self.0.hub.mark(&watched, None);
        }
    }

    fn is_over(&self, watched: &Watched) -> bool {
        mutation!("old_history_stays", return false);
        !self.0.store.history().is_now(&watched.epoch)
    }
}
