//! How many are here: counts participants over all instances, and says so at most once a second. Not an event, not stored:
//! instances tell each other through the table `presence`, while there are others. Spawned by `feed/mod.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::Feed;
use super::watched::Watched;
use crate::domain::SessionId;
use crate::drain::{Drain, Phase};
use crate::limits::PRESENCE_EVERY;
use crate::store::StoreError;

/// Tells and hears about presence until the instance stops.
pub(super) async fn run(feed: Feed, drain: Drain) {
    let mut ticks = interval(PRESENCE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => return,
            _ = ticks.tick() => {}
        }
        let watched = feed.all();
        let here: usize = watched.iter().map(|session| session.participants_here()).sum();
        feed.0.metrics.participants.set(i64::try_from(here).unwrap_or(i64::MAX));
        let others = feed.others();
        if !(others.is_empty() && told.others.is_empty() && told.is_known) {
            match feed.exchange(&watched, &others, &mut told).await {
                Ok(()) => told.others = others,
                Err(error) => {
                    // Who is cut off for long is forgotten by the others: they are told everything again.
                    told.others.clear();
                    tracing::warn!(error = ?error, "presence not exchanged");
                }
            }
        }
        for session in watched {
            if session.publish_presence() {
                feed.0.hub.mark(&session, None);
            }
        }
    }
}

/// What the other instances know from here.
#[derive(Debug, Default)]
struct Told {
    /// Who they were.
    others: Vec<String>,
    /// Where they believe somebody to be here: bounded by what is watched, since what is not is taken back at once.
    sessions: HashSet<SessionId>,
    /// That is known: a process of the same name may have told them something before it died.
    is_known: bool,
}

impl Feed {
    /// Hears who follows a session elsewhere that is watched here from now on; where that fails, with the next exchange.
    pub(super) async fn hear_of(&self, watched: &Watched) {
        let others = self.others();
        if others.is_empty() {
            return;
        }
        match self.0.store.presence_of(&[watched.id], &others).await {
            // Whoever came a moment ago has not been told of: not yet known is not nobody.
            Ok(told) if told.is_empty() => {}
            Ok(told) => {
                watched
                    .set_elsewhere(Some(told.into_iter().flat_map(|(_, marks)| marks).collect()));
            }
            Err(error) => tracing::warn!(error = ?error, "presence not heard of"),
        }
    }

    /// The names of the other instances that live.
    pub(super) fn others(&self) -> Vec<String> {
        let me = &self.0.instance_id;
        self.0
            .instances
            .borrow()
            .iter()
            .filter(|one| one.id != *me)
            .map(|one| one.id.clone())
            .collect()
    }

    async fn exchange(
        &self,
        watched: &[Arc<Watched>],
        others: &[String],
        told: &mut Told,
    ) -> Result<(), StoreError> {
        if !told.is_known {
            told.sessions.extend(self.0.store.presence_told(&self.0.instance_id).await?);
            told.is_known = true;
        }
        // Whoever is new has not heard anything yet.
        let again = others.iter().any(|other| !told.others.contains(other));
        self.tell(watched, again, &mut told.sessions).await?;
        let sessions: Vec<SessionId> = watched.iter().map(|session| session.id).collect();
        let mut elsewhere: HashMap<SessionId, HashSet<i64>> = HashMap::new();
        for (session, marks) in self.0.store.presence_of(&sessions, others).await? {
            elsewhere.entry(session).or_default().extend(marks);
        }
        for session in watched {
            session.set_elsewhere(elsewhere.remove(&session.id));
        }
        Ok(())
    }

    async fn tell(
        &self,
        watched: &[Arc<Watched>],
        again: bool,
        told: &mut HashSet<SessionId>,
    ) -> Result<(), StoreError> {
        // A session that ended here with its history, say, was left without a word. The list is in order of ids.
        let is_left = |id: &&SessionId| watched.binary_search_by_key(*id, |one| one.id).is_err();
        let mut untold: Vec<(SessionId, Option<Vec<i64>>)> =
            told.iter().filter(is_left).map(|id| (*id, None)).collect();
        untold.extend(
            watched.iter().filter_map(|session| Some((session.id, session.take_untold(again)?))),
        );
        if untold.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.0.store.tell_presence(&self.0.instance_id, &untold).await {
            let failed = |session: &&Arc<Watched>| untold.iter().any(|(id, _)| *id == session.id);
            watched.iter().filter(failed).for_each(|session| session.untell());
            return Err(error);
        }
        for (session, marks) in untold {
            match marks {
                Some(_) => told.insert(session),
                None => told.remove(&session),
            };
        }
        Ok(())
    }
}
