//! Quantiles of the last minute, from histograms that only count up: what they held is kept, and subtracted. Called by
//! `cluster/forecast.rs`; costs the hot path nothing.

use std::collections::VecDeque;

use prometheus::Histogram;
use prometheus::core::Metric;

use super::EachHistogram;

/// The last so many looks at a histogram. Bounded by that number.
#[derive(Debug)]
pub struct Recent {
    looks: VecDeque<Vec<(f64, u64)>>,
    kept: usize,
}

impl Recent {
    /// Keeps `kept` looks.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self { looks: VecDeque::new(), kept }
    }

    /// Looks; answers with a quantile of what was observed since the oldest look kept. 0 where nothing was.
    pub fn quantile(&mut self, of: &EachHistogram, quantile: f64) -> f64 {
        let now = cumulative(of.iter());
        let none = Vec::new();
        let before = self.looks.front().unwrap_or(&none);
        let since: Vec<(f64, u64)> = now
            .iter()
            .enumerate()
            .map(|(at, (bound, count))| {
                (*bound, count.saturating_sub(before.get(at).map_or(0, |(_, before)| *before)))
            })
            .collect();
        self.looks.push_back(now);
        if self.looks.len() > self.kept {
            self.looks.pop_front();
        }
        estimate(&since, quantile)
    }
}

/// Counts up to each bound, over all of them; they have the same buckets. What is above the last bound counts for it.
fn cumulative<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Vec<(f64, u64)> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    for histogram in histograms {
        let proto = histogram.metric();
        let histogram = proto.get_histogram();
        let buckets = histogram.get_bucket().iter();
        for (at, bucket) in buckets.enumerate() {
            match sums.get_mut(at) {
                Some((_, count)) => *count += bucket.cumulative_count(),
                None => sums.push((bucket.upper_bound(), bucket.cumulative_count())),
            }
        }
        if let Some((_, count)) = sums.last_mut() {
            let above = histogram.get_sample_count()
                - histogram.get_bucket().last().map_or(0, |last| last.cumulative_count());
            *count += above;
        }
    }
    sums
}

/// As Prometheus does it: evenly spread within a bucket.
fn estimate(cumulative: &[(f64, u64)], quantile: f64) -> f64 {
    let total = cumulative.last().map_or(0, |(_, count)| *count) as f64;
    let rank = quantile * total;
    let (mut below_bound, mut below) = (0.0, 0.0);
    for (bound, count) in cumulative {
        let count = *count as f64;
        if total > 0.0 && count >= rank {
            let share = if count > below { (rank - below) / (count - below) } else { 1.0 };
            return below_bound + (bound - below_bound) * share;
        }
        (below_bound, below) = (*bound, count);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn only_what_was_observed_lately_counts() {
        let metrics = Metrics::new().unwrap();
        let mut recent = Recent::new(2);
        let of = &metrics.delivery_seconds;
        assert_eq!(recent.quantile(of, 0.95), 0.0);
        (0..100).for_each(|_| of.of("own").observe(0.2));
        let slow = recent.quantile(of, 0.95);
        assert!((0.15..=0.25).contains(&slow), "{slow}");
        (0..100).for_each(|_| of.of("other").observe(0.004));
        recent.quantile(of, 0.95);
        assert!(
            recent.quantile(of, 0.95) <= 0.005,
            "what came before the oldest look is forgotten"
        );
        of.of("own").observe(60.0);
        assert!(recent.quantile(of, 0.95) > 5.0, "beyond the last bucket");
    }
}
