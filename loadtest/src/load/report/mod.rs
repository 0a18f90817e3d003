//! What came out of a run: findings of each scenario, held against its goals; written as JSON, as one
//! HTML page, as percentile files, and as a table for the terminal.
//! Must never call something met that was not measured. Called by `load`.

pub(super) mod facts;

mod chart;
mod html;
mod judge;
mod text;

use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use super::sheet::{Bars, Check, Curve, Figure, Series, Sheet};
use crate::failure::Failure;
use facts::Facts;
pub(super) use judge::Verdict;

/// Everything about a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) facts: Facts,
    /// Goals were held against figures; if not, only correctness counts.
    pub(super) judged: bool,
    pub(super) findings: Vec<Finding>,
}

/// What one scenario found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) about: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) seconds: f64,
    /// Why it could not be done to the end.
    pub(super) failure: Option<String>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) checks: Vec<Check>,
    pub(super) figures: Vec<Figure>,
    pub(super) curves: Vec<Curve>,
    pub(super) series: Vec<Series>,
    pub(super) bars: Vec<Bars>,
    pub(super) notes: Vec<String>,
}

impl Finding {
    pub(super) fn new(scenario: &Scenario, sheet: Sheet, outcome: Result<(), Failure>) -> Finding {
        let mut parameters: Vec<(String, String)> = scenario
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect();
        if scenario.server.instances > 1 {
            parameters.push(("instances".to_owned(), scenario.server.instances.to_string()));
        }
        if !scenario.server.arguments.is_empty() {
            parameters.push(("server".to_owned(), scenario.server.arguments.join(" ")));
        }
        Finding {
            name: scenario.name.clone(),
            title: scenario.title.clone(),
            about: scenario.about.clone(),
            parameters,
            seconds: 0.0,
            failure: outcome.err().map(|failure| failure.to_string()),
            verdicts: judge::verdicts(&scenario.goals, &sheet.figures),
            curves: sheet.curves(),
            checks: sheet.checks,
            figures: sheet.figures,
            series: sheet.series,
            bars: sheet.bars,
            notes: sheet.notes,
        }
    }

    /// It ran to the end, every check held, and every goal was met.
    pub(super) fn passed(&self) -> bool {
        self.is_correct() && self.verdicts.iter().all(|verdict| verdict.met == Some(true))
    }

    /// It ran to the end, and every check held.
    pub(super) fn is_correct(&self) -> bool {
        self.failure.is_none() && self.checks.iter().all(|check| check.faults.is_empty())
    }

    pub(super) fn figure(&self, key: &str) -> Option<&Figure> {
        self.figures.iter().find(|one| one.key == key)
    }
}

impl Report {
    pub(super) fn passed(&self) -> bool {
        !self.findings.is_empty() && self.findings.iter().all(Finding::passed)
    }

    fn finding(&self, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|one| one.name == name)
    }

    /// A report written earlier.
    pub(super) fn read(file: &Path) -> Result<Report, Failure> {
        let text = std::fs::read_to_string(file)?;
        serde_json::from_str(&text)
            .map_err(|error| Failure::told(format!("{}: {error}", file.display())))
    }

    /// Writes `report.json` and `report.html`.
    pub(super) fn write(&self, folder: &Path, baseline: Option<&Report>) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        let json = serde_json::to_string(self)
            .map_err(|error| Failure::told(format!("the report: {error}")))?;
        std::fs::write(folder.join("report.json"), json + "\n")?;
        std::fs::write(folder.join("report.html"), html::page(self, baseline))?;
        Ok(())
    }

    /// The table for the terminal.
    pub(super) fn text(&self, baseline: Option<&Report>) -> String {
        text::table(self, baseline)
    }
}

/// Writes a histogram in the usual text form of percentiles, which plotters of histograms read.
pub(super) fn write_histogram(file: &Path, all: &Histogram<u64>) -> Result<(), Failure> {
    use std::fmt::Write;
    let mut text = format!(
        "{:>14} {:>14} {:>12} {:>16}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for step in all.iter_quantiles(5) {
        let (value, share) =
            (super::sheet::millis(step.value_iterated_to()), step.quantile_iterated_to());
        let count = all.count_between(0, step.value_iterated_to());
        // Writing to a String cannot fail.
        let _ = if share < 1.0 {
            writeln!(text, "{value:>14.3} {share:>14.12} {count:>12} {:>16.2}", 1.0 / (1.0 - share))
        } else {
            writeln!(text, "{value:>14.3} {share:>14.12} {count:>12}")
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        all.mean() / 1e6,
        all.stdev() / 1e6
    );
    let _ = writeln!(
        text,
        "#[Max     = {:>12.3}, Total count    = {:>12}]",
        super::sheet::millis(all.max()),
        all.len()
    );
    std::fs::write(file, text)?;
    Ok(())
}

/// Three significant digits below 1,000, none behind the point above, thousands apart.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "–".to_owned(),
        size if size >= 100.0 => thousands(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.005 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_they_say() {
        let cases = [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (56.78, "56.8"),
            (999.9, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1500.0, "-1,500"),
            (0.0003, "0.0003"),
        ];
        for (value, text) in cases {
            assert_eq!(rounded(value), text);
        }
    }
}
