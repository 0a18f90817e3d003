//! Configuration: flags and `PLENUM_…` variables, checked once at start. Every fault is found and said in one line each.
//! Never prints a secret. Read by `main.rs` and handed down by value.

pub mod database;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use database::Address;
use ipnet::IpNet;

/// The flags of `plenum serve`, as typed. All text, so that all faults can be told at once.
#[derive(Args, Clone)]
pub struct Flags {
    /// Address for participants and presenters
    #[arg(long, env = "PLENUM_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: String,
    /// Address for operators: /livez /readyz /metrics /cluster /drain
    #[arg(
        long,
        env = "PLENUM_OPS_LISTEN",
        default_value = "127.0.0.1:9464",
        value_name = "ADDRESS"
    )]
    ops_listen: String,
    /// Address where HAProxy's agent check is told weight and drain; left out, none
    #[arg(long, env = "PLENUM_AGENT_LISTEN", value_name = "ADDRESS")]
    agent_listen: Option<String>,
    /// PostgreSQL to use, with several hosts where it fails over; left out, one of its own is run in --data-dir
    #[arg(long, env = "PLENUM_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// Streaming replicas to read exports, results of ended sessions and old events from; again for more, or with commas between
    #[arg(long, env = "PLENUM_REPLICA_URL", hide_env_values = true, value_name = "URL")]
    replica_url: Vec<String>,
    /// Where the embedded PostgreSQL keeps its data
    #[arg(long, env = "PLENUM_DATA_DIR", default_value = "./.plenum", value_name = "DIR")]
    data_dir: PathBuf,
    /// Key that creating sessions asks for
    #[arg(long, env = "PLENUM_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// Let anybody create sessions, beyond loopback too
    #[arg(long, env = "PLENUM_ALLOW_ANONYMOUS_CREATE")]
    allow_anonymous_create: bool,
    /// Secret that signs participants' tokens; left out, made once and kept in the database
    #[arg(long, env = "PLENUM_SECRET", hide_env_values = true, value_name = "TEXT")]
    secret: Option<String>,
    /// Address that people see, for join links
    #[arg(long, env = "PLENUM_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,
    /// Participants that this instance is meant for; scaling signals count in it
    #[arg(long, env = "PLENUM_CAPACITY", default_value = "500", value_name = "N")]
    capacity: String,
    /// Open WebSocket and SSE streams, at most
    #[arg(long, env = "PLENUM_MAX_CONNECTIONS", default_value = "12000", value_name = "N")]
    max_connections: String,
    /// Name of this instance; left out, a random one
    #[arg(long, env = "PLENUM_INSTANCE_ID", value_name = "NAME")]
    instance_id: Option<String>,
    /// How long clients may take to leave
    #[arg(long, env = "PLENUM_DRAIN_SECONDS", default_value = "30", value_name = "S")]
    drain_seconds: String,
    /// How long, of that, balancers are told that this instance leaves before its clients are
    #[arg(long, env = "PLENUM_DRAIN_NOTICE_SECONDS", default_value = "0", value_name = "S")]
    drain_notice_seconds: String,
    /// How often the log is asked for what no hint announced
    #[arg(long, env = "PLENUM_POLL_INTERVAL_MS", default_value = "100", value_name = "MS")]
    poll_interval_ms: String,
    /// Do not use LISTEN and NOTIFY: for a pooler in transaction mode; other instances' events then come with the poll
    #[arg(long, env = "PLENUM_NO_LISTEN_NOTIFY")]
    no_listen_notify: bool,
    /// Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas
    #[arg(long, env = "PLENUM_TRUSTED_PROXY", value_name = "NETWORKS")]
    trusted_proxy: Option<String>,
    /// Connections from --trusted-proxy begin with a PROXY protocol header (version 1 or 2); without one they are cut
    #[arg(long, env = "PLENUM_PROXY_PROTOCOL")]
    proxy_protocol: bool,
    /// Let clients go where this instance has much more than its share of them; only behind a balancer that asks another
    /// instance where a stream is refused with 503
    #[arg(long, env = "PLENUM_REBALANCE")]
    rebalance: bool,
    /// Origins whose pages may connect, join and vote, separated by commas; left out, any
    #[arg(long, env = "PLENUM_ALLOWED_ORIGIN", value_name = "ORIGINS")]
    allowed_origin: Option<String>,
    /// Messages that one connection may send at once
    #[arg(long, env = "PLENUM_MESSAGE_BURST", default_value = "100", value_name = "N")]
    message_burst: String,
    /// Messages per second that one connection may send
    #[arg(long, env = "PLENUM_MESSAGE_RATE", default_value = "20", value_name = "N")]
    message_rate: String,
    /// Lanes that write votes; each has one connection and one batch in flight
    #[arg(long, env = "PLENUM_WRITER_LANES", default_value = "2", value_name = "N")]
    writer_lanes: String,
    /// Run on a database whose fsync, full_page_writes or synchronous_commit is off: votes can be lost
    #[arg(long, env = "PLENUM_ALLOW_UNSAFE_DATABASE")]
    allow_unsafe_database: bool,
    /// Days after which an ended session is erased with all its votes; 0 keeps everything
    #[arg(long, env = "PLENUM_RETAIN_SESSIONS_DAYS", default_value = "0", value_name = "DAYS")]
    retain_sessions_days: String,
    /// Seconds from the wish for another instance to its readiness: how far ahead the forecast has to look
    #[arg(long, env = "PLENUM_SCALE_START_SECONDS", default_value = "120", value_name = "S")]
    scale_start_seconds: String,
    /// Seconds without a higher number of desired instances before a lower one is told
    #[arg(long, env = "PLENUM_SCALE_QUIET_SECONDS", default_value = "600", value_name = "S")]
    scale_quiet_seconds: String,
    /// Desired instances, at least
    #[arg(long, env = "PLENUM_SCALE_MIN", default_value = "1", value_name = "N")]
    scale_min: String,
    /// Desired instances, at most; what is connected already is not counted away
    #[arg(long, env = "PLENUM_SCALE_MAX", default_value = "20", value_name = "N")]
    scale_max: String,
    /// How logs look
    #[arg(long, env = "PLENUM_LOG", default_value = "text", value_name = "text|json")]
    log: String,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flags") // they hold secrets
    }
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Checked configuration.
#[derive(Clone)]
pub struct Config {
    /// Address for participants and presenters.
    pub listen: SocketAddr,
    /// Address for operators.
    pub ops_listen: SocketAddr,
    /// Address for a balancer's agent check; `None`: there is none.
    pub agent_listen: Option<SocketAddr>,
    /// `None`: embedded.
    pub database_url: Option<String>,
    /// Replicas to read from what need not be of this moment.
    pub replica_urls: Vec<String>,
    /// Of the embedded PostgreSQL.
    pub data_dir: PathBuf,
    /// `None`: anybody creates sessions.
    pub api_key: Option<String>,
    /// Without a key, others than those on this machine may create sessions too.
    pub anonymous_create: bool,
    /// `None`: kept in the database.
    pub secret: Option<String>,
    /// Without a slash at its end.
    pub public_url: Option<String>,
    /// Participants.
    pub capacity: u32,
    /// Open WebSocket and SSE streams.
    pub max_connections: usize,
    /// Unique among the instances of one database.
    pub instance_id: String,
    /// How long clients may take to leave.
    pub drain: Duration,
    /// How long, of that, balancers are told before clients are.
    pub drain_notice: Duration,
    /// Between two polls of the log.
    pub poll_interval: Duration,
    /// Use LISTEN and NOTIFY.
    pub listen_notify: bool,
    /// Whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether those begin each connection with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether clients are let go where there are many more than elsewhere.
    pub rebalance: bool,
    /// Empty: any.
    pub allowed_origins: Vec<String>,
    /// Messages at once, per connection.
    pub message_burst: u32,
    /// Messages per second, per connection.
    pub message_rate: u32,
    /// Lanes that write votes.
    pub writer_lanes: usize,
    /// Start on a database that can lose what it confirmed.
    pub allow_unsafe_database: bool,
    /// `None`: ended sessions are kept.
    pub retain_days: Option<u32>,
    /// How many instances should run.
    pub scale: Scale,
    /// How logs look.
    pub log: LogForm,
}

