//! The kinds of metrics that the table of `metrics.rs` is made of, and how each is registered. Called by `metrics.rs`.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::{SECONDS, Values};

type Label = (&'static str, Values);

/// One metric per value of a label, all made at the start: counting costs no look-up in a map and takes no lock.
#[derive(Debug)]
struct Each<M> {
    values: Values,
    made: Vec<M>,
    /// For a value that the table does not list, which a debug build does not let pass.
    unlisted: M,
}

impl<M> Each<M> {
    /// A walk over a few names, the most frequent first.
    fn of(&self, value: &str) -> &M {
        let found = self.values.iter().position(|listed| *listed == value);
        debug_assert!(found.is_some(), "a label's value is missing in metrics.rs");
        found.and_then(|at| self.made.get(at)).unwrap_or(&self.unlisted)
    }
}

/// Counters by one label.
#[derive(Debug)]
pub struct EachCounter(Each<IntCounter>);

impl EachCounter {
    /// The counter of a value.
    #[must_use]
    pub fn of(&self, value: &str) -> &IntCounter {
        self.0.of(value)
    }
}

/// Histograms by one label.
#[derive(Debug)]
pub struct EachHistogram(Each<Histogram>);

impl EachHistogram {
    /// The histogram of a value.
    #[must_use]
    pub fn of(&self, value: &str) -> &Histogram {
        self.0.of(value)
    }

    /// All of them, for reading.
    pub fn iter(&self) -> impl Iterator<Item = &Histogram> {
        self.0.made.iter()
    }
}

/// What the rows of the table are registered with.
pub(super) struct Register(pub(super) Registry);

impl Register {
    fn add<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: Result<M, prometheus::Error>,
    ) -> Result<M, prometheus::Error> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help))
    }

    pub(super) fn number(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::new(name, help))
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help))
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn each(
        &self,
        name: &str,
        help: &str,
        (label, values): Label,
    ) -> Result<EachCounter, prometheus::Error> {
        let all = self.counters(name, help, &[label])?;
        let made = values.iter().map(|value| all.with_label_values(&[value])).collect();
        Ok(EachCounter(Each { values, made, unlisted: IntCounter::new(name, help)? }))
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.add(HistogramVec::new(options, labels))
    }

    pub(super) fn spread(
        &self,
        name: &str,
        help: &str,
        (label, values): Label,
    ) -> Result<EachHistogram, prometheus::Error> {
        let all = self.histograms(name, help, &[label])?;
        let made = values.iter().map(|value| all.with_label_values(&[value])).collect();
        let unlisted = Histogram::with_opts(HistogramOpts::new(name, help))?;
        Ok(EachHistogram(Each { values, made, unlisted }))
    }
}
