//! Every metric, declared once: name, unit, labels. Nothing here has the id of a session or a person. Written by
//! everyone, read by `http/ops.rs`; `docs/METRICS.md` is made from the table below (`make metrics-table`).

mod kinds;
mod process;
mod recent;
mod table;

use prometheus::{
    Encoder, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry, TextEncoder,
};

use kinds::Register;
pub use kinds::{EachCounter, EachHistogram};
pub use process::Processor;
pub use recent::Recent;
pub use table::Row;

/// Seconds, from what a socket write takes to what an alert is for.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Votes, up to the limit of a batch.
const BATCH_VOTES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_000.0];
/// Events of one replay, from none to what a day of a busy session leaves.
const REPLAY_EVENTS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

type Values = &'static [&'static str];

const KINDS: Values =
    &["poll.results", "poll.opened", "poll.closed", "session.updated", "session.ended", "other"];
const OUTCOMES: Values = &[
    "accepted",
    "repeat",
    "already_voted",
    "poll_closed",
    "session_ended",
    "not_found",
    "unprocessable",
    "overloaded",
    "draining",
    "database_unavailable",
    "unanswered",
];
const ERRORS: Values = &[
    "connection",
    "timeout",
    "conflict",
    "lock",
    "read_only",
    "resources",
    "constraint",
    "shutdown_or_timeout",
    "not_replicated",
    "content",
    "other",
];
const YES_NO: Values = &["true", "false"];

/// Declares every metric in one row: field, kind, name, help, and labels or buckets. `each` and `spread` have one label
/// with values known beforehand: all of them are exported from the start, and none has to be looked up in a map.
macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, $help:literal $(, $extra:expr)?;)*) => {
        /// All metrics of one instance.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: metrics!(@type $kind),)*
        }

        impl Metrics {
            /// What is declared, in order.
            pub const DECLARED: &'static [Row] = &[$(metrics!(@row $kind, $name, $help $(, $extra)?),)*];

            fn declare(new: Register) -> Result<Self, prometheus::Error> {
                Ok(Self { $($field: new.$kind($name, $help $(, $extra)?)?,)* registry: new.0 })
            }
        }
    };
    (@type gauge) => { IntGauge };
    (@type number) => { Gauge };
    (@type gauges) => { IntGaugeVec };
    (@type counter) => { IntCounter };
    (@type counters) => { IntCounterVec };
    (@type each) => { EachCounter };
    (@type histogram) => { Histogram };
    (@type histograms) => { HistogramVec };
    (@type spread) => { EachHistogram };
    (@row gauge, $name:literal, $help:literal) => { Row::new("gauge", $name, $help, &[], &[]) };
    (@row number, $name:literal, $help:literal) => { Row::new("gauge", $name, $help, &[], &[]) };
    (@row gauges, $name:literal, $help:literal, $labels:expr) => { Row::new("gauge", $name, $help, $labels, &[]) };
    (@row counter, $name:literal, $help:literal) => { Row::new("counter", $name, $help, &[], &[]) };
    (@row counters, $name:literal, $help:literal, $labels:expr) => { Row::new("counter", $name, $help, $labels, &[]) };
    (@row each, $name:literal, $help:literal, $label:expr) => { Row::new("counter", $name, $help, &[$label.0], $label.1) };
    (@row histogram, $name:literal, $help:literal, $buckets:expr) => { Row::new("histogram", $name, $help, &[], &[]) };
    (@row histograms, $name:literal, $help:literal, $labels:expr) => { Row::new("histogram", $name, $help, $labels, &[]) };
    (@row spread, $name:literal, $help:literal, $label:expr) => { Row::new("histogram", $name, $help, &[$label.0], $label.1) };
}

