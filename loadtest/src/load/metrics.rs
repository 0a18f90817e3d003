//! What a server says of itself at `/metrics`, read from Prometheus text: sums, differences between
//! two readings, and histograms.
//! Must never guess: a metric that is not there is no number. Called by `fleet` and `stage`.

use std::collections::BTreeMap;

/// One reading, by series: the name with its labels.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format; lines that are none of its series are passed over.
    pub(super) fn parse(text: &str) -> Metrics {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = series.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(pairs.collect())
    }

    /// The sum of several instances' readings.
    pub(super) fn add(&mut self, other: Metrics) {
        for (name, value) in other.0 {
            *self.0.entry(name).or_default() += value;
        }
    }

    /// What came since an earlier reading.
    pub(super) fn since(&self, earlier: &Metrics) -> Metrics {
        let pairs = self.0.iter().map(|(name, value)| {
            (name.clone(), value - earlier.0.get(name).copied().unwrap_or_default())
        });
        Metrics(pairs.collect())
    }

    /// The sum over all series of this name.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        let mut values = self.0.iter().filter(|(series, _)| name_of(series) == name).peekable();
        values.peek()?;
        Some(values.map(|(_, value)| value).sum())
    }

    /// Each series of this name by the value of a label.
    pub(super) fn by_label(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let ours = self.0.iter().filter(|(series, _)| name_of(series) == name);
        ours.filter_map(|(series, value)| Some((label_of(series, label)?, *value))).collect()
    }

    /// The buckets of a histogram, not cumulative, by upper bound as it is written.
    pub(super) fn buckets(&self, name: &str) -> Vec<(String, f64)> {
        let bound =
            |text: &str| if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap_or(0.0) };
        let mut buckets = self.by_label(&format!("{name}_bucket"), "le");
        buckets.sort_by(|one, two| bound(&one.0).total_cmp(&bound(&two.0)));
        let mut below = 0.0;
        for (_, count) in &mut buckets {
            (below, *count) = (*count, *count - below);
        }
        buckets
    }
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}

fn label_of(series: &str, label: &str) -> Option<String> {
    let (_, rest) = series.split_once(&format!("{label}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP x y\nvotes{outcome=\"accepted\"} 7\nvotes{outcome=\"repeat\"} 2\n\
        size_bucket{le=\"1\"} 3\nsize_bucket{le=\"16\"} 9\nsize_bucket{le=\"4\"} 5\n\
        size_bucket{le=\"+Inf\"} 9\nsize_sum 40\n";

    #[test]
    fn sums_labels_buckets_and_differences() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.sum("votes"), Some(9.0));
        assert_eq!(metrics.sum("vote"), None);
        let buckets: Vec<f64> = metrics.buckets("size").iter().map(|one| one.1).collect();
        assert_eq!(buckets, [3.0, 2.0, 4.0, 0.0]);
        let later = Metrics::parse(&TEXT.replace("accepted\"} 7", "accepted\"} 17"));
        assert_eq!(later.since(&metrics).sum("votes"), Some(10.0));
    }
}
