//! What both edges share: handles to everything below, who a token or a code stands for, and how many streams may be open.
//! Made by `app.rs`; used by `ws` and `http`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use ipnet::IpNet;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pulse::Pulse;
use crate::addresses::FailedJoins;
use crate::auth::{self, PresenterHash, Signer, Token};
use crate::cluster::forecast::Forecast;
use crate::cluster::{Cluster, Standing};
use crate::domain::{Code, SessionId};
use crate::drain::{Drain, Phase};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::store::wake::Hints;
use crate::store::{Store, StoreError};
use crate::vote::{Offer, Votes};

/// Handles and rules for the edges.
#[derive(Debug)]
pub struct Edge {
    /// The database.
    pub store: Store,
    /// The read path.
    pub feed: Feed,
    /// The write path.
    pub votes: Votes,
    /// Where changes are offered.
    pub offer: Offer,
    /// What a deletion is told to other instances by.
    pub hints: Hints,
    /// The instances of the database.
    pub cluster: Cluster,
    /// How many instances should run.
    pub forecast: Forecast,
    /// Tokens.
    pub signer: Signer,
    /// Pings.
    pub pulse: Arc<Pulse>,
    /// Tasks and phases.
    pub drain: Drain,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Who guesses codes.
    pub failed_joins: FailedJoins,
    /// Open streams.
    pub streams: AtomicUsize,
    /// Told by `POST /drain`; `app.rs` acts on it as on SIGTERM.
    pub asked_to_drain: Notify,
    /// Told when a session was deleted that is too large for one statement; the janitor removes the rest.
    pub leftovers: Arc<Notify>,
    /// What the operator set.
    pub rules: Rules,
}

/// What the operator set, as far as the edges care.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `None`: anybody creates sessions.
    pub api_key: Option<String>,
    /// What links begin with; `None`: the address that a request came by.
    pub public_url: Option<String>,
    /// Open streams at most.
    pub streams_max: usize,
    /// Participants that this instance is meant for.
    pub capacity: u32,
    /// Messages at once, per connection.
    pub message_burst: u32,
    /// Messages per second, per connection.
    pub message_rate: u32,
    /// Empty: any.
    pub allowed_origins: Vec<String>,
    /// Whose word about clients' addresses is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those begin each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
}

impl Rules {
    /// Whether this is the address of a proxy of ours.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Whether the page that asks may connect: any, one of an origin that is listed, or one of the server that is asked. What
    /// is no page, or says so, names no origin.
    #[must_use]
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(ORIGIN).map(HeaderValue::as_bytes) else { return true };
        let same = |known: &String| known.as_bytes().eq_ignore_ascii_case(origin);
        self.allowed_origins.is_empty()
            || self.allowed_origins.iter().any(same)
            || !is_of_another_site(headers)
    }
}

/// Whether a browser sends this for a page of another site than the one that is asked.
#[must_use]
pub fn is_of_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (_, origin) = text(ORIGIN).split_once("://").unwrap_or_default();
    headers.contains_key(ORIGIN) && !origin.eq_ignore_ascii_case(text(HOST))
}

/// An open stream; counted until it is dropped.
#[derive(Debug)]
pub struct Stream(Arc<Edge>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
        self.0.metrics.connections.dec();
    }
}

/// Why a code leads nowhere.
#[derive(Debug)]
pub enum CodeRefused {
    /// Nobody's.
    Unknown,
    /// Too many unknown ones from this address; again after so long.
    TooMany(Duration),
    /// The database does not answer.
    Store(StoreError),
}

impl Edge {
    /// A place for one more stream; `None` where the instance is full.
    #[must_use]
    pub fn open_stream(self: &Arc<Self>, transport: &str) -> Option<Stream> {
        let taken = self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < self.rules.streams_max).then_some(open + 1)
        });
        taken.ok()?;
        self.metrics.connections.inc();
        self.metrics.opened.of(transport).inc();
        Some(Stream(self.clone()))
    }

    /// Whether the instance takes no more streams.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.streams.load(Ordering::Acquire) >= self.rules.streams_max
    }

    /// Whether the client that `bell` woke is sent away, and when it is to come back. Otherwise the bell is a new one.
    pub fn sent_away(&self, bell: &mut CancellationToken) -> Option<Duration> {
        let after = self.drain.leaves();
        match after {
            None => *bell = self.drain.bell(),
            Some(_) if self.drain.phase() < Phase::Draining => self.metrics.moved.inc(),
            Some(_) => {}
        }
        after
    }

    /// Whose code this is.
    ///
    /// # Errors
    /// See [`CodeRefused`].
    pub async fn session_of_code(
        &self,
        code: &Code,
        from: IpAddr,
    ) -> Result<SessionId, CodeRefused> {
        self.failed_joins.check(from, code).map_err(CodeRefused::TooMany)?;
        let found = self.feed.session_of_code(code).await;
        // Again: thousands may have been looked up at the same time.
        self.failed_joins.check(from, code).map_err(CodeRefused::TooMany)?;
        match found {
            Ok(Some(session)) => {
                self.failed_joins.succeeded(from, code);
                Ok(session)
            }
            Ok(None) => {
                self.failed_joins.count(from);
                Err(CodeRefused::Unknown)
            }
            Err(error) => Err(CodeRefused::Store(error)),
        }
    }

    /// Whether this hash is that of the session's presenter; `false` too where there is no such session.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn is_presenter(
        &self,
        session: SessionId,
        hash: &PresenterHash,
    ) -> Result<bool, StoreError> {
        let row = self.store.session(session).await?;
        Ok(row.is_some_and(|row| auth::same_hash(&row.presenter_hash, hash)))
    }

    /// Reads a token.
    #[must_use]
    pub fn read_token(&self, token: &str) -> Option<Token> {
        self.signer.read(token)
    }

    /// What balancers are told about this instance.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            leaving: self.drain.phase() >= Phase::Announcing,
            full: self.is_full(),
            streams: self.streams.load(Ordering::Acquire),
            capacity: self.rules.capacity,
        }
    }

    /// The address of the client: of the connection, or what a trusted proxy says.
    #[must_use]
    pub fn client_address(&self, peer: IpAddr, forwarded_for: &str) -> IpAddr {
        if !self.rules.trusts(peer) {
            return peer;
        }
        // From the right: each trusted proxy vouches for the address before it. Where all are trusted, the client is in the
        // proxies' own network.
        let mut client = peer;
        for hop in forwarded_for.split(',').rev() {
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            client = hop.to_canonical();
            if !self.rules.trusts(client) {
                break;
            }
        }
        client
    }
}
