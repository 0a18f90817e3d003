//! An instance without its listeners: read path, write path, hints, heartbeat and the look at the history, over a database that
//! is open already. Called by `app.rs`, and by the simulation, so that what is simulated is put together as what is shipped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::history;
use crate::addresses::FailedJoins;
use crate::auth::Signer;
use crate::cluster::Cluster;
use crate::cluster::desired::Policy;
use crate::cluster::forecast::Forecast;
use crate::config::{Config, Scale};
use crate::domain::LoggedEvent;
use crate::drain::{Drain, Phase};
use crate::feed::{self, Feed};
use crate::limits::FAILED_JOINS_WINDOW;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::connection::Database;
use crate::store::wake::{self, Hints};
use crate::vote::{Offer, Votes};
use crate::ws::{Edge, Rules};

/// What an instance stands on.
pub(crate) struct Base {
    pub(crate) store: Store,
    pub(crate) database: Database,
    pub(crate) drain: Drain,
    pub(crate) metrics: Arc<Metrics>,
}

/// Starts everything that works without a listener. `listen`: where people come, for links.
pub(crate) fn engines(config: &Config, base: Base, secret: &str, listen: SocketAddr) -> Arc<Edge> {
    let Base { store, database, drain, metrics } = base;
    let cluster = Cluster::new(&config.instance_id, config.capacity);
    let settings = feed::Settings {
        public_url: config.public_url.clone().unwrap_or_else(|| format!("http://{listen}")),
        poll_interval: config.poll_interval,
        instance_id: config.instance_id.clone(),
        instances: cluster.watch(),
    };
    let feed = Feed::start(settings, &store, &drain, &metrics);
    let hints = if config.listen_notify { Hints::told() } else { Hints::default() };
    let offer = offer(feed.clone(), hints.clone(), metrics.clone());
    let votes = Votes::start(&database, config.writer_lanes, &drain, &metrics, &offer);
    let edge = Arc::new(Edge {
        store,
        feed,
        votes,
        offer,
        hints,
        cluster: cluster.clone(),
        forecast: Forecast::new(policy(config)),
        signer: Signer::new(secret),
        pulse: Arc::default(),
        drain: drain.clone(),
        metrics,
        failed_joins: FailedJoins::default(),
        streams: AtomicUsize::new(0),
        asked_to_drain: Notify::new(),
        leftovers: Arc::default(),
        rules: rules(config),
    });
    drain.spawn_vital("pulse", edge.pulse.clone().run(drain.clone()));
    if config.listen_notify {
        exchange_hints(&edge, &database);
    }
    let beat =
        cluster.run(edge.store.clone(), drain.clone(), edge.metrics.clone(), config.rebalance);
    drain.spawn_vital("heartbeat", beat);
    drain.spawn_vital("addresses", forget_addresses(edge.clone()));
    drain.spawn_vital("history", history::watch(edge.store.clone(), drain.clone()));
    edge
}

fn rules(config: &Config) -> Rules {
    Rules {
        api_key: config.api_key.clone(),
        public_url: config.public_url.clone(),
        streams_max: config.max_connections,
        capacity: config.capacity,
        message_burst: config.message_burst,
        message_rate: config.message_rate,
        allowed_origins: config.allowed_origins.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        proxy_protocol: config.proxy_protocol,
    }
}

/// Where whatever is committed here goes: to the metrics, to other instances, and to the read path.
fn offer(feed: Feed, hints: Hints, metrics: Arc<Metrics>) -> Offer {
    Offer(Arc::new(move |event: LoggedEvent, committed| {
        metrics.appended.of(event.kind.label()).inc();
        if feed.others_want(&event) {
            hints.mark(event.session, event.seq);
        }
        feed.offer(event, committed);
    }))
}

/// No address of somebody who mistyped a code is kept for longer than it counts, and as long again.
async fn forget_addresses(edge: Arc<Edge>) {
    let mut ticks = interval(FAILED_JOINS_WINDOW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => edge.failed_joins.sweep(),
            () = edge.drain.reached(Phase::Stopping) => return,
        }
    }
}

/// Wakes other instances, and lets itself be woken.
fn exchange_hints(edge: &Arc<Edge>, database: &Database) {
    let (others, feed, drain) = (edge.cluster.clone(), edge.feed.clone(), &edge.drain);
    let send = edge.hints.clone().send(database.clone(), drain.clone(), move || others.others());
    drain.spawn_vital("hints out", send);
    let heard = Arc::new(move |hint| feed.hint(hint));
    drain.spawn_vital("hints in", wake::listen(database.clone(), drain.clone(), heard));
}

fn policy(config: &Config) -> Policy {
    let Scale { start, quiet, min, max } = config.scale;
    Policy { start, quiet, min, max }
}
