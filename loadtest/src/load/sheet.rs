//! What a scenario found: figures round by round, curves of latency, series over time, bars, and
//! checks. Must never drop a round, and never average percentiles: histograms are merged.
//! Filled by the kinds, read by `report`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// One figure over all its rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) rounds: Vec<f64>,
}

impl Figure {
    /// The middle round.
    pub(super) fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

/// Latencies by percentile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Curve {
    pub(super) key: String,
    pub(super) label: String,
    pub(super) count: u64,
    /// Share of all, and the latency in milliseconds that it stays at or below.
    pub(super) points: Vec<(f64, f64)>,
}

/// Numbers over time or over something else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Series {
    /// Series of one chart are drawn together.
    pub(super) chart: String,
    pub(super) label: String,
    pub(super) x_unit: String,
    pub(super) unit: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Counts by class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Bars {
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) bars: Vec<(String, f64)>,
}

/// Something that must hold, and what spoke against it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Check {
    pub(super) what: String,
    /// The first few.
    pub(super) faults: Vec<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    pub(super) figures: Vec<Figure>,
    pub(super) histograms: BTreeMap<String, (String, Histogram<u64>)>,
    pub(super) series: Vec<Series>,
    pub(super) bars: Vec<Bars>,
    pub(super) checks: Vec<Check>,
    pub(super) notes: Vec<String>,
}

/// Faults shown of one check.
const FAULTS_SHOWN: usize = 5;

impl Sheet {
    /// Adds one round's value.
    pub(super) fn figure(&mut self, key: &str, label: &str, unit: &str, value: f64) {
        match self.figures.iter_mut().find(|one| one.key == key) {
            Some(figure) => figure.rounds.push(value),
            None => self.figures.push(Figure {
                key: key.to_owned(),
                label: label.to_owned(),
                unit: unit.to_owned(),
                rounds: vec![value],
            }),
        }
    }

    /// Adds a value that could not be taken everywhere.
    pub(super) fn figure_if(&mut self, key: &str, label: &str, unit: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.figure(key, label, unit, value);
        }
    }

    /// Adds the usual percentiles of a round's latencies, given in nanoseconds, and keeps them all.
    pub(super) fn latencies(&mut self, key: &str, label: &str, taken: &Histogram<u64>) {
        if taken.is_empty() {
            return;
        }
        for (name, quantile) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
            let value = millis(taken.value_at_quantile(quantile));
            self.figure(&format!("{key}_{name}_ms"), &format!("{label}, {name}"), "ms", value);
        }
        match self.histograms.get_mut(key) {
            // Both have the same bounds.
            Some((_, all)) => all.add(taken).unwrap_or_default(),
            None => {
                self.histograms.insert(key.to_owned(), (label.to_owned(), taken.clone()));
            }
        }
    }

    /// Adds what had to hold; checks of the same words are one over all rounds.
    pub(super) fn check(&mut self, what: &str, faults: impl IntoIterator<Item = String>) {
        let check = match self.checks.iter_mut().position(|one| one.what == what) {
            Some(at) => self.checks.get_mut(at),
            None => {
                self.checks.push(Check { what: what.to_owned(), faults: Vec::new() });
                self.checks.last_mut()
            }
        };
        if let Some(check) = check {
            let room = FAULTS_SHOWN.saturating_sub(check.faults.len());
            check.faults.extend(faults.into_iter().take(room));
        }
    }

    /// The merged curves.
    pub(super) fn curves(&self) -> Vec<Curve> {
        let curve = |(key, (label, all)): (&String, &(String, Histogram<u64>))| Curve {
            key: key.clone(),
            label: label.clone(),
            count: all.len(),
            points: quantiles().map(|at| (at, millis(all.value_at_quantile(at)))).collect(),
        };
        self.histograms.iter().map(curve).collect()
    }
}

/// Where a curve is looked at: finer towards the end, where the slowest are.
fn quantiles() -> impl Iterator<Item = f64> {
    let tails = (1..=5).flat_map(|nines| {
        let unit = 10_f64.powi(-nines);
        (0..9).map(move |step| 1.0 - unit * (1.0 - f64::from(step) / 10.0))
    });
    (0..9).map(|tenth| f64::from(tenth) / 10.0).chain(tails).chain([1.0])
}

/// Nanoseconds up to two minutes, three digits exact.
pub(super) fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_max(120_000_000_000, 3)
        .map_err(|error| Failure::told(format!("no histogram: {error}")))
}

/// The middle value; the mean of the two middle ones of an even number.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = (sorted.len() / 2).checked_sub(1).and_then(|at| sorted.get(at));
    lower.map_or(upper, |lower| f64::midpoint(*lower, upper))
}

/// Slope and intercept of the least-squares line through the points.
pub(super) fn line_through(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let across: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = across / along;
    (slope, mean_y - slope * mean_x)
}

/// Exact below 2⁵³ ns, which is 104 days.
pub(super) fn millis(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_line_goes_through_points_that_lie_on_one() {
        let (slope, intercept) = line_through(&[(0.0, 7.0), (10.0, 27.0), (50.0, 107.0)]);
        assert!((slope - 2.0).abs() < 1e-9 && (intercept - 7.0).abs() < 1e-9);
    }

    #[test]
    fn rounds_of_one_figure_are_kept_together_and_histograms_are_merged() {
        let mut sheet = Sheet::default();
        for value in [1_000_000, 3_000_000] {
            let mut taken = new_histogram().unwrap();
            taken.record(value).unwrap();
            sheet.latencies("ack", "Vote to ack", &taken);
        }
        let figure = sheet.figures.iter().find(|one| one.key == "ack_max_ms").unwrap();
        assert_eq!(figure.rounds.len(), 2);
        assert_eq!(sheet.curves()[0].count, 2);
        let last = sheet.curves()[0].points.last().copied().unwrap();
        assert!((last.1 - 3.0).abs() < 0.01, "{last:?}");
    }

    #[test]
    fn a_check_fails_if_any_round_failed() {
        let mut sheet = Sheet::default();
        sheet.check("acks", []);
        sheet.check("acks", [String::from("one is missing")]);
        assert_eq!((sheet.checks.len(), sheet.checks[0].faults.len()), (1, 1));
    }
}
