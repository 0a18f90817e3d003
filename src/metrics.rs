//! Every metric, declared once: name, unit, labels. Nothing here has the id of a session or a person. Written by
//! everyone, read by `http/ops.rs`.

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Seconds, from what a socket write takes to what an alert is for.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Votes, up to the limit of a batch.
const BATCH_VOTES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_000.0];

/// Declares every metric in one row: field, kind, name, help, and labels or buckets.
macro_rules! metrics {
    ($($field:ident: $kind:ident, $name:literal, $help:literal $(, $extra:expr)?;)*) => {
        /// All metrics of one instance.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: metrics!(@type $kind),)*
        }

        impl Metrics {
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
    (@type histogram) => { Histogram };
    (@type histograms) => { HistogramVec };
}

metrics! {
    build: gauges, "plenum_build_info", "1, labelled with the version", &["version"];
    capacity: gauge, "plenum_capacity", "Participants that this instance is meant for";
    tasks: gauge, "plenum_tasks", "Live tasks";
    draining: gauge, "plenum_draining", "1 while the instance sends its clients away";

    connections: gauge, "plenum_connections", "Open WebSocket and SSE streams";
    opened: counters, "plenum_connections_opened_total", "Streams opened, by transport", &["transport"];
    closed: counters, "plenum_connections_closed_total", "Streams closed, by close code", &["code"];
    resumed: counters, "plenum_connections_resumed_total", "Clients that came back, by whether they could go on", &["resumed"];
    participants: gauge, "plenum_participants", "Distinct participants with an open stream here";
    sessions: gauge, "plenum_sessions_watched", "Sessions with a subscriber here";
    proxy_refused: counter, "plenum_proxy_headers_refused_total", "Connections of trusted proxies cut for want of a PROXY protocol header";
    requests: histograms, "plenum_http_request_seconds", "REST calls, by route and status", &["route", "method", "status"];

    votes: counters, "plenum_votes_total", "Votes, by outcome", &["outcome"];
    batch_votes: histogram, "plenum_vote_batch_size", "Votes in a batch", BATCH_VOTES;
    queue_depth: gauge, "plenum_vote_queue_depth", "Votes that wait for a batch";
    queue_seconds: histogram, "plenum_vote_queue_seconds", "Votes waiting for a batch", SECONDS;
    commit_seconds: histogram, "plenum_vote_commit_seconds", "Batches being committed", SECONDS;
    vote_seconds: histogram, "plenum_vote_seconds", "Votes, from receipt to answer", SECONDS;
    batch_retries: counters, "plenum_vote_batch_retries_total", "Batches tried again, by reason", &["reason"];

    events: counters, "plenum_events_total", "Events taken from the log, by kind", &["kind"];
    tailed: counters, "plenum_events_tailed_total", "Events, offered by a commit or read from the log", &["source"];
    superseded: counter, "plenum_events_superseded_total", "Results replaced by newer ones before they were sent";
    delivered: counter, "plenum_events_delivered_total", "Frames handed to subscribers";
    delivery_seconds: histogram, "plenum_delivery_seconds", "Events, from commit to the last write to a subscriber here", SECONDS;

    tail_lag_ms: gauge, "plenum_tail_lag_milliseconds", "Age of the oldest event of the last read of the log; 0 where nothing was new";
    hints: counters, "plenum_hints_received_total", "Hints of other instances, by whether they brought news", &["news"];

    instances: gauge, "plenum_instances_seen", "Instances that live, this one too";
    imbalance: number, "plenum_imbalance", "Connections of the fullest instance by the mean of all";

    pool: gauges, "plenum_database_pool_connections", "Connections of the pool, by state", &["state"];
    durability: gauges, "plenum_durability_info", "1 for what a commit is worth: one node, asynchronous replication, synchronous standby", &["kind"];
    epochs: counter, "plenum_epoch_changes_total", "Times that the database was found to have another history";
    reads: counters, "plenum_reads_total", "Reads that a replica may serve, by who served them", &["source"];
    replica_misses: counters, "plenum_replica_misses_total", "Reads that a replica did not serve, by why", &["reason"];
    database_errors: counters, "plenum_database_errors_total", "Database errors, by class", &["class"];
}

impl Metrics {
    /// Registers everything, the facts of the process too.
    ///
    /// # Errors
    /// Where two metrics have one name, which a test would have found.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self::declare(Register(Registry::new()))?;
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
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

struct Register(Registry);

impl Register {
    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: Result<M, prometheus::Error>,
    ) -> Result<M, prometheus::Error> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help))
    }

    fn number(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::new(name, help))
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help))
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(
            HistogramOpts::new(name, help).buckets(SECONDS.to_vec()),
            labels,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_is_exported() {
        let metrics = Metrics::new().unwrap();
        metrics.votes.with_label_values(&["accepted"]).inc();
        let text = metrics.text();
        assert!(text.contains("plenum_votes_total{outcome=\"accepted\"} 1"), "{text}");
        assert!(text.contains("process_open_fds"), "{text}");
    }
}
