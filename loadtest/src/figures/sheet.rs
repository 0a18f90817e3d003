//! The figures that were taken: every round's value, medians and spreads, as a table and as JSON.
//! Must never drop a round. Called by the parts, written by `figures`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::facts::Facts;
use crate::failure::Failure;

/// One figure over all its rounds.
#[derive(Debug, Serialize)]
struct Figure {
    part: &'static str,
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
}

/// All figures, in the order in which they were first taken.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sheet {
    figures: Vec<Figure>,
}

impl Sheet {
    /// Adds one round's value.
    pub(super) fn add(&mut self, part: &'static str, name: &str, unit: &'static str, value: f64) {
        let known = self.figures.iter_mut().find(|one| one.part == part && one.name == name);
        match known {
            Some(figure) => figure.rounds.push(value),
            None => {
                let rounds = vec![value];
                self.figures.push(Figure { part, name: name.to_owned(), unit, rounds });
            }
        }
    }

    /// Adds the usual percentiles of a round's latencies, given in nanoseconds.
    pub(super) fn add_latencies(&mut self, part: &'static str, what: &str, taken: &Histogram<u64>) {
        for (label, quantile) in [("p50", 0.50), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)] {
            let nanoseconds = taken.value_at_quantile(quantile);
            self.add(part, &format!("{what} {label}"), "ms", millis(nanoseconds));
        }
    }

    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["part", "figure", "median", "min – max", "unit"]);
        for figure in &self.figures {
            let low = figure.rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let high = figure.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            table.add_row([
                figure.part,
                &figure.name,
                &rounded(median(&figure.rounds)),
                &format!("{} – {}", rounded(low), rounded(high)),
                figure.unit,
            ]);
        }
        for column in [2, 3] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// Writes `summary.md` and `raw.json`, and returns the folder.
    pub(super) fn write(&self, out: Option<&Path>, facts: &Facts) -> Result<PathBuf, Failure> {
        let folder = match out {
            Some(out) => out.to_path_buf(),
            None => PathBuf::from(format!("bench/results/{}-first-figures", facts.date)),
        };
        std::fs::create_dir_all(&folder)?;
        let mut text = format!("# Figures of {}\n\n", facts.date);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "Made by\n\n    {}\n\n{}\n{}\n",
            facts.command,
            facts.markdown(),
            self.table()
        );
        text.push_str(NOTES);
        std::fs::write(folder.join("summary.md"), text)?;
        let raw = serde_json::json!({ "facts": facts, "figures": self.figures });
        std::fs::write(folder.join("raw.json"), format!("{raw:#}\n"))?;
        Ok(folder)
    }
}

/// How to read the table; kept with the numbers, so that they are never apart.
const NOTES: &str = "
Median over the rounds, with the lowest and highest round. Server, database and clients share the machine.

- **acks**: 400 participants, each votes once at a random moment within 2 s; from that moment (not from the send) to the
  ack, with results broadcast to all 400. One round before the first is not counted.
- **flat out**: 200 connections, each with a window of votes on the way, one participant each, voting once in every open
  poll of one session; results are broadcast to all 200. From the first vote sent to the last ack received. Every ack is
  matched with the export.
- **peers**: `pgbench`, one vote per transaction, on the same cluster and in the same run, into a table of the same shape;
  and 1,000 votes per call of the server's own function from one connection.
- **memory**: proportional set size of the server process with 0, 1,000, 5,000 and 10,000 joined idle connections; slope and
  intercept of the least-squares line.
- **fan-out**: polls are opened and closed by REST, so each event goes to every subscriber. Processor time is that of the
  server process, the REST calls included. \"From request\" counts from the moment that the REST call was sent, so it holds
  the commit; \"from first\" counts from the moment that the first subscriber had the event.
";

/// The middle value; the mean of the two middle ones of an even number.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = sorted.len().checked_sub(2).and_then(|_| sorted.get(sorted.len() / 2 - 1));
    lower.map_or(upper, |lower| f64::midpoint(*lower, upper))
}

/// Slope and intercept of the least-squares line through the points.
pub(super) fn line_through(points: &[(f64, f64)]) -> (f64, f64) {
    let count = f64::from(u32::try_from(points.len()).unwrap_or(u32::MAX));
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let across: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = across / along;
    (slope, mean_y - slope * mean_x)
}

pub(super) fn millis(nanoseconds: u64) -> f64 {
    // Exact below 2⁵³ ns, which is 104 days.
    nanoseconds as f64 / 1e6
}

/// Three significant digits below 1,000, none behind the point above.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
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
    fn rounds_of_one_figure_are_kept_together() {
        let mut sheet = Sheet::default();
        for value in [1.0, 3.0, 2.0] {
            sheet.add("part", "name", "s", value);
        }
        assert_eq!(sheet.figures.len(), 1);
        assert_eq!(sheet.figures[0].rounds, [1.0, 3.0, 2.0]);
        assert!(sheet.table().contains("1.00 – 3.00"));
    }
}
