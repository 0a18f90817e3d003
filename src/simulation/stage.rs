//! The instances of a simulation, each put together as `app.rs` does it, on one simulated database; and what everybody in it
//! writes down. Instances are lost and drained here, and new ones started.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use plenum_loadtest::history::Line;
use tokio::io::duplex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dice::Dice;
use super::postgres;
use super::tables::Tables;
use super::world::World;
use crate::app::engines::{Base, engines};
use crate::config::{Config, LogForm, Scale};
use crate::drain::{Drain, Phase};
use crate::metrics::Metrics;
use crate::socket::Socket;
use crate::socket::pipe::pipe;
use crate::store::Store;
use crate::store::connection::Database;
use crate::store::history::{Evidence, History};
use crate::ws::{self, Edge};

/// Bytes on the way between an instance and its database.
const DATABASE_BYTES: usize = 64 * 1024;
/// An instance that was told to stop has ended by then; the longest is a batch that is tried a last time.
const STOP_MAX: Duration = Duration::from_secs(40);

/// See [`Stage::loose_end`].
const QUIET: Duration = Duration::from_secs(11);

/// One instance.
#[derive(Clone)]
pub(super) struct Instance {
    pub(super) number: usize,
    pub(super) edge: Arc<Edge>,
    /// Everybody who is connected to it is cut off.
    pub(super) gone: CancellationToken,
    /// Takes new clients.
    open: bool,
}

/// A history that is over: its name, and what it held.
pub(super) type Past = (String, Tables);