metrics! {
    build: gauges, "plenum_build_info", "1, labelled with the version", &["version"];
    capacity: gauge, "plenum_capacity", "Participants that this instance is meant for";
    tasks: gauge, "plenum_tasks", "Live tasks";
    draining: gauge, "plenum_draining", "1 while the instance sends its clients away";
    cpu: number, "plenum_cpu_ratio", "Processor time used by this process over the last seconds, by all that it may use; 1 is everything";
    memory_limit: gauge, "plenum_memory_limit_bytes", "Memory that this process may use: the limit of its control group, or of the machine; 0 where unknown";

    connections: gauge, "plenum_connections", "Open WebSocket and SSE streams";
    connections_max: gauge, "plenum_connections_max", "Open WebSocket and SSE streams at most";
    opened: each, "plenum_connections_opened_total", "Streams opened, by transport", ("transport", &["websocket", "sse", "check"]);
    closed: counters, "plenum_connections_closed_total", "Streams closed, by close code of the WebSocket; sse for the others", &["code"];
    resumed: each, "plenum_connections_resumed_total", "Clients that came back, by whether they could go on", ("resumed", YES_NO);
    moved: counter, "plenum_connections_moved_total", "Clients sent to other instances because this one held much more than its share (--rebalance)";
    participants: gauge, "plenum_participants", "Distinct participants with an open stream here";
    sessions: gauge, "plenum_sessions_watched", "Sessions with a subscriber here";
    proxy_refused: counter, "plenum_proxy_headers_refused_total", "Connections of trusted proxies cut for want of a PROXY protocol header";
    requests: histograms, "plenum_http_request_seconds", "REST calls, by route and status", &["route", "method", "status"];

    votes: each, "plenum_votes_total", "Votes, by outcome", ("outcome", OUTCOMES);
    batch_votes: histogram, "plenum_vote_batch_size", "Votes in a batch", BATCH_VOTES;
    queue_depth: gauge, "plenum_vote_queue_depth", "Votes that wait for a batch";
    queue_seconds: histogram, "plenum_vote_queue_seconds", "Votes waiting for a batch", SECONDS;
    commit_seconds: histogram, "plenum_vote_commit_seconds", "Batches being committed", SECONDS;
    vote_seconds: histogram, "plenum_vote_seconds", "Votes, from receipt to answer", SECONDS;
    batch_retries: each, "plenum_vote_batch_retries_total", "Batches tried again, by reason", ("reason", ERRORS);

    appended: each, "plenum_events_appended_total", "Events that this instance wrote to the log, by kind", ("kind", KINDS);
    events: each, "plenum_events_total", "Events taken from the log into live state, by kind", ("kind", KINDS);
    tailed: each, "plenum_events_tailed_total", "Events, offered by a commit here or read from the log", ("source", &["offered", "read"]);
    superseded: counter, "plenum_events_superseded_total", "Results replaced by newer ones before they were sent";
    delivered: counter, "plenum_events_delivered_total", "Frames handed to subscribers";
    delivery_seconds: spread, "plenum_delivery_seconds", "Events, to the last write to a subscriber here: own ones from their commit, others from their time in the database (which holds the difference of the clocks)", ("source", &["own", "other"]);
    replays: each, "plenum_replays_total", "Clients that went on where they had been, by whether the log had to be read", ("source", &["ring", "log"]);
    replay_events: histogram, "plenum_replay_events", "Events read from the log for one client that came back", REPLAY_EVENTS;

    tail_lag_events: gauge, "plenum_tail_lag_events", "Events that the last read of the log brought; 0 where nothing was new";
    tail_lag: number, "plenum_tail_lag_seconds", "Age of the oldest event of the last read of the log; 0 where nothing was new";
    hints: each, "plenum_hints_received_total", "Hints of other instances, by whether they brought news", ("news", YES_NO);
    hints_missed: counter, "plenum_hints_missed_total", "Events found by the poll of the log that no hint had announced";

    instances: gauge, "plenum_instances_seen", "Instances that live, this one too";
    imbalance: number, "plenum_imbalance", "Connections of the fullest instance by the mean of all";
    desired: gauge, "plenum_desired_instances", "Instances that should run, as far as this one knows; use the highest of all instances";

    pool_max: gauge, "plenum_database_pool_max", "Connections of the pool at most";
    pool_open: gauge, "plenum_database_pool_open", "Connections of the pool";
    pool_idle: gauge, "plenum_database_pool_idle", "Connections of the pool that nobody uses";
    pool_used: gauge, "plenum_database_pool_used", "Statements that have a connection of the pool";
    pool_waiting: gauge, "plenum_database_pool_waiting", "Statements that wait for a connection of the pool";
    query_seconds: histogram, "plenum_database_query_seconds", "Statements of REST and of the read path, the wait for a connection included", SECONDS;
    durability: gauges, "plenum_durability_info", "1 for what a commit is worth: one node, asynchronous replication, synchronous standby", &["kind"];
    epochs: counter, "plenum_epoch_changes_total", "Times that the database was found to have another history";
    reads: counters, "plenum_reads_total", "Reads that a replica may serve, by who served them", &["source"];
    replica_misses: counters, "plenum_replica_misses_total", "Reads that a replica did not serve, by why", &["reason"];
    database_errors: each, "plenum_database_errors_total", "Database errors, by class", ("class", ERRORS);
}

impl Metrics {
    /// Registers everything, the facts of the process too.
    ///
    /// # Errors
    /// Where two metrics have one name, which a test would have found.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self::declare(Register(Registry::new()))?;
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.memory_limit.set(process::memory_limit());
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// All of them as Prometheus text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let written = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_is_exported() {
        let metrics = Metrics::new().unwrap();
        metrics.votes.of("accepted").inc();
        let text = metrics.text();
        assert!(text.contains("plenum_votes_total{outcome=\"accepted\"} 1"), "{text}");
        assert!(text.contains("process_open_fds"), "{text}");
        assert!(text.contains("plenum_delivery_seconds_count{source=\"other\"} 0"), "{text}");
    }

    /// Base units and one way to write them, as Prometheus wants it.
    #[test]
    fn names_follow_the_rules() {
        for row in Metrics::DECLARED {
            let counts = row.name.ends_with("_total");
            assert_eq!(counts, row.kind == "counter", "{}: counters end with _total", row.name);
            for unit in ["_ms", "milli", "_minutes", "kilo", "_percent"] {
                assert!(!row.name.contains(unit), "{}: base units only", row.name);
            }
        }
    }
}