/// The operator's part in how many instances should run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// From the wish for an instance to its readiness.
    pub start: Duration,
    /// Before a lower number is told.
    pub quiet: Duration,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("listen", &self.listen).finish_non_exhaustive()
    }
}

struct Faults(Vec<String>);

impl Faults {
    fn number<N: TryFrom<u64>>(&mut self, flag: &str, text: &str, min: u64, max: u64) -> Option<N> {
        let number = text.parse::<u64>().ok().filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.0.push(format!("--{flag}: a whole number from {min} to {max} is expected"));
        }
        number.and_then(|n| N::try_from(n).ok())
    }

    fn address(&mut self, flag: &str, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.0.push(format!("--{flag}: an address like 127.0.0.1:8080 is expected"));
        }
        address
    }

    fn unless(&mut self, holds: bool, fault: &str) {
        if !holds {
            self.0.push(fault.to_owned());
        }
    }
}

impl Flags {
    /// Checks everything.
    ///
    /// # Errors
    /// One line per fault.
    pub fn check(self) -> Result<Config, Vec<String>> {
        let mut faults = Faults(Vec::new());
        let listen = faults.address("listen", &self.listen);
        let ops_listen = faults.address("ops-listen", &self.ops_listen);
        let agent_listen =
            self.agent_listen.as_deref().and_then(|at| faults.address("agent-listen", at));
        let capacity = faults.number("capacity", &self.capacity, 1, 1_000_000);
        let max_connections = faults.number("max-connections", &self.max_connections, 1, 1_000_000);
        let drain = faults.number("drain-seconds", &self.drain_seconds, 0, 3_600);
        let notice = faults.number("drain-notice-seconds", &self.drain_notice_seconds, 0, 600);
        faults.unless(
            notice
                .zip(drain)
                .is_none_or(|(notice, drain): (u64, u64)| notice == 0 || notice < drain),
            "--drain-notice-seconds: it is a part of --drain-seconds, and must be less",
        );
        let poll_interval = faults.number("poll-interval-ms", &self.poll_interval_ms, 10, 10_000);
        let message_burst = faults.number("message-burst", &self.message_burst, 1, 1_000_000);
        let message_rate = faults.number("message-rate", &self.message_rate, 1, 1_000_000);
        let writer_lanes = faults.number("writer-lanes", &self.writer_lanes, 1, 16);
        let retain = faults.number("retain-sessions-days", &self.retain_sessions_days, 0, 36_500);
        let scale = self.scale(&mut faults);
        let trusted_proxies =
            networks(&mut faults, self.trusted_proxy.as_deref().unwrap_or_default());
        let log = log_form(&mut faults, &self.log);
        faults.unless(
            !self.proxy_protocol || !trusted_proxies.is_empty(),
            "--proxy-protocol: say by --trusted-proxy whose headers are believed",
        );
        self.check_texts(&mut faults, listen);
        match (listen, ops_listen) {
            (Some(listen), Some(ops_listen)) if faults.0.is_empty() => Ok(Config {
                listen,
                ops_listen,
                agent_listen,
                replica_urls: self.replica_urls(),
                database_url: self.database_url,
                data_dir: self.data_dir,
                api_key: self.api_key,
                anonymous_create: self.allow_anonymous_create,
                secret: self.secret,
                public_url: self.public_url.map(|url| url.trim_end_matches('/').to_owned()),
                capacity: capacity.unwrap_or(1),
                max_connections: max_connections.unwrap_or(1),
                instance_id: self.instance_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
                drain: Duration::from_secs(drain.unwrap_or(0)),
                drain_notice: Duration::from_secs(notice.unwrap_or(0)),
                poll_interval: Duration::from_millis(poll_interval.unwrap_or(100)),
                listen_notify: !self.no_listen_notify,
                trusted_proxies,
                proxy_protocol: self.proxy_protocol,
                rebalance: self.rebalance,
                allowed_origins: list(self.allowed_origin.as_deref().unwrap_or_default())
                    .map(ToOwned::to_owned)
                    .collect(),
                message_burst: message_burst.unwrap_or(1),
                message_rate: message_rate.unwrap_or(1),
                writer_lanes: writer_lanes.unwrap_or(1),
                allow_unsafe_database: self.allow_unsafe_database,
                retain_days: retain.filter(|days| *days > 0),
                scale,
                log,
            }),
            _ => Err(faults.0),
        }
    }

