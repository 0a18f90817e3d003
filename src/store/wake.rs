//! Hints between instances by LISTEN and NOTIFY: "this session has events up to this seq". They only save the wait for the
//! next look; lost, doubled, late or forged ones change nothing. The sender has a connection of its own and notifies in a
//! statement that does nothing else, so that the database-wide lock of NOTIFY is held for microseconds, never over a flush.
//! Spawned by `app/engines.rs`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;
use uuid::Uuid;

use super::StoreError;
use super::connection::{Database, Link};
use crate::domain::{Seq, SessionId};
use crate::drain::{Drain, Phase};
use crate::limits::{
    HINT_BYTES_MAX, HINTS_EVERY, HINTS_OTHERS, LISTENER_PING_EVERY, QUERY_WAIT_MAX,
    RETRY_PAUSE_MAX, RETRY_PAUSE_MIN,
};

const CHANNEL: &str = "plenum";
const NOTIFY: &str = "SELECT pg_notify('plenum', $1)";
/// Instead of a list that would be too long: look at everything.
const EVERYTHING: &str = "*";

/// What other instances are to be told; by default nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hints(Option<Arc<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Newest event per session since the last notification: bounded by what is committed within [`HINTS_EVERY`].
    dirty: Mutex<HashMap<SessionId, Seq>>,
    wake: Notify,
}

/// A hint as it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A session has events up to this one.
    Session(SessionId, Seq),
    /// Anything may have happened.
    Everything,
}

impl Hints {
    /// They are told whatever is noted, once [`Hints::send`] runs.
    #[must_use]
    pub fn told() -> Self {
        Self(Some(Arc::default()))
    }

    /// Notes that a session has a new event. Never waits.
    pub fn mark(&self, session: SessionId, seq: Seq) {
        let Some(inner) = &self.0 else { return };
        let mut dirty = inner.dirty.lock();
        let newest = dirty.entry(session).or_insert(seq);
        *newest = (*newest).max(seq);
        drop(dirty);
        inner.wake.notify_one();
    }

    /// Sends what was noted, at most once per [`HINTS_EVERY`] and [`HINTS_OTHERS`] that listen, as `others` counts them: every
    /// instance hears all the others, so each has to say less where there are more of them.
    pub async fn send(
        self,
        database: Database,
        drain: Drain,
        others: impl Fn() -> usize + Send + 'static,
    ) {
        let Some(inner) = self.0 else { return };
        let mut link: Option<Link> = None;
        loop {
            tokio::select! {
                biased;
                () = drain.reached(Phase::Stopping) => return,
                () = inner.wake.notified() => {}
            }
            let dirty = std::mem::take(&mut *inner.dirty.lock());
            let listening = others();
            if !dirty.is_empty() && listening > 0 {
                // A hint that cannot be sent is not sent later: the poll has been there by then.
                link = notify(link.take(), &database, &drain, &payload(&dirty)).await.ok();
            }
            let shares = u32::try_from(listening.div_ceil(HINTS_OTHERS)).unwrap_or(u32::MAX);
            sleep(HINTS_EVERY * shares.max(1)).await;
        }
    }
}

async fn notify(
    link: Option<Link>,
    database: &Database,
    drain: &Drain,
    payload: &str,
) -> Result<Link, StoreError> {
    let mut link = match link {
        Some(link) if !link.is_stale(database) => link,
        _ => Link::connect(database, drain).await?,
    };
    let sent = async {
        let statement = link.prepared(NOTIFY).await?;
        Ok::<_, StoreError>(link.client.execute(&statement, &[&payload]).await?)
    };
    timeout(QUERY_WAIT_MAX, sent).await.map_err(|_| StoreError::TimedOut)??;
    Ok(link)
}

/// `{session}:{seq}` and so on; the database takes less than 8,000 bytes.
fn payload(dirty: &HashMap<SessionId, Seq>) -> String {
    let mut text = String::new();
    for (session, seq) in dirty {
        let _ = write!(text, "{}:{seq},", session.0.simple());
        if text.len() > HINT_BYTES_MAX {
            return String::from(EVERYTHING);
        }
    }
    text
}

/// Reads a payload; what is malformed in it is passed over.
fn read(payload: &str) -> Vec<Hint> {
    if payload == EVERYTHING {
        return vec![Hint::Everything];
    }
    let one = |item: &str| {
        let (session, seq) = item.split_once(':')?;
        Some(Hint::Session(SessionId(Uuid::try_parse(session).ok()?), Seq(seq.parse().ok()?)))
    };
    payload.split(',').filter_map(one).collect()
}

/// Hears the hints of other instances until the instance stops; comes back with back-off when its connection is lost. What
/// was said meanwhile is made up for by [`Hint::Everything`].
pub async fn listen(database: Database, drain: Drain, heard: Arc<dyn Fn(Hint) + Send + Sync>) {
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        let error = tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => return,
            error = listen_once(&database, &heard, &mut pause) => error,
        };
        tracing::warn!(error = ?error, "hints are not heard; the poll goes on");
        tokio::select! {
            biased;
            () = drain.reached(Phase::Stopping) => return,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(RETRY_PAUSE_MAX * 10);
    }
}

/// Cancel safe: the connection is dropped with it. Ends only with an error.
async fn listen_once(
    database: &Database,
    heard: &Arc<dyn Fn(Hint) + Send + Sync>,
    pause: &mut Duration,
) -> StoreError {
    let (client, mut connection) = match database.named("plenum listener").open().await {
        Ok(pair) => pair,
        Err(error) => return error,
    };
    let generation = database.generation();
    let receive = async {
        loop {
            match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(notification))) => {
                    read(notification.payload()).into_iter().for_each(|hint| heard(hint));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return StoreError::from(error),
                None => return StoreError::Content("the listener's connection ended"),
            }
        }
    };
    let keep = async {
        let listen = async {
            timeout(QUERY_WAIT_MAX, client.batch_execute(&format!("LISTEN {CHANNEL}")))
                .await
                .map_err(|_| StoreError::TimedOut)??;
            Ok::<_, StoreError>(())
        };
        if let Err(error) = listen.await {
            return error;
        }
        *pause = RETRY_PAUSE_MIN;
        heard(Hint::Everything); // what was committed before LISTEN took effect
        loop {
            sleep(LISTENER_PING_EVERY).await;
            // A connection whose other end has vanished says nothing by itself.
            match timeout(QUERY_WAIT_MAX, client.batch_execute("")).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(_) => return StoreError::TimedOut,
            }
        }
    };
    tokio::select! {
        biased;
        () = database.replaced(generation) => StoreError::NoPrimary, // another server has taken over
        error = receive => error,
        error = keep => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_read_back_and_nonsense_is_passed_over() {
        let session = SessionId(Uuid::now_v7());
        let dirty = HashMap::from([(session, Seq(42))]);
        assert_eq!(read(&payload(&dirty)), [Hint::Session(session, Seq(42))]);
        assert_eq!(read("*"), [Hint::Everything]);
        assert_eq!(read("x:1,:,,zz,00000000000000000000000000000000:y"), []);
        let many = (0..1_000).map(|_| (SessionId(Uuid::now_v7()), Seq(1))).collect();
        assert_eq!(payload(&many), EVERYTHING);
    }
}