pub(super) struct Stage {
    pub(super) world: Arc<World>,
    instances: Mutex<Vec<Instance>>,
    started: AtomicUsize,
    /// What clients wrote down, by session and the epoch that they knew.
    pub(super) lines: Mutex<BTreeMap<Uuid, Vec<(String, Line)>>>,
    pub(super) faults: Mutex<Vec<String>>,
    pub(super) past: Mutex<Vec<Past>>,
    /// Each client's view of a history by number: whether it is a presenter's, and has come to its end.
    pub(super) views: Mutex<BTreeMap<u32, (bool, bool)>>,
    /// Tries that nobody waits for may still be carried out before that.
    pub(super) quiet_at: Mutex<Option<Instant>>,
    /// Nothing goes wrong any more, and nobody does anything new.
    pub(super) calm: AtomicBool,
    /// Who has not got all answers yet, or may still change something.
    pub(super) busy: AtomicUsize,
    /// The longest that a vote waited for its answer on a connection that stayed open, in milliseconds.
    pub(super) longest_ms: AtomicU64,
    pub(super) counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Stage {
    pub(super) fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world,
            instances: Mutex::default(),
            started: AtomicUsize::new(0),
            lines: Mutex::default(),
            faults: Mutex::default(),
            past: Mutex::default(),
            views: Mutex::default(),
            quiet_at: Mutex::default(),
            calm: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            longest_ms: AtomicU64::new(0),
            counts: Mutex::default(),
        })
    }

    pub(super) fn fault(&self, what: String) {
        self.world.note(|| format!("FAULT {what}"));
        self.faults.lock().push(what);
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    pub(super) fn line(&self, session: Uuid, epoch: &str, line: Line) {
        self.lines.lock().entry(session).or_default().push((epoch.to_owned(), line));
    }

    /// A number for one client's view of one history.
    pub(super) fn view(&self, presenter: bool) -> u32 {
        let mut views = self.views.lock();
        let number = u32::try_from(views.len()).unwrap();
        views.insert(number, (presenter, false));
        number
    }

    /// A vote is settled for its voter, and another try of it is on its way: it is tried once more at most, and no batch waits
    /// for longer than `COMMIT_WAIT_MAX` once nothing goes wrong.
    pub(super) fn loose_end(&self) {
        *self.quiet_at.lock() = Some(Instant::now() + QUIET);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet_at.lock().is_none_or(|at| at <= Instant::now())
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Any instance that takes clients.
    pub(super) fn pick(&self, dice: &mut Dice) -> Option<Instance> {
        let instances = self.instances.lock();
        let open: Vec<&Instance> = instances.iter().filter(|one| one.open).collect();
        (!open.is_empty()).then(|| open[dice.below(open.len())].clone())
    }

    /// Starts another instance; returns when it is ready.
    pub(super) async fn start(self: &Arc<Self>) {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let mut dice = Dice::of(self.world.seed, "instance", number as u64);
        let metrics = Arc::new(Metrics::new().unwrap());
        let drain = Drain::new(metrics.tasks.clone());
        let history = History::new(&metrics);
        let database = Database::simulated(self.dial(number, drain.clone()), &history);
        let store = Store::new(&database, &[], &drain, metrics.clone());
        while store.settle(Evidence::None).await.is_err() {
            sleep(Duration::from_millis(100)).await; // a real one gives up, and is started again
        }
        let base = Base { store, database, drain, metrics };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let edge = engines(&config(number, &mut dice), base, "simulated", listen);
        self.world.note(|| format!("i{number} ready"));
        let gone = CancellationToken::new();
        self.instances.lock().push(Instance { number, edge, gone, open: true });
    }

    fn dial(self: &Arc<Self>, number: usize, drain: Drain) -> crate::store::way::Dial {
        let (world, opened) = (self.world.clone(), AtomicU64::new(0));
        Arc::new(move || {
            if !world.takes(number) {
                return None;
            }
            let (near, far) = duplex(DATABASE_BYTES);
            let nth = opened.fetch_add(1, Ordering::Relaxed);
            drain.spawn_driver(postgres::serve(world.clone(), far, number, nth));
            Some(near)
        })
    }

    /// Connects a client; what it has not read is bounded by `room`.
    pub(super) fn connect(&self, instance: &Instance, room: usize) -> Socket {
        let (near, far) = pipe(room);
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let connection = ws::run_connection(
            instance.edge.clone(),
            far,
            Bytes::new(),
            from,
            tracing::Span::none(),
        );
        instance.edge.drain.spawn_client(connection);
        near
    }

    /// One of them takes no clients any more; none where it is the last.
    pub(super) fn close_one(&self, dice: &mut Dice) -> Option<Instance> {
        let mut instances = self.instances.lock();
        let mut open: Vec<&mut Instance> = instances.iter_mut().filter(|one| one.open).collect();
        if open.len() < 2 {
            return None;
        }
        let at = dice.below(open.len());
        open[at].open = false;
        Some(open[at].clone())
    }

    /// Stops an instance; everything of it must end by itself.
    pub(super) async fn stop(&self, instance: &Instance) {
        let edge = &instance.edge;
        edge.drain.advance(Phase::Stopping);
        instance.gone.cancel();
        let ended = async {
            edge.drain.background_gone().await;
            edge.drain.clients_gone().await;
        };
        if timeout(STOP_MAX, ended).await.is_err() {
            self.fault(format!("i{} does not end", instance.number));
        }
        let waiting = edge.metrics.queue_depth.get();
        if waiting != 0 {
            self.fault(format!("i{} ended with {waiting} votes in its lanes", instance.number));
        }
        let unanswered = edge.metrics.votes.of("unanswered").get();
        if unanswered != 0 {
            self.fault(format!("i{} left {unanswered} votes unanswered", instance.number));
        }
    }

    /// All that still run.
    pub(super) fn open(&self) -> Vec<Instance> {
        self.instances.lock().iter().filter(|one| one.open).cloned().collect()
    }
}

fn config(number: usize, dice: &mut Dice) -> Config {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let quiet = Duration::from_secs(600);
    Config {
        listen: nowhere,
        ops_listen: nowhere,
        agent_listen: None,
        database_url: None,
        replica_urls: Vec::new(),
        data_dir: std::path::PathBuf::new(),
        api_key: None,
        anonymous_create: false,
        secret: None,
        public_url: None,
        capacity: 500,
        max_connections: 1_000,
        instance_id: format!("i{number}"),
        drain: Duration::from_secs(30),
        drain_notice: Duration::ZERO,
        poll_interval: dice.ms(150..500),
        listen_notify: dice.percent(80),
        trusted_proxies: Vec::new(),
        proxy_protocol: false,
        rebalance: false,
        allowed_origins: Vec::new(),
        message_burst: 100_000,
        message_rate: 100_000, // by the clock of the machine, which does not stand still
        writer_lanes: 1 + dice.below(2),
        allow_unsafe_database: false,
        retain_days: None,
        scale: Scale { start: quiet, quiet, min: 1, max: 20 },
        log: LogForm::Text,
    }
}