    fn replica_urls(&self) -> Vec<String> {
        self.replica_url.iter().flat_map(|text| addresses(text)).collect()
    }

    /// What must not be empty, must begin like an address, or asks for another flag.
    fn check_texts(&self, faults: &mut Faults, listen: Option<SocketAddr>) {
        let filled = |text: &Option<String>| text.as_deref() != Some("");
        faults.unless(filled(&self.api_key), "--api-key: it must not be empty");
        faults.unless(filled(&self.secret), "--secret: it must not be empty");
        let url = self.public_url.as_deref().unwrap_or("http://");
        faults.unless(
            url.starts_with("http://") || url.starts_with("https://"),
            "--public-url: an address that begins with http:// or https:// is expected",
        );
        faults.unless(
            self.api_key.is_some()
                || self.allow_anonymous_create
                || listen.is_none_or(|at| at.ip().is_loopback()),
            "--api-key: without it anybody who reaches --listen can create sessions; set a key, \
             listen on 127.0.0.1, or say --allow-anonymous-create",
        );
        let replica_urls = self.replica_urls();
        let urls = self.database_url.iter().map(|url| ("database-url", url));
        for (flag, url) in urls.chain(replica_urls.iter().map(|url| ("replica-url", url))) {
            let fault = format!("--{flag}: {}", database::EXPECTED);
            faults.unless(Address::parse(url).is_some(), &fault);
        }
    }

