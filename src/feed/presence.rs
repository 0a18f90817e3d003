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
    let mut told: Vec<String> = Vec::new();
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
        if !(others.is_empty() && told.is_empty()) {
            // Whoever is new has not heard anything yet.
            let again = others.iter().any(|other| !told.contains(other));
            match feed.exchange(&watched, &others, again).await {
                Ok(()) => told = others,
                Err(error) => tracing::warn!(error = ?error, "presence not exchanged"),
            }
        }
        for session in watched {
            if session.publish_presence() {
                feed.0.hub.mark(&session, None);
            }
        }
    }
}

impl Feed {
    fn others(&self) -> Vec<String> {
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
        again: bool,
    ) -> Result<(), StoreError> {
        let untold: Vec<(SessionId, Vec<i64>)> = watched
            .iter()
            .filter_map(|session| session.take_untold(again).map(|marks| (session.id, marks)))
            .collect();
        if !untold.is_empty()
            && let Err(error) = self.0.store.tell_presence(&self.0.instance_id, &untold).await
        {
            let failed = |session: &&Arc<Watched>| untold.iter().any(|(id, _)| *id == session.id);
            watched.iter().filter(failed).for_each(|session| session.untell());
            return Err(error);
        }
        let sessions: Vec<SessionId> = watched.iter().map(|session| session.id).collect();
        let mut elsewhere: HashMap<SessionId, HashSet<i64>> = HashMap::new();
        for (session, marks) in self.0.store.presence_of(&sessions, others).await? {
            elsewhere.entry(session).or_default().extend(marks);
        }
        for session in watched {
            session.set_elsewhere(elsewhere.remove(&session.id).unwrap_or_default());
        }
        Ok(())
    }
}