    fn scale(&self, faults: &mut Faults) -> Scale {
        let start = faults.number("scale-start-seconds", &self.scale_start_seconds, 0, 86_400);
        let quiet = faults.number("scale-quiet-seconds", &self.scale_quiet_seconds, 0, 86_400);
        let min = faults.number("scale-min", &self.scale_min, 0, 10_000).unwrap_or(1);
        let max = faults.number("scale-max", &self.scale_max, 1, 10_000).unwrap_or(20);
        faults.unless(min <= max, "--scale-min: it must not be more than --scale-max");
        Scale {
            start: Duration::from_secs(start.unwrap_or(0)),
            quiet: Duration::from_secs(quiet.unwrap_or(0)),
            min,
            max,
        }
    }
}

fn log_form(faults: &mut Faults, text: &str) -> LogForm {
    faults.unless(matches!(text, "text" | "json"), "--log: text or json is expected");
    if text == "json" { LogForm::Json } else { LogForm::Text }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Addresses with commas between them; a comma between two hosts is part of one address.
fn addresses(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match found.last_mut() {
            Some(last) if !part.starts_with("postgres") => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

fn networks(faults: &mut Faults, text: &str) -> Vec<IpNet> {
    let parse =
        |item: &str| item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
    let (networks, wrong): (Vec<_>, Vec<_>) = list(text).map(parse).partition(Result::is_ok);
    faults.unless(
        wrong.is_empty(),
        "--trusted-proxy: addresses or networks like 10.0.0.0/8 are expected",
    );
    networks.into_iter().flatten().collect()
}
